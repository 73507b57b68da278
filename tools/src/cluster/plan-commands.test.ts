/** `store plan`, run as people run it. */
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(120_000);

await t.test('plans say what a change would move, and change nothing', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  await cluster.daemon('disk1');
  await store('pool', 'create', 'vms', '--groups', '8');
  await cluster.daemon('disk2');
  const before = await json('map', 'show');
  const plans = await Promise.all([
    json('plan', 'rebalance'),
    json('plan', 'daemon', 'drain', '1'),
    json('plan', 'daemon', 'reweight', '1', '0'),
    json('plan', 'daemon', 'in', '2'),
    json('plan', 'daemon', 'out', '2'),
    json('plan', 'daemon', 'rm', '2'),
    json('plan', 'pool', 'create', 'more', '--groups', '4'),
    json('plan', 'pool', 'set', 'vms', '--durability', 'write'),
    json('plan', 'pool', 'rm', 'vms'),
  ]);
  const eight = { groupsChanged: 8, daemons: [{ daemon: 1, copiesOut: 8 }] };
  t.match(plans, [
    { change: 'Place all groups anew', bytesMoved: null },
    { change: 'Daemon 1: make it draining', copiesMoved: 8, ...eight },
    { change: 'Daemon 1: give it weight 0', copiesMoved: 8, ...eight },
    { change: 'Daemon 2: make it in' },
    { change: 'Daemon 2: make it out', copiesMoved: 0 },
    { change: 'Remove daemon 2 from the cluster', copiesMoved: 0 },
    { change: "Create pool 'more'", groupsChanged: 4 },
    { change: "Change pool 'vms'", groupsChanged: 0 },
    { change: /^Remove pool 'vms'/, copiesMoved: 0, ...eight },
  ]);
  t.same(await json('map', 'show'), before);
  const text = await store('plan', 'daemon', 'drain', '1');
  succeeded(
    t,
    text,
    /^Daemon 1: make it draining\n {2}8 copies of groups would move; 8 groups would/,
  );
  t.match(text.stdout, /\n {2}Warning: This release keeps one copy of everything/);
  failed(t, await store('plan', 'daemon', 'drain', '9'), 1, /There is no daemon 9/);
  failed(t, await store('plan', 'pool', 'rm', 'vms', '--yes'), 2, /Unknown option '--yes'/);
});
