/**
 * `make bench-recovery`: what it costs clients that a copy is lost, and how long it takes until it is there again. Three
 * daemons with a copy each, and the gateway, all on this machine.
 *
 * 1. A folder is lost and an empty daemon takes its place: how fast everything is copied, and what clients feel of it.
 * 2. A daemon is away for 10 s while some of the image changes: how much more than that is sent to it.
 * 3. A daemon is killed: the longest time that a client gets no answer.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf, parseSize } from '@store/core';
import { sleep, waitUntil } from '../host/wait-until.js';
import { ProcessCluster, TEST_POOL } from '../server/process-cluster.js';
import { StorageDaemon } from '../server/storage-daemon.js';
import { StoreServer } from '../server/store-server.js';
import { describeMachine, machineFacts } from './machine.js';
import { table } from './markdown-table.js';
import { Programs } from './programs.js';

const USAGE = `Usage: make bench-recovery ARGS='[options]'
  --size SIZE      of the image, which is filled (default: 1G)
  --changed SIZE   what is written while a daemon is away (default: 16M)
  --seconds N      length of a measurement of clients (default: 10)`;

const AWAY_MS = 10_000;
const BACK_MS = 600_000;
const METRICS_MS = 10_000;
const FIO_EXTRA_MS = 120_000;
/** Clients may wait so many times as long while copies are made. */
const SLOWER_GOAL = 3;
/** Before the kill, and after it, clients are at work for so long. */
const AROUND_KILL_SECONDS = 12;

interface Given {
  readonly bytes: number;
  readonly changedBytes: number;
  readonly seconds: number;
}

/** What fio says of one direction, as far as it is used. */
interface Direction {
  readonly iops: number;
  readonly total_ios: number;
  readonly clat_ns: {
    readonly max: number;
    readonly percentile?: Readonly<Record<string, number>>;
  };
}

interface Felt {
  readonly iops: number;
  readonly p99Ms: number;
  readonly longestMs: number;
}

const programs = new Programs();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => programs.interrupt(signal));
try {
  if (process.argv.includes('--help')) console.log(USAGE);
  else await bench(given(process.argv.slice(2)));
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 1;
} finally {
  await programs.end();
}

function given(args: readonly string[]): Given {
  const { values } = parseArgs({
    args: [...args],
    options: {
      size: { type: 'string', default: '1G' },
      changed: { type: 'string', default: '16M' },
      seconds: { type: 'string', default: '10' },
    },
  });
  const seconds = Number(values.seconds);
  if (!(seconds > 0)) throw new Error(USAGE);
  return { bytes: parseSize(values.size), changedBytes: parseSize(values.changed), seconds };
}

async function bench({ bytes, changedBytes, seconds }: Given): Promise<void> {
  const owner = { teardown: (undo: () => unknown) => programs.atEnd(undo) };
  process.env['STORE_METRICS'] = '127.0.0.1:0'; // of every program that is started
  const cluster = await ProcessCluster.start(owner, 3);
  const { folder } = cluster;
  const machine = await machineFacts(folder);
  const socket = join(folder, 'socket');
  const { uri } = await StoreServer.start(owner, {
    ...{ image: 'filled', createBytes: bytes, socket },
    args: [...cluster.flags],
  });
  const fio = (name: string, job: readonly string[], limitSeconds: number): Promise<Felt> =>
    runFio(folder, name, [`--uri=${uri}`, `--size=${bytes}`, ...job], limitSeconds);
  const work = ['--rw=randrw', '--bs=4k', '--iodepth=4', '--norandommap', '--time_based'];
  const clients = (name: string, forSeconds: number): Promise<Felt> =>
    fio(name, [...work, `--runtime=${forSeconds}`], forSeconds);

  note(`filling ${mib(bytes)} MiB`);
  await fio('fill', ['--rw=write', '--bs=1M', '--iodepth=4', '--end_fsync=1'], 600);
  note('measuring clients while nothing is copied');
  const quiet = await clients('quiet', seconds);

  note('one folder is lost, an empty one takes its place');
  const [, away, lost] = cluster.daemons;
  if (away === undefined || lost === undefined) throw new Error('There are three daemons');
  const lostStatus = (await cluster.status()).daemons.find(
    ({ address }) => address === lost.address,
  );
  await lost.kill9();
  const dir = cluster.dataOf(3);
  rmSync(dir, { recursive: true, force: true });
  const where = ['--master', cluster.master.peer, '--host', 'host4', '--rack', 'rack1'];
  const empty = await StorageDaemon.start(owner, { dir, args: where });
  cluster.daemons.push(empty);
  const pushedBefore = await pushedBytes(cluster);
  await cluster.store('daemon', 'out', `${lostStatus?.id ?? 0}`, '--yes');
  const fillStart = performance.now();
  const filled = whenEqual(cluster).then(() => performance.now() - fillStart);
  const busy = await clients('busy', seconds);
  const stillCopying = (await missingCopies(cluster)) > 0;
  const fillMs = await filled;
  const copied = (await pushedBytes(cluster)) - pushedBefore;

  note(`${mib(changedBytes)} MiB are changed while a daemon is away`);
  const awaySince = performance.now();
  await away.stop();
  const changes = ['--rw=randwrite', '--bs=64k', '--iodepth=4', `--io_size=${changedBytes}`];
  await fio('changes', [...changes, '--end_fsync=1'], 120);
  await sleep(Math.max(0, AWAY_MS - (performance.now() - awaySince)));
  const caughtUpFrom = await pushedBytes(cluster);
  const backSince = performance.now();
  await away.startAgain();
  await whenEqual(cluster);
  const backMs = performance.now() - backSince;
  const caughtUp = (await pushedBytes(cluster)) - caughtUpFrom;

  note('a daemon is killed while clients are at work');
  const killed = clients('killed', 2 * AROUND_KILL_SECONDS);
  await sleep(AROUND_KILL_SECONDS * 1000);
  await empty.kill9();
  const pause = await killed;

  const slower = busy.p99Ms / quiet.p99Ms;
  const lines = [
    [
      'an empty daemon is filled',
      `${(copied / 1e3 / fillMs).toFixed(0)} MB/s`,
      `${mib(copied)} MiB in ${(fillMs / 1000).toFixed(1)} s`,
    ],
    ['clients before: p99', `${quiet.p99Ms.toFixed(1)} ms`, `${quiet.iops.toFixed(0)} IOPS`],
    [
      `clients meanwhile: p99`,
      `${busy.p99Ms.toFixed(1)} ms`,
      `${busy.iops.toFixed(0)} IOPS; ${slower.toFixed(1)} times, goal ${SLOWER_GOAL}: ${slower <= SLOWER_GOAL ? 'met' : 'not met'}${stillCopying ? '' : '; the copies were made before the end'}`,
    ],
    [
      `sent after ${AWAY_MS / 1000} s away`,
      `${mib(caughtUp)} MiB`,
      `for ${mib(changedBytes)} MiB of changes: ${(caughtUp / changedBytes).toFixed(2)} times; in sync after ${(backMs / 1000).toFixed(1)} s`,
    ],
    ['a daemon is killed: longest pause', `${(pause.longestMs / 1000).toFixed(2)} s`, ''],
  ];
  console.log(
    [
      `# Recovery of ${mib(bytes)} MiB in three copies, ${machine.date}`,
      '',
      `${describeMachine(machine)}. Commit ${machine.commit ?? 'unknown'}, load before the run ${machine.loadBefore}. Clients: 4 KiB random reads and writes at depth 4, ${seconds} s.`,
      '',
      ...table(['what', 'measured', ''], lines),
    ].join('\n'),
  );
}

async function runFio(
  folder: string,
  name: string,
  job: readonly string[],
  limitSeconds: number,
): Promise<Felt> {
  const report = join(folder, `fio-${name}.json`);
  const output = ['--output-format=json', `--output=${report}`];
  const args = [`--name=${name}`, '--ioengine=nbd', '--thread', ...job, ...output];
  await programs.run('fio', args, { cwd: folder, limitMs: limitSeconds * 1000 + FIO_EXTRA_MS });
  const text = readFileSync(report, 'utf8');
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
    jobs: { error: number; read: Direction; write: Direction }[];
  }; // what fio documents
  const [found] = jobs;
  if (found === undefined || found.error !== 0)
    throw new Error(`fio failed: ${text.slice(0, 600)}`);
  const directions = [found.read, found.write].filter(({ total_ios }) => total_ios > 0);
  const worst = (of: (one: Direction) => number): number => Math.max(...directions.map(of)) / 1e6;
  return {
    iops: directions.reduce((sum, { iops }) => sum + iops, 0),
    p99Ms: worst(({ clat_ns }) => clat_ns.percentile?.['99.000000'] ?? NaN),
    longestMs: worst(({ clat_ns }) => clat_ns.max),
  };
}

/** Resolves when every copy that is wanted is there. */
async function whenEqual(cluster: ProcessCluster): Promise<void> {
  await waitUntil('all copies to be equal', BACK_MS, async () => {
    programs.check();
    if ((await missingCopies(cluster)) === 0) return true;
    await sleep(200);
    return false;
  });
}

async function missingCopies(cluster: ProcessCluster): Promise<number> {
  const { pools } = await cluster.status();
  const pool = pools.find(({ name }) => name === TEST_POOL);
  if (pool === undefined) throw new Error('The pool is gone');
  return pool.copiesMissing;
}

/** That all daemons together have sent to make copies equal; one that is not there counts nothing. */
async function pushedBytes(cluster: ProcessCluster): Promise<number> {
  const counts = await Promise.all(
    cluster.daemons.filter(({ running }) => running).map((daemon) => pushedBy(daemon)),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

async function pushedBy({ log }: StorageDaemon): Promise<number> {
  const url = [...log.matchAll(/http:\/\/\S+?\/metrics/g)].at(-1)?.[0];
  if (url === undefined) throw new Error('A daemon does not say where its metrics are');
  const text = await (await fetch(url, { signal: AbortSignal.timeout(METRICS_MS) })).text();
  const count = /^store_replication_pushed_bytes_total (\S+)$/m.exec(text)?.[1];
  if (count === undefined) throw new Error(`${url} does not tell what was sent`);
  return Number(count);
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(1);
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}
