/** `store pool`, run as people run it. */
import type { PoolStatus } from '@store/core';
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('pools are made, listed, shown, changed and removed', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  succeeded(
    t,
    await store('pool', 'ls'),
    /^There is no pool yet; make one: store pool create NAME/,
  );
  const early = await store('pool', 'create', 'early', '--groups', '2');
  succeeded(
    t,
    early,
    /^Done: Create pool 'early' with 1 copy of everything\n {2}Warning: No daemon is in yet: the groups get/,
  );
  await cluster.daemon('disk1');

  const plan = await json('pool', 'create', 'vms', '--groups', '8', '--dry-run');
  t.match(plan, { change: "Create pool 'vms'", copiesMoved: 0, groupsChanged: 8, warnings: [] });
  t.match(await json('pool', 'ls'), [{ name: 'early' }], 'a dry run makes nothing');
  const settings = ['--failure-domain', 'host', '--durability', 'write', '--replicas', '1'];
  t.match(await json('pool', 'create', 'vms', '--groups', '8', ...settings), { groupsChanged: 8 });
  failed(t, await store('pool', 'create', 'vms'), 1, /There is a pool 'vms' already/);
  succeeded(t, await store('pool', 'create', '--pool', '全部 =1'), /^Done: Create pool '全部 =1'/);

  const pools = (await json('pool', 'ls')) as readonly PoolStatus[];
  t.match(pools, [
    { name: 'early', groups: 2, groupsDown: 0, failureDomain: 'disk', durability: 'flush' },
    { name: 'vms', groups: 8, failureDomain: 'host', durability: 'write', replicas: 1 },
    { name: '全部 =1', groups: 128 },
  ]);
  const listed = await store('pool', 'ls');
  succeeded(t, listed, /^NAME +REPLICAS +GROUPS +OBJECTS +USED +DOMAIN +DURABILITY +STATE\n/);
  t.match(listed.stdout, /\nvms +1\/1 +8 +0 +0 B +host +write +ok\n/);
  t.same(await json('pool', 'info', 'vms'), pools[1]);
  succeeded(t, await store('pool', 'info', '--pool', 'vms'), /^name +vms\n[^]*durability +write\n/);

  t.match(await json('pool', 'set', 'vms', '--durability', 'flush'), { change: /vms/ });
  t.match(await json('pool', 'info', 'vms'), { durability: 'flush', failureDomain: 'host' });

  const rm = await store('pool', 'rm', 'vms', '--dry-run');
  succeeded(t, rm, /^Remove pool 'vms' and all that it holds\n/);
  t.match(rm.stdout, / {2}DAEMON +COPIES +AFTER +COMING +GOING\n +1 +138 +130 +0 +8\n/);
  failed(t, await store('pool', 'rm', 'vms'), 2, /no terminal.*--yes/);
  t.match(await json('pool', 'info', 'vms'), { name: 'vms' }, 'it is still there');
  succeeded(t, await store('pool', 'rm', 'vms', '--yes'), /^Done: Remove pool 'vms'/);
  failed(t, await store('pool', 'info', 'vms'), 1, /There is no pool 'vms'; see store pool ls/);
});
