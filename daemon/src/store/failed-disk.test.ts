/** The disk fails: everybody who waits is told, and nothing is written after that. */
import {
  BLOCK_BYTES,
  DiskError,
  OBJECT_KIND,
  ObjectRef,
  promised,
  promisedWith,
  WRITE_FLAGS,
} from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import type { ReplicaPool } from '../replication/replica-pool.js';
import { SimStory, blocks, data, objectOf, type OpenedStory } from './crash/sim-story.js';
import { FAILED_FILE } from './engine.js';

const X = data('x');

await t.test('a durable write that is parked is told that its open failed', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('old', 16));
  await world.close(first);
  const second = await world.openWith();
  world.disk.metaFaults.commitError = 1;
  const answers = [
    codeOf(second.user.write(X, 0, blocks('new'), WRITE_FLAGS.durable)),
    codeOf(second.user.flush()),
  ];
  t.equal(second.store.parts.parked.count, 1);
  t.same(await world.wait(() => Promise.all(answers)), ['E_DISK_FAILED', 'E_DISK_FAILED']);
});

await t.test('a write that waits for others to be closed is told', async (t) => {
  const world = new SimStory(2);
  const first = await world.openWith({ limits: { openObjectsMax: 2 } });
  for (const name of ['a', 'b']) await world.write(first, data(name), 0, blocks(name));
  world.disk.dataFaults.syncError = 1;
  const answers = [codeOf(first.user.write(data('c'), 0, blocks('c'))), codeOf(first.user.flush())];
  t.same(await world.wait(() => Promise.all(answers)), ['E_DISK_FAILED', 'E_DISK_FAILED']);
});

await t.test('after a failed sync there is no other, and no commit', async (t) => {
  const world = new SimStory(3);
  const counts = { syncs: 0, commitsAfter: 0 };
  let isWatched = false;
  const first = await world.openWith({
    dataFile: (file) => ({
      sync: (done) => {
        if (!isWatched) {
          file.sync(done);
          return;
        }
        counts.syncs += 1;
        const isFirst = counts.syncs === 1;
        world.scheduler.at(1, () => done(isFirst ? new DiskError('EIO', 'broken') : null));
      },
    }),
    metaStore: (store) => ({
      commit: (changes, done) => {
        if (counts.syncs > 0) counts.commitsAfter += 1;
        store.commit(changes, done);
      },
    }),
  });
  await world.write(first, X, 0, blocks('old', 16));
  await world.flush(first);
  await world.write(first, X, 64, blocks('new'));
  isWatched = true;
  const flushed = codeOf(first.user.flush());
  const closed = new Promise<string | null>((resolve) => {
    first.store.parts.persister.close([objectOf(first, X)], (error) =>
      resolve(error?.code ?? null),
    );
  });
  const answers = await world.wait(() => Promise.all([flushed, closed]));
  await world.pass(100);
  t.same(answers, ['E_DISK_FAILED', 'E_DISK_FAILED']);
  t.same(counts, { syncs: 1, commitsAfter: 0 });
});

await t.test(
  'a pool that cannot be made says that the disk failed, not that it is full',
  async (t) => {
    const world = new SimStory(4);
    const { store } = await world.openWith();
    world.disk.metaFaults.commitError = 1;
    const made = world.wait(() => store.openPool('other', { create: true }));
    t.equal(await codeOf(made), 'E_DISK_FAILED');
  },
);

const NEW = data('new');
const HEADER = new ObjectRef(OBJECT_KIND.imageHeader, 'header');
/** Of a piece of more than a megabyte that is here: its last block has its checksums elsewhere than the first. */
const LAST = 299;
const WAYS: readonly ((opened: OpenedStory) => Promise<unknown>)[] = [
  ({ user }) => user.write(NEW, 0, blocks('new')),
  ({ user }) => user.read(NEW, 0, 4096),
  ({ pool }) => pool.stat(NEW),
  ({ pool }) => pool.list({}),
  ({ pool }) => pool.delete(NEW),
  ({ user }) => user.read(X, LAST * BLOCK_BYTES, BLOCK_BYTES),
  ({ user }) => user.write(X, LAST * BLOCK_BYTES, blocks('new')),
  async ({ user }) => {
    await user.write(X, LAST * BLOCK_BYTES + 512, Buffer.alloc(512));
    await user.flush();
  },
  ({ user }) => user.read(HEADER, 0, 4),
  ({ pool }) =>
    promisedWith((done) => {
      const all = { from: 0, to: 0xffff_ffff };
      (pool as ReplicaPool).inventory(all, null, 10, done); // as below
    }),
  ({ pool }) =>
    promised((done) => {
      const change = { op: 'delete', object: NEW, version: 0 } as const;
      (pool as ReplicaPool).apply(change, done); // the engine's pools are
    }),
];

await t.test('metadata that cannot be read stop the engine, and the folder says so', async (t) => {
  for (const [index, ask] of WAYS.entries()) {
    const world = new SimStory(5 + index);
    const before = await world.openWith();
    await world.write(before, X, 0, blocks('old', LAST + 1));
    await world.wait(() => before.pool.compareAndSwap(HEADER, 0, Buffer.from('head')));
    await world.close(before);
    let isBroken = false;
    const look = (): void => {
      if (isBroken) throw new DiskError('EIO', 'read of metadata: MDB_PANIC');
    };
    const opened = await world.openWith({
      metaStore: (store) => ({
        get: (key) => {
          look();
          return store.get(key);
        },
        range: (start, end, limit) => {
          look();
          return store.range(start, end, limit);
        },
      }),
    });
    // They are in memory, and not all of them.
    await world.read(opened, X, 0);
    await world.wait(() => opened.pool.stat(HEADER));
    isBroken = true;
    t.equal(await codeOf(world.wait(() => ask(opened))), 'E_DISK_FAILED', `way ${index}`);
    t.equal(await codeOf(world.wait(() => opened.user.flush())), 'E_DISK_FAILED');
    t.match(opened.store.engine.disk.readSmallFile(FAILED_FILE)?.toString(), /MDB_PANIC/);
  }
});
