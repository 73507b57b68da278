/** `store plan`, run as people run it. */
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('plans say what a change would move, and change nothing', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  for (const dir of ['disk1', 'disk2', 'disk3']) await cluster.daemon(dir);
  await store('daemon', 'out', '3', '--yes');
  succeeded(
    t,
    await store('pool', 'create', 'vms', '--groups', '8'),
    /with 2 copies of everything/,
  );
  const before = await json('map', 'show');
  const plans = await Promise.all([
    json('plan', 'rebalance'),
    json('plan', 'daemon', 'drain', '1'),
    json('plan', 'daemon', 'reweight', '1', '0'),
    json('plan', 'daemon', 'in', '3'),
    json('plan', 'daemon', 'out', '2'),
    json('plan', 'daemon', 'rm', '3'),
    json('plan', 'pool', 'create', 'more', '--groups', '4'),
    json('plan', 'pool', 'set', 'vms', '--durability', 'write'),
    json('plan', 'pool', 'rm', 'vms'),
    json('plan', 'pool', 'set', 'vms', '--replicas', '1'),
  ]);
  const all = { groupsChanged: 8, daemons: [{ daemon: 1, copiesOut: 8 }] };
  t.match(plans, [
    { change: 'Place all groups anew', copiesMoved: 0 },
    { change: 'Daemon 1: make it draining', copiesMoved: 0, groupsChanged: 0 },
    { change: 'Daemon 1: give it weight 0', copiesMoved: 0, ...all },
    { change: 'Daemon 3: make it in', groupsChanged: 5, copiesMoved: 5 },
    { change: 'Daemon 2: make it out', copiesMoved: 0, groupsChanged: 8 },
    { change: 'Remove daemon 3 from the cluster', copiesMoved: 0 },
    { change: "Create pool 'more'", groupsChanged: 4 },
    { change: "Change pool 'vms'", groupsChanged: 0 },
    { change: /^Remove pool 'vms'/, copiesMoved: 0, groupsChanged: 8 },
    { change: "Change pool 'vms'", groupsChanged: 8, copiesMoved: 0 },
  ]);
  t.same(await json('map', 'show'), before);
  const text = await store('plan', 'daemon', 'in', '3');
  succeeded(t, text, /^Daemon 3: make it in\n {2}5 copies of groups would move; 5 groups would/);
  t.match(text.stdout, /\n {7}3 +0 +5 +5 +0\n/);
  failed(t, await store('plan', 'daemon', 'drain', '9'), 1, /There is no daemon 9/);
  failed(t, await store('plan', 'pool', 'rm', 'vms', '--yes'), 2, /Unknown option '--yes'/);
});
