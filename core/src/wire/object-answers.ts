/** Bodies of answers about objects: STAT, EXTENTS, LIST; and the request of LIST. Little-endian. */
import {
  BLOCK_STATE,
  OBJECT_KIND,
  type BlockState,
  type Extent,
  type ListOptions,
  type ListPage,
  type ObjectKind,
  type ObjectStat,
} from '../pool/object-pool.js';
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import { StoreError } from '../util/errors.js';
import { KEY_BYTES_MAX, LIST_PAGE_MAX } from '../util/limits.js';
import { BodyReader } from './body-reader.js';
import { writeU64 } from './frame-header.js';
import { NAMED_GROUP_BYTES, readGroups, writeGroups } from './named-groups.js';
import { BODY_BYTES_MAX, EXTENTS_MAX, NAMED_GROUPS_MAX } from './wire-limits.js';

// A stat: kind 1, zeros 7, length 8, version 8, allocated bytes 8. An object that does not exist: no body.
export const STAT_BYTES = 32;

export function writeStat(out: Buffer, at: number, stat: ObjectStat): void {
  out.fill(0, at, at + 8);
  out[at] = stat.kind;
  writeU64(out, at + 8, stat.length);
  writeU64(out, at + 16, stat.version);
  writeU64(out, at + 24, stat.allocatedBytes);
}

/** @throws StoreError `E_BAD_FRAME` */
export function readStat(body: Buffer): ObjectStat | null {
  if (body.length === 0) return null;
  const reader = new BodyReader(body);
  const stat = nextStat(reader);
  reader.end();
  return stat;
}

function nextStat(reader: BodyReader): ObjectStat {
  const kind = kindOf(reader.u8());
  reader.bytes(7);
  return { kind, length: reader.u64(), version: reader.u64(), allocatedBytes: reader.u64() };
}

function kindOf(number: number): ObjectKind {
  for (const kind of Object.values(OBJECT_KIND))
    if (kind === number && kind !== OBJECT_KIND.guard) return kind;
  throw new StoreError('E_BAD_FRAME', `A frame names kind ${number} of object, which there is not`);
}

/** An extent in 4 bytes: four times its length, plus its state. */
export function encodeExtents(extents: readonly Extent[]): Buffer {
  const out = Buffer.allocUnsafe(extents.length * 4);
  extents.forEach(({ bytes, state }, index) => out.writeUInt32LE(bytes * 4 + state, index * 4));
  return out;
}

/** @throws StoreError `E_BAD_FRAME` unless they cover exactly `bytes` */
export function decodeExtents(body: Buffer, bytes: number): Extent[] {
  if (body.length % 4 !== 0 || body.length / 4 > EXTENTS_MAX)
    throw new StoreError('E_BAD_FRAME', 'A list of extents is no list of extents');
  const extents: Extent[] = [];
  let covered = 0;
  for (let at = 0; at < body.length; at += 4) {
    const word = body.readUInt32LE(at);
    const extent = { bytes: Math.floor(word / 4), state: stateOf(word % 4) };
    if (extent.bytes === 0) throw new StoreError('E_BAD_FRAME', 'An extent is empty');
    covered += extent.bytes;
    extents.push(extent);
  }
  if (covered !== bytes)
    throw new StoreError('E_BAD_FRAME', `Extents cover ${covered} bytes instead of ${bytes}`);
  return extents;
}

function stateOf(number: number): BlockState {
  for (const state of Object.values(BLOCK_STATE)) if (state === number) return state;
  throw new StoreError(
    'E_BAD_FRAME',
    `A frame names state ${number} of a block, which there is not`,
  );
}

/** Cursors are the pool's own; so long are they at most. */
const CURSOR_BYTES_MAX = 1024;
const ANY_KIND = 0;

const LIST_FIXED_BYTES = 12;
export const LIST_BYTES_MAX: number =
  LIST_FIXED_BYTES + KEY_BYTES_MAX + CURSOR_BYTES_MAX + NAMED_GROUPS_MAX * NAMED_GROUP_BYTES;

// LIST: pool 4, kind 1 (0: any), zero 1, limit 2, prefix bytes 2, cursor bytes 2 (0: from the start), prefix, cursor, then
// the groups that it is about. Without any it is about all that the daemon has of the pool.
export function encodeListRequest(
  pool: number,
  options: ListOptions,
  groups: readonly GroupAtEpoch[] = [],
): Buffer {
  const { kind = ANY_KIND, prefix = Buffer.alloc(0), cursor = Buffer.alloc(0) } = options;
  const fixed = Buffer.alloc(LIST_FIXED_BYTES);
  fixed.writeUInt32LE(pool, 0);
  fixed[4] = kind;
  fixed.writeUInt16LE(options.limit ?? LIST_PAGE_MAX, 6);
  fixed.writeUInt16LE(prefix.length, 8);
  fixed.writeUInt16LE(cursor.length, 10);
  const named = Buffer.allocUnsafe(groups.length * NAMED_GROUP_BYTES);
  writeGroups(named, 0, groups);
  return Buffer.concat([fixed, prefix, cursor, named]);
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeListRequest(body: Buffer): {
  pool: number;
  options: ListOptions;
  groups: GroupAtEpoch[];
} {
  const reader = new BodyReader(body);
  const pool = reader.u32();
  const kind = reader.u8();
  reader.u8();
  const limit = reader.u16();
  const [prefixBytes, cursorBytes] = [reader.u16(), reader.u16()];
  if (prefixBytes > KEY_BYTES_MAX || cursorBytes > CURSOR_BYTES_MAX)
    throw new StoreError('E_BAD_FRAME', 'A list is asked for with too long a prefix or cursor');
  const prefix = Buffer.from(reader.bytes(prefixBytes));
  const cursor = Buffer.from(reader.bytes(cursorBytes));
  const groups = readGroups(reader, body.length - LIST_FIXED_BYTES - prefixBytes - cursorBytes);
  const options = {
    limit,
    ...(kind === ANY_KIND ? {} : { kind: kindOf(kind) }),
    ...(prefixBytes === 0 ? {} : { prefix }),
    ...(cursorBytes === 0 ? {} : { cursor }),
  };
  return { pool, options, groups };
}

/** So many entries certainly fit into one answer: with keys of any length. */
export const LIST_ENTRIES_MAX: number = Math.floor(
  (BODY_BYTES_MAX - 4 - CURSOR_BYTES_MAX) / (2 + STAT_BYTES + KEY_BYTES_MAX),
);

// Answer of LIST: entries 2, cursor bytes 2, cursor; then for each: key bytes 2, a stat, key.
export function encodeListPage({ entries, cursor = Buffer.alloc(0) }: ListPage): Buffer {
  const fixed = Buffer.alloc(4);
  fixed.writeUInt16LE(entries.length, 0);
  fixed.writeUInt16LE(cursor.length, 2);
  const parts = [fixed, cursor];
  for (const { key, stat } of entries) {
    const head = Buffer.alloc(2 + STAT_BYTES);
    head.writeUInt16LE(key.length, 0);
    writeStat(head, 2, stat);
    parts.push(head, key);
  }
  return Buffer.concat(parts);
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeListPage(body: Buffer): ListPage {
  const reader = new BodyReader(body);
  const count = reader.u16();
  const cursor = Buffer.from(reader.bytes(reader.u16()));
  const entries: { key: Buffer; stat: ObjectStat }[] = [];
  for (let index = 0; index < count; index += 1) {
    const keyBytes = reader.u16();
    const stat = nextStat(reader);
    entries.push({ key: Buffer.from(reader.bytes(keyBytes)), stat });
  }
  reader.end();
  return cursor.length === 0 ? { entries } : { entries, cursor };
}
