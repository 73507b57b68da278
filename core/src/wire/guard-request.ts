/**
 * The body of RAISE_GUARD: what becomes of the guard of an image in some groups. Little-endian.
 *
 *   4  pool, as OPEN_POOL said
 *   1  0: raise, 1: remove
 *   1  bytes of the id of the image, 1..64
 *   1  bytes of the id of the layer, 1..64; 0 where it is removed
 *   1  zero
 *   8  token of the writer
 *   4  number of the layer; 0 where it is removed
 *      id of the image, id of the layer
 *   6  group 2, epoch 4: for each
 */
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import { checkClaim, checkGuard, IMAGE_ID_BYTES_MAX, LAYER_ID_BYTES_MAX } from '../pool/guard.js';
import type { GuardChange } from '../pool/guarded-pool.js';
import { StoreError } from '../util/errors.js';
import { BodyReader } from './body-reader.js';
import { NAMED_GROUP_BYTES, readGroups, writeGroups } from './named-groups.js';
import { NAMED_GROUPS_MAX } from './wire-limits.js';

const FIXED_BYTES = 20;
const KIND = { raise: 0, remove: 1 } as const;
export const GUARD_REQUEST_BYTES_MAX: number =
  FIXED_BYTES + IMAGE_ID_BYTES_MAX + LAYER_ID_BYTES_MAX + NAMED_GROUPS_MAX * NAMED_GROUP_BYTES;

export function encodeGuardRequest(
  pool: number,
  change: GuardChange,
  groups: readonly GroupAtEpoch[],
): Buffer {
  const { image, token } = change.kind === 'raise' ? change.guard : change;
  const layerId = Buffer.from(change.kind === 'raise' ? change.guard.layerId : '');
  const imageId = Buffer.from(image);
  const namesEnd = FIXED_BYTES + imageId.length + layerId.length;
  const out = Buffer.alloc(namesEnd + groups.length * NAMED_GROUP_BYTES);
  out.writeUInt32LE(pool, 0);
  out.writeUInt8(KIND[change.kind], 4);
  out.writeUInt8(imageId.length, 5);
  out.writeUInt8(layerId.length, 6);
  out.writeBigUInt64LE(BigInt(token), 8);
  out.writeUInt32LE(change.kind === 'raise' ? change.guard.layer : 0, 16);
  imageId.copy(out, FIXED_BYTES);
  layerId.copy(out, FIXED_BYTES + imageId.length);
  writeGroups(out, namesEnd, groups);
  return out;
}

/** @throws StoreError `E_BAD_FRAME`, `E_INVALID` */
export function decodeGuardRequest(body: Buffer): {
  pool: number;
  change: GuardChange;
  groups: GroupAtEpoch[];
} {
  const reader = new BodyReader(body);
  const pool = reader.u32();
  const kind = reader.u8();
  const imageBytes = reader.u8();
  const layerBytes = reader.u8();
  const zero = reader.u8();
  const token = reader.u64();
  const layer = reader.u32();
  const image = reader.text(imageBytes);
  const layerId = reader.text(layerBytes);
  if (zero !== 0 || (kind !== KIND.raise && kind !== KIND.remove))
    throw new StoreError('E_BAD_FRAME', 'A request does something unknown with a guard');
  const groups = readGroups(reader, body.length - FIXED_BYTES - imageBytes - layerBytes);
  if (groups.length === 0)
    throw new StoreError('E_BAD_FRAME', 'A request about a guard names no group');
  if (kind === KIND.remove) {
    checkClaim({ image, token, layer });
    return { pool, change: { kind: 'remove', image, token }, groups };
  }
  const guard = { image, token, layer, layerId };
  checkGuard(guard);
  return { pool, change: { kind: 'raise', guard }, groups };
}
