// A pool that is spread over daemons is the pool that one daemon serves.
import {
  Image,
  ImageCatalog,
  OBJECT_KIND,
  ObjectRef,
  promised,
  realRandom,
  StoreError,
} from '@store/core';
import { codeOf, objectPoolSuite, PoolUser } from '@store/core/testing';
import t from 'tap';
import { POOL, TestCluster } from './test-cluster.js';

t.setTimeout(330_000);

for (const isShared of [false, true])
  await objectPoolSuite(
    t,
    `ClusterPool over daemons ${isShared ? 'that refuse what is not theirs' : 'with data of their own'}`,
    async () => {
      const cluster = await TestCluster.start({ isShared, pools: [] });
      t.teardown(() => cluster.close());
      return { store: cluster.open() };
    },
  );

t.test('images live in it: create, write, resize, list, remove', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  const catalog = new ImageCatalog(pool, realRandom);
  const names = Array.from({ length: 20 }, (_, index) => `image${index}`);
  for (const name of names) await catalog.create(name, 100 * 1024 * 1024);
  const image = await catalog.open('image7', { readOnly: false });
  t.type(image, Image);
  const bytes = Buffer.alloc(24 * 1024 * 1024);
  for (let at = 0; at < bytes.length; at += 4096) bytes.writeUInt32LE(at, at);
  await promised((done) => image.write(4096, [bytes], 0, done));
  await promised((done) => image.flush(done));
  const seen = Buffer.alloc(bytes.length);
  await promised((done) => image.read(4096, seen, done));
  t.ok(seen.equals(bytes));
  const asked = cluster.daemons.filter(({ mapped }) => mapped.flushCount > 0);
  t.equal(asked.length, 4, 'several daemons hold its data');
  t.equal((await catalog.resize('image7', 8 * 1024 * 1024)).size, 8 * 1024 * 1024);
  t.ok((await catalog.allocatedBytes('image7')) <= 8 * 1024 * 1024);
  t.strictSame(
    (await catalog.list()).map(({ name }) => name),
    [...names].sort(),
  );
  await catalog.remove('image7');
  t.equal(await codeOf(catalog.open('image7', { readOnly: true })), 'E_NOT_FOUND');
  t.equal((await catalog.list()).length, 19);
  t.equal((await pool.list({ kind: OBJECT_KIND.imageData })).entries.length, 0);
});

t.test('layers are resolved by each daemon, which hears of a chain when it needs it', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  const ref = (layer: string, index: number): ObjectRef =>
    new ObjectRef(OBJECT_KIND.imageData, `${layer}_${index}`, `family_${index}`);
  const whole = new PoolUser(pool);
  const view = new PoolUser(
    await pool.layered([
      { id: 'top', overlap: 0 },
      { id: 'base', overlap: 2 ** 40 },
    ]),
  );
  for (let index = 0; index < 16; index += 1) {
    await whole.write(ref('base', index), 0, Buffer.alloc(8192, index));
    await view.write(ref('top', index), 0, Buffer.alloc(4096, 'new'));
    const seen = await view.read(ref('top', index), 0, 8192);
    t.ok(seen.equals(Buffer.concat([Buffer.alloc(4096, 'new'), Buffer.alloc(4096, index)])));
    t.ok((await whole.read(ref('base', index), 0, 4096)).equals(Buffer.alloc(4096, index)));
  }
  t.equal(await codeOf(pool.layered([])), 'E_INVALID');
});

t.test('a pool that is not there is an error that says what to do', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const store = cluster.open();
  const missing = store.openPool('other', { create: false });
  await t.rejects(missing, { code: 'E_NOT_FOUND', message: /store pool create other/ });
  t.equal((await store.openPool('other', { create: true })).name, 'other');
  t.strictSame(await store.listPools(), ['other', POOL]);
  t.equal(
    await store.openPool('other', { create: true }),
    await store.openPool('other', { create: false }),
  );
});

t.test('a pool that is removed fails, and one made under its name is another', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const store = cluster.open();
  const old = await store.openPool(POOL, { create: false });
  const ref = new ObjectRef(OBJECT_KIND.plain, 'object');
  await new PoolUser(old).write(ref, 0, Buffer.from('old'));
  await new PoolUser(old).flush();
  cluster.removePool(POOL);
  await new Promise(setImmediate);
  t.equal(await codeOf(old.stat(ref)), 'E_NOT_FOUND');
  t.equal(await codeOf(new PoolUser(old).flush()), 'E_NOT_FOUND');
  t.equal(await codeOf(old.list({})), 'E_NOT_FOUND');
  cluster.makePool(POOL);
  const young = await store.openPool(POOL, { create: false });
  t.not(young, old);
  t.equal(await young.stat(ref), null, 'nothing of the old one is in it');
  t.equal(await codeOf(new PoolUser(old).write(ref, 0, Buffer.from('late'))), 'E_NOT_FOUND');
  t.equal(await young.stat(ref), null, 'the old one does not touch it');
});

t.test('what is counted is counted over all daemons', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const store = cluster.open();
  const pool = await store.openPool(POOL, { create: false });
  t.equal(store.counters.connects, 0, 'daemons are asked when they are needed');
  for (const { mapped } of cluster.daemons) mapped.isHolding = true;
  const refs = Array.from(
    { length: 40 },
    (_, index) => new ObjectRef(OBJECT_KIND.plain, `${index}`),
  );
  const stats = refs.map((ref) => pool.stat(ref));
  t.equal(store.openCount, 40);
  for (const { mapped } of cluster.daemons) mapped.release();
  await Promise.all(stats);
  t.equal(store.openCount, 0);
  t.equal(store.counters.connects, 4);
});

t.test(
  'closing makes durable what was written, where it was written, and closes the guide',
  async (t) => {
    const cluster = await TestCluster.start();
    t.teardown(() => cluster.close());
    const store = cluster.open();
    const pool = await store.openPool(POOL, { create: false });
    const ref = new ObjectRef(OBJECT_KIND.imageData, 'object');
    await new PoolUser(pool.forUser()).write(ref, 0, Buffer.alloc(4096, 1));
    await store.close();
    const counts = cluster.daemons.map(({ mapped }) => mapped.flushCount);
    t.strictSame(counts.sort(), [0, 0, 0, 1]);
    t.ok(cluster.guide.isClosed);
    t.equal(await codeOf(store.openPool(POOL, { create: false })), 'E_CLOSED');
    const failing = cluster.open();
    await new PoolUser(await failing.openPool(POOL, { create: false })).write(
      ref,
      0,
      Buffer.alloc(4096),
    );
    for (const { mapped } of cluster.daemons)
      mapped.flushError = new StoreError('E_DISK_FAILED', 'The disk failed');
    t.equal(await codeOf(failing.close()), 'E_DISK_FAILED');
  },
);
