/**
 * What the engine keeps in the metadata store, byte by byte (FORMAT.md says the same with examples). Changing
 * anything here means a new FORMAT_VERSION.
 *
 * Every value ends with a CRC-32C over key and value, so that a value at the wrong key is as bad as a flipped bit.
 */
import {
  BLOCKS_PER_OBJECT,
  OBJECT_BYTES,
  BLOCK_BYTES,
  BLOCK_STATE,
  StoreError,
  crc32c,
  invariant,
  type ObjectKind,
} from '@store/core';

export const FORMAT_VERSION = 1;

/** The unit of the open mask: a part is open while its stored checksums may not match the disk. */
export const PART_BYTES: number = 64 * 1024;
export const BLOCKS_PER_PART: number = PART_BYTES / BLOCK_BYTES;
export const PARTS_PER_OBJECT: number = OBJECT_BYTES / PART_BYTES;
/** Checksums are stored in chunks of 256 blocks: 1 KiB for 1 MiB of data. */
export const BLOCKS_PER_CHUNK = 256;
export const CHUNKS_PER_OBJECT: number = BLOCKS_PER_OBJECT / BLOCKS_PER_CHUNK;
export const NO_SLOT = 0xffffffff;

export function partOf(block: number): number {
  return Math.floor(block / BLOCKS_PER_PART);
}

export function chunkOf(block: number): number {
  return Math.floor(block / BLOCKS_PER_CHUNK);
}

const STATES_BYTES = BLOCKS_PER_OBJECT / 4;
const CRC_BYTES = 4;

invariant(PARTS_PER_OBJECT === 64, 'the open mask has 64 bits');

// Keys: one byte for the table, then big-endian numbers, so that their order is the order of bytes.
const TABLE_STORE = 0x00;
const TABLE_HEAD = 0x01;
const TABLE_CHECKS = 0x02;
const TABLE_POOL = 0x03;
const TABLE_CONTENT = 0x04;
const TABLE_LINEAGE = 0x05;

export const STORE_KEY: Buffer = Buffer.from([TABLE_STORE]);
export const HEADS_START: Buffer = Buffer.from([TABLE_HEAD]);
export const HEADS_END: Buffer = Buffer.from([TABLE_HEAD + 1]);
export const POOLS_START: Buffer = Buffer.from([TABLE_POOL]);
export const POOLS_END: Buffer = Buffer.from([TABLE_POOL + 1]);
/** One record: which starts have lost nothing. Absent in folders of the first releases, which counts as all zeros. */
export const LINEAGE_KEY: Buffer = Buffer.from([TABLE_LINEAGE]);
export const LINEAGE_BYTES = 16;
const HEAD_KEY_BYTES = 13;

/** `01 | pool u32 | locator hash u64 | key`: a group of a pool is one range. */
export function headKey(poolId: number, hash: { high: number; low: number }, key: Buffer): Buffer {
  const out = Buffer.allocUnsafe(HEAD_KEY_BYTES + key.length);
  out[0] = TABLE_HEAD;
  out.writeUInt32BE(poolId, 1);
  out.writeUInt32BE(hash.high, 5);
  out.writeUInt32BE(hash.low, 9);
  key.copy(out, HEAD_KEY_BYTES);
  return out;
}

export function splitHeadKey(headKeyBytes: Buffer): {
  poolId: number;
  hash: { high: number; low: number };
  key: Buffer;
} {
  return {
    poolId: headKeyBytes.readUInt32BE(1),
    hash: { high: headKeyBytes.readUInt32BE(5), low: headKeyBytes.readUInt32BE(9) },
    key: headKeyBytes.subarray(HEAD_KEY_BYTES),
  };
}

/** The high half of the hash in the key of a head. */
export function hashHighIn(headKeyBytes: Buffer): number {
  return headKeyBytes.readUInt32BE(5);
}

/** First head key of a pool; of the next pool with `poolId + 1`. */
export function poolHeadsStart(poolId: number): Buffer {
  const out = Buffer.alloc(5);
  out[0] = TABLE_HEAD;
  out.writeUInt32BE(poolId, 1);
  return out;
}

/** First head key of a pool with this high half of the hash; `2^32` and more: the end of the pool. */
export function hashHeadsStart(poolId: number, high: number): Buffer {
  if (high > 0xffffffff) return poolHeadsStart(poolId + 1);
  const out = Buffer.alloc(9);
  poolHeadsStart(poolId).copy(out);
  out.writeUInt32BE(high, 5);
  return out;
}

export function checksKey(objectId: number, chunk: number): Buffer {
  const out = Buffer.allocUnsafe(10);
  out[0] = TABLE_CHECKS;
  writeU64(out, 1, objectId);
  out[9] = chunk;
  return out;
}

/** The records of checksums of the blocks of an object, from the first one on. */
export function checksRecords(
  objectId: number,
  checks: Uint32Array,
): { key: Buffer; value: Buffer }[] {
  const records: { key: Buffer; value: Buffer }[] = [];
  for (let first = 0; first < checks.length; first += BLOCKS_PER_CHUNK) {
    const key = checksKey(objectId, first / BLOCKS_PER_CHUNK);
    const value = Buffer.alloc(BLOCKS_PER_CHUNK * 4 + CRC_BYTES);
    checks
      .subarray(first, first + BLOCKS_PER_CHUNK)
      .forEach((check, index) => value.writeUInt32LE(check, index * 4));
    records.push({ key, value: seal(key, value) });
  }
  return records;
}

export function contentKey(objectId: number): Buffer {
  const out = Buffer.allocUnsafe(9);
  out[0] = TABLE_CONTENT;
  writeU64(out, 1, objectId);
  return out;
}

export function poolKey(name: string): Buffer {
  return Buffer.concat([POOLS_START, Buffer.from(name)]);
}

export function poolNameOf(key: Buffer): string {
  return key.subarray(1).toString();
}

function writeU64(out: Buffer, at: number, value: number): void {
  out.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  out.writeUInt32BE(value >>> 0, at + 4);
}

function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

/** Appends the checksum to a value that has room for it at its end. */
export function seal(key: Buffer, value: Buffer): Buffer {
  const end = value.length - CRC_BYTES;
  value.writeUInt32BE(crc32c(value.subarray(0, end), crc32c(key)), end);
  return value;
}

/** Copies `body` into a new value with its checksum. */
export function sealed(key: Buffer, body: Buffer): Buffer {
  const value = Buffer.allocUnsafe(body.length + CRC_BYTES);
  body.copy(value);
  return seal(key, value);
}

/** The value without its checksum, or null if it does not match. A view, not a copy. */
export function unseal(key: Buffer, value: Buffer): Buffer | null {
  const end = value.length - CRC_BYTES;
  if (end < 0) return null;
  const body = value.subarray(0, end);
  return crc32c(body, crc32c(key)) === value.readUInt32BE(end) ? body : null;
}

// Head of an object, big-endian.
const AT_VERSION = 0; //       1  1
const AT_KIND = 1; //          1  ObjectKind
const AT_FLAGS = 2; //         1  bit 0: the content is inline, in its own record; bit 1: see `isUnsure`
const AT_RESERVED = 3; //      1  0
const AT_SLOT = 4; //          4  slot number, or NO_SLOT
const AT_LENGTH = 8; //        4  end of the last byte written
const AT_OBJECT_VERSION = 12; // 8  grows with every change
const AT_OBJECT_ID = 20; //    8  never used again in this folder
const AT_OPEN = 28; //         8  open mask, part p is bit p % 8 of byte p / 8
const AT_STATES = 36; //       256  two bits a block, block b at bits 2 * (b % 4) of byte b / 4
export const HEAD_BYTES: number = AT_STATES + STATES_BYTES + CRC_BYTES;
const HEAD_VERSION = 1;
const FLAG_INLINE = 1;
const FLAG_UNSURE = 2;

export interface HeadFields {
  readonly kind: ObjectKind;
  readonly inline: boolean;
  readonly slot: number;
  readonly length: number;
  readonly version: number;
  readonly objectId: number;
}

/** Memory for a head. Not from Node's pool: heads live long, and one would keep 8 KiB of others' alive. */
function newHead(): Buffer {
  return Buffer.allocUnsafeSlow(HEAD_BYTES);
}

export function copyHead(head: Buffer): Buffer {
  const out = newHead();
  head.copy(out);
  return out;
}

/**
 * Encodes a head with an empty open mask; not sealed yet.
 * @param states - a byte for each block
 * @param isUnsure - of a pool with copies elsewhere: what the version stands for may not be what this says
 */
export function encodeHead(fields: HeadFields, states: Uint8Array, isUnsure = false): Buffer {
  const out = newHead();
  out[AT_VERSION] = HEAD_VERSION;
  out[AT_KIND] = fields.kind;
  out[AT_FLAGS] = (fields.inline ? FLAG_INLINE : 0) | (isUnsure ? FLAG_UNSURE : 0);
  out[AT_RESERVED] = 0;
  out.writeUInt32BE(fields.slot, AT_SLOT);
  out.writeUInt32BE(fields.length, AT_LENGTH);
  writeU64(out, AT_OBJECT_VERSION, fields.version);
  writeU64(out, AT_OBJECT_ID, fields.objectId);
  out.fill(0, AT_OPEN, AT_STATES);
  for (let index = 0; index < STATES_BYTES; index += 1) {
    const block = index * 4;
    out[AT_STATES + index] =
      (states[block] ?? 0) |
      ((states[block + 1] ?? 0) << 2) |
      ((states[block + 2] ?? 0) << 4) |
      ((states[block + 3] ?? 0) << 6);
  }
  return out;
}

/** @throws StoreError `E_FORMAT` for a head of a later program */
export function decodeHead(head: Buffer): HeadFields {
  if (head[AT_VERSION] !== HEAD_VERSION)
    throw new StoreError(
      'E_FORMAT',
      `Object head of unknown version ${head[AT_VERSION] ?? 'none'}`,
    );
  return {
    kind: head[AT_KIND] as ObjectKind, // checked by the seal: we wrote it
    inline: ((head[AT_FLAGS] ?? 0) & FLAG_INLINE) !== 0,
    slot: head.readUInt32BE(AT_SLOT),
    length: head.readUInt32BE(AT_LENGTH),
    version: readU64(head, AT_OBJECT_VERSION),
    objectId: readU64(head, AT_OBJECT_ID),
  };
}

export function decodeStates(head: Buffer, states: Uint8Array): void {
  for (let index = 0; index < STATES_BYTES; index += 1) {
    const packed = head[AT_STATES + index] ?? 0;
    const block = index * 4;
    states[block] = packed & 3;
    states[block + 1] = (packed >> 2) & 3;
    states[block + 2] = (packed >> 4) & 3;
    states[block + 3] = packed >> 6;
  }
}

export function stateInHead(head: Buffer, block: number): number {
  return ((head[AT_STATES + (block >> 2)] ?? 0) >> (2 * (block & 3))) & 3;
}

/** The version may not be that of what is there: of a pool with copies elsewhere, such an object is compared. */
export function isUnsureHead(head: Buffer): boolean {
  return hasOpenParts(head) || ((head[AT_FLAGS] ?? 0) & FLAG_UNSURE) !== 0;
}

/** Blocks that are data. */
export function countData(head: Buffer): number {
  let count = 0;
  for (let block = 0; block < BLOCKS_PER_OBJECT; block += 1)
    if (stateInHead(head, block) === BLOCK_STATE.data) count += 1;
  return count;
}

export function isOpenInHead(head: Buffer, part: number): boolean {
  return ((head[AT_OPEN + (part >> 3)] ?? 0) & (1 << (part & 7))) !== 0;
}

export function setOpenInHead(head: Buffer, part: number, open: boolean): void {
  const at = AT_OPEN + (part >> 3);
  const bit = 1 << (part & 7);
  head[at] = open ? (head[at] ?? 0) | bit : (head[at] ?? 0) & ~bit;
}

/** True if any part is open. */
export function hasOpenParts(head: Buffer): boolean {
  for (let at = AT_OPEN; at < AT_STATES; at += 1) if (head[at] !== 0) return true;
  return false;
}

/** True if the head says nothing: no block is data or zero. */
export function isEmptyHead(head: Buffer): boolean {
  for (let at = AT_STATES; at < AT_STATES + STATES_BYTES; at += 1) if (head[at] !== 0) return false;
  return true;
}

/** What the folder as a whole remembers, in one record that every transaction renews. */
export interface StoreRecord {
  /** Made when the folder was made. */
  readonly diskId: Buffer;
  /** New at every start. */
  readonly startId: Buffer;
  /** Everything was closed, and nothing was served since. */
  readonly clean: boolean;
  /** Records of `live` up to this number are in the metadata. */
  readonly liveSequence: number;
  readonly nextObjectId: number;
  readonly nextPoolId: number;
}

/**
 * How far the number that is stored is ahead of those given out. Everything that changes an object takes a number, most
 * without a transaction, but each open object is closed by one within seconds, and 2^32 changes take hours. A start
 * after a crash goes on from the stored number; so it may skip that many, two million times.
 */
const NUMBERS_AHEAD = 2 ** 32;

/** What to store of a record: ahead of what may be given out before the next transaction, unless nothing is. */
export function recordAhead(record: StoreRecord): StoreRecord {
  const ahead = record.clean ? 0 : NUMBERS_AHEAD;
  return { ...record, nextObjectId: record.nextObjectId + ahead };
}

const STORE_RECORD_BYTES = 4 + 16 + 16 + 1 + 8 + 8 + 4 + CRC_BYTES;

export function encodeStoreRecord(record: StoreRecord): Buffer {
  const out = Buffer.allocUnsafe(STORE_RECORD_BYTES);
  out.writeUInt32BE(FORMAT_VERSION, 0);
  record.diskId.copy(out, 4);
  record.startId.copy(out, 20);
  out[36] = record.clean ? 1 : 0;
  writeU64(out, 37, record.liveSequence);
  writeU64(out, 45, record.nextObjectId);
  out.writeUInt32BE(record.nextPoolId, 53);
  return seal(STORE_KEY, out);
}

/** @throws StoreError `E_FORMAT`, `E_CHECKSUM` */
export function decodeStoreRecord(value: Buffer): StoreRecord {
  const body = unseal(STORE_KEY, value);
  if (body === null)
    throw new StoreError(
      'E_CHECKSUM',
      'The folder record does not match its checksum; run store check',
    );
  const version = body.readUInt32BE(0);
  if (version !== FORMAT_VERSION) throw new StoreError('E_FORMAT', unknownVersion(version));
  return {
    diskId: Buffer.from(body.subarray(4, 20)),
    startId: Buffer.from(body.subarray(20, 36)),
    clean: body[36] === 1,
    liveSequence: readU64(body, 37),
    nextObjectId: readU64(body, 45),
    nextPoolId: body.readUInt32BE(53),
  };
}

export function unknownVersion(version: number | string): string {
  return `The folder has format version ${version}, this program knows version ${FORMAT_VERSION}; use the release that wrote it`;
}
