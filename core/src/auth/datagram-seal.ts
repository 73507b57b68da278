/**
 * Datagrams that nobody else can read or make: AES-256-GCM (NIST SP 800-38D), the header as additional data, the tag
 * of 16 bytes behind the payload.
 *
 * GCM is lost if a key ever sees a nonce twice. The nonce is the counter, the counter only grows, and a key belongs
 * to one sealer: derived for one direction of one association from nonces of both sides ({@link deriveDatagramKeys}).
 */
import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import { partsBytes } from '../util/byte-parts.js';
import { invariant } from '../util/invariant.js';
import { DATAGRAM_BYTES_MAX } from '../util/limits.js';
import {
  COUNTER_MAX,
  DATAGRAM_HEADER_BYTES,
  DATAGRAM_KIND,
  headerTemplate,
  readDatagramCounter,
  writeDatagramHeader,
  type DatagramOpener,
  type DatagramRefusal,
  type DatagramSealer,
} from './datagram-header.js';
import { ReplayWindow } from './replay-window.js';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const TAG_LENGTH = { authTagLength: TAG_BYTES } as const; // or shorter ones would be taken

/** The most that fits into a sealed datagram. */
export const SEALED_BYTES_MAX: number = DATAGRAM_BYTES_MAX - DATAGRAM_HEADER_BYTES - TAG_BYTES;

/** Seals the datagrams of one direction of one association. */
export class Sealer implements DatagramSealer {
  readonly #key: KeyObject;
  readonly #template: Buffer;
  readonly #nonce = Buffer.alloc(NONCE_BYTES);
  #count: number;

  /**
   * @param key - 32 bytes that no other sealer has had.
   * @param association - 8 bytes.
   * @param count - How many datagrams were made with the key before.
   */
  constructor(key: Buffer, association: Buffer, count = 0) {
    invariant(key.length === KEY_BYTES, 'a datagram key has 32 bytes');
    invariant(Number.isInteger(count) && count >= 0, 'a count is a whole number');
    this.#key = createSecretKey(key);
    this.#template = headerTemplate(DATAGRAM_KIND.sealed, association);
    this.#count = count;
  }

  get count(): number {
    return this.#count;
  }

  seal(parts: readonly Buffer[]): Buffer {
    const bytes = partsBytes(parts);
    invariant(bytes <= SEALED_BYTES_MAX, `${bytes} bytes do not fit into a datagram`);
    invariant(this.#count < COUNTER_MAX, 'a nonce would be used again');
    // Counted before anything can fail: a number that may have been used is never used again.
    this.#count += 1;
    const out = Buffer.allocUnsafe(DATAGRAM_HEADER_BYTES + bytes + TAG_BYTES); // filled below
    writeDatagramHeader(out, this.#template, this.#count);
    writeNonce(this.#nonce, this.#count);
    const cipher = createCipheriv(CIPHER, this.#key, this.#nonce, TAG_LENGTH);
    cipher.setAAD(out.subarray(0, DATAGRAM_HEADER_BYTES));
    let at = DATAGRAM_HEADER_BYTES;
    for (const part of parts) at += cipher.update(part).copy(out, at);
    cipher.final(); // empty: GCM is a stream
    at += cipher.getAuthTag().copy(out, at);
    invariant(at === out.length, 'a sealed datagram is full');
    return out;
  }
}

/** Opens what the {@link Sealer} of the other side sealed, each datagram once. */
export class Opener implements DatagramOpener {
  readonly #key: KeyObject;
  readonly #template: Buffer;
  readonly #nonce = Buffer.alloc(NONCE_BYTES);
  readonly #window = new ReplayWindow();

  /**
   * @param key - The sealer's.
   * @param association - 8 bytes.
   */
  constructor(key: Buffer, association: Buffer) {
    invariant(key.length === KEY_BYTES, 'a datagram key has 32 bytes');
    this.#key = createSecretKey(key);
    this.#template = headerTemplate(DATAGRAM_KIND.sealed, association);
  }

  open(datagram: Buffer): Buffer | DatagramRefusal {
    const counter = readDatagramCounter(datagram, this.#template, TAG_BYTES);
    if (typeof counter !== 'number') return counter;
    // Spares the work; the window itself moves for genuine datagrams only, or a forged one could push it away.
    if (!this.#window.isNew(counter)) return 'replayed';
    const payload = this.#decrypt(datagram, counter);
    if (payload === null) return 'forged';
    invariant(this.#window.take(counter), 'what was new a moment ago is new');
    return payload;
  }

  #decrypt(datagram: Buffer, counter: number): Buffer | null {
    const tagAt = datagram.length - TAG_BYTES;
    writeNonce(this.#nonce, counter);
    const decipher = createDecipheriv(CIPHER, this.#key, this.#nonce, TAG_LENGTH);
    decipher.setAAD(datagram.subarray(0, DATAGRAM_HEADER_BYTES));
    decipher.setAuthTag(datagram.subarray(tagAt));
    const payload = decipher.update(datagram.subarray(DATAGRAM_HEADER_BYTES, tagAt));
    try {
      decipher.final(); // compares the tag, in constant time
    } catch {
      return null; // the only thing that can fail here is that comparison
    }
    return payload;
  }
}

/** Four zero bytes and the counter, big-endian. */
function writeNonce(out: Buffer, counter: number): void {
  out.writeUInt32BE(Math.floor(counter / 2 ** 32), 4);
  out.writeUInt32BE(counter % 2 ** 32, 8);
}
