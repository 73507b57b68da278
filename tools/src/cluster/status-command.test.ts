/** `store status`, run as people run it. */
import { once } from 'node:events';
import type { ClusterStatus } from '@store/core';
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

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
  const deadline = performance.now() + 60_000;
  while (status.health !== 'error' && performance.now() < deadline)
    status = (await json('status')) as ClusterStatus; // the master is looking for 8 s before it says so
  t.match(status, {
    health: 'error',
    problems: [{ severity: 'error', where: 'daemon 1', advice: /^Start it again/ }],
    daemons: [{ id: 1, state: 'down' }],
    pools: [{ name: 'vms', groupsDown: 4 }],
  });
  failed(t, await store('status', '--watch', '--check'), 2, /give one of them/);
});
