/** `store daemon`, run as people run it. */
import type { DaemonStatus } from '@store/core';
import t from 'tap';
import { until } from '../run-programs.js';
import { failed, succeeded } from '../run-store.js';
import { startCluster, type TestCluster } from './run-cluster.js';

t.setTimeout(120_000);

async function daemonsOf(cluster: TestCluster): Promise<readonly DaemonStatus[]> {
  return (await cluster.json('daemon', 'ls')) as readonly DaemonStatus[];
}

await t.test('daemons are listed, weighed, drained, taken in again and removed', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  succeeded(t, await store('daemon', 'ls'), /^No daemon has registered; start one: store file-/);
  await cluster.daemon('disk1', '--host', 'ホスト', '--rack', 'r1');
  const second = await cluster.daemon('disk2', '--host', 'b', '--rack', 'r2');
  succeeded(
    t,
    await store('pool', 'create', 'vms', '--groups', '8'),
    /^Done: Create pool 'vms'\n$/,
  );

  const listed = await store('daemon', 'ls');
  succeeded(t, listed, /^ID +STATE +MEMBER +ADDRESS +HOST +RACK +WEIGHT +CAPACITY +FULL +GROUPS/);
  const rows = listed.stdout.trimEnd().split('\n').slice(1);
  t.match(
    rows[0],
    /^ 1 +up \d+ s +in +127\.0\.0\.1:\d+ +ホスト +r1 +\d+ +[\d.]+ \wiB +\d+ % +4 +4$/,
  );
  t.match(rows[1], /^ 2 +up .* r2 /);
  t.match(await daemonsOf(cluster), [
    { id: 1, state: 'up', membership: 'in', host: 'ホスト', groups: 4, primaries: 4 },
    { id: 2, address: second.line, rack: 'r2' },
  ]);

  const dry = await store('daemon', 'drain', '1', '2', '--dry-run');
  succeeded(t, dry, /^Daemon 1: make it draining\n {2}4 copies of groups would move; 4 groups/);
  t.match(dry.stdout, /\n {2}DAEMON +COPIES +AFTER +COMING +GOING\n {7}1 +4 +0 +0 +4\n/);
  t.match(dry.stdout, /\nDaemon 2: make it draining\n.*\nEach of these plans is for its change/s);
  const plans = (await store('daemon', 'drain', '1', '2', '--dry-run', '--json')).stdout;
  const [first, other, rest] = plans.split('\n').filter((line) => line !== '');
  t.match(JSON.parse(first ?? ''), {
    change: /Daemon 1/,
    copiesMoved: 4,
    daemons: [{ daemon: 1 }],
  });
  t.match(JSON.parse(other ?? ''), { change: /Daemon 2/, copiesMoved: 4 });
  t.equal(rest, undefined);
  failed(t, await store('daemon', 'drain', '1'), 2, /no terminal to ask on.*--dry-run.*--yes/);
  failed(
    t,
    await store('daemon', 'drain', '1', '9', '--yes'),
    1,
    /no daemon 9; see store daemon ls/,
  );
  t.match(await daemonsOf(cluster), [{ membership: 'in' }, { membership: 'in' }], 'none of that');

  t.match(await json('daemon', 'drain', '1', '--yes'), { change: 'Daemon 1: make it draining' });
  succeeded(t, await store('daemon', 'reweight', '1', '2', '500G', '--yes'), /Daemon 2: .* 512000/);
  t.match(await daemonsOf(cluster), [
    { membership: 'draining', weight: 512_000 },
    { membership: 'in', weight: 512_000 },
  ]);
  t.match(await json('daemon', 'in', '1'), { change: 'Daemon 1: make it in' });
  succeeded(t, await store('daemon', 'reweight', '1', 'auto', '--yes'), /by its capacity/);
  const [after] = await daemonsOf(cluster);
  t.match(after, { membership: 'in' });
  t.not(after?.weight, 512_000);
});

await t.test('what would lose data is refused, and what is empty goes', async (t) => {
  const cluster = await startCluster(t);
  const { store } = cluster;
  await cluster.daemon('disk1');
  await store('pool', 'create', 'vms', '--groups', '8');
  const late = await cluster.daemon('disk2');
  failed(t, await store('daemon', 'out', '1', '--yes'), 1, /only copy of 8 groups.*daemon drain 1/);
  failed(t, await store('daemon', 'out', '1', '--dry-run'), 1, /only copy of 8 groups/);
  failed(t, await store('daemon', 'rm', '1', '--yes'), 1, /holds 8 groups; drain it first/);
  failed(t, await store('daemon', 'rm', '2'), 2, /--yes/);
  succeeded(t, await store('daemon', 'out', '2', '--yes'), /^Done: Daemon 2: make it out\n$/);
  late.child.kill('SIGKILL');
  await until(() => late.child.signalCode !== null, 'the daemon is gone');
  succeeded(t, await store('daemon', 'rm', '2', '2', '--yes'), /^Done: Remove daemon 2 from/);
  t.match(await daemonsOf(cluster), [{ id: 1 }]);
});

await t.test('mistakes are told before a master is asked', async (t) => {
  const { store } = await startCluster(t);
  const results = await Promise.all([
    store('daemon', 'drain', 'first', '--yes'),
    store('daemon', 'in', '0'),
    store('daemon', 'reweight', '1', '--yes'),
    store('daemon', 'reweight', '1', 'much', '--yes'),
    store('daemon', 'reweight', '1', '9000P', '--yes'),
    store('daemon', 'frob'),
  ]);
  const says = [
    /'first' is not the number of a daemon.*store daemon ls/,
    /'0' is not the number/,
    /Say which daemon and its weight: store daemon reweight 3 500G/,
    /'much' is not a weight: write a number, a size like 500G, or auto/,
    /9000P/,
    /Unknown command 'frob'/,
  ];
  for (const [index, result] of results.entries()) failed(t, result, 2, says[index] ?? /never/);
});
