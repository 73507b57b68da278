/**
 * What every `ObjectPool` must do, told as tests. An implementation passes the suite or it is not one.
 * `open` makes a fresh, empty store for each story; `reopen` opens the same disk again after the suite has
 * closed the store, and is left out by stores that keep nothing.
 */
import type { Test } from 'tap';
import {
  BLOCK_STATE,
  OBJECT_KIND,
  ObjectRef,
  WRITE_FLAGS,
  type ObjectPool,
} from './object-pool.js';
import { checkedPoolStories } from './checked-pool.suite.js';
import type { CheckedStore, ObjectStore } from './object-store.js';
import { ABSENT_PREFIX, absentRef, objectPoolAbsentStories } from './object-pool-absent.suite.js';
import { objectPoolDataStories } from './object-pool-data.suite.js';
import { objectPoolIfAbsentStories } from './object-pool-if-absent.suite.js';
import { objectPoolModelStories } from './object-pool-model.suite.js';
import { objectPoolNameStories } from './object-pool-names.suite.js';
import { codeOf, PoolUser } from './pool-user.js';

/** A store to try, and how to open it a second time. */
export interface OpenedStore {
  readonly store: ObjectStore;
  readonly reopen?: () => Promise<ObjectStore>;
  /** The same store, if its pools take and give checksums: then it is tried that they do. */
  readonly checked?: CheckedStore;
}

/** Runs one story on a fresh pool. */
export type Story = (
  title: string,
  play: (t: Test, user: PoolUser, pool: ObjectPool) => Promise<void>,
) => Promise<void>;

const POOL = 'suite';

/** The contract of `ObjectPool` as a subtest of `t`. */
export async function objectPoolSuite(
  t: Test,
  name: string,
  open: () => Promise<OpenedStore>,
): Promise<void> {
  await t.test(name, async (t) => {
    const story: Story = async (title, play) => {
      await t.test(title, async (t) => {
        const { store } = await open();
        const pool = await store.openPool(POOL, { create: true });
        try {
          await play(t, new PoolUser(pool), pool);
        } finally {
          await store.close();
        }
      });
    };
    await objectPoolDataStories(story);
    await objectPoolNameStories(story);
    await objectPoolAbsentStories(story);
    await objectPoolIfAbsentStories(story);
    await objectPoolModelStories(story);
    await storeStories(t, open);
    await checkedStories(t, open);
  });
}

async function checkedStories(t: Test, open: () => Promise<OpenedStore>): Promise<void> {
  const first = await open();
  await first.store.close();
  if (first.checked === undefined) return;
  await checkedPoolStories(t, async () => {
    const { checked } = await open();
    if (checked === undefined) throw new Error('A store takes checksums, or it does not');
    return checked;
  });
}

async function storeStories(t: Test, open: () => Promise<OpenedStore>): Promise<void> {
  await t.test('openPool() makes a pool only when asked to', async (t) => {
    const { store } = await open();
    t.equal(await codeOf(store.openPool('nowhere', { create: false })), 'E_NOT_FOUND');
    t.notOk((await store.listPools()).includes('nowhere'));
    const made = await store.openPool('made', { create: true });
    t.equal(made.name, 'made');
    t.equal((await store.openPool('made', { create: false })).objectBytes, made.objectBytes);
    t.ok((await store.listPools()).includes('made'));
    await store.close();
  });

  await t.test('objects of one name in two pools are two objects', async (t) => {
    const { store } = await open();
    const ref = new ObjectRef(OBJECT_KIND.plain, 'same');
    const one = new PoolUser(await store.openPool('one', { create: true }));
    const two = new PoolUser(await store.openPool('two', { create: true }));
    await one.write(ref, 0, Buffer.from('first'));
    t.equal(await two.pool.stat(ref), null);
    await two.write(ref, 0, Buffer.from('other'));
    t.equal((await one.read(ref, 0, 5)).toString(), 'first');
    t.equal(await two.pool.delete(ref), true);
    t.equal((await one.read(ref, 0, 5)).toString(), 'first');
    await store.close();
  });

  await t.test('after close every operation answers E_CLOSED', async (t) => {
    const { store } = await open();
    const pool = await store.openPool(POOL, { create: true });
    const user = new PoolUser(pool);
    const ref = new ObjectRef(OBJECT_KIND.plain, 'late');
    await user.write(ref, 0, Buffer.from('in time'));
    await store.close();
    t.equal(pool.absentRun(ABSENT_PREFIX, 0, 1), null, 'the objects, when asked, say why');
    t.equal(await codeOf(user.read(ref, 0, 4)), 'E_CLOSED');
    t.equal(await codeOf(user.write(ref, 0, Buffer.from('late'))), 'E_CLOSED');
    t.equal(await codeOf(user.zero(ref, 0, 4)), 'E_CLOSED');
    t.equal(await codeOf(user.flush()), 'E_CLOSED');
    t.equal(await codeOf(user.compareAndSwap(ref, 0, Buffer.from('late'))), 'E_CLOSED');
    t.equal(await codeOf(pool.stat(ref)), 'E_CLOSED');
    t.equal(await codeOf(pool.delete(ref)), 'E_CLOSED');
    t.equal(await codeOf(store.openPool(POOL, { create: true })), 'E_CLOSED');
  });

  await t.test('after opening again everything flushed is there', async (t) => {
    const { store, reopen } = await open();
    const before = new PoolUser(await store.openPool(POOL, { create: true }));
    const plain = new ObjectRef(OBJECT_KIND.plain, 'plain');
    const header = new ObjectRef(OBJECT_KIND.imageHeader, 'header');
    const data = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
    const hidden = new ObjectRef(OBJECT_KIND.imageData, 'layer_1', 'family_1');
    const gone = new ObjectRef(OBJECT_KIND.imageData, 'layer_2', 'family_2');
    const deleted = new ObjectRef(OBJECT_KIND.plain, 'deleted');
    await before.write(plain, 3, Buffer.from('hello'));
    await before.write(data, 8190, Buffer.alloc(70_000, 7));
    await before.zero(data, 16_384, 8192);
    await before.zero(hidden, 4096, 4096, WRITE_FLAGS.layered);
    await before.write(gone, 0, Buffer.alloc(4096, 9));
    for (const index of [5, 70_000]) await before.write(absentRef(index), 0, Buffer.from('x'));
    await before.flush();
    await before.zero(gone, 0, 4096);
    await before.write(deleted, 0, Buffer.from('x'));
    await before.pool.delete(deleted);
    await before.flush();
    const version = await before.compareAndSwap(header, 0, Buffer.from('{}'));
    const expected = await Promise.all([before.pool.stat(plain), before.pool.stat(data)]);
    await store.close();
    if (reopen === undefined) {
      t.comment('this store keeps nothing');
      return;
    }
    const again = await reopen();
    t.same(await again.listPools(), [POOL]);
    const after = new PoolUser(await again.openPool(POOL, { create: false }));
    t.equal((await after.read(plain, 0, 8)).toString(), '\0\0\0hello');
    const bytes = Buffer.alloc(98_304);
    bytes.fill(7, 8190, 78_190).fill(0, 16_384, 24_576);
    t.ok((await after.read(data, 0, bytes.length)).equals(bytes), 'image data is as it was');
    t.same(await after.extents(hidden, 0, 8192), [
      { bytes: 4096, state: BLOCK_STATE.absent },
      { bytes: 4096, state: BLOCK_STATE.zero },
    ]);
    for (const index of [5, 70_000])
      t.not(after.pool.absentRun(ABSENT_PREFIX, index, 1), 1, `${index} is known to be there`);
    t.not(after.pool.absentRun(ABSENT_PREFIX, 6, 100_000), 100_000);
    t.equal(await after.pool.stat(gone), null, 'what was discarded stays gone');
    t.equal(await after.pool.stat(deleted), null, 'what was deleted stays deleted');
    t.equal((await after.pool.stat(header))?.version, version);
    const stats = await Promise.all([after.pool.stat(plain), after.pool.stat(data)]);
    for (const [index, stat] of stats.entries()) {
      t.equal(stat?.length, expected[index]?.length);
      t.equal(stat?.kind, expected[index]?.kind);
    }
    await again.close();
  });
}
