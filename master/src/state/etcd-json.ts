/**
 * etcd's messages as its JSON gateway writes them: 64-bit integers are strings, keys and values are base64, and what has
 * its default value (0, false, nothing) is absent.
 */
import { StoreError } from '@store/core';

/** One object of an answer. */
export class EtcdJson {
  readonly #fields: Readonly<Record<string, unknown>>;

  private constructor(fields: Readonly<Record<string, unknown>>) {
    this.#fields = fields;
  }

  /** @throws StoreError `E_BAD_FRAME` */
  static parse(text: string): EtcdJson {
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      throw new StoreError('E_BAD_FRAME', 'The answer is not JSON: is that the address of etcd?', {
        cause: error,
      });
    }
    return new EtcdJson(asFields('answer', parsed));
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined;
  }

  hasObject(name: string): boolean {
    return typeof this.#fields[name] === 'object' && this.#fields[name] !== null;
  }

  /** Empty if it is absent. */
  object(name: string): EtcdJson {
    return new EtcdJson(asFields(name, this.#fields[name] ?? {}));
  }

  list(name: string): EtcdJson[] {
    const value = this.#fields[name] ?? [];
    if (!Array.isArray(value)) throw notWhat(name);
    return value.map((item: unknown) => new EtcdJson(asFields(name, item)));
  }

  flag(name: string): boolean {
    return this.#fields[name] === true;
  }

  text(name: string): string {
    const value = this.#fields[name] ?? '';
    if (typeof value !== 'string') throw notWhat(name);
    return value;
  }

  /** A revision, a count, a time to live: all far below 2^53. */
  number(name: string): number {
    const value = Number(this.#fields[name] ?? 0);
    if (!Number.isSafeInteger(value)) throw notWhat(name);
    return value;
  }

  bytes(name: string): Buffer {
    return Buffer.from(this.text(name), 'base64');
  }
}

export function base64(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64');
}

function asFields(name: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw notWhat(name);
  return value as Readonly<Record<string, unknown>>; // an object has fields of some kind
}

function notWhat(name: string): StoreError {
  return new StoreError('E_BAD_FRAME', `etcd's answer has an unexpected '${name}'`);
}
