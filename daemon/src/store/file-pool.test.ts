/** What the callers of a pool see when the disk fails or is full. */
import { BLOCK_BYTES, OBJECT_KIND, ObjectRef, type DataFile } from '@store/core';
import { PoolUser, codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStore } from './crash/sim-store.js';
import type { FileStore } from './file-store.js';

const DATA = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
const NOTE = new ObjectRef(OBJECT_KIND.plain, 'note');

function block(text: string): Buffer {
  return Buffer.alloc(BLOCK_BYTES, text);
}

/** Block 0 is closed, with durable data; `syncs` and `commits` count what reaches the disk from here on. */
async function madeWorld() {
  const world = new SimStore(1);
  const first = await world.open();
  await world.wait(() => new PoolUser(first.pool).write(DATA, 0, block('old')));
  await world.wait(() => first.store.close());
  const { store, pool } = await world.open();
  return { world, store, user: new PoolUser(pool), counts: countCalls(store) };
}

function countCalls(store: FileStore): { syncs: number; writes: number; commits: number } {
  const counts = { syncs: 0, writes: 0, commits: 0 };
  const { data, meta } = store.engine;
  const [sync, write, tryWrite]: [DataFile['sync'], DataFile['write'], DataFile['tryWrite']] = [
    data.sync.bind(data),
    data.write.bind(data),
    data.tryWrite.bind(data),
  ];
  const commit = meta.commit.bind(meta);
  data.sync = (done) => {
    counts.syncs += 1;
    sync(done);
  };
  data.write = (...call) => {
    counts.writes += 1;
    write(...call);
  };
  data.tryWrite = (...call) => {
    counts.writes += 1;
    return tryWrite(...call);
  };
  meta.commit = (...call) => {
    counts.commits += 1;
    commit(...call);
  };
  return counts;
}

/** Everything a caller can ask for; what each was answered. */
function askEverything(user: PoolUser): Promise<(string | null)[]> {
  const { pool } = user;
  return Promise.all(
    [
      user.write(DATA, 0, block('x')),
      user.write(DATA, 40 * BLOCK_BYTES, block('x'), 1),
      user.write(DATA, 3, Buffer.from('part')),
      user.zero(DATA, 0, BLOCK_BYTES),
      user.read(DATA, 0, BLOCK_BYTES),
      user.read(DATA, 5, 10),
      user.extents(DATA, 0, BLOCK_BYTES),
      user.prefetch(DATA, 0, BLOCK_BYTES),
      user.flush(),
      user.write(NOTE, 0, Buffer.from('x')),
      user.read(NOTE, 0, 1),
      user.zero(NOTE, 0, 1),
      user.compareAndSwap(NOTE, 0, Buffer.from('x')),
      pool.stat(DATA),
      pool.list({}),
      pool.delete(DATA),
      pool.delete(NOTE),
    ].map(codeOf),
  );
}

const FAULTS = {
  write: { writeError: 1 },
  sync: { syncError: 1 },
} as const;

for (const [name, faults] of Object.entries(FAULTS))
  await t.test(
    `the first error of a ${name} stops everything, and it is not tried again`,
    async (t) => {
      const { world, store, user, counts } = await madeWorld();
      await world.wait(() => user.write(DATA, 20 * BLOCK_BYTES, block('before')));
      Object.assign(world.disk.dataFaults, faults);
      const asked = [
        user.write(DATA, 30 * BLOCK_BYTES, block('a'), 1),
        user.flush(),
        user.flush(),
        user.write(DATA, 31 * BLOCK_BYTES, block('b'), 1),
        user.write(NOTE, 0, Buffer.alloc(100_000), 1),
      ].map(codeOf);
      const answers = await world.wait(() => Promise.all(asked));
      t.equal(answers[0], 'E_DISK_FAILED', 'the one that met it');
      t.equal(answers[3], 'E_DISK_FAILED', 'those who waited');
      if (name === 'sync') t.same(new Set(answers), new Set(['E_DISK_FAILED']), 'and all others');
      t.match(store.engine.failure?.message, /failed: simulated \w+ error.*store check --dir/);
      t.match(world.disk.smallFiles.get('failed')?.toString(), /simulated/);
      Object.assign(world.disk.dataFaults, { writeError: 0, syncError: 0 });
      const before = { ...counts };
      if (name === 'sync') t.equal(counts.syncs, 1);
      const rest = await world.wait(() => askEverything(user));
      t.same(new Set(rest), new Set(['E_DISK_FAILED']));
      t.same(counts, before, 'nothing reaches the disk any more');
      await world.wait(() => store.close());
      t.same(counts, before, 'not even to say goodbye');
    },
  );

await t.test('a failing commit stops everything, and answers all who wait for it', async (t) => {
  const { world, store, user, counts } = await madeWorld();
  await world.wait(() => user.write(DATA, 20 * BLOCK_BYTES, block('before')));
  world.disk.metaFaults.commitError = 1;
  const asked = [
    user.write(DATA, 30 * BLOCK_BYTES, block('a'), 1),
    user.write(NOTE, 0, Buffer.from('x')),
    user.compareAndSwap(NOTE, 0, Buffer.from('x')),
    user.pool.delete(DATA),
    user.flush(),
  ].map(codeOf);
  const answers = await world.wait(() => Promise.all(asked));
  t.same(new Set(answers), new Set(['E_DISK_FAILED']));
  world.disk.metaFaults.commitError = 0;
  const before = { ...counts };
  t.same(new Set(await world.wait(() => askEverything(user))), new Set(['E_DISK_FAILED']));
  t.same(counts, before);
  await world.wait(() => store.close());
  t.equal(await codeOf(world.open()), 'E_DISK_FAILED', 'the folder is marked');
});

await t.test('an open that fails answers the write that waits for it', async (t) => {
  const { world, user } = await madeWorld();
  world.disk.metaFaults.commitError = 1;
  const large = Buffer.alloc(32 * BLOCK_BYTES, 'large'); // too large to be parked
  t.equal(await codeOf(world.wait(() => user.write(DATA, 0, large))), 'E_DISK_FAILED');
});

await t.test('metadata without room: nothing is lost, and a later flush succeeds', async (t) => {
  const { world, store, user } = await madeWorld();
  await world.wait(() => user.write(DATA, 0, block('over')));
  await world.wait(() => user.write(DATA, 30 * BLOCK_BYTES, block('new')));
  await world.wait(() => user.zero(DATA, 0, BLOCK_BYTES));
  const { capacityBytes } = world.disk;
  world.disk.capacityBytes = world.disk.usedBytes() + 100;
  for (const attempt of [1, 2])
    t.equal(await codeOf(world.wait(() => user.flush())), 'E_NO_SPACE', `flush ${attempt}`);
  t.equal(store.engine.failure, null, 'a full disk is not a failed disk');
  t.same(await world.wait(() => user.read(DATA, 0, BLOCK_BYTES)), Buffer.alloc(BLOCK_BYTES));
  t.same(await world.wait(() => user.read(DATA, 30 * BLOCK_BYTES, BLOCK_BYTES)), block('new'));
  world.disk.capacityBytes = capacityBytes;
  await world.wait(() => user.flush());
  world.disk.powerCut();
  const { pool } = await world.open();
  const again = new PoolUser(pool);
  t.same(await world.wait(() => again.read(DATA, 0, BLOCK_BYTES)), Buffer.alloc(BLOCK_BYTES));
  t.same(await world.wait(() => again.read(DATA, 30 * BLOCK_BYTES, BLOCK_BYTES)), block('new'));
});

await t.test('a part that could not be opened for lack of room is not open', async (t) => {
  const { world, user, counts } = await madeWorld();
  const large = Buffer.alloc(32 * BLOCK_BYTES, 'large'); // too large to be parked
  await world.wait(() => user.write(DATA, BLOCK_BYTES * 64, large)); // the space was looked at
  const { capacityBytes } = world.disk;
  world.disk.capacityBytes = world.disk.usedBytes() + 100;
  const refused = world.wait(() => user.write(DATA, 0, large.subarray(0, 17 * BLOCK_BYTES)));
  t.equal(await codeOf(refused), 'E_NO_SPACE');
  t.same(await world.wait(() => user.read(DATA, 0, BLOCK_BYTES)), block('old'));
  world.disk.capacityBytes = capacityBytes;
  const before = { ...counts };
  await world.wait(() => user.write(DATA, 0, large));
  t.equal(counts.commits, before.commits + 1, 'it is opened before it is overwritten');
  world.disk.powerCut();
  const { pool } = await world.open();
  const found = await world.wait(() => new PoolUser(pool).read(DATA, 0, BLOCK_BYTES));
  t.ok(isOldOrNew(found));
});

/** Sectors of either version: unflushed, so any of them may have reached the medium. */
function isOldOrNew(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += 512) {
    const sector = bytes.subarray(at, at + 512);
    const isKnown = ['old', 'large'].some((text) =>
      block(text)
        .subarray(at, at + 512)
        .equals(sector),
    );
    if (!isKnown) return false;
  }
  return true;
}

await t.test('a refused compare-and-swap leaves the old content and version', async (t) => {
  const { world, user } = await madeWorld();
  const version = await world.wait(() => user.compareAndSwap(NOTE, 0, Buffer.from('one')));
  const { capacityBytes } = world.disk;
  world.disk.capacityBytes = world.disk.usedBytes();
  const refused = world.wait(() => user.compareAndSwap(NOTE, version, Buffer.from('two')));
  t.equal(await codeOf(refused), 'E_NO_SPACE');
  t.equal((await world.wait(() => user.read(NOTE, 0, 3))).toString(), 'one');
  world.disk.capacityBytes = capacityBytes;
  t.ok((await world.wait(() => user.compareAndSwap(NOTE, version, Buffer.from('two')))) > version);
  t.equal((await world.wait(() => user.read(NOTE, 0, 3))).toString(), 'two');
});

await t.test('a closed store says so', async (t) => {
  const { world, store, user } = await madeWorld();
  await world.wait(() => store.close());
  t.same(new Set(await world.wait(() => askEverything(user))), new Set(['E_CLOSED']));
  t.equal(await codeOf(store.openPool('pool', { create: true })), 'E_CLOSED');
  t.equal(await codeOf(store.listPools()), 'E_CLOSED');
});
