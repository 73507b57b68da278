/**
 * Datagrams in the clear, for peers on loopback and for who asked to be insecure: the same header, and a CRC-32C of
 * everything before it in the last 4 bytes, little-endian. That finds damage, not malice.
 */
import { partsBytes } from '../util/byte-parts.js';
import { crc32cOf } from '../util/crc32c.js';
import { invariant } from '../util/invariant.js';
import { DATAGRAM_BYTES_MAX } from '../util/limits.js';
import {
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

const CRC_BYTES = 4;

/** The most that fits into a plain datagram. */
export const PLAIN_BYTES_MAX: number = DATAGRAM_BYTES_MAX - DATAGRAM_HEADER_BYTES - CRC_BYTES;

/** Makes the plain datagrams of one direction of one association. */
export class PlainSealer implements DatagramSealer {
  readonly #template: Buffer;
  #count = 0;

  /** @param association - 8 bytes. */
  constructor(association: Buffer) {
    this.#template = headerTemplate(DATAGRAM_KIND.plain, association);
  }

  get count(): number {
    return this.#count;
  }

  seal(parts: readonly Buffer[]): Buffer {
    const bytes = partsBytes(parts);
    invariant(bytes <= PLAIN_BYTES_MAX, `${bytes} bytes do not fit into a datagram`);
    this.#count += 1;
    const out = Buffer.allocUnsafe(DATAGRAM_HEADER_BYTES + bytes + CRC_BYTES); // filled below
    writeDatagramHeader(out, this.#template, this.#count);
    let at = DATAGRAM_HEADER_BYTES;
    for (const part of parts) at += part.copy(out, at);
    at = out.writeUInt32LE(crc32cOf(out, 0, at), at);
    invariant(at === out.length, 'a plain datagram is full');
    return out;
  }
}

/** Opens what the {@link PlainSealer} of the other side made, each datagram once. */
export class PlainOpener implements DatagramOpener {
  readonly #template: Buffer;
  readonly #window = new ReplayWindow();

  /** @param association - 8 bytes. */
  constructor(association: Buffer) {
    this.#template = headerTemplate(DATAGRAM_KIND.plain, association);
  }

  /** @returns A view of `datagram`. */
  open(datagram: Buffer): Buffer | DatagramRefusal {
    const counter = readDatagramCounter(datagram, this.#template, CRC_BYTES);
    if (typeof counter !== 'number') return counter;
    const crcAt = datagram.length - CRC_BYTES;
    if (crc32cOf(datagram, 0, crcAt) !== datagram.readUInt32LE(crcAt)) return 'forged';
    if (!this.#window.take(counter)) return 'replayed';
    return datagram.subarray(DATAGRAM_HEADER_BYTES, crcAt);
  }
}
