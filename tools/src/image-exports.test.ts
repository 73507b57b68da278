import { randomBytes } from 'node:crypto';
import {
  ImageCatalog,
  MemStore,
  OBJECT_KIND,
  ObjectRef,
  promised,
  silentLog,
  StoreError,
  type Chain,
  type Claim,
  type GuardingPool,
  type ObjectPool,
} from '@store/core';
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

/** Keeps guards as if it were one group: the token of the last writer of each image. */
class GuardingMemory extends PoolWrapper implements GuardingPool {
  readonly tokens = new Map<string, number>();
  raises = 0;

  claimed(_layers: Chain, claim: Claim, fenced: (why: StoreError) => void): ObjectPool {
    const pool = new PoolWrapper(this);
    let lost: StoreError | null = null;
    pool.flush = (done) => done(lost);
    pool.write = (ref, offset, parts, flags, done) => {
      if (this.tokens.get(claim.image) === claim.token)
        this.below.write(ref, offset, parts, flags, done);
      else {
        const why = new StoreError('E_FENCED', 'Another writer has it');
        lost = why;
        fenced(why);
        done(why);
      }
    };
    return pool;
  }

  raiseGuard({ image, token }: { image: string; token: number }): Promise<void> {
    this.raises += 1;
    this.tokens.set(image, token);
    return Promise.resolve();
  }

  removeGuard(image: string): Promise<void> {
    this.tokens.delete(image);
    return Promise.resolve();
  }
}

async function guardedScene(): Promise<{
  pool: GuardingMemory;
  serve: (host: string, only: string | null, force?: boolean) => ImageExports;
  writer: () => Promise<{ owner: { host: string } | null; token: number }>;
}> {
  const pool = new GuardingMemory(await new MemStore().openPool('pool', { create: true }));
  const catalog = new ImageCatalog(pool, { bytes: (count) => randomBytes(count) });
  await catalog.create('vm1', 1024 * 1024);
  return {
    pool,
    serve: (host, only, force = false) => {
      const roles = { host, force, now: () => 1_800_000_000, log: silentLog };
      return new ImageExports(catalog, { only, readOnly: false, roles });
    },
    writer: async () => {
      const ref = new ObjectRef(OBJECT_KIND.imageHeader, 'vm1');
      const bytes = Buffer.alloc((await pool.stat(ref))?.length ?? 0);
      await promised((done) => pool.read(ref, 0, bytes, done));
      const header = JSON.parse(bytes.toString()) as {
        writer: { owner: { host: string } | null; token: number };
      };
      return header.writer;
    },
  };
}

await t.test("the image that is named is this server's from its start to its end", async (t) => {
  const { pool, serve, writer } = await guardedScene();
  const exports = serve('alpha', 'vm1');
  await exports.prepare('vm1');
  t.match(await writer(), { token: 1, owner: { host: 'alpha', name: 'vm1' } });
  for (let round = 0; round < 2; round += 1) {
    const open = await exports.open('');
    await promised((done) => open?.backend.write(0, [Buffer.alloc(512)], 0, done));
    await open?.close();
  }
  t.equal(pool.raises, 1, 'who comes again finds it as it was');
  t.equal((await exports.info('vm1'))?.readOnly, false);
  await exports.release();
  t.match(await writer(), { token: 1, owner: null });
});

await t.test('of a whole pool images are given back when their last client leaves', async (t) => {
  const { serve, writer } = await guardedScene();
  const exports = serve('alpha', null);
  await exports.info('vm1');
  t.equal(await writer(), null, 'who only asks takes nothing');
  const open = await exports.open('vm1');
  const again = await exports.open('vm1');
  await open?.close();
  t.match(await writer(), { owner: { host: 'alpha' } });
  await again?.close();
  await serve('beta', null).open('vm1');
  t.match(await writer(), { token: 2, owner: { host: 'beta' } });
  await t.rejects(exports.open('vm1'), { code: 'E_IN_USE' });
  await exports.release();
  t.match(await writer(), { token: 2, owner: { host: 'beta' } });
});

for (const only of ['vm1', null])
  await t.test(
    `a server from which an image was taken does not take it back (${only ?? 'of all'})`,
    async (t) => {
      const { serve, writer } = await guardedScene();
      const [first, second] = [serve('alpha', only, true), serve('beta', only, true)];
      const open = await first.open('vm1');
      const other = await second.open('vm1');
      const wrote = promised((done) => open?.backend.write(0, [Buffer.alloc(512)], 0, done));
      await t.rejects(wrote, { code: 'E_FENCED' });
      await first.flush(); // a server that ends has nothing to complain of
      await open?.close();
      await t.rejects(first.open('vm1'), { code: 'E_IN_USE' });
      await first.release();
      t.match(await writer(), { token: 2, owner: { host: 'beta' } });
      await other?.close();
      await second.release();
      t.ok(await first.open('vm1'), 'when it is free it may');
    },
  );
