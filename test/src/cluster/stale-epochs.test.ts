// Requests that are meant for an epoch of their group that is over, or that somebody has not heard of yet.
import { MapView, OBJECT_KIND, ObjectRef } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import { refsIn } from './group-refs.js';
import { POOL, TestCluster } from './test-cluster.js';

interface Story {
  readonly cluster: TestCluster;
  readonly user: PoolUser;
  /** Of group 0, which daemon 1 serves. */
  readonly ref: ObjectRef;
}

async function begin(t: Test, datagramBytes = 0): Promise<Story> {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const user = new PoolUser(
    await cluster.open({ datagramBytes }).openPool(POOL, { create: false }),
  );
  const [pool] = cluster.map.pools;
  const [ref] = pool === undefined ? [] : refsIn(pool, 0);
  if (ref === undefined) throw new Error('a group has objects');
  await user.write(ref, 0, block('first'));
  return { cluster, user, ref };
}

function block(text: string): Buffer {
  return Buffer.alloc(4096, `${text};`);
}

async function seen({ user, ref }: Story): Promise<string> {
  const [text = ''] = (await user.read(ref, 0, 4096)).toString().split(';');
  return text;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await pause(2);
}

for (const datagramBytes of [0, 8192])
  t.test(`over ${datagramBytes === 0 ? 'connections' : 'datagrams'}`, async (t) => {
    await t.test('a client with an old map gets a newer one, and goes on', async (t) => {
      const story = await begin(t, datagramBytes);
      const { cluster, user, ref } = story;
      cluster.guide.isCutOff = true;
      cluster.nextEpoch(0);
      const asked = cluster.guide.refreshCount;
      const written = user.write(ref, 0, block('second'));
      await until(() => cluster.guide.refreshCount > asked);
      cluster.guide.isCutOff = false;
      await written;
      t.equal(await seen(story), 'second');
    });

    await t.test('a daemon with an old map is asked again', async (t) => {
      const story = await begin(t, datagramBytes);
      const { cluster, user, ref } = story;
      cluster.daemon(1).view = new MapView(cluster.map);
      cluster.nextEpoch(0);
      await pause(5);
      const written = user.write(ref, 0, block('second'));
      await pause(50);
      cluster.daemon(1).view = null;
      await written;
      t.equal(await seen(story), 'second');
    });
  });

t.test('what is refused for an epoch that the client has left is sent again at once', async (t) => {
  const { cluster, user, ref } = await begin(t);
  const { mapped } = cluster.daemon(1);
  mapped.isHolding = true;
  const written = user.write(ref, 0, block('second'));
  await until(() => mapped.waiting.length === 1);
  cluster.nextEpoch(0);
  await pause(20);
  const asked = cluster.guide.refreshCount;
  mapped.release();
  await written;
  t.equal(cluster.guide.refreshCount, asked, 'nobody is asked for a map that is here');
});

t.test(
  'a late write of a former time has no effect, though its daemon is primary again',
  async (t) => {
    const story = await begin(t);
    const { cluster, user, ref } = story;
    const { mapped } = cluster.daemon(1);
    mapped.isHolding = true;
    const early = user.write(ref, 0, block('early'));
    await until(() => mapped.waiting.length === 1);
    // It hangs; another one takes over, and the first one takes over from that.
    cluster.move(new Map([[0, 2]]));
    await early;
    await user.write(ref, 0, block('later'));
    cluster.move(new Map([[0, 1]]));
    const reading = seen(story);
    await pause(100);
    t.ok(mapped.waiting.length >= 1, 'the early write is still to be run');
    mapped.release();
    t.equal(await reading, 'later');
    await pause(50);
    t.equal(await seen(story), 'later');
  },
);

t.test(
  'a delete that may have been made is made again, and says that there was something',
  async (t) => {
    const { cluster, user, ref } = await begin(t);
    const header = new ObjectRef(OBJECT_KIND.imageHeader, 'header', ref.locator);
    const version = await user.compareAndSwap(header, 0, Buffer.from('x'));
    const { mapped } = cluster.daemon(1);
    mapped.isInDoubt = true;
    const deleted = user.pool.delete(header);
    await pause(50);
    mapped.isInDoubt = false;
    cluster.move(new Map([[0, 2]]));
    t.equal(await deleted, true);
    t.equal(await user.pool.stat(header), null);
    t.equal(await user.pool.delete(header, version), false);
    t.equal(await codeOf(user.compareAndSwap(header, 0, Buffer.from('y'))), null);
  },
);
