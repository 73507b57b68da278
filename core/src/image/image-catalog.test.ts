import t from 'tap';
import { randomBytes } from 'node:crypto';
import type { Random } from '../env/env.js';
import { MemStore } from '../pool/mem-store.js';
import { OBJECT_KIND, ObjectRef, type ObjectPool } from '../pool/object-pool.js';
import { PoolWrapper } from '../pool/pool-wrapper.js';
import { codeOf, PoolUser } from '../pool/pool-user.js';
import { promised, StoreError, type Done } from '../util/errors.js';
import { ImageCatalog } from './image-catalog.js';
import type { Image } from './image.js';

const OBJECT = 64 * 1024;
const MIB = 1024 * 1024;
const random: Random = { bytes: (count) => randomBytes(count) };

async function memPool(): Promise<ObjectPool> {
  return new MemStore({ objectBytes: OBJECT }).openPool('pool', { create: true });
}

async function write(image: Image, offset: number, bytes: Buffer): Promise<void> {
  await promised((done) => image.write(offset, [bytes], 0, done));
}

async function read(image: Image, offset: number, bytes: number): Promise<Buffer> {
  const target = Buffer.alloc(bytes);
  await promised((done) => image.read(offset, target, done));
  return target;
}

/** Dies after a number of changes: from then on nothing is answered but E_CLOSED. */
class DyingPool extends PoolWrapper {
  changesLeft = Infinity;

  #die(): StoreError | null {
    if (this.changesLeft === 0) return new StoreError('E_CLOSED', 'The process died');
    this.changesLeft -= 1;
    return null;
  }

  override zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const death = this.#die();
    if (death === null) super.zero(ref, offset, bytes, flags, done);
    else done(death);
  }

  override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
    const death = this.#die();
    if (death !== null) throw death;
    return super.compareAndSwap(ref, version, bytes);
  }

  override async delete(ref: ObjectRef, version?: number): Promise<boolean> {
    const death = this.#die();
    if (death !== null) throw death;
    return super.delete(ref, version);
  }
}

await t.test('images are created, listed, looked at and opened', async (t) => {
  const pool = await memPool();
  const catalog = new ImageCatalog(pool, random);
  const made = await catalog.create('vm1', 100 * MIB);
  await catalog.create('a vm', 512);
  t.same(await catalog.info('vm1'), made);
  t.same(
    (await catalog.list()).map((image) => image.name),
    ['a vm', 'vm1'],
  );
  const image = await catalog.open('vm1', { readOnly: false });
  t.equal(image.bytes, 100 * MIB);
  await write(image, 50 * MIB - 5, Buffer.from('across two objects'));
  const again = await catalog.open('vm1', { readOnly: true });
  t.equal((await read(again, 50 * MIB - 5, 18)).toString(), 'across two objects');
  t.equal(await catalog.allocatedBytes('vm1'), 8192);
});

await t.test('errors of a catalog name the image and the pool', async (t) => {
  const catalog = new ImageCatalog(await memPool(), random);
  await catalog.create('vm1', MIB);
  await t.rejects(catalog.create('vm1', MIB), {
    code: 'E_EXISTS',
    message: "There already is an image 'vm1' in pool 'pool'",
  });
  const missing = { code: 'E_NOT_FOUND', message: "There is no image 'vm2' in pool 'pool'" };
  await t.rejects(catalog.open('vm2', { readOnly: true }), missing);
  await t.rejects(catalog.info('vm2'), missing);
  await t.rejects(catalog.resize('vm2', MIB), missing);
  await t.rejects(catalog.remove('vm2'), missing);
  await t.rejects(catalog.create('vm3', 1000), { code: 'E_INVALID', message: /multiple of 512/ });
  await t.rejects(catalog.create('vm@3', MIB), { code: 'E_INVALID' });
});

await t.test('an object that is no image is neither opened nor overwritten', async (t) => {
  const pool = await memPool();
  const catalog = new ImageCatalog(pool, random);
  await new PoolUser(pool).write(
    new ObjectRef(OBJECT_KIND.plain, 'notes'),
    0,
    Buffer.from('my notes!'),
  );
  await t.rejects(catalog.open('notes', { readOnly: true }), { code: 'E_FORMAT' });
  await t.rejects(catalog.remove('notes'), { code: 'E_FORMAT' });
  t.not(await codeOf(catalog.create('notes', MIB)), null);
  t.same(await catalog.list(), []);
});

await t.test('one unreadable header does not hide the other images', async (t) => {
  const pool = await memPool();
  const catalog = new ImageCatalog(pool, random);
  await catalog.create('good', MIB);
  await pool.compareAndSwap(
    new ObjectRef(OBJECT_KIND.imageHeader, 'new'),
    0,
    Buffer.from('{"format":9}'),
  );
  const [good, other] = await catalog.list();
  t.equal(good?.name, 'good');
  t.match(other, { name: 'new', problem: /format is 9/ });
});

await t.test('of many who create one image at once exactly one succeeds', async (t) => {
  const catalog = new ImageCatalog(await memPool(), random);
  const codes = await Promise.all(
    Array.from({ length: 10 }, () => codeOf(catalog.create('vm1', MIB))),
  );
  t.equal(codes.filter((code) => code === null).length, 1);
  t.equal(codes.filter((code) => code === 'E_EXISTS').length, 9);
});

await t.test('a compare-and-swap whose answer was lost is recognised', async (t) => {
  class LosingPool extends PoolWrapper {
    lost = 0;
    override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
      await super.compareAndSwap(ref, version, bytes);
      this.lost += 1;
      throw new StoreError(this.lost % 2 === 0 ? 'E_VERSION' : 'E_TIMEOUT', 'No answer came');
    }
  }
  const pool = new LosingPool(await memPool());
  const catalog = new ImageCatalog(pool, random);
  await catalog.create('vm1', MIB);
  t.equal((await catalog.resize('vm1', 2 * MIB)).size, 2 * MIB);
  t.equal(pool.lost, 2, 'each change was made once');
  await catalog.remove('vm1');
  t.equal(await codeOf(catalog.info('vm1')), 'E_NOT_FOUND');
});

await t.test('a change whose answer was lost with its daemon is recognised', async (t) => {
  class DoubtingPool extends PoolWrapper {
    makes = true;
    isAway = false;
    override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
      if (this.makes) await super.compareAndSwap(ref, version, bytes);
      throw new StoreError('E_IN_DOUBT', 'The daemon was restarted before it answered');
    }
    override stat: ObjectPool['stat'] = (ref) =>
      this.isAway
        ? Promise.reject(new StoreError('E_UNREACHABLE', 'Nobody answers'))
        : this.below.stat(ref);
  }
  const pool = new DoubtingPool(await memPool());
  const catalog = new ImageCatalog(pool, random);
  t.match(await catalog.create('vm1', 2 * MIB), { size: 2 * MIB, state: 'ready' });
  t.match(await catalog.resize('vm1', MIB), { size: MIB, state: 'ready' });
  await catalog.remove('vm1');
  t.equal(await codeOf(catalog.info('vm1')), 'E_NOT_FOUND');
  pool.isAway = true;
  t.equal(await codeOf(catalog.create('vm2', MIB)), 'E_IN_DOUBT', 'nobody can say');
  pool.isAway = false;
  pool.makes = false;
  t.equal(await codeOf(catalog.create('vm3', MIB)), 'E_IN_DOUBT', 'it was not made');
});

await t.test('a change that was lost with its daemon is made again', async (t) => {
  class ForgetfulPool extends PoolWrapper {
    losses = 0;
    override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
      this.losses -= 1;
      if (this.losses >= 0)
        throw new StoreError('E_IN_DOUBT', 'Another daemon leads its group of the pool now');
      return super.compareAndSwap(ref, version, bytes);
    }
  }
  const pool = new ForgetfulPool(await memPool());
  const catalog = new ImageCatalog(pool, random);
  await catalog.create('vm1', MIB);
  pool.losses = 3;
  t.match(await catalog.resize('vm1', 2 * MIB), { size: 2 * MIB, state: 'ready' });
  pool.losses = Infinity;
  t.equal(await codeOf(catalog.resize('vm1', MIB)), 'E_IN_DOUBT', 'within reason');
});

await t.test(
  'growing adds zeros, shrinking forgets, and growing again does not remember',
  async (t) => {
    const pool = await memPool();
    const catalog = new ImageCatalog(pool, random);
    await catalog.create('vm1', 10 * OBJECT);
    await write(await catalog.open('vm1', { readOnly: false }), 0, Buffer.alloc(10 * OBJECT, 0xee));
    const progress: [number, number][] = [];
    const kept = 3 * OBJECT + 512;
    await catalog.resize('vm1', kept, {
      onProgress: (done, total) => progress.push([done, total]),
    });
    t.same(progress.at(-1), [6, 6]);
    t.equal((await catalog.info('vm1')).state, 'ready');
    await catalog.resize('vm1', 20 * OBJECT);
    const image = await catalog.open('vm1', { readOnly: true });
    const expected = Buffer.alloc(20 * OBJECT);
    expected.fill(0xee, 0, kept);
    t.ok((await read(image, 0, image.bytes)).equals(expected));
  },
);

await t.test('whenever the process dies while shrinking, growing again reads zeros', async (t) => {
  for (let changes = 0; ; changes += 1) {
    const pool = new DyingPool(await memPool());
    const catalog = new ImageCatalog(pool, random);
    await catalog.create('vm1', 6 * OBJECT);
    await write(await catalog.open('vm1', { readOnly: false }), 0, Buffer.alloc(6 * OBJECT, 0xee));
    pool.changesLeft = changes;
    const died = (await codeOf(catalog.resize('vm1', OBJECT + 4608))) !== null;
    pool.changesLeft = Infinity;
    const { size } = await catalog.info('vm1');
    t.equal(size, changes === 0 ? 6 * OBJECT : OBJECT + 4608);
    const readOnly = await catalog.open('vm1', { readOnly: true });
    t.equal(readOnly.bytes, size, 'what is left can be read at once');
    if (changes % 2 === 0) await catalog.open('vm1', { readOnly: false }); // finishes it
    await catalog.resize('vm1', 8 * OBJECT);
    const expected = Buffer.alloc(8 * OBJECT);
    expected.fill(0xee, 0, size);
    const image = await catalog.open('vm1', { readOnly: true });
    t.ok((await read(image, 0, image.bytes)).equals(expected), `died after ${changes} changes`);
    if (!died) {
      t.ok(changes >= 7, 'every step was tried');
      break;
    }
  }
});

await t.test('a removal that was interrupted cannot be opened and can be finished', async (t) => {
  for (let changes = 0; ; changes += 1) {
    const below = await memPool();
    const pool = new DyingPool(below);
    const catalog = new ImageCatalog(pool, random);
    await catalog.create('vm1', 6 * OBJECT);
    await catalog.create('other', 6 * OBJECT);
    for (const name of ['vm1', 'other'])
      await write(await catalog.open(name, { readOnly: false }), 0, Buffer.alloc(6 * OBJECT, 0xee));
    pool.changesLeft = changes;
    const died = (await codeOf(catalog.remove('vm1'))) !== null;
    pool.changesLeft = Infinity;
    if (died && changes > 0) {
      await t.rejects(catalog.open('vm1', { readOnly: true }), {
        message: /half removed; run store-image rm vm1/,
      });
      await t.rejects(catalog.resize('vm1', MIB), { message: /half removed/ });
      t.equal(await codeOf(catalog.create('vm1', MIB)), 'E_EXISTS');
    } else if (died) t.equal((await catalog.info('vm1')).state, 'ready');
    if (died) await catalog.remove('vm1');
    t.equal(await codeOf(catalog.info('vm1')), 'E_NOT_FOUND');
    t.equal((await below.list({})).entries.length, 7, 'the other image and nothing else is left');
    await catalog.create('vm1', 6 * OBJECT);
    const image = await catalog.open('vm1', { readOnly: true });
    t.ok(
      (await read(image, 0, image.bytes)).equals(Buffer.alloc(image.bytes)),
      'a new one is empty',
    );
    if (!died) {
      t.ok(changes >= 8, 'every step was tried');
      break;
    }
  }
});

await t.test(
  "an image of the ancestor's kind reads, writes, is upgraded and removed",
  async (t) => {
    const store = new MemStore();
    const pool = await store.openPool('testpool', { create: true });
    const catalog = new ImageCatalog(pool, random);
    const ref = new ObjectRef(OBJECT_KIND.plain, 'testblock');
    await new PoolUser(pool).write(ref, 0, Buffer.from([0, 0, 0, 0, 6, 0x40, 0, 0]));
    const info = await catalog.info('testblock');
    t.match(info, { size: 100 * MIB, kind: 'ancestor' });
    await write(
      await catalog.open('testblock', { readOnly: false }),
      5 * MIB,
      Buffer.from('old data'),
    );
    t.equal((await pool.stat(ref))?.length, 8, 'its header is left as it was');
    await t.rejects(catalog.resize('testblock', MIB), { message: /store-image upgrade/ });
    t.same(await catalog.list(), [], 'it looks like any object');
    t.match(await catalog.upgrade('testblock'), { ...info, kind: 'store' });
    t.match(await catalog.upgrade('testblock'), { kind: 'store' }, 'upgrading twice is harmless');
    t.equal((await catalog.list()).length, 1);
    const image = await catalog.open('testblock', { readOnly: false });
    t.equal((await read(image, 5 * MIB, 8)).toString(), 'old data');
    await catalog.resize('testblock', 200 * MIB);
    await catalog.remove('testblock');
    await new PoolUser(pool).write(ref, 0, Buffer.from([0, 0, 0, 0, 6, 0x40, 0, 0]));
    const again = await catalog.open('testblock', { readOnly: true });
    t.ok((await read(again, 5 * MIB, 8)).equals(Buffer.alloc(8)), 'nothing of the old one is left');
    await catalog.remove('testblock');
    t.equal((await pool.list({})).entries.length, 0);
  },
);

await t.test('creating and opening 1 TiB is as much work as 1 GiB', async (t) => {
  class CountingPool extends PoolWrapper {
    calls = 0;
    override stat: ObjectPool['stat'] = (ref) => {
      this.calls += 1;
      return this.below.stat(ref);
    };
    override compareAndSwap: ObjectPool['compareAndSwap'] = (ref, version, bytes) => {
      this.calls += 1;
      return this.below.compareAndSwap(ref, version, bytes);
    };
  }
  const counts: number[] = [];
  for (const size of [2 ** 30, 2 ** 40, 2 ** 50]) {
    const pool = new CountingPool(await memPool());
    const catalog = new ImageCatalog(pool, random);
    await catalog.create('vm1', size);
    await catalog.open('vm1', { readOnly: false });
    await catalog.resize('vm1', size / 2);
    counts.push(pool.calls);
    t.equal((await pool.list({})).entries.length, 1, 'only the header exists');
  }
  t.equal(counts[1], counts[0]);
  t.equal(counts[2], counts[0]);
});
