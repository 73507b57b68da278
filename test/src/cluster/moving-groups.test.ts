// Groups that go to another daemon while they are written: nothing is lost, and nothing overtakes.
import { MapView, OBJECT_KIND, ObjectRef, type ObjectPool } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import { refsIn } from './group-refs.js';
import { POOL, TestCluster, type TestDaemon } from './test-cluster.js';

interface Story {
  readonly cluster: TestCluster;
  readonly pool: ObjectPool;
  readonly user: PoolUser;
  /** Of group 0, which daemon 1 serves. */
  readonly ref: ObjectRef;
}

async function begin(t: Test, deadlineMs = 10_000): Promise<Story> {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const pool = await cluster.open({ deadlineMs }).openPool(POOL, { create: false });
  const [ref] = refsIn(pool4(cluster), 0);
  if (ref === undefined) throw new Error('a group has objects');
  const user = new PoolUser(pool);
  await user.write(ref, 0, Buffer.alloc(4096, 'before'));
  return { cluster, pool, user, ref };
}

function pool4({ map }: TestCluster): { groups: TestCluster['map']['pools'][number]['groups'] } {
  const [pool] = map.pools;
  if (pool === undefined) throw new Error('there is a pool');
  return pool;
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** What `count` writes to one block left there, if they were called one after the other. */
async function writeRow({ user, ref }: Story, count: number): Promise<string> {
  const writes = Array.from({ length: count }, (_, index) =>
    user.write(ref, 0, Buffer.alloc(4096, `write ${index};`)),
  );
  const read = user.read(ref, 0, 4096);
  await Promise.all(writes);
  return (await read).subarray(0, 8).toString();
}

async function goesOn(daemon: TestDaemon): Promise<void> {
  await until(() => daemon.mapped.waiting.length > 0);
}

t.test('writes to one block keep their order when their group moves under way', async (t) => {
  const story = await begin(t);
  const { cluster } = story;
  const [first, second] = [cluster.daemon(1), cluster.daemon(2)];
  first.mapped.isHolding = true;
  const row = writeRow(story, 8);
  await goesOn(first);
  // The old one goes by the old map for a while, and has begun a write.
  first.view = new MapView(cluster.map);
  cluster.move(new Map([[0, 2]]));
  second.mapped.isHolding = true;
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(second.mapped.waiting.length, 0, 'the new one gets nothing while the old one is busy');
  first.mapped.release();
  await goesOn(second);
  t.equal(second.mapped.waiting.length, 1);
  second.mapped.release();
  t.equal(await row, 'write 7;');
});

t.test(
  'a daemon that is not the primary any more says so, and the next one is asked',
  async (t) => {
    const story = await begin(t);
    const { cluster, user, ref } = story;
    cluster.guide.isCutOff = true;
    cluster.move(new Map([[0, 3]]));
    const row = writeRow(story, 8);
    const swap = user.compareAndSwap(
      new ObjectRef(OBJECT_KIND.plain, 'other'),
      0,
      Buffer.from('x'),
    );
    await swap;
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = cluster.guide.refreshCount;
    t.ok(before > 0, 'masters are asked for a newer map');
    cluster.guide.isCutOff = false;
    t.equal(await row, 'write 7;');
    t.equal((await user.read(ref, 0, 4096)).subarray(0, 8).toString(), 'write 7;');
  },
);

t.test('a daemon that has not heard yet that it is the primary is asked again', async (t) => {
  const story = await begin(t);
  const { cluster } = story;
  const second = cluster.daemon(2);
  second.view = new MapView(cluster.map);
  cluster.move(new Map([[0, 2]]));
  const row = writeRow(story, 8);
  await new Promise((resolve) => setTimeout(resolve, 60));
  second.view = null;
  t.equal(await row, 'write 7;');
});

t.test('a group without a primary is waited for', async (t) => {
  const story = await begin(t);
  const { cluster } = story;
  cluster.move(new Map([[0, 0]]));
  await new Promise(setImmediate);
  const row = writeRow(story, 8);
  await new Promise((resolve) => setTimeout(resolve, 50));
  cluster.move(new Map([[0, 4]]));
  t.equal(await row, 'write 7;');
});

t.test('what a dead daemon has not answered is done by the one that takes its group', async (t) => {
  const story = await begin(t);
  const { cluster, user, ref } = story;
  const first = cluster.daemon(1);
  first.mapped.isHolding = true;
  const swapped = new ObjectRef(OBJECT_KIND.imageHeader, 'header', ref.locator);
  const swap = codeOf(user.compareAndSwap(swapped, 0, Buffer.from('x')));
  const row = writeRow(story, 8);
  await until(() => first.mapped.waiting.length === 2);
  const stopped = first.stop();
  await new Promise((resolve) => setTimeout(resolve, 50));
  cluster.move(new Map([[0, 2]]));
  t.equal(await row, 'write 7;');
  t.equal(await swap, 'E_IN_DOUBT', 'nobody knows whether it was made');
  // The dead one wakes up with what it had begun: it goes by the map.
  first.mapped.release();
  await stopped;
  t.equal((await user.read(ref, 0, 4096)).subarray(0, 8).toString(), 'write 7;');
});

t.test('a request waits no longer than its deadline, however often it is sent on', async (t) => {
  const { cluster, user, ref } = await begin(t, 1000);
  const started = Date.now();
  for (const daemon of cluster.daemons) daemon.view = new MapView(cluster.map);
  cluster.move(new Map([[0, 2]]));
  await new Promise(setImmediate);
  await t.rejects(user.read(ref, 0, 4096), {
    code: 'E_TIMEOUT',
    message: /^daemon 2 \(127.*\) does not serve group 0 of pool 'pool'.*is not the primary/,
  });
  cluster.move(new Map([[0, 0]]));
  await new Promise(setImmediate);
  await t.rejects(user.read(ref, 0, 4096), {
    code: 'E_TIMEOUT',
    message: /^Nobody serves group 0 of pool 'pool'/,
  });
  t.ok(Date.now() - started < 4000, 'each took about a second');
});
