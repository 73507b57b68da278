/**
 * Reading what was sent, and taking it apart. A body is JSON and says so: forms of other sites cannot send that type
 * without asking first. It has exactly the fields that are known here, so that a misspelt setting is not just ignored.
 */
import type { IncomingMessage } from 'node:http';
import { HttpFailure } from './http-failure.js';

/** @throws HttpFailure 415, 413, 400 */
export async function readJsonBody(request: IncomingMessage, bytesMax: number): Promise<JsonBody> {
  const type = request.headers['content-type'] ?? '';
  if (!/^application\/json *(;|$)/i.test(type))
    throw new HttpFailure(415, 'E_INVALID', 'Send JSON, with Content-Type: application/json');
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) throw tooLong(bytesMax);
  const chunks: Buffer[] = [];
  let bytes = 0;
  // Whoever sent too much still gets an answer: giving up half-way must not destroy the connection.
  const parts: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
  for await (const chunk of parts) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLong(bytesMax);
    chunks.push(chunk);
  }
  return new JsonBody(parse(Buffer.concat(chunks)));
}

/** The fields of a JSON object; each is taken once, then `end` says what else there was. */
export class JsonBody {
  readonly #fields: Map<string, unknown>;

  constructor(fields: object) {
    this.#fields = new Map(Object.entries(fields));
  }

  has(name: string): boolean {
    return this.#fields.has(name);
  }

  text(name: string): string {
    const value = this.#take(name);
    if (typeof value !== 'string') throw wrong(name, 'a string');
    return value;
  }

  flag(name: string): boolean {
    const value = this.#take(name);
    if (typeof value !== 'boolean') throw wrong(name, 'true or false');
    return value;
  }

  count(name: string): number {
    const value = this.#take(name);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw wrong(name, 'a whole number');
    return value;
  }

  countOrNull(name: string): number | null {
    if (this.#fields.get(name) !== null) return this.count(name);
    this.#fields.delete(name);
    return null;
  }

  choice<T extends string>(name: string, choices: readonly T[]): T {
    const value = this.#take(name);
    const choice = choices.find((one) => one === value);
    if (choice === undefined) throw wrong(name, `one of ${choices.join(', ')}`);
    return choice;
  }

  texts(name: string): Readonly<Record<string, string>> {
    const value = this.#take(name);
    if (!isObject(value) || !Object.values(value).every((one) => typeof one === 'string'))
      throw wrong(name, 'an object whose values are strings');
    return value as Readonly<Record<string, string>>; // just checked
  }

  /** @throws HttpFailure 400 if there are fields that nobody took */
  end(): void {
    const [name] = this.#fields.keys();
    if (name !== undefined)
      throw bad(`The field ${JSON.stringify(name.slice(0, 60))} is not known here`);
  }

  #take(name: string): unknown {
    if (!this.#fields.has(name)) throw bad(`The field ${name} is missing`);
    const value = this.#fields.get(name);
    this.#fields.delete(name);
    return value;
  }
}

function parse(bytes: Buffer): object {
  if (bytes.length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw bad('The body is not JSON');
  }
  if (!isObject(value)) throw bad('The body is not a JSON object');
  return value;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function wrong(name: string, what: string): HttpFailure {
  return bad(`The field ${name} has to be ${what}`);
}

function bad(message: string): HttpFailure {
  return new HttpFailure(400, 'E_INVALID', message);
}

function tooLong(bytesMax: number): HttpFailure {
  return new HttpFailure(413, 'E_INVALID', `The body is longer than ${bytesMax} bytes`);
}
