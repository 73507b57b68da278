/** Leases: keys that vanish when nobody cares for them any more. */
import { codeOf } from '@store/core/testing';
import { LEASE_MS_MAX } from './state-rules.js';
import type { StateStory } from './state-store.suite.js';
import { get, put, until, Watcher } from './state-user.js';
import type { StateLease, StateStore } from './state-store.js';

const TTL_MS = 2000;

function putLeased(store: StateStore, key: string, lease: StateLease) {
  return store.commit({ conditions: [], changes: [{ key, value: Buffer.from('held'), lease }] });
}

export async function leaseStories(story: StateStory): Promise<void> {
  await story('a key vanishes with its lease, and not while it is kept alive', async (t, s) => {
    const { env, store } = s;
    const [kept, dropped] = [await store.lease(TTL_MS), await store.lease(TTL_MS)];
    await putLeased(store, 'kept', kept);
    await putLeased(store, 'freed', dropped);
    await put(store, 'freed', 'of the lease');
    const { revision } = await putLeased(store, 'dropped', dropped);
    const watcher = new Watcher();
    store.watch('', revision, watcher);
    const start = env.clock.now();
    let nextMs = start;
    await until(env, 'the end of a lease', async () => {
      if (env.clock.now() > nextMs) {
        nextMs = env.clock.now() + TTL_MS / 4;
        await kept.keepAlive();
      }
      const isThere = (await get(store, 'dropped')) !== null;
      if (dropped.remainingMs() > 0) t.ok(isThere, 'it is there while it remains');
      return !isThere;
    });
    t.equal(dropped.remainingMs(), 0);
    t.equal((await get(store, 'kept'))?.value, 'held');
    t.ok(kept.remainingMs() > 0);
    t.equal((await get(store, 'freed'))?.value, 'of the lease');
    t.equal(await codeOf(dropped.keepAlive()), 'E_NOT_FOUND');
    t.equal(await codeOf(putLeased(store, 'late', dropped)), 'E_NOT_FOUND');
    await until(env, 'the watch', () => watcher.batches.length === 1);
    t.match(watcher.lines()[0], /^\d+:dropped$/);
  });

  await story('a lease that is revoked takes its keys along at once', async (t, { store }) => {
    const lease = await store.lease(60_000);
    const before = lease.remainingMs();
    t.ok(before > 50_000 && before < 60_000, `${before} ms, less than was asked for`);
    await putLeased(store, 'one', lease);
    await putLeased(store, 'two', lease);
    await lease.revoke();
    t.same((await store.read('')).entries, []);
    t.equal(lease.remainingMs(), 0);
    t.equal(await codeOf(lease.keepAlive()), 'E_NOT_FOUND');
    await lease.revoke();
    t.equal(await codeOf(putLeased(store, 'three', lease)), 'E_NOT_FOUND');
    t.ok((await put(store, 'three', 'x')).applied, 'the store goes on');
  });

  await story('a lease lasts as long as one can mean', async (t, { store }) => {
    for (const ms of [0, -1, NaN, LEASE_MS_MAX + 1])
      t.equal(await codeOf(store.lease(ms)), 'E_INVALID', `${ms} ms`);
  });
}
