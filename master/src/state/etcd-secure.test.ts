/**
 * The state in an etcd with TLS, certificates of clients, users and passwords. Tokens last a second here, so that they
 * expire all the time.
 */
import fs from 'node:fs';
import { realEnv, silentLog } from '@store/core';
import t from 'tap';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { EtcdUsers, ROOT } from '../testing/etcd-users.js';
import { TestAuthority, type TestIdentity } from '../testing/test-authority.js';
import type { EtcdTls } from './etcd-http.js';
import { EtcdState, type EtcdStateOptions } from './etcd-state.js';
import { stateStoreSuite } from './state-store.suite.js';
import { get, put, until, Watcher } from './state-user.js';

t.setTimeout(360_000);
const TOKEN_MS = 1000;
const env = realEnv(silentLog);

const [authority, stranger] = [new TestAuthority(), new TestAuthority()];
t.teardown(() => authority.remove());
t.teardown(() => stranger.remove());
const read = ({ cert, key }: TestIdentity) => ({
  cert: fs.readFileSync(cert),
  key: fs.readFileSync(key),
});
const tls: EtcdTls = {
  ca: fs.readFileSync(authority.ca),
  client: read(authority.issue('/O=store')),
};
const server = authority.issue('/CN=etcd', ['IP:127.0.0.1']);
const cluster = await EtcdCluster.start(t, {
  tls: { files: { ...server, ca: authority.ca }, client: tls },
  args: ['--auth-token-ttl', `${TOKEN_MS / 1000}`, '--bcrypt-cost', '4'],
});
const users = new EtcdUsers(cluster);
const user = { name: 'masters', password: 'secret' };
const defaults = { endpoints: cluster.endpoints, cluster: 'secure', tls, user };

/** A client for one story. */
async function using<T>(
  options: Partial<EtcdStateOptions>,
  work: (state: EtcdState) => Promise<T>,
): Promise<T> {
  const state = new EtcdState(env, { ...defaults, ...options });
  try {
    return await work(state);
  } finally {
    await state.close();
  }
}

/** Who is not let in at all asks until his patience ends; else etcd answers, on a busy machine late. */
const IMPATIENT = { patienceMs: 700, requestMs: 500 };

/** What a person reads who configured it like this. */
async function complaint(options: Partial<EtcdStateOptions>): Promise<string> {
  const patient = { patienceMs: 30_000, requestMs: 10_000 };
  try {
    await using({ ...patient, ...options }, (state) => put(state, 'k', 'v'));
    return 'none';
  } catch (error) {
    const { code, message } = error as { code: string; message: string }; // a StoreError, or it says undefined
    return `${code} ${message}`;
  }
}

await t.test('a wrong certificate is named as what it is', async (t) => {
  const wrong = async (change: Partial<EtcdTls>): Promise<string> =>
    complaint({ user: null, tls: { ...tls, ...change }, ...IMPATIENT });
  t.equal(await complaint({ user: null }), 'none');
  for (const ca of [fs.readFileSync(stranger.ca), null])
    t.match(await wrong({ ca }), /^E_UNREACHABLE .* not signed by an authority that we .*; check/);
  for (const client of [null, read(stranger.issue('/O=store'))])
    t.match(await wrong({ client }), /^E_UNREACHABLE .* our client certificate.*; configure/);
  const endpoints = cluster.endpoints.map((url) => url.replace('127.0.0.1', 'localhost'));
  t.match(
    await complaint({ user: null, endpoints, ...IMPATIENT }),
    /is for other names.*; use a name/,
  );
});

await t.test('a user is refused while etcd has none', async (t) => {
  t.match(await complaint({}), /^E_DENIED .*not enabled; leave out the user/);
});

await t.test('a user who may not is told what is missing', async (t) => {
  await users.add(user);
  await users.grant(user, '/store/');
  await users.enable();
  t.equal(await complaint({}), 'none');
  t.match(await complaint({ user: null }), /^E_DENIED .*; configure a user/);
  t.match(
    await complaint({ user: { ...user, password: 'wrong' } }),
    /^E_DENIED .*; check the name and the password/,
  );
  const client = read(authority.issue('/CN=masters'));
  t.match(await complaint({ tls: { ...tls, client } }), /^E_DENIED .*common name/);
  const guest = { name: 'guest', password: 'secret' };
  await users.add(guest);
  await users.grant(guest, '/elsewhere/');
  t.match(await complaint({ user: guest }), /^E_DENIED .*permission denied; configure a user/);
  await users.grant(guest, '/store/secure/');
  t.equal(await complaint({ user: guest }), 'none');
  t.match(await complaint({ user: guest, cluster: 'other' }), /^E_DENIED/);
});

let stories = 0;
await stateStoreSuite(t, 'a state in a secured etcd', () => {
  stories += 1;
  const states: EtcdState[] = [];
  const connect = (): Promise<EtcdState> => {
    const state = new EtcdState(env, { ...defaults, cluster: `story-${stories}` });
    states.push(state);
    return Promise.resolve(state);
  };
  const close = async (): Promise<void> => {
    await Promise.all(states.map((state) => state.close()));
  };
  return Promise.resolve({ connect, close });
});

await t.test('a token that expired is replaced, for commits, leases and watches', async (t) => {
  await using({ idleMs: TOKEN_MS * 2 }, async (state) => {
    const lease = await state.lease(60_000);
    const { revision } = await put(state, 'k', '0');
    const watcher = new Watcher();
    state.watch('', revision, watcher);
    // Longer than the watch is idle too: it begins anew with a token that is good no more.
    await env.timers.sleep(TOKEN_MS * 3);
    await lease.keepAlive();
    await put(state, 'k', '1');
    await until(env, 'the watch', () => watcher.batches.length === 1);
    await lease.revoke();
    t.same(watcher.losses, []);
  });
});

await t.test('the member that issued the token restarts', async (t) => {
  const [first, second] = [cluster.member(0), cluster.member(1)];
  const endpoints = [first.endpoint, second.endpoint];
  await using({ endpoints, idleMs: 1000, requestMs: 1000 }, async (state) => {
    const lease = await state.lease(60_000);
    const { revision } = await put(state, 'count', '0');
    const watcher = new Watcher();
    state.watch('', revision, watcher);
    for (let count = 1; count <= 12; count += 1) {
      if (count === 3) await first.kill();
      if (count === 6) first.start();
      if (count === 9) await cluster.ready([first], ROOT);
      if (count === 10) await second.restart();
      await put(state, 'count', `${count}`);
      await lease.keepAlive();
    }
    t.equal((await get(state, 'count'))?.value, '12');
    await until(env, 'the watch', () => watcher.batches.length === 12);
    t.same(watcher.losses, []);
    t.ok(lease.remainingMs() > 0);
    await lease.revoke();
  });
  await cluster.ready(cluster.members, ROOT);
});

await t.test('a watch outlives that its user may read nothing for a while', async (t) => {
  await using({ idleMs: 1000 }, async (state) => {
    const { revision } = await put(state, 'k', 'before');
    const watcher = new Watcher();
    state.watch('', revision, watcher);
    await users.revoke(user, '/store/');
    t.match(await complaint({}), /^E_DENIED/);
    await env.timers.sleep(2500);
    await users.grant(user, '/store/');
    await put(state, 'k', 'after');
    await until(env, 'the watch', () => watcher.batches.length === 1);
    t.same(watcher.losses, []);
  });
});
