/** What `store daemon` refuses, run as people run it. */
import t from 'tap';
import { until } from '../run-programs.js';
import { failed, runStore, succeeded, type Result } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('what would lose data is refused, and what is empty goes', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  await cluster.daemon('disk1');
  const late = await cluster.daemon('disk2');
  succeeded(t, await store('daemon', 'out', '2', '--yes'), /^Done: Daemon 2: make it out\n$/);
  await store('pool', 'create', 'vms', '--groups', '8');
  const [out, dry, full, unasked] = await Promise.all([
    store('daemon', 'out', '1', '--yes'),
    store('daemon', 'out', '1', '--dry-run'),
    store('daemon', 'rm', '1', '--yes'),
    store('daemon', 'rm', '2'),
  ]);
  failed(t, out, 1, /only copy of 8 groups.*daemon drain 1/);
  failed(t, dry, 1, /only copy of 8 groups/);
  failed(t, full, 1, /holds 8 groups; drain it first/);
  failed(t, unasked, 2, /--yes/);
  late.child.kill('SIGKILL');
  await until(() => late.child.signalCode !== null, 'the daemon is gone');
  succeeded(t, await store('daemon', 'rm', '2', '2', '--yes'), /^Done: Remove daemon 2 from/);
  t.match(await json('daemon', 'ls'), [{ id: 1 }]);
});

await t.test('mistakes are told before a master is asked', async (t) => {
  const folder = t.testdir();
  const store = (...args: string[]): Promise<Result> =>
    runStore(folder, args, { STORE_MASTER: '127.0.0.1:1' });
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
