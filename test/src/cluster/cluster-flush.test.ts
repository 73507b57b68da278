// Whom a flush asks, and what becomes of it when one of them fails.
import { StoreError, type ObjectRef } from '@store/core';
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

async function begin(t: Test, deadlineMs = 5000): Promise<Story> {
  const cluster = await TestCluster.start({ groups: 4 });
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

t.test('what a group wrote before it moved is flushed where it is, and where it was', async (t) => {
  const story = await begin(t);
  await story.user.flush();
  await write(story, 0);
  story.asked();
  story.cluster.move(new Map([[0, 3]]));
  await new Promise(setImmediate);
  await story.user.flush();
  t.strictSame(story.asked(), [1, 0, 1, 0]);
  await write(story, 0);
  await story.user.flush();
  t.strictSame(story.asked(), [0, 0, 1, 0]);
});

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
  const story = await begin(t);
  const idle = new PoolUser(story.user.pool.forUser());
  await Promise.all([story.user.flush(), idle.flush()]);
  await write(story, 0, 1);
  const { map } = story.cluster;
  const pools = map.pools.map((pool) => ({
    ...pool,
    groups: pool.groups.map((group, index) =>
      index === 0 ? { ...group, epoch: 9, lostAt: 9 } : group,
    ),
  }));
  story.cluster.change({ pools });
  await new Promise(setImmediate);
  t.equal(await codeOf(story.user.flush()), 'E_LOST_WRITES');
  t.equal(await codeOf(story.user.flush()), null);
  await write(story, 0);
  t.equal(await codeOf(story.user.flush()), null, 'what is written after the loss is safe');
  t.equal(await codeOf(idle.flush()), null);
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
