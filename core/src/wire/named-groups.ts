/** Groups that a request is about, at the end of its body: group 2, epoch 4 for each. Little-endian. */
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import { StoreError } from '../util/errors.js';
import type { BodyReader } from './body-reader.js';
import { NAMED_GROUPS_MAX } from './wire-limits.js';

export const NAMED_GROUP_BYTES = 6;

export function writeGroups(out: Buffer, at: number, groups: readonly GroupAtEpoch[]): void {
  let end = at;
  for (const { group, epoch } of groups) {
    end = out.writeUInt16LE(group, end);
    end = out.writeUInt32LE(epoch, end);
  }
}

/** @param bytes - Of the body from here to its end. @throws StoreError `E_BAD_FRAME` */
export function readGroups(reader: BodyReader, bytes: number): GroupAtEpoch[] {
  const count = bytes / NAMED_GROUP_BYTES;
  if (!Number.isInteger(count) || count < 0 || count > NAMED_GROUPS_MAX)
    throw new StoreError('E_BAD_FRAME', 'A request names half a group, or too many');
  return Array.from({ length: count }, () => ({ group: reader.u16(), epoch: reader.u32() }));
}
