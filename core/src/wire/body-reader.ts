/** Reads the fields of a body one after the other. Everything that does not fit is `E_BAD_FRAME`. */
import { StoreError } from '../util/errors.js';
import { readU64 } from './frame-header.js';

export class BodyReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  /** Bytes that were not read. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#bytes[this.#skip(1)] ?? 0;
  }

  u16(): number {
    return this.#bytes.readUInt16LE(this.#skip(2));
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#skip(4));
  }

  /** Up to 2^53 - 1. */
  u64(): number {
    return readU64(this.#bytes, this.#skip(8));
  }

  /** A view; copy what shall outlive the body. */
  bytes(count: number): Buffer {
    const at = this.#skip(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** Valid UTF-8. */
  text(count: number): string {
    const bytes = this.bytes(count);
    const text = bytes.toString();
    if (!Buffer.from(text).equals(bytes))
      throw new StoreError('E_BAD_FRAME', 'A frame holds text that is not UTF-8');
    return text;
  }

  /** Nothing may be left. */
  end(): void {
    if (this.left > 0)
      throw new StoreError('E_BAD_FRAME', `A frame holds ${this.left} bytes too many`);
  }

  #skip(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#bytes.length)
      throw new StoreError('E_BAD_FRAME', 'A frame is shorter than its fields');
    this.#at = at + bytes;
    return at;
  }
}
