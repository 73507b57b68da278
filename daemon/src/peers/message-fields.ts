/** Fields that messages between daemons have in common: groups, objects, lists, checksums. */
import {
  BodyReader,
  crc32c,
  KEY_BYTES_MAX,
  OBJECT_KIND,
  placeOf,
  putU16le,
  putU32le,
  RecentMap,
  StoreError,
  u16le,
  u32le,
  writeU64,
  type ByteParts,
} from '@store/core';
import type { ObjectPlace } from '../replication/change.js';
import type { GroupEpoch } from '../replication/peer-message.js';

// A group in an epoch: the first 12 bytes of the body of all that is about one.
const AT_POOL = 0; //  4
const AT_EPOCH = 4; // 4
const AT_GROUP = 8; // 2
const AT_FLAGS = 10; // 2  of the message
export const GROUP_BYTES = 12;

export function putGroup(out: Buffer, at: number, group: GroupEpoch, flags: number): void {
  putU32le(out, group.pool, at + AT_POOL);
  putU32le(out, group.epoch, at + AT_EPOCH);
  putU16le(out, group.group, at + AT_GROUP);
  putU16le(out, flags, at + AT_FLAGS);
}

/** The caller has checked that they are there. */
export function groupIn(body: Buffer): GroupEpoch {
  return {
    pool: u32le(body, AT_POOL),
    epoch: u32le(body, AT_EPOCH),
    group: u16le(body, AT_GROUP),
  };
}

/** @throws StoreError `E_BAD_FRAME` if there are flags beyond `max` */
export function flagsIn(body: Buffer, max: number): number {
  const flags = u16le(body, AT_FLAGS);
  if (flags > max) throw badFrame('A frame between daemons has unknown flags');
  return flags;
}

/** @throws StoreError `E_BAD_FRAME` */
export function checkKind(kind: number): asserts kind is ObjectPlace['kind'] {
  if (
    kind !== OBJECT_KIND.plain &&
    kind !== OBJECT_KIND.imageHeader &&
    kind !== OBJECT_KIND.imageData &&
    kind !== OBJECT_KIND.guard
  )
    throw badFrame(`A frame names kind ${kind} of object, which there is not`);
}

/** Which objects messages named lately: making the name of one costs more than all else of a small change. */
const recentPlaces = new RecentMap<ObjectPlace>({ countMax: 4096, bytesMax: 1024 * 1024 });

/**
 * An object whose key is `bytes[at, at + keyBytes)`, which is copied.
 * @throws StoreError `E_BAD_FRAME`
 */
export function placeIn(
  bytes: Buffer,
  at: number,
  keyBytes: number,
  kind: number,
  high: number,
  low: number,
): ObjectPlace {
  checkKind(kind);
  if (keyBytes < 1 || keyBytes > KEY_BYTES_MAX)
    throw badFrame(`A key has 1 to ${KEY_BYTES_MAX} bytes`);
  if (at + keyBytes > bytes.length) throw badFrame('A frame is shorter than its key');
  const number = low | 0;
  const isIt = (place: ObjectPlace | undefined): place is ObjectPlace =>
    place?.kind === kind && place.hash.high === high && isAt(place.key, bytes, at, keyBytes);
  const recent = recentPlaces.get(number);
  if (isIt(recent)) return recent;
  const older = recentPlaces.getOlder(number);
  const place = isIt(older) ? older : newPlace(bytes, at, keyBytes, kind, { high, low });
  recentPlaces.set(number, place, keyBytes);
  return place;
}

/** Whether a key is `bytes[at, at + keyBytes)`. Byte by byte: keys are short. */
function isAt(key: Buffer, bytes: Buffer, at: number, keyBytes: number): boolean {
  if (key.length !== keyBytes) return false;
  for (let index = 0; index < keyBytes; index += 1)
    if (key[index] !== bytes[at + index]) return false;
  return true;
}

function newPlace(
  bytes: Buffer,
  at: number,
  keyBytes: number,
  kind: ObjectPlace['kind'],
  hash: ObjectPlace['hash'],
): ObjectPlace {
  const key = Buffer.allocUnsafeSlow(keyBytes); // of its own: it is kept, and others are not
  bytes.copy(key, 0, at, at + keyBytes);
  return { kind, key, hash, place: placeOf(hash, key) };
}

// An object in a list, or in a question.
//   1  kind
//   2  bytes of the key, 1..512
//   8  hash of the locator: high, low
//      key
const OBJECT_BYTES_BEFORE_KEY = 11;

export function objectBytes({ key }: ObjectPlace): number {
  return OBJECT_BYTES_BEFORE_KEY + key.length;
}

/** Writes fields one after the other into a buffer that is long enough. */
export class BodyWriter {
  readonly bytes: Buffer;
  #at = 0;

  constructor(bytes: number) {
    this.bytes = Buffer.allocUnsafe(bytes);
  }

  u8(value: number): this {
    this.bytes.writeUInt8(value, this.#skip(1));
    return this;
  }

  u16(value: number): this {
    this.bytes.writeUInt16LE(value, this.#skip(2));
    return this;
  }

  u32(value: number): this {
    this.bytes.writeUInt32LE(value, this.#skip(4));
    return this;
  }

  u64(value: number): this {
    writeU64(this.bytes, this.#skip(8), value);
    return this;
  }

  group(group: GroupEpoch, flags = 0): this {
    putGroup(this.bytes, this.#skip(GROUP_BYTES), group, flags);
    return this;
  }

  raw(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.#skip(bytes.length));
    return this;
  }

  object({ kind, key, hash }: ObjectPlace): this {
    return this.u8(kind).u16(key.length).u32(hash.high).u32(hash.low).raw(key);
  }

  /** Bytes that may not be there, after how many they are; 0xffff: there are none. */
  cursor(bytes: Buffer | null): this {
    return bytes === null ? this.u16(NO_CURSOR) : this.u16(bytes.length).raw(bytes);
  }

  numbers(list: ArrayLike<number>): this {
    for (let index = 0; index < list.length; index += 1) this.u32(list[index] ?? 0);
    return this;
  }

  #skip(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    return at;
  }
}

const NO_CURSOR = 0xffff;

export function cursorBytes(cursor: Buffer | null): number {
  return 2 + (cursor?.length ?? 0);
}

/** @throws StoreError `E_BAD_FRAME` */
export function readObject(reader: BodyReader): ObjectPlace {
  const kind = reader.u8();
  const keyBytes = reader.u16();
  const high = reader.u32();
  const low = reader.u32();
  return placeIn(reader.bytes(keyBytes), 0, keyBytes, kind, high, low);
}

/** @throws StoreError `E_BAD_FRAME` */
export function readCursor(reader: BodyReader): Buffer | null {
  const bytes = reader.u16();
  return bytes === NO_CURSOR ? null : Buffer.from(reader.bytes(bytes));
}

/** @throws StoreError `E_BAD_FRAME` if they are not there */
export function readNumbers(reader: BodyReader, count: number): Uint32Array {
  if (reader.left < count * 4) throw badFrame('A frame is shorter than its list');
  const out = new Uint32Array(count);
  for (let index = 0; index < count; index += 1) out[index] = reader.u32();
  return out;
}

/**
 * A payload that has one checksum, in one piece.
 * @throws StoreError `E_BAD_FRAME` if it does not match
 */
export function wholePayload(parts: ByteParts, crc: number): Buffer {
  const [only] = parts;
  const bytes = parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
  if (crc32c(bytes) !== crc) throw badFrame('The payload of a frame does not match its checksum');
  return bytes;
}

export function badFrame(message: string): StoreError {
  return new StoreError('E_BAD_FRAME', message);
}
