import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ClusterStore, ObjectRef, OBJECT_KIND, openRemoteStore, promised } from '@store/core';
import { openFileStore } from '@store/daemon';
import t from 'tap';
import { codeOf, LiveCluster, LiveDaemon, liveEnv, until } from './live-cluster.js';

t.setTimeout(180_000);

t.test(
  'daemons register, get groups, come back with another start, and are seen to leave',
  async (t) => {
    const cluster = await LiveCluster.start(t, 2);
    const [first, second] = cluster.daemons;
    const admin = (): NonNullable<ReturnType<LiveCluster['leader']>>['master']['admin'] =>
      cluster.leader()!.master.admin; // eslint-disable-line @typescript-eslint/no-non-null-assertion -- there is one
    t.same(
      admin()
        .status()
        .daemons.map(({ id, state, host }) => [id, state, host]),
      [
        [1, 'up', 'host1'],
        [2, 'up', 'host2'],
      ],
    );
    const plan = await admin().createPool('vms', { groups: 32, replicas: 1 }, true);
    t.same(
      plan.daemons.map(({ copiesIn }) => copiesIn),
      [16, 16],
    );
    t.same(admin().map().pools, [], 'a dry run changes nothing');
    await admin().createPool('vms', { groups: 32, replicas: 1 }, false);
    const before = admin().map();
    t.ok(
      before.pools[0]?.groups.every(
        ({ hasPrimary, members }) => hasPrimary && members.length === 1,
      ),
    );
    await until('the daemons have the map', () =>
      cluster.daemons.every(({ member }) => member.view?.map.version === before.version),
    );

    await first?.stop();
    await until(
      'it is seen to be down',
      () =>
        admin().status().daemons[0]?.state === 'down' ||
        admin().status().daemons[0]?.stateSeconds === 0,
    );
    await first?.join();
    const after = admin().map();
    t.not(after.daemons[0]?.startId, before.daemons[0]?.startId);
    t.equal(after.daemons[0]?.id, 1, 'the same disk is the same daemon');
    for (const [index, group] of (after.pools[0]?.groups ?? []).entries()) {
      const old = before.pools[0]?.groups[index];
      const isMoved = old?.members[0]?.daemon !== group.members[0]?.daemon;
      if (isMoved) t.fail(`group ${index} has moved`);
      if (group.members[0]?.daemon === 1) t.equal(group.epoch, (old?.epoch ?? 0) + 1);
      t.equal(group.lostAt, 0);
    }
    t.equal(second?.member.view?.map.clusterId, after.clusterId);
  },
);

t.test('a loss is told although the start that found it has met no master', async (t) => {
  const cluster = await LiveCluster.start(t, 1);
  const [daemon] = cluster.daemons;
  const admin = cluster.leader()?.master.admin;
  await admin?.createPool('p', { groups: 1, replicas: 1 }, false);
  const lostAt = (): number | undefined => admin?.map().pools[0]?.groups[0]?.lostAt;
  const epoch = (): number | undefined => admin?.map().pools[0]?.groups[0]?.epoch;
  await daemon?.stop();
  await daemon?.join();
  t.equal(lostAt(), 0);

  await daemon?.stop();
  // As if the folder had got another lineage meanwhile.
  const file = join(daemon?.folder ?? '', 'cluster');
  const { lineage, ...others } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  t.equal(lineage, daemon?.store.lineage.toString('hex'));
  writeFileSync(file, JSON.stringify({ ...others, lineage: 'f'.repeat(32) }));
  await daemon?.join();
  t.notOk(daemon?.store.lostUnflushed, 'this start has lost nothing');
  const toldAt = epoch();
  t.equal(lostAt(), toldAt);

  await daemon?.stop();
  await daemon?.join();
  t.equal(lostAt(), toldAt, 'and it is told once');
  t.not(epoch(), toldAt);
});

t.test(
  'a copy of a folder is refused while the first is alive, and a folder of another cluster always',
  async (t) => {
    const cluster = await LiveCluster.start(t, 1);
    const [first] = cluster.daemons;
    await first?.stop();
    const copy = join(cluster.folder, 'copy');
    cpSync(first?.folder ?? '', copy, { recursive: true });
    await first?.join();
    const twin = new LiveDaemon(cluster, copy, { host: 'twin', rack: 'r' });
    cluster.daemons.push(twin);
    await twin.start();
    await liveEnv.timers.sleep(1500);
    t.notOk(twin.member.isConnected);
    t.equal(cluster.leader()?.master.admin.map().daemons[0]?.host, 'host1');
    t.ok(first?.member.isConnected, 'the first goes on');
    await twin.stop();

    const other = await LiveCluster.start(t, 0);
    const stranger = new LiveDaemon(other, copy, { host: 'stranger', rack: 'r' });
    other.daemons.push(stranger);
    await stranger.start();
    await liveEnv.timers.sleep(500);
    t.same(other.leader()?.master.admin.map().daemons, []);
    await stranger.stop();
  },
);

t.test('a daemon serves what it kept while no master answers', async (t) => {
  const cluster = await LiveCluster.start(t, 1);
  await cluster.leader()?.master.admin.createPool('p', { groups: 1 }, false);
  const [daemon] = cluster.daemons;
  const guide = await cluster.guide();
  const ticket = await guide.ticketFor('p');
  await until('the daemon knows the pool', () => daemon?.member.view?.poolNamed('p') !== undefined);
  await guide.close();
  for (const { master, store } of cluster.masters.splice(0)) {
    await master.close();
    await store.close();
  }
  await daemon?.stop();
  // Its masters are only addresses now.
  await cluster.addMaster(await cluster.openState()).then((one) => one.stop());
  await daemon?.start();
  await daemon?.member.serving();
  const store = await openRemoteStore({
    env: liveEnv,
    address: { host: '127.0.0.1', port: daemon?.port ?? 0 },
    name: 'test',
    ticket,
    tls: null,
    deadlineMs: 3000,
    datagramBytes: 0,
  });
  const pool = await store.openPool('p', { create: false });
  t.equal(pool.objectBytes, 4 * 1024 * 1024);
  await store.close();
  const plain = await codeOf(
    openRemoteStore({
      env: liveEnv,
      address: { host: '127.0.0.1', port: daemon?.port ?? 0 },
      name: 'test',
      ticket: null,
      tls: null,
      deadlineMs: 3000,
      datagramBytes: 0,
    }),
  );
  t.equal(plain, 'E_DENIED', 'secrets were kept as well');
});

t.test('a master whose state is older than what daemons have seen stops leading', async (t) => {
  const cluster = await LiveCluster.start(t, 1);
  const [live] = cluster.masters;
  await live?.stop();
  cluster.masters.splice(0);
  const old = join(cluster.folder, 'old-state');
  cpSync(join(cluster.folder, 'state'), old, { recursive: true });
  await cluster.addMaster(await cluster.openState());
  await until('it leads', () => cluster.leader() !== undefined);
  const [daemon] = cluster.daemons;
  await daemon?.stop();
  await daemon?.join();
  await cluster.leader()?.master.admin.createPool('later', { groups: 1 }, false);
  await until(
    'the daemon has seen it',
    () => daemon?.member.view?.poolNamed('later') !== undefined,
  );
  await daemon?.stop();
  for (const one of cluster.masters.splice(0)) await one.stop();

  const { EmbeddedState } = await import('@store/master');
  const stale = await cluster.addMaster(await EmbeddedState.open(liveEnv, old, { create: false }));
  await until('the old state leads at first', () => stale.master.isLeader);
  await daemon?.start();
  await until('it has stopped', () => !stale.master.isLeader);
  t.match(stale.master.trouble?.message, /store master recover/);
  t.match(await codeOf(cluster.guide()), /E_UNREACHABLE|E_NOT_LEADER|E_TIMEOUT/);
  await daemon?.stop();
});

t.test('a removed pool is emptied, and one of the same name begins empty', async (t) => {
  const cluster = await LiveCluster.start(t, 2);
  const master = cluster.leader()?.master;
  await master?.admin.createPool('p', { groups: 8 }, false);
  await until('all have it', () =>
    cluster.daemons.every(({ member }) => member.view?.poolNamed('p')?.id === 1),
  );
  const [daemon] = cluster.daemons;
  const engine = await daemon?.store.openPool(`\u0001pool ${master?.state.map.clusterId ?? ''} 1`, {
    create: true,
  });
  const ref = new ObjectRef(OBJECT_KIND.plain, 'key');
  await promised((done) => engine?.write(ref, 0, [Buffer.from('x')], 0, done));
  const data = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
  await promised((done) => engine?.write(data, 0, [Buffer.alloc(8192, 1)], 0, done));
  await master?.admin.removePool('p', false);
  await master?.admin.createPool('p', { groups: 8 }, false);
  await until('nothing is left', () => master?.state.removedPools.size === 0);
  t.equal(await engine?.stat(ref), null);
  t.same((await engine?.list({}))?.entries, []);
  t.equal(daemon?.member.view?.poolNamed('p')?.id, 2);
});

t.test(
  'what a folder had before it joined is not served in the place of a pool of the cluster',
  async (t) => {
    const cluster = await LiveCluster.start(t, 0);
    const daemon = cluster.newDaemon();
    const alone = await openFileStore(liveEnv, daemon.folder, {
      create: true,
      onFailure: () => undefined,
    });
    const own = await alone.openPool('p', { create: true });
    const ref = new ObjectRef(OBJECT_KIND.plain, 'key');
    await promised((done) => own.write(ref, 0, [Buffer.from('of the folder')], 0, done));
    await alone.close();
    await daemon.join();
    const guide = await cluster.guide();
    await guide.createPool('p');
    const store = new ClusterStore({
      env: liveEnv,
      guide,
      name: 'test',
      tls: null,
      deadlineMs: 8000,
      datagramBytes: 0,
    });
    const pool = await store.openPool('p', { create: false });
    t.equal(await pool.stat(ref), null);
    await promised((done) => pool.write(ref, 0, [Buffer.from('of the cluster')], 0, done));
    const inFolder = await daemon.store.openPool('p', { create: false });
    t.equal((await inFolder.stat(ref))?.length, 'of the folder'.length, 'and stays what it was');
    await store.close();
  },
);

t.test(
  'a copy of a folder is not quicker than the original when another master has begun to lead',
  async (t) => {
    const cluster = await LiveCluster.start(t, 1);
    const [original] = cluster.daemons;
    const startOf = (): string | null | undefined =>
      cluster.leader()?.master.admin.map().daemons[0]?.startId;
    const before = startOf();
    await original?.stop();
    const copy = join(cluster.folder, 'copy');
    cpSync(original?.folder ?? '', copy, { recursive: true });
    await original?.join();
    const twin = new LiveDaemon(cluster, copy, { host: 'twin', rack: 'r' });
    cluster.daemons.push(twin);
    await twin.start();
    await liveEnv.timers.sleep(500);
    const served = startOf();
    t.not(served, before);
    await cluster.restartMaster();
    await until('somebody is connected', () => original?.member.isConnected === true);
    await liveEnv.timers.sleep(4000);
    t.equal(startOf(), served, 'the original it is');
    t.notOk(twin.member.isConnected);
  },
);

t.test('a rate of recovery outlives daemons and masters', async (t) => {
  const cluster = await LiveCluster.start(t, 1);
  const [daemon] = cluster.daemons;
  const [master] = cluster.masters;
  if (daemon === undefined || master === undefined) throw new Error('there is one of each');
  await master.master.admin.setRecoveryRate(5_000_000);
  t.equal(daemon.recoveryRate, 5_000_000, 'who is there is told');
  await daemon.stop();
  daemon.recoveryRate = 0;
  await daemon.join();
  t.equal(daemon.recoveryRate, 5_000_000, 'who comes later, too');

  daemon.recoveryRate = 0;
  await cluster.restartMaster();
  await until('who comes to another master, as well', () => daemon.recoveryRate === 5_000_000);
});

t.test('a daemon is removed when it is stopped, and not before', async (t) => {
  const cluster = await LiveCluster.start(t, 2);
  const admin = cluster.leader()?.master.admin;
  const removal = async (dryRun: boolean): Promise<unknown> => admin?.removeDaemon(2, dryRun);
  t.equal(await codeOf(removal(false)), 'E_IN_USE');
  t.match(await removal(true), { warnings: [/stop it first/] });
  await cluster.daemons[1]?.stop();
  await until('it may go', async () => (await codeOf(removal(false))) === null);
  t.same(
    admin?.map().daemons.map(({ id }) => id),
    [1],
  );
});
