import {
  ClusterStore,
  makeTicket,
  ObjectRef,
  OBJECT_KIND,
  openRemoteStore,
  promised,
  realTlsClient,
  StoreError,
  TicketFile,
  type ClientKey,
  type ObjectPool,
  type RemoteStore,
  type TlsClientContext,
} from '@store/core';
import { TestAuthority } from '@store/daemon/testing';
import t, { type Test } from 'tap';
import { codeOf, LiveCluster, liveEnv, until } from './live-cluster.js';

t.setTimeout(180_000);
const REF = new ObjectRef(OBJECT_KIND.plain, 'key');

async function openStore(cluster: LiveCluster, key: ClientKey): Promise<ClusterStore> {
  return new ClusterStore({
    env: liveEnv,
    guide: await cluster.guide(key),
    name: 'test',
    tls: cluster.clientTls(),
    deadlineMs: 20_000,
    datagramBytes: 0,
  });
}

function write(pool: ObjectPool): Promise<void> {
  return promised((done) => pool.write(REF, 0, [Buffer.from('hello')], 0, done));
}

async function secured(t: Test): Promise<LiveCluster> {
  const cluster = await LiveCluster.start(t, 2, { secured: true });
  for (const name of ['mine', 'others'])
    await cluster.leader()?.master.admin.createPool(name, { groups: 8 }, false);
  return cluster;
}

/** Straight to a daemon, with a ticket. */
function dial(cluster: LiveCluster, ticket: TicketFile | null): Promise<RemoteStore> {
  return openRemoteStore({
    env: liveEnv,
    address: { host: '127.0.0.1', port: cluster.daemons[0]?.port ?? 0 },
    name: 'test',
    ticket,
    tls: cluster.clientTls(),
    deadlineMs: 3000,
    datagramBytes: 0,
  });
}

t.test('who may do what is decided by the key, and only that', async (t) => {
  const cluster = await secured(t);
  const writer = await cluster.client('writer', { mine: 'rw' });
  const reader = await cluster.client('reader', { mine: 'r' });

  const mine = await openStore(cluster, writer);
  const pool = await mine.openPool('mine', { create: false });
  await write(pool);
  await promised((done) => pool.flush(done));

  t.equal(await codeOf(mine.openPool('others', { create: false })), 'E_DENIED', 'another pool');
  t.equal(await codeOf(mine.openPool('new', { create: true })), 'E_DENIED', 'no administrator');

  const onlyReads = await openStore(cluster, reader);
  const seen = await onlyReads.openPool('mine', { create: false });
  const target = Buffer.alloc(5);
  await promised((done) => seen.read(REF, 0, target, done));
  t.equal(target.toString(), 'hello');
  t.equal(await codeOf(write(seen)), 'E_DENIED', 'a reader does not write');
  t.equal(await codeOf(seen.delete(REF)), 'E_DENIED');
  t.equal(await codeOf(seen.compareAndSwap(REF, 0, Buffer.from('x'))), 'E_DENIED');

  const guide = await cluster.guide(writer);
  t.equal(await codeOf(guide.administer('client ls', {})), 'E_DENIED');
  t.ok(await guide.administer('status', {}, false), 'everybody known may look');
  await guide.close();
  await mine.close();
  await onlyReads.close();
});

t.test('strangers get no further than the door', async (t) => {
  const cluster = await secured(t);
  t.equal(await codeOf(cluster.guide(null)), 'E_DENIED', 'no key');
  const writer = await cluster.client('writer', { mine: 'rw' });
  const other = await LiveCluster.start(t, 0, { secured: true });
  const foreign = await other.client('writer', { mine: 'rw' });
  t.equal(await codeOf(cluster.guide(foreign)), 'E_DENIED', 'a key of another cluster');
  const authority = new TestAuthority();
  t.teardown(() => authority.remove());
  t.equal(
    await codeOf(cluster.guide(writer, realTlsClient({ ca: authority.ca }))),
    'E_DENIED',
    'the master is of another authority',
  );
  t.equal(await codeOf(dial(cluster, null)), 'E_DENIED', 'no ticket');

  const daemon = cluster.newDaemon();
  await daemon.start(null);
  await liveEnv.timers.sleep(300);
  t.notOk(daemon.member.isConnected, 'a daemon that speaks in the clear');
  await daemon.stop();
  const ca = cluster.tls?.ca ?? Buffer.alloc(0);
  await daemon.start(realTlsClient({ ca }));
  await liveEnv.timers.sleep(300);
  t.notOk(daemon.member.isConnected, 'a daemon without a certificate');
  await daemon.stop();
  await daemon.start(realTlsClient({ ca, ...authority.issue('daemon') }));
  await liveEnv.timers.sleep(300);
  t.notOk(daemon.member.isConnected, 'a daemon of another authority');
  await daemon.stop();
  t.equal(cluster.leader()?.master.admin.map().daemons.length, 2);
});

t.test('tickets end, and can be ended', async (t) => {
  const cluster = await secured(t);
  const master = cluster.leader()?.master;
  const [secret] = master?.state.secrets.get(1) ?? [];
  if (secret === undefined) throw new Error('the pool has a secret');
  const now = Math.floor(liveEnv.clock.wallSeconds());
  const fields = { client: 'writer#1', rights: 'rw' } as const;
  const times = { issued: now - 2000, expires: now - 1000 };
  const expired = makeTicket(secret, { ...fields, ...times }, liveEnv.random);
  t.equal(await codeOf(dial(cluster, TicketFile.of(secret, expired))), 'E_DENIED', 'expired');

  const writer = await cluster.client('writer', { mine: 'rw' });
  const guide = await cluster.guide(writer);
  const ticket = await guide.ticketFor('mine');
  const store = await dial(cluster, ticket);
  const pool = await store.openPool('mine', { create: false });
  t.equal(pool.objectBytes, 4 * 1024 * 1024);
  await master?.admin.removeClient('writer');
  await until('all daemons have heard', () =>
    cluster.daemons.every(({ member }) => member.view?.map.blockedClients.includes('writer#1')),
  );
  t.equal(await codeOf(promised((done) => pool.flush(done))), 'E_DENIED', 'a session ends');
  t.equal(await codeOf(dial(cluster, ticket)), 'E_DENIED', 'and no new one begins');
  t.equal(await codeOf(cluster.guide(writer)), 'E_DENIED', 'nor at the master');
  await until(
    'the guide has been sent away',
    async () => (await codeOf(guide.ticketFor('others'))) === 'E_DENIED',
  );
  await guide.close();
  await store.close().catch((error: unknown) => {
    if (!(error instanceof StoreError)) throw error; // what it did not flush it may not any more
  });

  const again = await cluster.client('writer', { mine: 'rw' });
  const fresh = await openStore(cluster, again);
  await write(await fresh.openPool('mine', { create: false }));
  t.equal(await codeOf(dial(cluster, ticket)), 'E_DENIED', 'the old ticket stays worth nothing');
  await fresh.close();
});

t.test('where a daemon was there is one that no master has told anything', async (t) => {
  const cluster = await LiveCluster.start(t, 1, { secured: true });
  await cluster.leader()?.master.admin.createPool('mine', { groups: 8 }, false);
  const store = await openStore(cluster, await cluster.client('writer', { mine: 'rw' }));
  const pool = await store.openPool('mine', { create: false });
  await write(pool);
  await cluster.restartMaster();
  const [daemon] = cluster.daemons;
  if (daemon === undefined) throw new Error('there is a daemon');
  await until('the daemon is back', () => daemon.member.isConnected);
  for (const master of cluster.masters) await master.stop();
  await daemon.stop();
  const stranger = cluster.newDaemon();
  stranger.port = daemon.port;
  await stranger.start();
  const writing = codeOf(write(pool));
  await liveEnv.timers.sleep(1000);
  await stranger.stop();
  await daemon.start();
  t.equal(await writing, null, 'the client waits for the one it knows');
  await promised((done) => pool.flush(done));
  await store.close();
});

t.test('a new key takes the place of the old one', async (t) => {
  const cluster = await secured(t);
  const old = await cluster.client('writer', { mine: 'rw' });
  const store = await openStore(cluster, old);
  const pool = await store.openPool('mine', { create: false });
  await write(pool);
  await promised((done) => pool.flush(done));
  const { ClientKey } = await import('@store/core');
  const text = await cluster.leader()?.master.admin.rotateClient('writer');
  const key = ClientKey.parse('rotated', text ?? '');
  t.equal(await codeOf(cluster.guide(old)), 'E_DENIED');
  await until('the old session has ended', async () => (await codeOf(write(pool))) === 'E_DENIED');
  await store.close().catch((error: unknown) => {
    if (!(error instanceof StoreError)) throw error; // as above
  });
  const fresh = await openStore(cluster, key);
  await write(await fresh.openPool('mine', { create: false }));
  await fresh.close();
});

t.test('a certificate with the name of a client serves as its key', async (t) => {
  const cluster = await secured(t);
  await cluster.client('notebook', { mine: 'r' });
  const { tls } = cluster;
  if (tls === null) throw new Error('the cluster speaks TLS');
  const as = (name: string): TlsClientContext => realTlsClient({ ca: tls.ca, ...tls.issue(name) });
  const guide = await cluster.guide(null, as('notebook'));
  t.ok(await guide.ticketFor('mine'));
  t.equal(await codeOf(guide.ticketFor('others')), 'E_DENIED', 'with its rights and no others');
  t.equal(await codeOf(guide.administer('client ls', {})), 'E_DENIED');
  await guide.close();
  t.equal(await codeOf(cluster.guide(null, as('nobody'))), 'E_DENIED', 'no such client');
  const daemon = cluster.newDaemon();
  await daemon.start(as('notebook'));
  await liveEnv.timers.sleep(500);
  t.notOk(daemon.member.isConnected, 'but not as that of a daemon, which gets all secrets');
  await daemon.stop();
  const authority = new TestAuthority();
  t.teardown(() => authority.remove());
  const forged = realTlsClient({ ca: tls.ca, ...authority.issue('notebook') });
  t.not(await codeOf(cluster.guide(null, forged)), null, 'of another authority');
});
