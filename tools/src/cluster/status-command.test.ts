/** `store status`, run as people run it. */
import { once } from 'node:events';
import type { ClusterStatus } from '@store/core';
import t from 'tap';
import { start, until } from '../run-programs.js';
import { failed, runStore, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(120_000);

await t.test('the state of a cluster is shown, with what is wrong and what helps', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  const empty = await store('status');
  succeeded(
    t,
    empty,
    /^Health: warning, 1 problem\n\nmasters +127\.0\.0\.1:\d+ \(leads\)\nmap +version/,
  );
  t.match(
    empty.stdout,
    /\nwarning {2}cluster: No storage daemon has registered yet\.\n +Start one: /,
  );
  t.match(empty.stdout, /\ncapacity +none yet\n/);
  const unhealthy = await store('status', '--check');
  t.match(unhealthy, { code: 1, stdout: /^Health: warning/, stderr: /is 'warning': 1 problem\n$/ });

  const served = await cluster.daemon('disk1');
  await store('pool', 'create', 'vms', '--groups', '4');
  const healthy = await store('status', '--check');
  succeeded(t, healthy, /^Health: ok\n/);
  t.match(healthy.stdout, /\ndaemons +1 up, 1 in, of 1\npools +1 with 4 groups; 0 images\n/);
  t.match(healthy.stdout, /\ncapacity +\[#*\.*\] \d+ %, .* free of .*; objects take 0 B\n/);
  t.match(healthy.stdout, /\ntraffic +reads none; writes none\n/);
  t.match(
    healthy.stdout,
    /\nID +STATE +MEMBER +ADDRESS +CAPACITY +FULL +GROUPS\n 1 +up \d+ s +in /,
  );
  t.match(healthy.stdout, /\nNAME +REPLICAS [^\n]*\nvms +1\/1 +4 +0 +0 B +disk +flush +ok\n$/);
  t.notMatch(healthy.stdout, /\x1b/, 'no colours but on a terminal');

  served.child.kill('SIGKILL');
  await once(served.child, 'exit');
  let status = (await json('status')) as ClusterStatus;
  for (let tries = 0; status.health !== 'error' && tries < 20; tries += 1)
    status = (await json('status')) as ClusterStatus; // the master is looking for 8 s before it says so
  t.match(status, {
    health: 'error',
    problems: [{ severity: 'error', where: 'daemon 1', advice: /^Start it again/ }],
    daemons: [{ id: 1, state: 'down' }],
    pools: [{ name: 'vms', groupsDown: 4 }],
  });
  failed(t, await store('status', '--watch', '--check'), 2, /give one of them/);
});

await t.test('--watch shows it again and again, until it is told to stop', async (t) => {
  const { address } = await startCluster(t);
  const child = start('store', ['status', '--watch', '--json', '--master', address]);
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await until(() => stdout.split('\n').length > 2, 'two reports');
  child.kill('SIGINT');
  t.same(await once(child, 'exit'), [0, null], stderr);
  const [first, second] = stdout
    .split('\n')
    .map((line) => (line === '' ? null : JSON.parse(line)) as ClusterStatus | null);
  t.equal(first?.clusterId, second?.clusterId);
  t.not(first?.time, second?.time);
});

await t.test('a master that is not there, or is none, is one clear line', async (t) => {
  const { folder, address, peerAddress } = await startCluster(t);
  const store = (...args: string[]): ReturnType<typeof runStore> => runStore(folder, args);
  const began = performance.now();
  const nobody = ['--master', '127.0.0.1:1', '--daemon-timeout', '2'];
  failed(
    t,
    await store('status', ...nobody),
    1,
    /Cannot reach 127\.0\.0\.1:1: nothing listens there/,
  );
  t.ok(performance.now() - began < 10_000, 'in about the time that was given');
  const several = ['--master', `127.0.0.1:1,${address}`];
  succeeded(t, await store('status', ...several), /^Health: /);
  const [unnamed, odd, peer, key] = await Promise.all([
    store('status'),
    store('status', '--master', 'nonsense'),
    store('status', '--master', peerAddress),
    store('status', '--master', address, '--client-key', 'missing.key'),
  ]);
  failed(t, unnamed, 2, /Name a master of the cluster: --master HOST:PORT, or STORE_MASTER/);
  failed(t, odd, 2, /Bad --master: 'nonsense' is not HOST:PORT/);
  failed(t, peer, 1, /This is where daemons connect \(--peer-address\)/);
  failed(t, key, 1, /Cannot read missing\.key/);
});
