import { randomBytes } from 'node:crypto';
import { ImageCatalog, MemStore, promised } from '@store/core';
import { PoolWrapper } from '@store/core/testing';
import t from 'tap';
import { ImageExports } from './image-exports.js';

class CountingPool extends PoolWrapper {
  flushes = 0;

  override flush: PoolWrapper['flush'] = (done) => {
    this.flushes += 1;
    this.below.flush(done);
  };
}

async function scene(): Promise<{ pool: CountingPool; catalog: ImageCatalog }> {
  const pool = new CountingPool(await new MemStore().openPool('pool', { create: true }));
  const catalog = new ImageCatalog(pool, { bytes: (count) => randomBytes(count) });
  await catalog.create('vm1', 1024 * 1024);
  await catalog.create('vm2', 2 * 1024 * 1024);
  return { pool, catalog };
}

await t.test('with an image named, it alone is exported, also under the empty name', async (t) => {
  const exports = new ImageExports((await scene()).catalog, { only: 'vm2', readOnly: false });
  t.same(await exports.list(), [{ name: 'vm2', description: 'image of 2 MiB' }]);
  for (const name of ['', 'vm2']) {
    t.match(await exports.info(name), { bytes: 2 * 1024 * 1024, readOnly: false });
    t.equal((await exports.open(name))?.backend.bytes, 2 * 1024 * 1024);
  }
  t.equal(await exports.info('vm1'), null);
  t.equal(await exports.open('vm1'), null);
});

await t.test('without one every image is exported by its name', async (t) => {
  const exports = new ImageExports((await scene()).catalog, { only: null, readOnly: true });
  t.same(
    (await exports.list()).map(({ name }) => name),
    ['vm1', 'vm2'],
  );
  t.equal((await exports.open('vm1'))?.backend.readOnly, true);
  for (const name of ['', 'vm3', '../vm1', 'vm1@snap', 'x'.repeat(4096), 'a\nb']) {
    t.equal(await exports.info(name), null);
    t.equal(await exports.open(name), null);
  }
});

await t.test('clients are answered when what they ask for is ready', async (t) => {
  const { catalog } = await scene();
  let made: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (made = resolve));
  const exports = new ImageExports(catalog, { only: 'vm3', readOnly: false, ready });
  const answers = [exports.list(), exports.info(''), exports.open('vm3')];
  await catalog.create('vm3', 1024 * 1024);
  made();
  t.match(await Promise.all(answers), [[{ name: 'vm3' }], { bytes: 1024 * 1024 }, { name: 'vm3' }]);
});

await t.test('connections to one name share an image; the last one to leave flushes', async (t) => {
  const { pool, catalog } = await scene();
  const exports = new ImageExports(catalog, { only: 'vm1', readOnly: false });
  const [first, second] = await Promise.all([exports.open(''), exports.open('vm1')]);
  t.ok(first !== null && first.backend === second?.backend);
  await first?.close();
  t.equal(pool.flushes, 0);
  await second?.close();
  t.equal(pool.flushes, 1);
  const third = await exports.open('vm1');
  t.not(third?.backend, first?.backend, 'opened anew, with the size it has now');
  await promised((done) => third?.backend.flush(done));
  await third?.close();
});

await t.test('an image that is being removed is no export', async (t) => {
  const { pool, catalog } = await scene();
  pool.delete = () => Promise.reject(new Error('died'));
  const image = await catalog.open('vm1', { readOnly: false });
  await promised((done) => image.write(0, [Buffer.from('x')], 0, done));
  await t.rejects(catalog.remove('vm1'), { message: 'died' });
  const exports = new ImageExports(catalog, { only: null, readOnly: false });
  t.same(
    (await exports.list()).map(({ name }) => name),
    ['vm2'],
  );
  t.equal(await exports.info('vm1'), null);
  t.equal(await exports.open('vm1'), null);
});
