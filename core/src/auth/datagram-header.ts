/**
 * The header of every datagram, and what both kinds of datagrams share. A datagram belongs to an association, which
 * client and daemon agreed on over a stream; in each direction of it datagrams are counted.
 */
import { invariant } from '../util/invariant.js';
import { DATAGRAM_BYTES_MAX } from '../util/limits.js';

// Little-endian. Changing it means a new version.
const AT_MAGIC = 0; //        4  DATAGRAM_MAGIC
const AT_VERSION = 4; //      1  1
const AT_KIND = 5; //         1  1 plain, 2 sealed
const AT_RESERVED = 6; //     2  0
const AT_ASSOCIATION = 8; //  8  random
const AT_COUNTER = 16; //     8  1 to 2^48, of this direction
export const DATAGRAM_HEADER_BYTES = 24;

/** "sDgm" */
export const DATAGRAM_MAGIC = 0x6d67_4473;
export const DATAGRAM_VERSION = 1;
export const DATAGRAM_KIND = { plain: 1, sealed: 2 } as const;
export type DatagramKind = (typeof DATAGRAM_KIND)[keyof typeof DATAGRAM_KIND];
export const ASSOCIATION_BYTES = 8;
/** Far more than are ever sent, and an exact number. */
export const COUNTER_MAX: number = 2 ** 48;
/** What either kind has behind its frame, at most: the tag of a seal. */
export const DATAGRAM_TRAILER_BYTES_MAX = 16;

/**
 * Why a datagram was not taken: `alien` it is none of ours, of another version or kind; `other` of another
 * association; `forged` it was made without the key, or damaged on the way; `replayed` it was here before, or is so
 * old that nobody can tell. To be counted and dropped: an answer would help who made it.
 */
export type DatagramRefusal = 'alien' | 'other' | 'forged' | 'replayed';

/** Makes datagrams of one direction of an association. */
export interface DatagramSealer {
  /** How many datagrams it has made. */
  readonly count: number;
  /** The bytes of `parts` as one datagram. They are copied. */
  seal(parts: readonly Buffer[]): Buffer;
}

/** Takes the datagrams that the other side's sealer made. */
export interface DatagramOpener {
  /**
   * The bytes that were sealed, or why they are not taken.
   * @param datagram - From the wire. What is returned may be a view of it.
   */
  open(datagram: Buffer): Buffer | DatagramRefusal;
}

/**
 * To find the association of a datagram in a map: its 8 bytes as latin1 text.
 * @returns Null if the datagram is too short to name one
 */
export function associationKeyOf(datagram: Buffer): string | null {
  if (datagram.length < DATAGRAM_HEADER_BYTES) return null;
  return datagram.toString('latin1', AT_ASSOCIATION, AT_COUNTER);
}

/** What a header says before its counter: the same in all datagrams of a direction. */
export function headerTemplate(kind: DatagramKind, association: Buffer): Buffer {
  invariant(association.length === ASSOCIATION_BYTES, 'an association id has 8 bytes');
  const header = Buffer.alloc(DATAGRAM_HEADER_BYTES);
  header.writeUInt32LE(DATAGRAM_MAGIC, AT_MAGIC);
  header[AT_VERSION] = DATAGRAM_VERSION;
  header[AT_KIND] = kind;
  header.writeUInt16LE(0, AT_RESERVED);
  association.copy(header, AT_ASSOCIATION);
  return header;
}

/** Starts a datagram: `template` with `counter`, in `out[0, DATAGRAM_HEADER_BYTES)`. */
export function writeDatagramHeader(out: Buffer, template: Buffer, counter: number): void {
  invariant(
    Number.isInteger(counter) && counter >= 1 && counter <= COUNTER_MAX,
    'a datagram has a counter from 1 to 2^48',
  );
  template.copy(out, 0, 0, AT_COUNTER);
  out.writeUInt32LE(counter % 2 ** 32, AT_COUNTER);
  out.writeUInt32LE(Math.floor(counter / 2 ** 32), AT_COUNTER + 4);
}

/**
 * The counter of a datagram whose header is `template` otherwise.
 * @param trailerBytes - What stands behind the payload.
 */
export function readDatagramCounter(
  datagram: Buffer,
  template: Buffer,
  trailerBytes: number,
): number | 'alien' | 'other' {
  const { length } = datagram;
  if (length < DATAGRAM_HEADER_BYTES + trailerBytes || length > DATAGRAM_BYTES_MAX) return 'alien';
  if (template.compare(datagram, 0, AT_ASSOCIATION, 0, AT_ASSOCIATION) !== 0) return 'alien';
  if (template.compare(datagram, AT_ASSOCIATION, AT_COUNTER, AT_ASSOCIATION, AT_COUNTER) !== 0)
    return 'other';
  const high = datagram.readUInt32LE(AT_COUNTER + 4);
  const counter = high * 2 ** 32 + datagram.readUInt32LE(AT_COUNTER);
  return high <= 2 ** 16 && counter >= 1 && counter <= COUNTER_MAX ? counter : 'alien';
}
