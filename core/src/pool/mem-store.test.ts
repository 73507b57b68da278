import t from 'tap';
import { MemStore } from './mem-store.js';
import { OBJECT_KIND, ObjectRef } from './object-pool.js';
import { objectPoolSuite } from './object-pool.suite.js';
import { codeOf, PoolUser } from './pool-user.js';

for (const objectBytes of [4 * 1024 * 1024, 512 * 1024])
  await objectPoolSuite(t, `MemStore with objects of ${objectBytes} bytes`, () => {
    const store = new MemStore({ objectBytes });
    return Promise.resolve({ store, checked: store });
  });

await t.test(
  'MemStore never shows a version twice, even when an object is made again',
  async (t) => {
    const store = new MemStore();
    const pool = new PoolUser(await store.openPool('pool', { create: true }));
    const ref = new ObjectRef(OBJECT_KIND.imageHeader, 'image');
    const first = await pool.compareAndSwap(ref, 0, Buffer.from('one'));
    await pool.pool.delete(ref);
    await pool.compareAndSwap(ref, 0, Buffer.from('another'));
    t.equal(await codeOf(pool.compareAndSwap(ref, first, Buffer.from('late'))), 'E_VERSION');
  },
);

await t.test('MemStore refuses object sizes no pool may have', (t) => {
  for (const objectBytes of [0, 4096, 65_537, 100_000])
    t.throws(() => new MemStore({ objectBytes }));
  t.end();
});
