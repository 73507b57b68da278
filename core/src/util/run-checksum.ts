/**
 * The checksum of several blocks in a row, from the checksums of each: so a run of blocks is verified with one pass over
 * its bytes and one call, instead of one for each block.
 *
 * CRC is linear: appending a block to what came before multiplies the checksum so far by a matrix over GF(2) that depends
 * on the block's length only, and adds the block's own. A single block that differs always shows (the matrix can be
 * inverted); several show as surely as one does.
 */
import { crc32c } from './crc32c.js';
import { BLOCK_BYTES } from './limits.js';

/** What a checksum becomes when a block is appended, for each of its bytes, the lowest first. */
const TABLES: readonly Uint32Array[] = makeTables();

/** The checksum of bytes with checksum `before`, followed by a block with checksum `block`. Unsigned 32 bit. */
export function appendBlock(before: number, block: number): number {
  const [first, second, third, fourth] = TABLES as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ]; // there are four
  const shifted =
    (first[before & 0xff] ?? 0) ^
    (second[(before >>> 8) & 0xff] ?? 0) ^
    (third[(before >>> 16) & 0xff] ?? 0) ^
    (fourth[before >>> 24] ?? 0);
  return (shifted ^ block) >>> 0;
}

function makeTables(): Uint32Array[] {
  const zeros = Buffer.alloc(BLOCK_BYTES);
  const nothing = crc32c(zeros, 0);
  const columns = Array.from({ length: 32 }, (_, bit) => crc32c(zeros, (1 << bit) >>> 0) ^ nothing);
  return Array.from({ length: 4 }, (_, byte) =>
    Uint32Array.from({ length: 256 }, (_, value) => {
      let sum = 0;
      for (let bit = 0; bit < 8; bit += 1)
        if ((value & (1 << bit)) !== 0) sum ^= columns[byte * 8 + bit] ?? 0;
      return sum;
    }),
  );
}
