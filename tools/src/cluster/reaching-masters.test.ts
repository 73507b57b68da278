/** How the commands for clusters find a master, keep to it, and say that there is none. */
import { once } from 'node:events';
import type { ClusterStatus } from '@store/core';
import t from 'tap';
import { start, until } from '../run-programs.js';
import { failed, runStore, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('--watch shows it again and again, until it is told to stop', async (t) => {
  const { address } = await startCluster(t);
  const child = start('store', ['status', '--watch', '--json', '--master', address]);
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await until(() => stdout.split('\n').length > 2, 'two reports');
  child.kill('SIGINT');
  t.same(await once(child, 'exit'), [0, null], stderr);
  const [first, second] = stdout
    .split('\n')
    .map((line) => (line === '' ? null : JSON.parse(line)) as ClusterStatus | null);
  t.equal(first?.clusterId, second?.clusterId);
  t.not(first?.time, second?.time);
});

await t.test('a master that is not there, or is none, is one clear line', async (t) => {
  const { folder, address, peerAddress } = await startCluster(t);
  const store = (...args: string[]): ReturnType<typeof runStore> => runStore(folder, args);
  const began = performance.now();
  const nobody = ['--master', '127.0.0.1:1', '--daemon-timeout', '2'];
  failed(
    t,
    await store('status', ...nobody),
    1,
    /Cannot reach 127\.0\.0\.1:1: nothing listens there/,
  );
  t.ok(performance.now() - began < 10_000, 'in about the time that was given');
  const several = ['--master', `127.0.0.1:1,${address}`];
  succeeded(t, await store('status', ...several), /^Health: /);
  const [unnamed, odd, peer, key] = await Promise.all([
    store('status'),
    store('status', '--master', 'nonsense'),
    store('status', '--master', peerAddress),
    store('status', '--master', address, '--client-key', 'missing.key'),
  ]);
  failed(t, unnamed, 2, /Name a master of the cluster: --master HOST:PORT, or STORE_MASTER/);
  failed(t, odd, 2, /Bad --master: 'nonsense' is not HOST:PORT/);
  failed(t, peer, 1, /This is where daemons connect \(--peer-address\)/);
  failed(t, key, 1, /Cannot read missing\.key/);
});
