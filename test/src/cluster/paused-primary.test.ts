// A primary that hangs with its connections open: when another one takes over, nobody waits for it any more.
import { createServer, type Socket } from 'node:net';
import { OBJECT_KIND, ObjectRef, type ClusterStore } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import { refsIn } from './group-refs.js';
import { POOL, TestCluster } from './test-cluster.js';

interface Story {
  readonly cluster: TestCluster;
  readonly store: ClusterStore;
  readonly user: PoolUser;
  /** An object of each group; group `n` is with daemon `n + 1`. */
  readonly refs: readonly ObjectRef[];
  /** Of group 0. */
  readonly ref: ObjectRef;
}

/** So long a client may take from the new map to the new primary. */
const PATIENCE_MS = 4000;

async function begin(t: Test, datagramBytes = 0): Promise<Story> {
  const cluster = await TestCluster.start({ groups: 4, replicas: 2 });
  t.teardown(() => cluster.close());
  const store = cluster.open({ datagramBytes, deadlineMs: 20_000 });
  const user = new PoolUser(await store.openPool(POOL, { create: false }));
  const [pool] = cluster.map.pools;
  const refs = pool === undefined ? [] : [0, 1, 2, 3].flatMap((group) => refsIn(pool, group));
  const [ref] = refs;
  if (ref === undefined) throw new Error('a group has objects');
  for (const one of refs) await user.write(one, 0, Buffer.alloc(4096, 'before'));
  await user.flush();
  return { cluster, store, user, refs, ref };
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** Daemon 1 hangs with what `run` asks of it; then another one has its group. @returns How long it took after that */
async function hangs({ cluster }: Story, run: () => Promise<unknown>): Promise<number> {
  const { mapped } = cluster.daemon(1);
  mapped.isHolding = true;
  const running = run();
  await until(() => mapped.waiting.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  cluster.move(new Map([[0, 2]]));
  const movedAt = performance.now();
  await running;
  return performance.now() - movedAt;
}

for (const datagramBytes of [0, 8192])
  t.test(`what it does not answer goes elsewhere (datagrams of ${datagramBytes})`, async (t) => {
    const story = await begin(t, datagramBytes);
    const { user, ref } = story;
    const ms = await hangs(story, () =>
      Promise.all([
        user.write(ref, 0, Buffer.alloc(4096, 'w')),
        user.write(ref, 8192, Buffer.alloc(256 * 1024, 'long')),
        user.read(ref, 4096, 4096),
        user.zero(ref, 1024 * 1024, 4096),
      ]),
    );
    t.ok(ms < PATIENCE_MS, `${ms} ms`);
    t.ok((await user.read(ref, 0, 4096)).equals(Buffer.alloc(4096, 'w')));
  });

t.test('a change that may have been made is in doubt, and said soon', async (t) => {
  const story = await begin(t);
  const header = new ObjectRef(OBJECT_KIND.imageHeader, 'header', story.ref.locator);
  let code: string | null = null;
  const ms = await hangs(story, async () => {
    code = await codeOf(story.user.compareAndSwap(header, 0, Buffer.from('x')));
  });
  t.equal(code, 'E_IN_DOUBT');
  t.ok(ms < PATIENCE_MS, `${ms} ms`);
});

t.test('a flush and a list go on with who has the group now', async (t) => {
  const story = await begin(t);
  const { user, ref } = story;
  await user.write(ref, 0, Buffer.alloc(4096, 'w'));
  const ms = await hangs(story, () =>
    Promise.all([
      user.flush(),
      user.pool.list({}).then(({ entries }) => t.equal(entries.length, 4)),
    ]),
  );
  t.ok(ms < PATIENCE_MS, `${ms} ms`);
});

t.test('one that takes connections and says nothing holds nobody up', async (t) => {
  const story = await begin(t);
  const { cluster, user, ref } = story;
  const daemon = cluster.daemon(1);
  const [host = '', port] = daemon.address.split(':');
  await daemon.stop();
  const silent = createServer();
  const sockets: Socket[] = [];
  silent.on('connection', (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => silent.listen(Number(port), host, resolve));
  const write = user.write(ref, 0, Buffer.alloc(4096, 'w'));
  await until(() => sockets.length > 0);
  cluster.move(new Map([[0, 2]]));
  const movedAt = performance.now();
  await write;
  await user.flush();
  t.ok(performance.now() - movedAt < PATIENCE_MS);
  // It goes on, and is the primary again.
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => silent.close(resolve));
  await daemon.run(`${host}:${port ?? ''}`);
  cluster.move(new Map([[0, 1]]));
  t.ok((await user.read(ref, 0, 4096)).equals(Buffer.alloc(4096, 'w')));
});

t.test('groups that it keeps are asked for again, each once', async (t) => {
  const story = await begin(t);
  const { cluster, user } = story;
  const [pool] = cluster.map.pools;
  cluster.move(new Map([[1, 1]]));
  const kept = pool === undefined ? undefined : refsIn(pool, 1)[0];
  if (kept === undefined) throw new Error('a group has objects');
  await user.write(kept, 0, Buffer.alloc(4096, 'kept'));
  const { mapped } = cluster.daemon(1);
  const held: Promise<void>[] = [];
  await hangs(story, () => {
    held.push(user.write(kept, 0, Buffer.alloc(4096, 'again')));
    return user.write(story.ref, 0, Buffer.alloc(4096, 'w'));
  });
  const again = user.read(kept, 0, 4096);
  mapped.release();
  await Promise.all(held);
  t.ok((await again).equals(Buffer.alloc(4096, 'again')), 'it reconnects by itself');
});

t.test('a daemon that lives has a moment to answer, and keeps its connection', async (t) => {
  const story = await begin(t);
  const { cluster, store, user, ref } = story;
  const { mapped } = cluster.daemon(1);
  mapped.isHolding = true;
  const written = user.write(ref, 0, Buffer.alloc(4096, 'w'));
  await until(() => mapped.waiting.length > 0);
  cluster.move(new Map([[0, 2]]));
  await new Promise(setImmediate);
  mapped.release();
  await written;
  cluster.move(new Map([[0, 1]]));
  await user.write(ref, 0, Buffer.alloc(4096, 'x'));
  await new Promise((resolve) => setTimeout(resolve, 400));
  t.equal(store.counters.connects, 4, 'as many as there are daemons');
  t.ok((await user.read(ref, 0, 4096)).equals(Buffer.alloc(4096, 'x')));
});
