// What arrives when nobody waits for it any more changes nothing: datagrams that come again, and what a connection held
// back until its successor had written something newer.
import { randomBytes } from 'node:crypto';
import { OBJECT_KIND, ObjectRef, type ObjectPool } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import type { Test } from 'tap';
import { sleep, waitUntil } from '../host/wait-until.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { ProxiedStore } from './proxied-store.js';

t.setTimeout(300_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/fault-proxy/late-requests.test.js`);

const LIMIT_MS = 30_000;
const BLOCK_BYTES = 4096;
const BLOCKS = 40;
const POOL = 'late';
const ref = new ObjectRef(OBJECT_KIND.imageData, Buffer.from('late_0'));

interface Table {
  readonly served: ProxiedStore;
  readonly user: PoolUser;
  readonly behind: PoolUser;
  readonly close: () => Promise<void>;
}

async function layTable(t: Test, isUdp: boolean): Promise<Table> {
  const served = await ProxiedStore.start(t, { seed });
  const store = await served.connect({ isUdp });
  const pool = await store.openPool(POOL, { create: true });
  const behind: ObjectPool = await served.behind.openPool(POOL, { create: false });
  return {
    served,
    user: new PoolUser(pool),
    behind: new PoolUser(behind),
    close: () => store.close(),
  };
}

t.test('datagrams that come again change nothing, however late', async (t) => {
  const { served, user, behind, close } = await layTable(t, true);
  const { proxy } = served;
  const random = new SeededRandom(seed);
  const expected = Buffer.alloc(BLOCKS * BLOCK_BYTES);
  const replayed: number[] = [];
  proxy.datagrams.isRecording = true;
  for (let round = 0; round < 6; round += 1) {
    for (let index = 0; index < BLOCKS; index += 1) {
      const at = random.below(BLOCKS) * BLOCK_BYTES;
      const bytes = randomBytes(BLOCK_BYTES);
      await user.write(ref, at, bytes);
      bytes.copy(expected, at);
    }
    // Over the datagrams of the connection itself, and over those of one that is gone.
    if (round % 2 === 1) {
      const before = proxy.connectionCount;
      proxy.cutAll('reset');
      const bytes = randomBytes(BLOCK_BYTES);
      await user.write(ref, 0, bytes);
      bytes.copy(expected, 0);
      t.ok(proxy.connectionCount > before, 'a new connection was made');
    }
    const seenBefore = served.state().counters.datagramsIn;
    const count = proxy.datagrams.replay();
    replayed.push(count);
    await waitUntil(
      'the daemon to see them',
      LIMIT_MS,
      () => served.state().counters.datagramsIn >= seenBefore + count,
    );
    const found = await behind.read(ref, 0, expected.length);
    t.ok(found.equals(expected), `round ${round}: ${count} old datagrams changed nothing`);
  }
  t.ok(
    replayed.every((count) => count >= BLOCKS),
    `${replayed.join(', ')} were replayed`,
  );
  await close();
});

t.test('a write that a dead connection held back does not land on a newer one', async (t) => {
  const { served, user, behind, close } = await layTable(t, false);
  const { proxy } = served;
  const [older, newer] = [Buffer.alloc(65_536, 'older'), Buffer.alloc(65_536, 'newer')];
  await user.write(ref, 0, Buffer.alloc(65_536, 'first'));
  proxy.stall();
  const before = proxy.connectionCount;
  await user.write(ref, 0, older); // answered over the next connection: this one is silent
  t.ok(proxy.connectionCount > before, 'a silent connection is given up for a new one');
  await user.write(ref, 0, newer);
  proxy.resume();
  await sleep(300);
  const found = await behind.read(ref, 0, newer.length);
  t.ok(found.equals(newer), 'what was held back had no effect');
  t.ok((await user.read(ref, 0, newer.length)).equals(newer), 'and the client goes on');
  await close();
});
