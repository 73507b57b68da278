/** `store group`, run as people run it. */
import t from 'tap';
import { failed, runStore, succeeded, type Result } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('groups are listed and shown, and nothing is given up that runs', async (t) => {
  const { store, json, daemon } = await startCluster(t);
  for (const dir of ['disk1', 'disk2', 'disk3']) await daemon(dir);
  await store('pool', 'create', 'vms', '--groups', '2', '--replicas', '2');
  const listed = await store('group', 'ls', 'vms');
  succeeded(t, listed, /^GROUP +STATE +EPOCH +PRIMARY +COPIES +JOINING +WANTED\n +0 +ok +2 /);
  succeeded(t, await store('group', 'ls', '--pool', 'vms', '--unwell'), /^All groups are ok\n/);
  const shown = (await json('group', 'show', 'vms', '1')) as {
    members: readonly { daemon: number }[];
  };
  t.match(shown, { pool: 'vms', group: 1, state: 'ok', lostAt: 0, members: { length: 2 } });
  t.match(shown.members, [{ role: 'primary', state: 'up' }, { role: 'copy' }]);
  succeeded(t, await store('group', 'show', 'vms', '1'), /^pool +vms\ngroup +1\nstate +ok\n/);
  const [primary] = shown.members;
  const [held, other, missing, unasked] = await Promise.all([
    store('group', 'accept-data-loss', 'vms', '1', '--daemon', `${primary?.daemon ?? 0}`, '--yes'),
    store('group', 'show', 'vms', '2'),
    store('group', 'ls', 'none'),
    store('group', 'accept-data-loss', 'vms', '1', '--daemon', '1'),
  ]);
  failed(t, held, 1, /in sync in group 1 of pool vms and runs: nothing has to be lost|just begun/);
  failed(t, other, 1, /Pool 'vms' has groups 0 to 1, and no group 2/);
  failed(t, missing, 1, /There is no pool 'none'/);
  failed(t, unasked, 2, /no terminal/);
  failed(
    t,
    await store('group', 'accept-data-loss', 'vms', 'all', '--daemon', '1', '--yes'),
    1,
    /No group of pool 'vms' is down and has a copy on daemon 1/,
  );
});

await t.test('mistakes are told before a master is asked', async (t) => {
  const folder = t.testdir();
  const store = (...args: string[]): Promise<Result> =>
    runStore(folder, args, { STORE_MASTER: '127.0.0.1:1' });
  const results = await Promise.all([
    store('group', 'show', 'vms', 'first'),
    store('group', 'show', 'vms', '65536'),
    store('group', 'accept-data-loss', 'vms', '1', '--yes'),
    store('group', 'accept-data-loss', 'vms', '1', '--daemon', 'x', '--yes'),
    store('group', 'accept-data-loss', 'vms', '1', 'all', '--daemon', '1', '--yes'),
    store('group', 'accept-data-loss', 'vms', '--daemon', '1', '--yes'),
  ]);
  const says = [
    /'first' is not the number of a group/,
    /'65536' is not the number of a group/,
    /--daemon/,
    /'x' is not the number of a daemon/,
    /'all' is not the number of a group/,
    /missing required argument 'groups'/i,
  ];
  for (const [index, result] of results.entries()) failed(t, result, 2, says[index] ?? /never/);
});
