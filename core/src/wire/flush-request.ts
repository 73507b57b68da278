/**
 * The body of FLUSH: pool 4, then for each group that it is about: group 2, epoch 4. Without any it is about all that the
 * daemon has of the pool. Little-endian.
 */
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import { StoreError } from '../util/errors.js';
import { BodyReader } from './body-reader.js';
import { FLUSH_GROUPS_MAX } from './wire-limits.js';

const POOL_BYTES = 4;
const GROUP_BYTES = 6;
export const FLUSH_BYTES_MAX: number = POOL_BYTES + FLUSH_GROUPS_MAX * GROUP_BYTES;

export function encodeFlush(pool: number, groups: readonly GroupAtEpoch[]): Buffer {
  const out = Buffer.allocUnsafe(POOL_BYTES + groups.length * GROUP_BYTES);
  let at = out.writeUInt32LE(pool, 0);
  for (const { group, epoch } of groups) {
    at = out.writeUInt16LE(group, at);
    at = out.writeUInt32LE(epoch, at);
  }
  return out;
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeFlush(body: Buffer): { pool: number; groups: GroupAtEpoch[] } {
  const count = (body.length - POOL_BYTES) / GROUP_BYTES;
  if (!Number.isInteger(count) || count < 0 || count > FLUSH_GROUPS_MAX)
    throw new StoreError('E_BAD_FRAME', 'A flush names half a group, or too many');
  const reader = new BodyReader(body);
  const pool = reader.u32();
  const groups = Array.from({ length: count }, () => ({
    group: reader.u16(),
    epoch: reader.u32(),
  }));
  return { pool, groups };
}
