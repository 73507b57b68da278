// Whom a flush asks, and what becomes of it when one of them fails.
import { MapView, StoreError, type ObjectRef } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import { refsIn } from './group-refs.js';
import { POOL, TestCluster } from './test-cluster.js';

interface Story {
  readonly cluster: TestCluster;
  readonly user: PoolUser;
  /** An object of each group; group `n` is with daemon `n + 1`. */
  readonly refs: readonly ObjectRef[];
  /** How often each daemon was asked to flush since the last call. */
  asked(): number[];
}

async function begin(t: Test, deadlineMs = 5000, replicas = 1): Promise<Story> {
  const cluster = await TestCluster.start({ groups: 4, replicas });
  t.teardown(() => cluster.close());
  const [pool] = cluster.map.pools;
  if (pool === undefined) throw new Error('there is a pool');
  const user = new PoolUser(await cluster.open({ deadlineMs }).openPool(POOL, { create: false }));
  const asked = (): number[] =>
    cluster.daemons.map(({ mapped }) => {
      const { flushCount } = mapped;
      mapped.flushCount = 0;
      return flushCount;
    });
  return { cluster, user, refs: [0, 1, 2, 3].flatMap((group) => refsIn(pool, group)), asked };
}

async function write({ user, refs }: Story, ...groups: number[]): Promise<void> {
  for (const group of groups) {
    const ref = refs[group];
    if (ref !== undefined) await user.write(ref, 0, Buffer.alloc(4096, group));
  }
}

t.test('the first flush asks all daemons, later ones those that were written to', async (t) => {
  const story = await begin(t);
  await story.user.flush();
  t.strictSame(story.asked(), [1, 1, 1, 1], 'what was written before is not known');
  await story.user.flush();
  t.strictSame(story.asked(), [0, 0, 0, 0]);
  await write(story, 1);
  await story.user.flush();
  t.strictSame(story.asked(), [0, 1, 0, 0]);
  await write(story, 0, 3);
  await story.user.flush();
  t.strictSame(story.asked(), [1, 0, 0, 1]);
});

t.test('each user of a pool flushes what he has written', async (t) => {
  const story = await begin(t);
  const other = new PoolUser(story.user.pool.forUser());
  await story.user.flush();
  await other.flush();
  story.asked();
  await write(story, 2);
  await other.flush();
  t.strictSame(story.asked(), [0, 0, 0, 0]);
  await story.user.flush();
  t.strictSame(story.asked(), [0, 0, 1, 0]);
});

t.test('a flush that failed at one daemon is repeated there, and only there', async (t) => {
  const story = await begin(t);
  await story.user.flush();
  await write(story, 0, 1);
  const { mapped } = story.cluster.daemon(2);
  mapped.flushError = new StoreError('E_DISK_FAILED', 'The disk failed');
  story.asked();
  t.equal(await codeOf(story.user.flush()), 'E_DISK_FAILED');
  t.strictSame(story.asked(), [1, 1, 0, 0]);
  t.equal(await codeOf(story.user.flush()), 'E_DISK_FAILED');
  mapped.flushError = null;
  t.equal(await codeOf(story.user.flush()), null);
  t.strictSame(story.asked(), [0, 2, 0, 0]);
  await story.user.flush();
  t.strictSame(story.asked(), [0, 0, 0, 0]);
});

t.test('one that is called while another is under way covers the same', async (t) => {
  const story = await begin(t);
  await story.user.flush();
  await write(story, 0);
  const { mapped } = story.cluster.daemon(1);
  mapped.flushError = new StoreError('E_DISK_FAILED', 'The disk failed');
  const both = [codeOf(story.user.flush()), codeOf(story.user.flush())];
  t.strictSame(await Promise.all(both), ['E_DISK_FAILED', 'E_DISK_FAILED']);
});

t.test('what a group wrote before it moved is flushed where it is', async (t) => {
  const story = await begin(t);
  await story.user.flush();
  await write(story, 0);
  story.asked();
  story.cluster.move(new Map([[0, 3]]));
  await new Promise(setImmediate);
  await story.user.flush();
  t.strictSame(story.asked(), [0, 0, 1, 0]);
  await write(story, 0);
  await story.user.flush();
  t.strictSame(story.asked(), [0, 0, 1, 0]);
});

t.test(
  'a flush names the groups it is about, and waits until both ends mean the same epoch',
  async (t) => {
    const story = await begin(t);
    const { cluster, user } = story;
    await user.flush();
    await write(story, 0, 1);
    const { mapped } = cluster.daemon(1);
    mapped.flushed.length = 0;
    await user.flush();
    t.strictSame(mapped.flushed, [0], 'and not group 1, which another has');
    await write(story, 0);
    // The client is behind.
    cluster.guide.isCutOff = true;
    cluster.nextEpoch(0);
    let isOver = false;
    const flush = user.flush().then(() => (isOver = true));
    await new Promise((resolve) => setTimeout(resolve, 300));
    t.notOk(isOver, 'it might miss that something was lost');
    cluster.guide.isCutOff = false;
    await flush;
    await write(story, 0);
    // The daemon is behind.
    const daemon = cluster.daemon(1);
    daemon.view = new MapView(cluster.map);
    cluster.nextEpoch(0);
    await new Promise(setImmediate);
    isOver = false;
    const late = user.flush().then(() => (isOver = true));
    await new Promise((resolve) => setTimeout(resolve, 300));
    t.notOk(isOver, 'it might not know of all who have copies');
    daemon.view = null;
    await late;
  },
);

t.test('a daemon that is gone holds no flush up once its groups are elsewhere', async (t) => {
  const story = await begin(t);
  await story.user.flush();
  await write(story, 0);
  await story.cluster.daemon(1).stop();
  const flush = story.user.flush();
  await new Promise((resolve) => setTimeout(resolve, 50));
  story.cluster.move(new Map([[0, 2]]));
  const started = Date.now();
  story.asked();
  await flush;
  t.ok(Date.now() - started < 2000);
  t.strictSame(story.asked(), [0, 1, 0, 0]);
});

t.test('a daemon that lost what it had answered says so once, to who wrote it', async (t) => {
  const story = await begin(t);
  const idle = new PoolUser(story.user.pool.forUser());
  await Promise.all([story.user.flush(), idle.flush()]);
  await write(story, 0, 1);
  const daemon = story.cluster.daemon(1);
  await daemon.stop();
  daemon.start = 2;
  daemon.lineage = 2;
  await daemon.run();
  story.cluster.change();
  t.equal(await codeOf(story.user.flush()), 'E_LOST_WRITES');
  t.equal(await codeOf(story.user.flush()), null, 'it is said, and over');
  await write(story, 0);
  t.equal(await codeOf(story.user.flush()), null);
  t.equal(await codeOf(idle.flush()), null, 'who wrote nothing has lost nothing');
});

t.test('what the map says was lost is said once, to who wrote it', async (t) => {
  const story = await begin(t, 5000, 2);
  const idle = new PoolUser(story.user.pool.forUser());
  await Promise.all([story.user.flush(), idle.flush()]);
  await write(story, 0, 1);
  story.cluster.nextEpoch(0, 'unflushed');
  await new Promise(setImmediate);
  t.equal(await codeOf(story.user.flush()), 'E_LOST_WRITES');
  t.equal(await codeOf(story.user.flush()), null);
  await write(story, 0);
  t.equal(await codeOf(story.user.flush()), null, 'what is written after the loss is safe');
  t.equal(await codeOf(idle.flush()), null);
});

t.test(
  'that a group was given up is said once to everybody, whatever he has flushed',
  async (t) => {
    const story = await begin(t, 5000, 2);
    const { cluster, user } = story;
    const [idle, writer] = [0, 1].map(() => new PoolUser(user.pool.forUser()));
    await Promise.all([user.flush(), idle?.flush(), writer?.flush()]);
    await write(story, 0, 1);
    await user.flush();
    cluster.nextEpoch(0, 'all');
    await new Promise(setImmediate);
    const later = new PoolUser(user.pool.forUser());
    for (const one of [user, idle, writer]) {
      if (one === writer) await write(story, 1);
      t.equal(await codeOf(one?.flush() ?? Promise.resolve()), 'E_LOST_WRITES');
      t.equal(await codeOf(one?.flush() ?? Promise.resolve()), null, 'once');
    }
    t.equal(await codeOf(later.flush()), null, 'who came after that sees what there is');
    cluster.nextEpoch(0);
    cluster.nextEpoch(1, 'unflushed');
    await new Promise(setImmediate);
    t.equal(await codeOf(idle?.flush() ?? Promise.resolve()), null, 'nobody was given up');
  },
);

t.test('a loss that the client hears of while a write is answered is not missed', async (t) => {
  const story = await begin(t, 5000, 2);
  const { cluster, user } = story;
  await user.flush();
  // Answered in epoch 1, but the map of epoch 2 is here before.
  const { mapped } = cluster.daemon(1);
  mapped.isHolding = true;
  const writing = write(story, 0);
  while (mapped.waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  const daemon = cluster.daemon(1);
  daemon.view = new MapView(cluster.map);
  cluster.nextEpoch(0, 'unflushed');
  await new Promise((resolve) => setTimeout(resolve, 20));
  mapped.release();
  await writing;
  daemon.view = null;
  t.equal(await codeOf(user.flush()), 'E_LOST_WRITES');
  t.equal(await codeOf(user.flush()), null);
});

t.test('where there are copies, the restart of a daemon loses nothing', async (t) => {
  const story = await begin(t, 5000, 2);
  const { cluster, user } = story;
  await user.flush();
  await write(story, 0, 1);
  const daemon = cluster.daemon(1);
  await daemon.stop();
  daemon.start = 2;
  daemon.lineage = 2;
  await daemon.run();
  cluster.move(new Map([[0, 2]]));
  t.equal(await codeOf(user.flush()), null);
  cluster.move(new Map([[0, 1]]));
  await write(story, 0);
  t.equal(await codeOf(user.flush()), null);
});

t.test('what was lost before the write was not lost by it', async (t) => {
  const story = await begin(t, 5000, 2);
  const { cluster, user } = story;
  await user.flush();
  cluster.nextEpoch(0, 'unflushed');
  await new Promise(setImmediate);
  await write(story, 0);
  cluster.nextEpoch(0);
  cluster.move(new Map([[0, 3]]));
  t.equal(await codeOf(user.flush()), null);
  await write(story, 0);
  cluster.nextEpoch(0, 'unflushed');
  cluster.move(new Map([[0, 4]]));
  t.equal(await codeOf(user.flush()), 'E_LOST_WRITES', 'whoever serves it by now');
  t.equal(await codeOf(user.flush()), null);
});

t.test('one copy: a loss is said once, though the map says it later as well', async (t) => {
  const story = await begin(t);
  const { cluster, user } = story;
  await user.flush();
  await write(story, 0);
  const daemon = cluster.daemon(1);
  const { address } = daemon;
  await daemon.stop();
  daemon.start = 2;
  daemon.lineage = 2;
  await daemon.run(address);
  // It goes on by the map it has.
  await write(story, 0);
  t.equal(await codeOf(user.flush()), 'E_LOST_WRITES');
  await write(story, 0);
  cluster.nextEpoch(0, 'unflushed');
  t.equal(await codeOf(user.flush()), null, 'this write came after the loss');
});

t.test('one copy: a loss by the daemon that a group has moved to is said', async (t) => {
  const story = await begin(t);
  const { cluster, user } = story;
  await user.flush();
  await write(story, 0);
  cluster.move(new Map([[0, 4]]));
  cluster.nextEpoch(0, 'unflushed');
  t.equal(await codeOf(user.flush()), 'E_LOST_WRITES');
  t.equal(await codeOf(user.flush()), null);
});

t.test('a flush waits for a group that nobody serves, and then says which', async (t) => {
  const story = await begin(t, 700);
  await story.user.flush();
  await write(story, 2);
  story.cluster.move(new Map([[2, 0]]));
  await new Promise(setImmediate);
  await t.rejects(story.user.flush(), {
    code: 'E_TIMEOUT',
    message: /^Nobody serves group 2 of pool 'pool'/,
  });
  story.cluster.move(new Map([[2, 1]]));
  t.equal(await codeOf(story.user.flush()), null);
});
