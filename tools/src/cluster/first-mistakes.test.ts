/** What people get wrong when they put their first cluster together, and that they are told what to do about it. */
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { serving, start, until } from '../run-programs.js';
import { failed, runStore } from '../run-store.js';
import { startCluster, type TestCluster } from './run-cluster.js';

t.setTimeout(360_000);

const ANY_PORT = '127.0.0.1:0';

/** Starts a daemon that cannot come to serve, waits until it has said so, and stops it. */
async function saidBy(t: Test, args: readonly string[], what: RegExp): Promise<void> {
  const child = start('store', ['file-store', '--listen-address', ANY_PORT, ...args]);
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise((resolve) => child.once('close', resolve));
  await until(() => what.test(stderr), `${what.source} in what it says`).catch(() => undefined);
  child.kill('SIGTERM');
  await ended;
  t.match(stderr, what);
  t.notMatch(stderr, /"msg":"Serving"/);
  t.equal(stdout, '', 'it never said that it serves');
}

async function securedCluster(t: Test): Promise<{ cluster: TestCluster; folder: string }> {
  const folder = t.testdir();
  await runStore(folder, ['cert', 'init']);
  await runStore(folder, ['cert', 'issue', 'here']);
  await runStore(folder, ['cert', 'init', '--out', 'other']);
  await runStore(folder, ['cert', 'issue', 'here', '--out', 'other']);
  return { cluster: await startCluster(t, papersIn(join(folder, 'certs'))), folder };
}

function papersIn(folder: string, authority = folder): string[] {
  const [cert, key] = [join(folder, 'here.crt'), join(folder, 'here.key')];
  const ca = join(authority, 'ca.crt');
  return ['--peer-cert', cert, '--peer-key', key, '--peer-ca-cert', ca];
}

await t.test('a daemon without the right certificate hears what may be wrong', async (t) => {
  const { cluster, folder } = await securedCluster(t);
  const { peerAddress, address } = cluster;
  const [good, other] = [join(folder, 'certs'), join(folder, 'other')];
  const at = (dir: string, master: string): string[] => [
    ...['--dir', join(cluster.folder, dir), '--master', master],
  ];
  await Promise.all([
    saidBy(t, at('disk1', peerAddress), /does it want a certificate \(--peer-cert/),
    saidBy(
      t,
      [...at('disk2', peerAddress), ...papersIn(other)],
      /certificate of 127\.0\.0\.1:\d+ is not good for .*correct the name, or the file of the authority/,
    ),
    saidBy(
      t,
      [...at('disk3', peerAddress), ...papersIn(other, good)],
      /If it does not take this certificate, its log says why/,
    ),
    saidBy(
      t,
      [...at('disk4', address), ...papersIn(good)],
      /in the TLS handshake at once; is that where a master listens for daemons \(its --peer-address\)\?/,
    ),
  ]);
});

await t.test('a client at a port that is not for it hears which one is', async (t) => {
  const { cluster, folder } = await securedCluster(t);
  const daemon = await cluster.daemon('disk1', ...papersIn(join(folder, 'certs')));
  const tls = ['--ca-cert', join(folder, 'certs', 'ca.crt'), '--client-key', cluster.adminKey];
  const patience = ['--daemon-timeout', '2'];
  const [peer, wrong] = await Promise.all([
    runStore(folder, ['status', '--master', cluster.peerAddress, ...tls, ...patience]),
    runStore(folder, ['status', '--master', daemon.line, ...patience]),
  ]);
  for (const answer of [peer, wrong])
    failed(t, answer, 1, /is that where a master listens for clients \(its --listen-address\)\?/);
});

await t.test('the folder of a cluster is not served without it', async (t) => {
  const cluster = await startCluster(t);
  const { child } = await cluster.daemon('disk1');
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await ended;
  const dir = ['--dir', join(cluster.folder, 'disk1'), '--listen-address', ANY_PORT];
  const alone = await runStore(cluster.folder, ['file-store', ...dir]);
  t.equal(alone.code, 2);
  t.match(alone.stderr, /The folder is a part of cluster [0-9a-f]{32}.*add --master HOST:PORT/);
  const ticketless = await cluster.daemon('disk2');
  await cluster.store('pool', 'create', 'vms');
  const direct = await runStore(cluster.folder, [
    ...['ls', '--pool', 'vms', '--storage-daemon', ticketless.line],
  ]);
  failed(t, direct, 1, /give --master and --client-key instead of --storage-daemon/);
});

await t.test('the folder of another cluster is refused, and that is said once', async (t) => {
  const [cluster, other] = await Promise.all([startCluster(t), startCluster(t)]);
  const { child } = await cluster.daemon('disk1');
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await ended;
  const strange = await serving(t, 'store', [
    ...['file-store', '--dir', join(cluster.folder, 'disk1'), '--listen-address', ANY_PORT],
    ...['--master', other.peerAddress],
  ]);
  const refusals = (): number =>
    strange.stderr().split('The master refuses this daemon').length - 1;
  await until(() => refusals() > 0, 'a refusal');
  await new Promise((resolve) => setTimeout(resolve, 5000)); // it asks again every two seconds
  t.equal(refusals(), 1);
  t.match(
    strange.stderr(),
    /The folder of this daemon belongs to cluster \w+, and this master to \w+: give the daemon the right --master or another folder/,
  );
});
