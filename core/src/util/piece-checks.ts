/**
 * Checksums of a range of an object that travel with its bytes, one for each piece. A range is cut where blocks of the
 * object begin: into whole blocks, and a piece of a block at either end if the range does not begin or end with one. So
 * what a client computes over a whole block is what is stored of it, and nobody between has to compute it again.
 */
import { partsBytes, type ByteParts } from './byte-parts.js';
import { crc32c, crc32cOf } from './crc32c.js';
import { invariant } from './invariant.js';
import { BLOCK_BYTES } from './limits.js';
import { appendBlock } from './run-checksum.js';

/** The checksum of a block of zeros, and so of each that was never written. */
export const ZERO_BLOCK_CHECK: number = crc32c(Buffer.alloc(BLOCK_BYTES));

/** How many pieces a range has. */
export function pieceCount(offset: number, bytes: number): number {
  if (bytes === 0) return 0;
  return Math.floor((offset + bytes - 1) / BLOCK_BYTES) - Math.floor(offset / BLOCK_BYTES) + 1;
}

/** CRC-32C of each piece of the range at `offset` whose bytes are `parts`, one after the other. */
export function pieceChecksOf(offset: number, parts: ByteParts): Uint32Array {
  const checks = new Uint32Array(pieceCount(offset, partsBytes(parts)));
  let piece = 0;
  let sum = 0;
  let left = BLOCK_BYTES - (offset % BLOCK_BYTES);
  for (const part of parts) {
    for (let at = 0; at < part.length;) {
      const take = Math.min(part.length - at, left);
      sum = crc32cOf(part, at, at + take, sum);
      at += take;
      left -= take;
      if (left > 0) continue;
      checks[piece] = sum;
      piece += 1;
      sum = 0;
      left = BLOCK_BYTES;
    }
  }
  if (piece < checks.length) checks[piece] = sum;
  return checks;
}

/**
 * Compares the bytes of a range with the checksums that came with them. Whole blocks take one pass over their bytes
 * together and not one call for each, so this is for bytes that are to be used; who stores the checksums compares each
 * (`pieceChecksOf`), because checksums that are wrong in a way that cancels out pass here, though no wrong bytes do.
 * @param checks - `pieceCount` of them
 * @returns the index of the first piece that differs, or -1
 */
export function verifyPieces(offset: number, parts: ByteParts, checks: Uint32Array): number {
  const bytes = partsBytes(parts);
  invariant(checks.length === pieceCount(offset, bytes), 'each piece has its checksum');
  const toBlock = (BLOCK_BYTES - (offset % BLOCK_BYTES)) % BLOCK_BYTES;
  const headBytes = Math.min(bytes, toBlock);
  const blocks = Math.floor((bytes - headBytes) / BLOCK_BYTES);
  const tailBytes = bytes - headBytes - blocks * BLOCK_BYTES;
  const first = headBytes > 0 ? 1 : 0;
  if (headBytes > 0 && crcOfParts(parts, 0, headBytes) !== checks[0]) return 0;
  if (blocks > 0) {
    let expected = checks[first] ?? 0;
    for (let index = first + 1; index < first + blocks; index += 1)
      expected = appendBlock(expected, checks[index] ?? 0);
    if (crcOfParts(parts, headBytes, blocks * BLOCK_BYTES) !== expected)
      return firstDifference(pieceChecksOf(offset, parts), checks);
  }
  const isTailGood =
    tailBytes === 0 ||
    crcOfParts(parts, bytes - tailBytes, tailBytes) === checks[checks.length - 1];
  return isTailGood ? -1 : checks.length - 1;
}

/** Where two lists of checksums, equally long, differ first, or -1. */
export function firstDifference(left: Uint32Array, right: Uint32Array): number {
  for (let index = 0; index < left.length; index += 1)
    if (left[index] !== right[index]) return index;
  return -1;
}

/** The checksum of bytes `[from, from + bytes)` of the parts. */
function crcOfParts(parts: ByteParts, from: number, bytes: number): number {
  let sum = 0;
  let skip = from;
  let left = bytes;
  for (const part of parts) {
    if (left === 0) break;
    if (skip >= part.length) {
      skip -= part.length;
      continue;
    }
    const end = Math.min(part.length, skip + left);
    sum = crc32cOf(part, skip, end, sum);
    left -= end - skip;
    skip = 0;
  }
  return sum;
}
