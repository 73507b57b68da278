import { cpSync } from 'node:fs';
import { join } from 'node:path';
import {
  ClusterStore,
  ObjectRef,
  OBJECT_KIND,
  promised,
  type ClientKey,
  type Env,
  type PoolSecret,
} from '@store/core';
import {
  Election,
  EmbeddedState,
  readWhatIsLeft,
  rebuildState,
  RecoveryDesk,
  withAdministrator,
  writeRecovered,
  type ClusterState,
  type Leadership,
} from '@store/master';
import t from 'tap';
import { codeOf, LiveCluster, liveEnv, LiveMaster, until } from './live-cluster.js';

t.setTimeout(180_000);
const REF = new ObjectRef(OBJECT_KIND.plain, 'key');

async function writeThrough(cluster: LiveCluster, text: string): Promise<void> {
  const store = await openStore(cluster);
  const pool = await store.openPool('p', { create: true });
  await promised((done) => pool.write(REF, 0, [Buffer.from(text)], 0, done));
  await store.close();
}

async function readThrough(cluster: LiveCluster, bytes: number): Promise<string> {
  const store = await openStore(cluster);
  const pool = await store.openPool('p', { create: false });
  const target = Buffer.alloc(bytes);
  await promised((done) => pool.read(REF, 0, target, done));
  await store.close();
  return target.toString();
}

async function openStore(cluster: LiveCluster): Promise<ClusterStore> {
  const guide = await cluster.guide();
  const env: Env = liveEnv;
  return new ClusterStore({
    env,
    guide,
    name: 'test',
    tls: null,
    deadlineMs: 8000,
    datagramBytes: 0,
  });
}

/** As `store master recover` does it, in the place of `old`. */
async function recover(
  old: LiveMaster,
  folder: string,
  daemons: number,
  key: ClientKey | null,
): Promise<ClusterState> {
  const store = await EmbeddedState.open(liveEnv, folder, { create: true });
  const leadership = await new Promise<Leadership>((resolve) => {
    const events = { won: resolve, lost: () => undefined, follows: () => undefined };
    new Election(liveEnv, store, { address: '{}', ttlMs: 2000, events });
  });
  const { state: left } = await readWhatIsLeft(store);
  const desk = new RecoveryDesk({
    env: liveEnv,
    peerTls: null,
    insecure: false,
    answered: () => undefined,
    defect: (error) => {
      throw error;
    },
  });
  await desk.listen(old.peer);
  await until('all daemons have answered', () => desk.kept.size === daemons);
  await desk.close();
  const kept = [...desk.kept.values()];
  const rebuilt = rebuildState({ old: left, kept, now: 1, random: liveEnv.random });
  const state = key === null ? rebuilt : withAdministrator(rebuilt, key, 1);
  await writeRecovered(store, leadership, state);
  await store.close();
  return state;
}

async function restartOn(cluster: LiveCluster, old: LiveMaster, folder: string): Promise<void> {
  const master = new LiveMaster(
    await EmbeddedState.open(liveEnv, folder, { create: false }),
    cluster,
  );
  [master.peer, master.listen] = [old.peer, old.listen];
  cluster.masters.push(master);
  await master.start();
  await until('the recovered master leads', () => master.master.isLeader);
  await until('all daemons are back', () =>
    cluster.daemons.every(({ member }) => member.isConnected),
  );
}

t.test('a state that is lost is made anew from what daemons have kept', async (t) => {
  const cluster = await LiveCluster.start(t, 3);
  await writeThrough(cluster, 'kept');
  const before = cluster.leader()?.master.admin.map();
  await until('all daemons have the map', () =>
    cluster.daemons.every(({ member }) => member.view?.map.version === before?.version),
  );
  const [old] = cluster.masters.splice(0);
  if (old === undefined) throw new Error('there was a master');
  await old.stop();
  const folder = join(cluster.folder, 'new-state');
  const state = await recover(old, folder, 3, cluster.adminKey);
  t.same(state.map.pools, before?.pools, 'groups are where they were');
  t.ok(state.map.version > (before?.version ?? 0));
  t.equal(state.map.clusterId, before?.clusterId);

  await restartOn(cluster, old, folder);
  t.equal(await readThrough(cluster, 4), 'kept');
  const admin = cluster.leader()?.master.admin;
  t.same(
    admin?.clients().map(({ name, isAdmin }) => [name, isAdmin]),
    [['admin', true]],
  );
  await admin?.createPool('later', { groups: 4 }, false);
  const later = admin?.map().pools.find(({ name }) => name === 'later');
  t.ok((later?.id ?? 0) > 1000, 'numbers that may have been given out are not given out again');
});

t.test('a state that came back old is brought forward, and keeps its clients', async (t) => {
  const cluster = await LiveCluster.start(t, 2);
  await cluster.client('somebody', { p: 'rw' });
  await cluster.leader()?.master.admin.setRecoveryRate(7_000_000);
  const [first] = cluster.masters.splice(0);
  await first?.stop();
  const folder = join(cluster.folder, 'old-state');
  cpSync(join(cluster.folder, 'state'), folder, { recursive: true });
  const again = await cluster.addMaster(await cluster.openState());
  for (const daemon of cluster.daemons) await daemon.stop();
  await until('it leads', () => again.master.isLeader);
  for (const daemon of cluster.daemons) await daemon.join();
  await writeThrough(cluster, 'new');
  await until('all daemons know the pool', () =>
    cluster.daemons.every(({ member }) => member.view?.poolNamed('p') !== undefined),
  );
  cluster.masters.splice(0);
  await again.stop();

  const state = await recover(again, folder, 2, null);
  t.same([...state.clients.keys()].sort(), ['admin', 'somebody']);
  t.equal(state.recoveryRate, 7_000_000);
  await restartOn(cluster, again, folder);
  t.equal(await readThrough(cluster, 3), 'new');
});

t.test('nothing is made of nothing', async (t) => {
  const none = { old: null, kept: [], now: 1, random: liveEnv.random };
  t.equal(await codeOf(Promise.resolve().then(() => rebuildState(none))), 'E_NOT_FOUND');
});

t.test(
  'who was shut out after an old state was kept stays out, and who knows more is not overwritten',
  async (t) => {
    const cluster = await LiveCluster.start(t, 1);
    await cluster.client('gone', { p: 'rw' });
    const master = cluster.leader()?.master;
    const old = master?.state ?? null;
    await master?.admin.removeClient('gone');
    const now = Math.floor(liveEnv.clock.wallSeconds());
    if (master === undefined) throw new Error('somebody leads');
    const { map } = master.state;
    const secrets: PoolSecret[] = [];
    const kept = [{ diskId: map.daemons[0]?.diskId ?? '', capacityBytes: 1, map, secrets }];
    const state = rebuildState({ old, kept, now, random: liveEnv.random });
    t.same([...state.clients.keys()], ['admin']);
    t.same(state.map.blockedClients, ['gone#1']);
    t.ok((state.blocked.get('gone#1') ?? 0) > now + 24 * 3600);
    t.equal(state.recoveredFrom, map.version);

    const [daemon] = cluster.daemons;
    const [live] = cluster.masters.splice(0);
    if (live === undefined || daemon === undefined) throw new Error('there were both');
    await live.stop();
    const folder = join(cluster.folder, 'recovered');
    const recovered = await recover(live, folder, 1, cluster.adminKey);
    t.ok(recovered.recoveredFrom > 0);
    // The daemon comes back with a map that nobody knew of.
    await daemon.stop();
    const { MembershipFiles } = await import('@store/daemon/testing');
    const disk = liveEnv.openDisk(daemon.folder, { create: false });
    new MembershipFiles(disk, liveEnv.log).writeMap({
      ...map,
      version: recovered.recoveredFrom + 1,
    });
    disk.close();
    const master2 = new LiveMaster(
      await EmbeddedState.open(liveEnv, folder, { create: false }),
      cluster,
    );
    [master2.peer, master2.listen] = [live.peer, live.listen];
    cluster.masters.push(master2);
    await master2.start();
    await until('the recovered master leads', () => master2.master.isLeader);
    await daemon.start();
    await liveEnv.timers.sleep(4500);
    t.notOk(daemon.member.isConnected, 'it is refused');
    t.equal(
      daemon.member.view?.map.version,
      recovered.recoveredFrom + 1,
      'and keeps what it knows',
    );
  },
);
