import { randomBytes } from 'node:crypto';
import { ImageCatalog, MemStore, OBJECT_KIND, ObjectRef, promised } from '@store/core';
import t from 'tap';
import { ImageExports } from '../image-exports.js';
import { GuardedStore, ImageGuard } from './image-guard.js';

const MIB = 1024 * 1024;
const RANDOM = { bytes: (count: number): Buffer => randomBytes(count) };

interface Scene {
  readonly exports: ImageExports;
  /** What other programs do. */
  readonly others: ImageCatalog;
  readonly guard: ImageGuard;
  readonly store: GuardedStore;
}

async function scene(): Promise<Scene> {
  const below = new MemStore();
  const pool = await below.openPool('pool', { create: true });
  const catalog = new ImageCatalog(pool, RANDOM);
  await catalog.create('vm1', MIB);
  await catalog.create('vm2', MIB);
  const guard = new ImageGuard((image) => exports.serves(image));
  const exports: ImageExports = new ImageExports(catalog, {
    only: null,
    readOnly: false,
    beforeOpen: (image) => guard.settled(image),
  });
  const store = new GuardedStore(below, 'pool', guard);
  const others = new ImageCatalog(await store.openPool('pool', { create: false }), RANDOM);
  return { exports, others, guard, store };
}

await t.test('an image is kept from others from its first client to its last', async (t) => {
  const { exports, others } = await scene();
  const first = await exports.open('vm1');
  const second = await exports.open('vm1');
  const refused = { code: 'E_IN_USE', message: /'vm1' is served by store-nbd \(pid \d+\)/ };
  await t.rejects(others.remove('vm1'), refused);
  await t.rejects(others.resize('vm1', 2 * MIB), refused);
  await others.resize('vm2', 2 * MIB);
  await first?.close();
  await t.rejects(others.remove('vm1'), refused);
  await second?.close();
  await others.remove('vm1');
  t.match(await others.list(), [{ name: 'vm2', size: 2 * MIB }]);
});

await t.test(
  'a name is guarded whatever is done to it, data and other pools are not',
  async (t) => {
    const { exports, store } = await scene();
    await exports.open('vm1');
    const pool = await store.openPool('pool', { create: false });
    t.equal(await store.openPool('pool', { create: false }), pool, 'a pool stays the same one');
    const refused = { code: 'E_IN_USE' };
    const plain = new ObjectRef(OBJECT_KIND.plain, 'vm1');
    await t.rejects(pool.delete(plain), refused);
    await t.rejects(pool.compareAndSwap(plain, 1, Buffer.alloc(8)), refused);
    await t.rejects(
      promised((done) => pool.write(plain, 0, [Buffer.alloc(8)], 0, done)),
      refused,
    );
    await t.rejects(
      promised((done) => pool.zero(plain, 0, 8, 0, done)),
      refused,
    );
    const other = new ObjectRef(OBJECT_KIND.plain, 'other');
    await promised((done) => pool.write(other, 0, [Buffer.from('bytes')], 0, done));
    t.match(await pool.stat(other), { length: 5 });
    const elsewhere = await store.openPool('elsewhere', { create: true });
    t.ok((await elsewhere.compareAndSwap(plain, 0, Buffer.alloc(8))) >= 1);
  },
);

await t.test('whoever opens an image waits for a change that was let through before', async (t) => {
  const { exports, guard } = await scene();
  const header = new ObjectRef(OBJECT_KIND.imageHeader, 'vm1');
  let finish: () => void = () => undefined;
  const change = guard.change(header, () => new Promise<void>((resolve) => (finish = resolve)));
  let isOpen = false;
  const opening = exports.open('vm1').then(() => (isOpen = true));
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(isOpen, false);
  await t.rejects(
    guard.change(header, () => Promise.resolve()),
    { code: 'E_IN_USE' },
    'the next change comes too late',
  );
  finish();
  await change;
  await opening;
  t.equal(isOpen, true);
});
