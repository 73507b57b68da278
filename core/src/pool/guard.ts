/**
 * What keeps former writers of an image out. Each group of a pool has a *guard* for each image that was ever opened by a
 * writer: the token of the writer of now, and the number of the layer that is written to. A change of the image's data
 * names both (its *claim*), and is made only if they are those of the guard.
 *
 * A guard is stored as an object of a kind of its own, so that it has as many copies as the data that it guards and goes
 * wherever the group goes. It has no locator: its place is the first hash of the group, where all guards of the group lie
 * together and are found without looking through the rest. Clients do not see it: requests name no such kind, lists leave
 * it out, and who names its place by another kind is refused.
 */
import { crc32c } from '../util/crc32c.js';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { locatorHash } from '../util/locator-hash.js';
import { OBJECT_KIND, ObjectRef } from './object-pool.js';

/** Who changes data of an image says that he is its writer, and which layer he writes to. */
export interface Claim {
  /** Id of the image. */
  readonly image: string;
  /** Of the writer: 1 or more. Whoever takes the role has a greater one than all before. */
  readonly token: number;
  /** How many layers were sealed before the one that is written to: 0 or more. */
  readonly layer: number;
}

export interface Guard extends Claim {
  /** Id of that layer. */
  readonly layerId: string;
}

/** A claim with the layer that its chain begins with. */
export interface LayerClaim extends Claim {
  /** What the keys of that layer's data begin with. */
  readonly keyPrefix: string;
}

export const IMAGE_ID_BYTES_MAX = 64;
export const LAYER_ID_BYTES_MAX = 64;
export const LAYER_NUMBER_MAX: number = 2 ** 32 - 1;

// What is stored of a guard. Always of one length, so that each write replaces all of it. Little-endian.
const AT_MAGIC = 0; //        4  GUARD_MAGIC
const AT_VERSION = 4; //      2  RECORD_VERSION
const AT_IMAGE_BYTES = 6; //  1  1..64
const AT_LAYER_BYTES = 7; //  1  1..64
const AT_TOKEN = 8; //        8  1..2^53-1
const AT_LAYER = 16; //       4
const AT_IMAGE = 20; //      64  then zeros
const AT_LAYER_ID = 84; //   64  then zeros
const AT_CRC = 148; //        4  CRC-32C of all before it
export const GUARD_BYTES = 152;
const GUARD_MAGIC = 0x44524147; // GARD
const RECORD_VERSION = 1;

const KEY_PREFIX = 'guard ';

/** @throws StoreError `E_INVALID` */
export function checkClaim({ image, token, layer }: Claim): void {
  const bytes = Buffer.byteLength(image);
  if (bytes < 1 || bytes > IMAGE_ID_BYTES_MAX)
    throw new StoreError('E_INVALID', `The id of an image has 1 to ${IMAGE_ID_BYTES_MAX} bytes`);
  if (!Number.isSafeInteger(token) || token < 1)
    throw new StoreError('E_INVALID', 'The token of a writer is a number from 1 on');
  if (!Number.isInteger(layer) || layer < 0 || layer > LAYER_NUMBER_MAX)
    throw new StoreError('E_INVALID', `Layers are numbered from 0 to ${LAYER_NUMBER_MAX}`);
}

/** @throws StoreError `E_INVALID` */
export function checkGuard(guard: Guard): void {
  checkClaim(guard);
  const bytes = Buffer.byteLength(guard.layerId);
  if (bytes < 1 || bytes > LAYER_ID_BYTES_MAX)
    throw new StoreError('E_INVALID', `The id of a layer has 1 to ${LAYER_ID_BYTES_MAX} bytes`);
}

/**
 * The object that holds the guard of an image in one group.
 * @param groupCount - Of the pool: a power of two
 */
export function guardRef(image: string, group: number, groupCount: number): ObjectRef {
  const key = Buffer.from(KEY_PREFIX + image);
  const high = firstHash(group, groupCount);
  return new ObjectRef(OBJECT_KIND.guard, key, key, { high, low: locatorHash(key).low });
}

/** True for the keys of guards. */
export function isGuardKey(key: Buffer): boolean {
  return key.toString('latin1', 0, KEY_PREFIX.length) === KEY_PREFIX;
}

/** The image that a guard is for, by its key. */
export function imageOfGuardKey(key: Buffer): string {
  return key.subarray(KEY_PREFIX.length).toString();
}

/** `hash.high` of all guards of a group. */
export function firstHash(group: number, groupCount: number): number {
  invariant(group >= 0 && group < groupCount, 'a group is one of its pool');
  return group * (2 ** 32 / groupCount);
}

export function encodeGuard(guard: Guard): Buffer {
  checkGuard(guard);
  const { image, token, layer, layerId } = guard;
  const out = Buffer.alloc(GUARD_BYTES);
  out.writeUInt32LE(GUARD_MAGIC, AT_MAGIC);
  out.writeUInt16LE(RECORD_VERSION, AT_VERSION);
  out[AT_IMAGE_BYTES] = out.write(image, AT_IMAGE);
  out[AT_LAYER_BYTES] = out.write(layerId, AT_LAYER_ID);
  out.writeBigUInt64LE(BigInt(token), AT_TOKEN);
  out.writeUInt32LE(layer, AT_LAYER);
  out.writeUInt32LE(crc32c(out.subarray(0, AT_CRC)), AT_CRC);
  return out;
}

/** @throws StoreError `E_FORMAT` if it is none, or damaged, or of a version that is not known */
export function decodeGuard(bytes: Buffer): Guard {
  const isGood =
    bytes.length === GUARD_BYTES &&
    bytes.readUInt32LE(AT_MAGIC) === GUARD_MAGIC &&
    bytes.readUInt32LE(AT_CRC) === crc32c(bytes.subarray(0, AT_CRC));
  if (!isGood) throw new StoreError('E_FORMAT', 'The guard of an image is damaged');
  const version = bytes.readUInt16LE(AT_VERSION);
  if (version !== RECORD_VERSION)
    throw new StoreError('E_FORMAT', `The guard of an image has version ${version}, not 1`);
  const text = (at: number, length: number): string => bytes.toString('utf8', at, at + length);
  const guard = {
    image: text(AT_IMAGE, Math.min(IMAGE_ID_BYTES_MAX, bytes[AT_IMAGE_BYTES] ?? 0)),
    token: Number(bytes.readBigUInt64LE(AT_TOKEN)),
    layer: bytes.readUInt32LE(AT_LAYER),
    layerId: text(AT_LAYER_ID, Math.min(LAYER_ID_BYTES_MAX, bytes[AT_LAYER_BYTES] ?? 0)),
  };
  checkGuard(guard);
  return guard;
}
