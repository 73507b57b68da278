/**
 * The body of FLUSH: pool 4, then the groups that it is about. Without any it is about all that the daemon has of the
 * pool. Little-endian.
 */
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import { BodyReader } from './body-reader.js';
import { NAMED_GROUP_BYTES, readGroups, writeGroups } from './named-groups.js';
import { NAMED_GROUPS_MAX } from './wire-limits.js';

const POOL_BYTES = 4;
export const FLUSH_BYTES_MAX: number = POOL_BYTES + NAMED_GROUPS_MAX * NAMED_GROUP_BYTES;

export function encodeFlush(pool: number, groups: readonly GroupAtEpoch[]): Buffer {
  const out = Buffer.allocUnsafe(POOL_BYTES + groups.length * NAMED_GROUP_BYTES);
  out.writeUInt32LE(pool, 0);
  writeGroups(out, POOL_BYTES, groups);
  return out;
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeFlush(body: Buffer): { pool: number; groups: GroupAtEpoch[] } {
  const reader = new BodyReader(body);
  const pool = reader.u32();
  return { pool, groups: readGroups(reader, body.length - POOL_BYTES) };
}
