/** `store daemon`, run as people run it. */
import type { DaemonStatus } from '@store/core';
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster, type TestCluster } from './run-cluster.js';

t.setTimeout(360_000);

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
    await store('pool', 'create', 'vms', '--groups', '8', '--replicas', '1'),
    /^Done: Create pool 'vms' with 1 copy of everything\n$/,
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
