/** The state in etcd while all of it hangs, is full, or has forgotten what a watch still wants. */
import { realEnv, silentLog, type StoreError } from '@store/core';
import t from 'tap';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { Election, type Leadership } from './election.js';
import { EtcdState } from './etcd-state.js';
import { get, put, until, Watcher } from './state-user.js';

t.setTimeout(270_000);
const env = realEnv(silentLog);
const WAIT_MS = 30_000;
const WRITERS = 20;
/** Whose answer is late while etcd is full cannot know: these are never late. */
const PATIENT_MS = 20_000;

async function using(
  endpoints: string[],
  work: (state: EtcdState) => Promise<void>,
  requestMs = 1000,
): Promise<void> {
  const state = new EtcdState(env, {
    endpoints,
    cluster: 'faults',
    tls: null,
    user: null,
    requestMs,
    patienceMs: 20_000,
    idleMs: 1000,
  });
  try {
    await work(state);
  } finally {
    await state.close();
  }
}

await t.test('all members hang for longer than a lease, and go on', async (t) => {
  const cluster = await EtcdCluster.start(t);
  await using(cluster.endpoints, async (state) => {
    const ttlMs = 2000;
    const won: Leadership[] = [];
    const events = { won: (term: Leadership) => won.push(term), lost: () => 0, follows: () => 0 };
    const election = new Election(env, state, { address: 'here:1', ttlMs, events });
    await until(env, 'a leader', () => won.length === 1);
    const lease = await state.lease(ttlMs);
    const change = { key: 'bound', value: Buffer.alloc(0), lease };
    const { revision } = await state.commit({ conditions: [], changes: [change] });
    const watcher = new Watcher();
    state.watch('bound', revision, watcher);

    for (const member of cluster.members) member.pause();
    const patient = put(state, 'patient', 'once');
    await env.timers.sleep(ttlMs * 2);
    t.equal(lease.remainingMs(), 0, 'its holder knows by the clock');
    t.equal(election.leadership(), null);
    t.equal(won[0]?.isLeader(), false);
    for (const member of cluster.members) member.resume();

    const { revision: committed } = await patient;
    t.same(await get(state, 'patient'), { value: 'once', revision: committed });
    await until(env, 'the key of the lease goes', () => watcher.batches.length === 1, WAIT_MS);
    t.same(watcher.batches[0]?.changes, [{ key: 'bound', value: null }]);
    await until(env, 'another term', () => won.length > 1, WAIT_MS);
    const decide = async (term: Leadership | undefined) =>
      term !== undefined &&
      (await state.commit({ conditions: [term.guard()], changes: [] })).applied;
    t.notOk(await decide(won[0]), 'the old one decides no more');
    t.ok(await decide(won.at(-1)));
    await election.close();
  });
});

await t.test('a watch of a compacted past tells so, and a new one goes on', async (t) => {
  const cluster = await EtcdCluster.start(t);
  const [first, ...others] = cluster.members;
  if (first === undefined) throw new Error('There are three members');
  await using(cluster.endpoints, async (writer) => {
    const { revision: old } = await put(writer, 'k', '0');
    await using([first.endpoint], async (reader) => {
      const watcher = new Watcher();
      reader.watch('k', old, watcher);
      await put(writer, 'k', '1');
      await until(env, 'the watch', () => watcher.batches.length === 1);
      await first.kill();
      await put(writer, 'k', '2');
      const { revision } = await put(writer, 'k', '3');
      await writer.compact(revision);
      await cluster.ready(others);
      first.start();
      await until(env, 'the loss', () => watcher.losses.length === 1, WAIT_MS);
      t.match([watcher.batches.length, watcher.losses[0]], [1, /compacted/]);
      const snapshot = await reader.read('k');
      t.equal(snapshot.entries[0]?.value.toString(), '3');
      const next = new Watcher();
      reader.watch('k', snapshot.revision, next);
      const { revision: last } = await put(writer, 'k', '4');
      await until(env, 'it goes on', () => next.batches.length === 1, WAIT_MS);
      t.same([next.lines(), next.losses, watcher.batches.length], [[`${last}:k=4`], [], 1]);
    });
  });
});

await t.test('a full etcd says so and changes nothing, and takes commits again', async (t) => {
  const args = ['--quota-backend-bytes', `${8 * 1024 * 1024}`];
  const cluster = await EtcdCluster.start(t, { members: 1, args });
  const { endpoint } = cluster.member(0);
  const ask = (path: string, body: object) =>
    cluster.ask(endpoint, `/v3/maintenance/${path}`, body, { patienceMs: PATIENT_MS });
  await using(
    cluster.endpoints,
    async (state) => {
      const { revision: start } = await put(state, 'k', 'before');
      const watcher = new Watcher();
      state.watch('', start, watcher);
      const lease = await state.lease(60_000);
      // Many at once: some find room when they are asked for, and none when their turn comes.
      const fill = async (writer: number) => {
        const key = `map/${writer}`;
        for (let count = 0; count < 100; count += 1) {
          try {
            const value = Buffer.alloc(100_000, count);
            await state.commit({ conditions: [], changes: [{ key, value }] });
          } catch (error) {
            return { key, count, error: error as StoreError }; // compared with what one has
          }
        }
        throw new Error('That is far more than there is room for');
      };
      const writers = await Promise.all(Array.from({ length: WRITERS }, (_, at) => fill(at)));
      const { revision, entries } = await state.read('');
      for (const { key, count, error } of writers) {
        t.equal(error.code, 'E_NO_SPACE');
        t.match(
          error.message,
          /space exceeded; make room in etcd: etcdctl compact --physical .* defrag, .* alarm disarm$/,
        );
        const last = entries.find((entry) => entry.key === key)?.value[0];
        t.equal(last ?? -1, count - 1, 'the last that was taken');
      }
      const taken = writers.reduce((sum, { count }) => sum + count, 0);
      await lease.keepAlive();

      // One that is not physical only begins to make room, and the defragmentation may find none yet.
      const compaction = { revision: `${revision}`, physical: true };
      await cluster.ask(endpoint, '/v3/kv/compaction', compaction, { patienceMs: PATIENT_MS });
      await ask('defragment', {});
      const { json } = await ask('alarm', { action: 'GET' });
      for (const alarm of json.list('alarms'))
        await ask('alarm', {
          action: 'DEACTIVATE',
          memberID: alarm.text('memberID'),
          alarm: alarm.text('alarm'),
        });
      const again = await put(state, 'k', 'after');
      await until(env, 'the watch', () => watcher.batches.length === taken + 1);
      t.equal(watcher.batches.at(-1)?.revision, again.revision);
      t.same(watcher.losses, []);
      await lease.revoke();
    },
    PATIENT_MS,
  );
});
