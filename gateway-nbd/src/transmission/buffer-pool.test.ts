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
