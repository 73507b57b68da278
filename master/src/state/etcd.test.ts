/** The state in etcd while its members are killed, stopped and started again. */
import { realEnv, silentLog } from '@store/core';
import t, { type Test } from 'tap';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { EtcdState } from './etcd-state.js';
import { get, put, until, Watcher } from './state-user.js';

t.setTimeout(270_000);
const env = realEnv(silentLog);
const cluster = await EtcdCluster.start(t);
const DEAD = 'http://127.0.0.1:1';
let stories = 0;

async function story(
  title: string,
  play: (t: Test, state: EtcdState) => Promise<void>,
): Promise<void> {
  await t.test(title, async (t) => {
    stories += 1;
    const state = new EtcdState(env, {
      endpoints: [DEAD, ...cluster.endpoints],
      cluster: `faults-${stories}`,
      tls: null,
      user: null,
      requestMs: 1000,
      patienceMs: 15_000,
      idleMs: 1000,
    });
    try {
      await play(t, state);
    } finally {
      await state.close();
    }
  });
}

/** Increments by compare-and-swap, while `harm` is done: what was answered is there, once. */
async function countDuring(t: Test, state: EtcdState, harm: () => Promise<void>): Promise<void> {
  const { revision } = await put(state, 'counter', '0');
  const watcher = new Watcher();
  state.watch('', revision, watcher);
  let isOver = false;
  let count = 0;
  const counting = (async () => {
    for (let at = revision; !isOver; count += 1) {
      const { applied, revision: next } = await state.commit({
        conditions: [{ key: 'counter', revision: at }],
        changes: [{ key: 'counter', value: Buffer.from(`${count + 1}`) }],
      });
      if (!applied) throw new Error(`Increment ${count + 1} met a revision that is not ours`);
      at = next;
      await env.timers.sleep(20);
    }
  })();
  try {
    await harm();
    const before = count;
    await until(env, 'it goes on', () => count > before + 3, 20_000);
  } finally {
    isOver = true;
    await counting;
  }
  t.equal((await get(state, 'counter'))?.value, `${count}`);
  await until(env, 'the watch', () => watcher.batches.length >= count);
  const values = watcher.batches.map(({ changes }) => Number(changes[0]?.value?.toString()));
  t.same(values, Array.from({ length: count }, (_, index) => index + 1)); // prettier-ignore
  t.same(watcher.losses, []);
}

await story('a member is killed, and nothing is lost or done twice', async (t, state) => {
  const leader = await cluster.leader();
  await countDuring(t, state, async () => {
    await leader.kill();
    await env.timers.sleep(2000);
  });
  leader.start();
  await cluster.ready();
});

await story('the leader is stopped for a while, and goes on', async (t, state) => {
  const leader = await cluster.leader();
  await countDuring(t, state, async () => {
    leader.pause();
    await env.timers.sleep(4000);
    leader.resume();
  });
  await cluster.ready();
});

await story('all members are killed and started again', async (t, state) => {
  await countDuring(t, state, async () => {
    await Promise.all(cluster.members.map((member) => member.kill()));
    for (const member of cluster.members) member.start();
    await cluster.ready();
  });
});

await story('a watch behind a compaction hears that it lost something', async (t, state) => {
  const { revision: old } = await put(state, 'k', '1');
  await put(state, 'k', '2');
  const { revision } = await put(state, 'k', '3');
  const { endpoint } = cluster.member(0);
  await cluster.ask(endpoint, '/v3/kv/compaction', { revision: `${revision}`, physical: true });
  const watcher = new Watcher();
  state.watch('', old, watcher);
  await until(env, 'the loss', () => watcher.losses.length > 0);
  t.match([watcher.batches.length, watcher.losses[0]], [0, /compacted/]);
  t.equal((await get(state, 'k'))?.value, '3');
});
