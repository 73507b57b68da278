import { dropPages } from './real-memory.js';
import t from 'tap';
import { BufferPool } from './buffer-pool.js';

const KIB = 1024;

t.test('a buffer is used again, and no more are kept than the pool may', async (t) => {
  const pool = new BufferPool(200 * KIB, { poison: false });
  const [a, b, c] = [pool.take(64 * KIB), pool.take(64 * KIB), pool.take(64 * KIB)];
  for (const buffer of [a, b, c]) pool.release(buffer);
  t.equal(pool.keptBytes, 2 * 68 * KIB, 'two fit');
  t.equal(pool.take(64 * KIB), b, 'the one that is warm');
});

t.test('what nobody needed between two looks is given up, and nothing else', async (t) => {
  const pool = new BufferPool(1024 * KIB, { poison: false });
  const buffers = Array.from({ length: 8 }, () => pool.take(64 * KIB));
  for (const buffer of buffers) pool.release(buffer);
  pool.trim();
  t.equal(pool.keptBytes, 8 * 68 * KIB, 'all were in use a moment ago');
  const needed = [pool.take(64 * KIB), pool.take(64 * KIB), pool.take(64 * KIB)];
  for (const buffer of needed) pool.release(buffer);
  pool.trim();
  t.equal(pool.keptBytes, 3 * 68 * KIB, 'three were needed');
  pool.trim();
  t.equal(pool.keptBytes, 0, 'then none');
});

t.test('a buffer is at most a quarter larger than what it is for, and its headroom', async (t) => {
  const pool = new BufferPool(0, { poison: false });
  for (let bytes = 64 * KIB; bytes < 5 * 1024 * KIB; bytes += 12_345) {
    const { length } = pool.take(bytes);
    t.ok(length >= bytes && length <= bytes * 1.25 + 4 * KIB, `${length} for ${bytes}`);
  }
});

t.test('a small one is less than a block larger', async (t) => {
  const pool = new BufferPool(1024 * KIB, { poison: false });
  for (const bytes of [0, 1, 4095, 4096, 4097, 20_000, 64 * KIB - 1]) {
    const { length } = pool.take(bytes);
    t.ok(length >= bytes && length > 0 && length < bytes + 4 * KIB + 1, `${length} for ${bytes}`);
  }
  const block = pool.take(4 * KIB);
  pool.release(block);
  t.equal(pool.take(100), block, 'any of its size will do');
});

t.test('memory that is given up is free at once, not when garbage is collected', async (t) => {
  if (!dropPages(Buffer.allocUnsafeSlow(64 * KIB))) return t.pass('not on this system');
  const byteOf = (buffer: Buffer): number | undefined => buffer[buffer.length >> 1];
  const pool = new BufferPool(1100 * KIB, { poison: false });
  const [kept, beyond, large] = [1024, 512, 6 * 1024].map((size) =>
    pool.take(size * KIB - 4 * KIB).fill(7),
  ) as [Buffer, Buffer, Buffer]; // as many as there are sizes
  for (const buffer of [kept, beyond, large]) pool.release(buffer);
  t.strictSame([kept, beyond, large].map(byteOf), [7, 0, 0], 'what the pool may not keep');
  pool.trim();
  pool.trim();
  t.equal(byteOf(kept), 0, 'what nobody needed');
});
