/** What `store pool` refuses, run as people run it. */
import t from 'tap';
import { failed, runStore, type Result } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('bad names and numbers are told in one line', async (t) => {
  const folder = t.testdir();
  const env = { STORE_MASTER: '127.0.0.1:1', STORE_POOL: 'from-the-environment' };
  const store = (...args: string[]): Promise<Result> => runStore(folder, args, env);
  const results = await Promise.all([
    store('pool', 'create', ' vms'),
    store('pool', 'create', 'two\nlines'),
    store('pool', 'rm', '--yes'),
    store('pool', 'create', 'a', '--pool', 'b'),
    store('pool', 'create', 'a', '--groups', '0'),
    store('pool', 'create', 'a', '--groups', 'many'),
    store('pool', 'create', 'a', '--failure-domain', 'planet'),
    store('pool', 'set', 'a'),
  ]);
  const says = [
    /pool name " vms" begins or ends with a space/,
    /contains a control character/,
    /Say which pool: give its name/,
    /Which pool, 'a' or 'b'\? Name one/,
    /Bad --groups: '0' is not a number from 1 to 65536/,
    /Bad --groups: 'many'/,
    /Bad --failure-domain: 'planet' is not one of disk, host, rack/,
    /Say what to change: --replicas/,
  ];
  for (const [index, result] of results.entries()) failed(t, result, 2, says[index] ?? /never/);
});

await t.test('what the master refuses is told in one line', async (t) => {
  const { store } = await startCluster(t);
  const [threeGroups, copies, missing, removed] = await Promise.all([
    store('pool', 'create', 'a', '--groups', '3'),
    store('pool', 'create', 'a', '--min-replicas', '2'),
    store('pool', 'set', 'missing', '--durability', 'write'),
    store('pool', 'rm', 'missing', '--yes'),
  ]);
  failed(t, threeGroups, 1, /power of two of groups, up to 65536, not 3/);
  failed(t, copies, 1, /--min-replicas is a number from 1 to the replicas \(1\), not 2/);
  failed(t, missing, 1, /There is no pool 'missing'; see store pool ls/);
  failed(t, removed, 1, /There is no pool 'missing'/);
});
