/** Faults of the memory of a cluster and of its clocks: what is open goes on, and people are told what to do. */
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ClusterStore, type Env, type MasterGuide, type ObjectPool } from '@store/core';
import t from 'tap';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { EtcdCluster } from '@store/master/testing';
import { damageMap } from './damage-map.js';
import { codeOf, LiveCluster, liveEnv, until } from './live-cluster.js';
import { NotedLog } from './noted-log.js';
import { PoolTraffic } from './pool-traffic.js';

const HOUR = 3600;
/** More than a master that cannot use its state takes to look again. */
const LOOKS_AGAIN_MS = 20_000;

t.setTimeout(330_000);

function storeOf(guide: MasterGuide, env: Env = liveEnv): ClusterStore {
  const options = { name: 'test', tls: null, deadlineMs: 20_000, datagramBytes: 0 };
  return new ClusterStore({ ...options, env, guide });
}

/** A client with pool `p` open, which writes all the time. */
async function writing(
  cluster: LiveCluster,
  env: Env = liveEnv,
): Promise<{ guide: MasterGuide; store: ClusterStore; traffic: PoolTraffic }> {
  const guide = await cluster.guide(null, null, { env });
  const store = storeOf(guide, env);
  const traffic = new PoolTraffic(await store.openPool('p', { create: true }));
  return { guide, store, traffic };
}

async function goesOn(traffic: PoolTraffic): Promise<void> {
  const { rounds } = traffic;
  await until('it goes on', () => traffic.rounds > rounds + 10 || traffic.problems.length > 0);
}

/** Uses a pool in a connection of its own. */
async function usesAnew(cluster: LiveCluster, env: Env = liveEnv): Promise<void> {
  const store = storeOf(await cluster.guide(null, null, { env }), env);
  try {
    const pool: ObjectPool = await store.openPool('p', { create: false });
    await pool.list({});
  } finally {
    await store.close();
  }
}

t.test(
  'on a full disk of the state nothing is decided, all else goes on, and space helps',
  needs({ root: true }),
  async (t) => {
    const cluster = new LiveCluster(t);
    const folder = join(cluster.folder, 'state');
    mkdirSync(folder);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]);
    t.teardown(() => run('umount', ['--lazy', folder]));
    t.teardown(() => cluster.stop());
    const { master } = await cluster.addMaster(await cluster.openState());
    await until('it leads', () => master.isLeader);
    const daemon = await cluster.addDaemon();
    const { guide, store, traffic } = await writing(cluster);

    const filler = join(folder, 'filler');
    const { bavail, bsize } = statfsSync(folder);
    writeFileSync(filler, Buffer.alloc(bavail * bsize));
    const before = master.state;
    await t.rejects(guide.administer('pool create', { name: 'q', groups: 4, dryRun: false }), {
      code: 'E_NO_SPACE',
      message: `'${folder}' is full, and nothing was changed; free some space`,
    });
    t.equal(master.state, before);
    t.ok(master.isLeader, 'it still leads');
    t.equal(master.admin.status().health, 'ok', 'and is asked about the cluster');
    await goesOn(traffic);
    await usesAnew(cluster);
    // A daemon that only lost its connection has nothing that must be stored.
    daemon.member.close();
    await daemon.stop();
    t.equal(await codeOf(guide.administer('status', {}, false)), null);

    rmSync(filler);
    await daemon.join();
    await guide.administer('pool create', { name: 'q', groups: 4, dryRun: false });
    await traffic.stop();
    t.same(traffic.problems, []);
    await store.close();
  },
);

t.test(
  'with a damaged map in its state a master does not lead, says why, and recovers',
  async (t) => {
    const cluster = await LiveCluster.start(t, 1);
    const { guide, store, traffic } = await writing(cluster);
    const [first] = cluster.masters.splice(0);
    if (first === undefined) throw new Error('there is a master');
    await first.stop();
    const state = await cluster.openState();
    const repair = await damageMap(state);
    const log = new NotedLog();
    const env = { ...liveEnv, log };
    const { master } = await cluster.addMaster(state, { env, replaces: first });
    await until('it has looked', () => master.trouble !== null);
    t.notOk(master.isHealthy, 'as /healthz says');
    t.throws(() => master.admin.status(), { code: 'E_NOT_LEADER', message: /cannot lead: .*map/i });
    await t.rejects(cluster.guide(), { code: 'E_NOT_LEADER', message: /cannot lead: .*map/i });
    await liveEnv.timers.sleep(6000); // it looks again meanwhile
    t.equal(log.errors.length, 1, log.errors.join('\n'));
    t.match(log.errors[0], /This master cannot lead: .*map/i);
    await goesOn(traffic);

    await repair();
    await until('it leads', () => master.isLeader, LOOKS_AGAIN_MS);
    t.equal(master.trouble, null);
    await guide.administer('pool create', { name: 'q', groups: 4, dryRun: false });
    await traffic.stop();
    t.same(traffic.problems, []);
    await store.close();
  },
);

t.test(
  'damage in an etcd that several masters share is told by all of them',
  needs({ commands: ['etcd'] }),
  async (t) => {
    const etcd = await EtcdCluster.start(t, { members: 1 });
    const cluster = await LiveCluster.start(t, 1, { etcd, masters: 3 });
    const { guide, store, traffic } = await writing(cluster);
    const state = await cluster.openState();
    t.teardown(() => state.close());
    const repair = await damageMap(state);
    t.ok(cluster.leader(), 'who leads has what it has read');
    await cluster.leading().stop();
    const left = cluster.masters.filter(({ isRunning }) => isRunning);
    await until('the next has looked', () => left.some(({ master }) => master.trouble !== null));
    for (const one of left)
      await t.rejects(cluster.guide(null, null, { masters: [one] }), {
        code: 'E_NOT_LEADER',
        message: /cannot lead: .*map/i,
      });
    t.ok(left.some(({ master }) => !master.isHealthy));
    await goesOn(traffic);
    await repair();
    await until('one leads', () => cluster.leader() !== undefined, LOOKS_AGAIN_MS);
    await guide.administer('pool create', { name: 'q', groups: 4, dryRun: false });
    await traffic.stop();
    t.same(traffic.problems, []);
    await store.close();
  },
);

/** An environment whose wall clock can be set. */
class WallClock {
  readonly env: Env;
  offsetSeconds = 0;

  constructor(env: Env = liveEnv) {
    const { clock } = env;
    this.env = {
      ...env,
      clock: {
        now: () => clock.now(),
        wallTime: () =>
          new Date(Date.parse(clock.wallTime()) + this.offsetSeconds * 1000).toISOString(),
        wallSeconds: () => clock.wallSeconds() + this.offsetSeconds,
      },
    };
  }
}

t.test('clocks that jump an hour stop nothing that is open', async (t) => {
  const clocks = { master: new WallClock(), daemon: new WallClock(), client: new WallClock() };
  const cluster = new LiveCluster(t);
  const { master } = await cluster.addMaster(await cluster.openState(), clocks.master);
  await until('it leads', () => master.isLeader);
  await cluster.newDaemon(undefined, clocks.daemon).join();
  const { guide, store, traffic } = await writing(cluster, clocks.client.env);
  const jumps: [keyof typeof clocks, number, RegExp | null][] = [
    ['client', HOUR, null],
    ['client', -HOUR, null],
    ['master', -HOUR, null], // tickets are good for a day
    ['master', HOUR, /The ticket is of .*, and here it is .*; set the clocks right/],
    ['daemon', HOUR, null],
    ['daemon', -HOUR, /The ticket is of .*, and here it is .*; set the clocks right/],
  ];
  for (const [index, [who, seconds, refusal]] of jumps.entries()) {
    const what = `the ${who}'s clock ${seconds > 0 ? 'ahead' : 'back'}`;
    clocks[who].offsetSeconds = seconds;
    // A new map has daemons look at everybody who is in.
    await guide.administer('pool create', { name: `q${index}`, groups: 1, dryRun: false });
    await goesOn(traffic);
    t.same(traffic.problems, [], what);
    if (refusal === null) await t.resolves(usesAnew(cluster, clocks.client.env), what);
    else
      await t.rejects(
        usesAnew(cluster, clocks.client.env),
        { code: 'E_DENIED', message: refusal },
        what,
      );
    clocks[who].offsetSeconds = 0;
  }
  await t.resolves(usesAnew(cluster), 'clocks that are right again suffice');
  t.ok(master.isLeader);
  await traffic.stop();
  t.same(traffic.problems, []);
  await store.close();
});

t.test('a daemon that starts again and again is noted, and nothing breaks', async (t) => {
  const cluster = await LiveCluster.start(t, 2);
  const { admin } = cluster.leading().master;
  await admin.createPool('p', { replicas: 1 }, false);
  const { store, traffic } = await writing(cluster);
  const [daemon] = cluster.daemons;
  for (let round = 1; round <= 10; round += 1) {
    await daemon?.stop();
    await daemon?.join();
    await goesOn(traffic);
  }
  const status = admin.status();
  t.equal(status.daemons[0]?.recentStarts, 11);
  t.equal(status.daemons[0]?.state, 'up');
  t.same(
    status.problems.map(({ severity, where, what }) => [severity, where, what]),
    [['warning', 'daemon 1', 'Daemon 1 was started 11 times within an hour.']],
  );
  t.equal(status.health, 'warning');
  t.equal(admin.map().daemons.length, 2, 'it is the same daemon each time');
  await traffic.stop();
  t.same(traffic.problems, []);
  await store.close();
});
