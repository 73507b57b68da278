/**
 * The body of every request about one object: READ, WRITE, ZERO, DISCARD, EXTENTS, PREFETCH, STAT, COMPARE_AND_SWAP and
 * DELETE. Fields that an operation does not use are zero. After the names a WRITE holds the checksums of its pieces,
 * 4 bytes each; a COMPARE_AND_SWAP holds one checksum for all of its bytes.
 */
import type { PieceChecks } from '../pool/checked-pool.js';
import { OBJECT_KIND, type ObjectKind, type ObjectRef } from '../pool/object-pool.js';
import { StoreError } from '../util/errors.js';
import { putU16le, putU32le, u16le, u32le } from '../util/integers.js';
import { KEY_BYTES_MAX } from '../util/limits.js';
import { readU64, writeU64 } from './frame-header.js';

// Little-endian.
const AT_POOL = 0; //          4  handle from OPEN_POOL
const AT_KIND = 4; //          1  OBJECT_KIND
const AT_FLAGS = 5; //         1  WRITE_FLAGS
const AT_KEY_BYTES = 6; //     2  1..512
const AT_LOCATOR_BYTES = 8; // 2  0: the same as the key
const AT_ZERO = 10; //         2
const AT_OFFSET = 12; //       4  in the object
const AT_BYTES = 16; //        4
const AT_EXTRA = 20; //        8  version that is expected, 0: any (of a delete); or handle of a chain, 0: none
const AT_NAMES = 28; //           key, locator
const FLAGS_MAX = 15;

/** Most bytes of an object request without checksums. */
export const OBJECT_REQUEST_BYTES_MAX: number = AT_NAMES + 2 * KEY_BYTES_MAX;

/** The fields of an object request. */
export interface ObjectRequest {
  pool: number;
  kind: ObjectKind;
  flags: number;
  offset: number;
  bytes: number;
  /** Version expected by a compare-and-swap or a delete, else the handle of a chain; 0 without. */
  extra: number;
  /** Where in the body the names begin and end: `[namesStart, keyEnd)` is the key, then the locator. */
  keyEnd: number;
  namesEnd: number;
}

/** To read into, again and again. */
export function emptyObjectRequest(): ObjectRequest {
  return {
    pool: 0,
    kind: OBJECT_KIND.plain,
    flags: 0,
    offset: 0,
    bytes: 0,
    extra: 0,
    keyEnd: 0,
    namesEnd: 0,
  };
}

/** Where the names begin. */
export const NAMES_START = AT_NAMES;

/** How long the body is, without checksums. */
export function objectRequestBytes(ref: ObjectRef): number {
  return AT_NAMES + ref.key.length + (ref.isOwnLocator ? 0 : ref.locator.length);
}

/** Writes the body at `out[at]`. @returns where it ends */
export function writeObjectRequest(
  out: Buffer,
  at: number,
  pool: number,
  ref: ObjectRef,
  flags: number,
  offset: number,
  bytes: number,
  extra: number,
): number {
  putU32le(out, pool, at + AT_POOL);
  out[at + AT_KIND] = ref.kind;
  out[at + AT_FLAGS] = flags;
  const { key, locator } = ref;
  putU16le(out, key.length, at + AT_KEY_BYTES);
  putU32le(out, ref.isOwnLocator ? 0 : locator.length, at + AT_LOCATOR_BYTES); // and AT_ZERO
  putU32le(out, offset, at + AT_OFFSET);
  putU32le(out, bytes, at + AT_BYTES);
  writeU64(out, at + AT_EXTRA, extra);
  let end = at + AT_NAMES;
  end += key.copy(out, end);
  if (!ref.isOwnLocator) end += locator.copy(out, end);
  return end;
}

/**
 * Reads the fixed fields of `body`.
 * @throws StoreError `E_BAD_FRAME`
 */
export function readObjectRequest(body: Buffer, request: ObjectRequest): void {
  if (body.length < AT_NAMES)
    throw new StoreError('E_BAD_FRAME', 'A request is shorter than its fields');
  const keyBytes = u16le(body, AT_KEY_BYTES);
  const locatorBytes = u16le(body, AT_LOCATOR_BYTES);
  const kind = body[AT_KIND] ?? 0;
  const flags = body[AT_FLAGS] ?? 0;
  request.pool = u32le(body, AT_POOL);
  request.flags = flags;
  request.offset = u32le(body, AT_OFFSET);
  request.bytes = u32le(body, AT_BYTES);
  request.extra = readU64(body, AT_EXTRA);
  request.keyEnd = AT_NAMES + keyBytes;
  request.namesEnd = request.keyEnd + locatorBytes;
  if (
    kind !== OBJECT_KIND.plain &&
    kind !== OBJECT_KIND.imageHeader &&
    kind !== OBJECT_KIND.imageData
  )
    throw new StoreError(
      'E_BAD_FRAME',
      `A request names kind ${kind} of object, which there is not`,
    );
  request.kind = kind;
  if (keyBytes < 1 || keyBytes > KEY_BYTES_MAX || locatorBytes > KEY_BYTES_MAX)
    throw new StoreError('E_BAD_FRAME', `A key has 1 to ${KEY_BYTES_MAX} bytes`);
  if (flags > FLAGS_MAX || u16le(body, AT_ZERO) !== 0)
    throw new StoreError('E_BAD_FRAME', 'A request has unknown flags');
  if (request.namesEnd > body.length)
    throw new StoreError('E_BAD_FRAME', 'A request is shorter than its names');
}

/** Writes checksums at `out[at]`. @returns where they end */
export function writeChecks(out: Buffer, at: number, checks: PieceChecks): number {
  let end = at;
  for (let index = 0; index < checks.length; index += 1) {
    putU32le(out, checks[index] ?? 0, end);
    end += 4;
  }
  return end;
}

/** Reads all checksums from `start` to the end of `body`. @throws StoreError `E_BAD_FRAME` */
export function readChecks(body: Buffer, start: number): PieceChecks {
  const bytes = body.length - start;
  if (bytes % 4 !== 0)
    throw new StoreError('E_BAD_FRAME', 'A frame ends in the middle of a checksum');
  const checks = new Uint32Array(bytes / 4);
  for (let index = 0; index < checks.length; index += 1)
    checks[index] = u32le(body, start + index * 4);
  return checks;
}
