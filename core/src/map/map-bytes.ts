/**
 * The fields that an encoded map is made of: bytes, numbers, texts, ids. Numbers are in groups of 7 bits, the lowest
 * first, with the top bit set where another byte follows (LEB128), in as few bytes as possible: any other form is refused.
 */
import { badMap } from './map-rules.js';

export const ID_BYTES = 16;
const NUMBER_BYTES_MAX = 8;

/** Grows as it is written. */
export class MapWriter {
  #out: Buffer = Buffer.allocUnsafe(64 * 1024);
  #at = 0;

  byte(value: number): void {
    this.#need(1);
    this.#out[this.#at] = value;
    this.#at += 1;
  }

  /** 0 to 2^53 - 1. */
  number(value: number): void {
    this.#need(NUMBER_BYTES_MAX);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
      this.#out[this.#at] = (rest % 0x80) + 0x80;
      this.#at += 1;
    }
    this.#out[this.#at] = rest;
    this.#at += 1;
  }

  text(text: string): void {
    const bytes = Buffer.byteLength(text);
    this.number(bytes);
    this.#need(bytes);
    this.#at += this.#out.write(text, this.#at);
  }

  /** 32 hexadecimal digits. */
  id(id: string): void {
    this.#need(ID_BYTES);
    this.#at += this.#out.write(id, this.#at, 'hex');
  }

  u32(value: number): void {
    this.#need(4);
    this.#at = this.#out.writeUInt32LE(value, this.#at);
  }

  /** What was written so far; valid until more is. */
  bytes(): Buffer {
    return this.#out.subarray(0, this.#at);
  }

  #need(bytes: number): void {
    if (this.#at + bytes <= this.#out.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#out.length * 2, this.#at + bytes));
    this.#out.copy(grown, 0, 0, this.#at);
    this.#out = grown;
  }
}

/** Reads the fields one after the other. Everything that does not fit is `E_FORMAT`. */
export class MapReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  byte(): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw badMap(`It ends at byte ${this.#at}, within a field`);
    this.#at += 1;
    return value;
  }

  number(): number {
    let value = 0;
    let unit = 1;
    for (let count = 1; count <= NUMBER_BYTES_MAX; count += 1) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) {
        if (byte === 0 && count > 1) break;
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      unit *= 0x80;
    }
    throw badMap(`The number before byte ${this.#at} is too long`);
  }

  /** How many there are of something that takes at least `bytesEach`: no more than can follow. */
  count(what: string, max: number, bytesEach: number): number {
    const count = this.number();
    if (count > max) throw badMap(`It has ${count} ${what}; ${max} are allowed`);
    this.need(what, count * bytesEach);
    return count;
  }

  /** So many bytes must follow. */
  need(what: string, bytes: number): void {
    if (bytes > this.#bytes.length - this.#at) throw badMap(`It is too short for its ${what}`);
  }

  text(what: string, bytesMax: number): string {
    const count = this.number();
    if (count > bytesMax) throw badMap(`A ${what} has ${count} bytes; ${bytesMax} are allowed`);
    this.need(what, count);
    const start = this.#at;
    this.#at += count;
    const text = this.#bytes.toString('utf8', start, this.#at);
    // What is not UTF-8 reads as U+FFFD, which may stand there itself.
    if (text.includes('\ufffd') && !Buffer.from(text).equals(this.#bytes.subarray(start, this.#at)))
      throw badMap(`A ${what} is not UTF-8`);
    return text;
  }

  id(): string {
    this.need('ids', ID_BYTES);
    this.#at += ID_BYTES;
    return this.#bytes.toString('hex', this.#at - ID_BYTES, this.#at);
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw badMap(`${left} bytes follow its end`);
  }
}
