import fc from 'fast-check';
import t from 'tap';
import { crc32c } from './crc32c.js';
import { BLOCK_BYTES } from './limits.js';
import { pieceChecksOf, pieceCount, verifyPieces, ZERO_BLOCK_CHECK } from './piece-checks.js';

/** A range, and its bytes cut into parts anywhere. */
const ranges = fc
  .record({
    offset: fc.oneof(
      fc.nat({ max: 3 * BLOCK_BYTES }),
      fc.nat({ max: 3 }).map((n) => n * BLOCK_BYTES),
    ),
    bytes: fc.oneof(
      fc.nat({ max: 4 * BLOCK_BYTES }),
      fc.nat({ max: 4 }).map((n) => n * BLOCK_BYTES),
    ),
    seed: fc.nat({ max: 250 }),
    cuts: fc.array(fc.nat({ max: 4 * BLOCK_BYTES }), { maxLength: 4 }),
  })
  .map(({ offset, bytes, seed, cuts }) => {
    const whole = Buffer.from(
      Array.from({ length: bytes }, (_, at) => (at * 31 + (at >> 12) * 7 + seed) & 0xff),
    );
    const at = [0, ...cuts.map((cut) => Math.min(cut, bytes)), bytes].sort((a, b) => a - b);
    const parts = at.slice(1).map((end, index) => whole.subarray(at[index], end));
    return { offset, whole, parts };
  });

/** The same from copies of whole pieces. */
function plainly(offset: number, whole: Buffer): number[] {
  const checks: number[] = [];
  for (let at = 0; at < whole.length;) {
    const block = Math.floor((offset + at) / BLOCK_BYTES);
    const end = Math.min(whole.length, (block + 1) * BLOCK_BYTES - offset);
    checks.push(crc32c(Buffer.from(whole.subarray(at, end))));
    at = end;
  }
  return checks;
}

t.test('pieces are cut where blocks of the object begin, wherever the parts are cut', async (t) => {
  const block = Buffer.alloc(BLOCK_BYTES, 1);
  t.same(
    [...pieceChecksOf(4095, [Buffer.from('ab')])],
    [crc32c(Buffer.from('a')), crc32c(Buffer.from('b'))],
  );
  t.same([...pieceChecksOf(8192, [block, block])], [crc32c(block), crc32c(block)]);
  t.same([...pieceChecksOf(5, [])], []);
  t.equal(ZERO_BLOCK_CHECK, crc32c(Buffer.alloc(BLOCK_BYTES)));
});

t.test('pieceChecksOf() does what a plain loop does, and verifyPieces() agrees', async () => {
  fc.assert(
    fc.property(ranges, ({ offset, whole, parts }) => {
      const checks = pieceChecksOf(offset, parts);
      const sameSums = JSON.stringify([...checks]) === JSON.stringify(plainly(offset, whole));
      const counted = checks.length === pieceCount(offset, whole.length);
      return sameSums && counted && verifyPieces(offset, parts, checks) === -1;
    }),
    { numRuns: 200 },
  );
});

t.test('verifyPieces() names the first piece in which a bit flipped', async () => {
  fc.assert(
    fc.property(ranges, fc.nat(), ({ offset, whole, parts }, place) => {
      if (whole.length === 0) return true;
      const checks = pieceChecksOf(offset, parts);
      const at = place % whole.length;
      whole[at] = (whole[at] ?? 0) ^ (1 << (place & 7)); // the parts are views of it
      const piece = Math.floor((offset + at) / BLOCK_BYTES) - Math.floor(offset / BLOCK_BYTES);
      return verifyPieces(offset, parts, checks) === piece;
    }),
    { numRuns: 300 },
  );
});

t.test('verifyPieces() names the first checksum that was damaged', async () => {
  fc.assert(
    fc.property(ranges, fc.nat(), ({ offset, parts }, place) => {
      const checks = pieceChecksOf(offset, parts);
      if (checks.length === 0) return true;
      const piece = place % checks.length;
      checks[piece] = (checks[piece] ?? 0) ^ (1 << (place % 31));
      return verifyPieces(offset, parts, checks) === piece;
    }),
    { numRuns: 200 },
  );
});

t.test('verifyPieces() insists on a checksum for each piece', async (t) => {
  t.throws(() => verifyPieces(0, [Buffer.alloc(8192)], new Uint32Array(1)));
  t.throws(() => verifyPieces(0, [], new Uint32Array(1)));
});
