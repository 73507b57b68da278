/** `store map`, `store why` and `store plan`, run as people run them. */
import { checkMap, type StorageMap } from '@store/core';
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(120_000);

await t.test('the map, and why an object lies where it does', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  succeeded(
    t,
    await store('map', 'show'),
    /^cluster +[\da-f]{32}\nversion +\d+\n[^]*No daemons\n\nNo pools/,
  );
  await cluster.daemon('disk1', '--host', 'a');
  await cluster.daemon('disk2', '--host', 'b');
  await store('pool', 'create', 'vms', '--groups', '4');

  const map = (await json('map', 'show')) as StorageMap;
  t.doesNotThrow(() => checkMap(map), 'it is the whole map');
  t.match(map, {
    daemons: [{ id: 1 }, { id: 2 }],
    pools: [{ name: 'vms', groups: { length: 4 } }],
  });
  const shown = await store('map', 'show');
  succeeded(t, shown, new RegExp(`\\nversion +${map.version}\\nblocked +0 clients, 0 tickets\\n`));
  t.match(shown.stdout, /\nPOOL +DAEMON +GROUPS +PRIMARY OF\nvms +1 +2 +2\nvms +2 +2 +2\n$/);
  const groups = await store('map', 'show', '--groups', 'vms');
  succeeded(t, groups, /^GROUP +EPOCH +PRIMARY +MEMBERS\n {4}0 +2 +[12] +[12]\n/);
  t.equal(groups.stdout.trimEnd().split('\n').length, 5);
  t.same(await json('map', 'show', '--groups', 'vms'), map.pools[0]);
  failed(
    t,
    await store('map', 'show', '--groups', 'no'),
    1,
    /There is no pool 'no'; see store pool/,
  );

  const answer = await json('why', 'vms', 'hello');
  t.match(answer, {
    pool: 'vms',
    key: 'hello',
    hash: /^[\da-f]{16}$/,
    members: [{ role: 'primary', state: 'up' }],
    reasons: [/The hash of the key is/, /the first 2 bits/, /holds it as its primary; it is up/],
  });
  t.same(await json('why', '--pool', 'vms', 'hello'), answer);
  const odd = await store('why', 'vms', 'a\u001b[2J\nb');
  succeeded(
    t,
    odd,
    /^Key 'a\\u001b\[2J\\u000ab' of pool 'vms' lies in group \d \(epoch 2\)\nDAEMON/,
  );
  failed(t, await store('why', 'no', 'hello'), 1, /There is no pool 'no'/);
  failed(t, await store('why', 'hello'), 2, /Say which pool/);
  failed(t, await store('why', 'vms', 'one', 'two'), 2, /store why POOL KEY/);
});

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
    { change: 'Place all groups anew', copiesMoved: 4, bytesMoved: null },
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
