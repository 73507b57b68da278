/** Three masters on an etcd of three: one leads, and everybody finds it, also after another one has taken over. */
import { ClusterStore, type MasterGuide } from '@store/core';
import { EtcdCluster } from '@store/master/testing';
import t, { type Test } from 'tap';
import { needs } from '../host/requirements.js';
import { LiveCluster, liveEnv, until, type LiveMaster } from './live-cluster.js';
import { PoolTraffic } from './pool-traffic.js';

const NEEDS = needs({ commands: ['etcd'] });
/** Much longer than an election takes: others work on these machines. */
const ELECTED_MS = 20_000;

t.setTimeout(270_000);

async function threeMasters(t: Test, daemons: number): Promise<LiveCluster> {
  const etcd = await EtcdCluster.start(t);
  return LiveCluster.start(t, daemons, { etcd, masters: 3 });
}

function followers(cluster: LiveCluster): LiveMaster[] {
  return cluster.masters.filter((one) => one.isRunning && one !== cluster.leader());
}

function storeOf(guide: MasterGuide): ClusterStore {
  return new ClusterStore({
    env: liveEnv,
    guide,
    ...{ name: 'test', tls: null, deadlineMs: 30_000, datagramBytes: 0 },
  });
}

t.test('one master leads, the others send daemons and clients to it', NEEDS, async (t) => {
  const cluster = await threeMasters(t, 2);
  const leader = cluster.leading();
  await until('all know who leads', () =>
    followers(cluster).every(({ master }) => master.leaderPlaces() !== null),
  );
  for (const { master } of followers(cluster)) {
    t.equal(master.leaderPlaces()?.listen, leader.master.places.listen);
    t.ok(master.isHealthy);
    t.throws(() => master.admin.status(), {
      code: 'E_NOT_LEADER',
      message: `The master at ${leader.master.places.listen} leads, not this one`,
    });
    t.equal(master.roster.traffics.length, 0, 'daemons are with the leader');
  }
  const { daemons } = leader.master.admin.status();
  t.same(
    daemons.map(({ id, state }) => [id, state]),
    [
      [1, 'up'],
      [2, 'up'],
    ],
  );
  for (const follower of followers(cluster)) {
    const guide = await cluster.guide(null, null, { masters: [follower] });
    t.equal(guide.view.map.clusterId, leader.master.state.map.clusterId);
    const name = `by-${follower.listen.port}`;
    await guide.administer('pool create', { name, groups: 4, dryRun: false });
    t.ok(leader.master.state.map.pools.some((pool) => pool.name === name));
    await until('the leader tells it', () => guide.view.poolNamed(name) !== undefined);
    await guide.close();
  }
});

t.test('when the leader leaves another one goes on where it was', NEEDS, async (t) => {
  const cluster = await threeMasters(t, 2);
  const first = cluster.leading();
  const guide = await cluster.guide();
  await guide.administer('pool create', { name: 'before', groups: 16, dryRun: false });
  await first.master.admin.createClient('carol', { isAdmin: false, rights: { before: 'rw' } });
  const store = storeOf(guide);
  const traffic = new PoolTraffic(await store.openPool('before', { create: false }));
  const { state } = first.master;

  for (let round = 1; round <= 2; round += 1) {
    const old = cluster.leading();
    const start = liveEnv.clock.now();
    await old.stop();
    await until('another one leads', () => cluster.leader() !== undefined, ELECTED_MS);
    const { master } = cluster.leading();
    t.not(master, old.master);
    await until(
      'daemons are there',
      () => master.admin.status().daemons.every(({ mapVersion }) => mapVersion > 0),
      ELECTED_MS,
    );
    await guide.administer('pool create', { name: `after${round}`, groups: 4, dryRun: false });
    const ms = liveEnv.clock.now() - start;
    t.comment(`administration works again after ${(ms / 1000).toFixed(1)} s`);
    t.ok(ms < ELECTED_MS);
    if (round === 1) {
      const restarted = await cluster.addMaster(await cluster.openState());
      await until('it follows', () => restarted.master.leaderPlaces() !== null);
    }
  }

  const now = cluster.leading().master.state;
  t.equal(now.map.clusterId, state.map.clusterId);
  t.ok(now.serial >= state.serial + 2, 'two decisions more');
  t.same(
    now.map.pools.map(({ name }) => name),
    ['before', 'after1', 'after2'],
  );
  t.same(now.map.pools[0]?.groups, state.map.pools[0]?.groups, 'nothing has moved');
  t.same([...now.clients.keys()].sort(), ['admin', 'carol']);
  t.same(now.clients.get('carol')?.key, state.clients.get('carol')?.key);
  await until('the client has the newest map', () => guide.view.map.version === now.map.version);
  await until('it has written all the time', () => traffic.rounds > 20);
  await traffic.stop();
  t.same(traffic.problems, []);
  t.comment(`${traffic.rounds} rounds, the longest ${traffic.roundMsMax} ms`);
  await store.close();
});

t.test('without a majority of etcd nobody leads, and what is open goes on', NEEDS, async (t) => {
  const etcd = await EtcdCluster.start(t);
  const cluster = await LiveCluster.start(t, 1, { etcd, masters: 3 });
  const guide = await cluster.guide();
  await guide.createPool('p');
  const store = storeOf(guide);
  const traffic = new PoolTraffic(await store.openPool('p', { create: false }));
  const [first, second] = etcd.members;
  first?.pause();
  second?.pause();
  await until('nobody leads', () => cluster.leader() === undefined, ELECTED_MS);
  t.notOk(cluster.masters.some(({ master }) => master.isLeader));
  const { rounds } = traffic;
  await until('it still writes', () => traffic.rounds > rounds + 20);
  first?.resume();
  second?.resume();
  await until('one leads again', () => cluster.leader() !== undefined, ELECTED_MS);
  await guide.administer('pool create', { name: 'q', groups: 4, dryRun: false });
  await traffic.stop();
  t.same(traffic.problems, []);
  await store.close();
});
