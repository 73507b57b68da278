/** fio with its NBD engine (libnbd): one thread and one connection for each job. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '@store/core';
import { SATURATED, type ClientReport } from './clients.js';
import type { Programs } from './programs.js';
import type { FioWork, Row } from './rows.js';
import type { RunningServer } from './running-server.js';

export interface FioOptions {
  readonly folder: string;
  readonly imageBytes: number;
  readonly seconds: number;
}

/** What fio reports of one direction; what is used of it. */
interface Direction {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  readonly io_bytes: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

interface Job {
  readonly error: number;
  readonly read: Direction;
  readonly write: Direction;
  readonly sync: { readonly lat_ns: { readonly percentile?: Readonly<Record<string, number>> } };
  readonly usr_cpu: number;
  readonly sys_cpu: number;
  readonly job_runtime: number;
}

/** nbd-server's queue of new connections holds about as many. */
const CONNECTIONS_AT_ONCE = 8;
/** More connections begin spread over this time. */
const SPREAD_MS = 300;
const ATTEMPTS_MAX = 8;
const EXTRA_MS = 60_000;

/** Does the work of a row once. @throws Error if fio fails, or was not answered */
export async function runFio(
  programs: Programs,
  server: RunningServer,
  row: Row,
  work: FioWork,
  options: FioOptions,
): Promise<ClientReport> {
  const report = join(options.folder, 'fio.json');
  const args = [
    ...['--name=bench', '--ioengine=nbd', `--uri=${server.uri}`, `--size=${options.imageBytes}`],
    ...[`--rw=${work.rw}`, `--bs=${work.block}`, `--iodepth=${work.depth}`, '--thread'],
    ...[
      `--numjobs=${work.connections}`,
      '--group_reporting',
      `--runtime=${options.seconds * 1000}ms`,
    ],
    ...['--output-format=json', `--output=${report}`],
    ...(work.rw === 'randrw' ? ['--rwmixread=70'] : []),
    ...(work.fsyncEvery === undefined ? [] : [`--fsync=${work.fsyncEvery}`]),
    ...(work.connections > CONNECTIONS_AT_ONCE ? [`--startdelay=0-${SPREAD_MS}ms`] : []),
    // Cold: no block twice. Else: for the whole time, and without a map of what was done.
    ...(row.cold ? [] : ['--time_based', '--norandommap']),
  ];
  await fioAgain(programs, server, args, options);
  const text = readFileSync(report, 'utf8');
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as { jobs: Job[] }; // what fio documents
  const [job] = jobs;
  if (job === undefined || job.error !== 0) throw new Error(`fio failed: ${text.slice(0, 600)}`);
  return reportOf(job, row, work);
}

/** Writes some pieces all over an image of 1 TiB, the same for every server. */
export async function scatter(
  programs: Programs,
  server: RunningServer,
  options: FioOptions,
): Promise<void> {
  const job = ['--rw=randwrite', '--bs=64k', '--iodepth=16', '--number_ios=1024', '--norandommap'];
  await fio(
    programs,
    server,
    [
      ...['--name=scatter', '--ioengine=nbd', `--uri=${server.uri}`],
      ...[`--size=${options.imageBytes}`, ...job, '--end_fsync=1', '--randseed=7'],
      `--output=${join(options.folder, 'scatter.txt')}`,
    ],
    options,
  );
}

/**
 * Reads and writes small blocks for a while. Servers run for months; what is compared is not how long a runtime takes to
 * compile what it runs often, and caches to fill, which a few seconds of a measurement would be made of.
 */
export async function warmUp(
  programs: Programs,
  server: RunningServer,
  options: FioOptions,
): Promise<void> {
  const job = ['--rw=randrw', '--bs=4k', '--iodepth=32', '--norandommap', '--time_based'];
  await fio(
    programs,
    server,
    [
      ...['--name=warm-up', '--ioengine=nbd', `--uri=${server.uri}`, '--thread'],
      ...[`--size=${options.imageBytes}`, ...job, `--runtime=${options.seconds}s`],
      `--output=${join(options.folder, 'warm-up.txt')}`,
    ],
    options,
  );
}

/**
 * A client of a Unix socket is told at once that the queue of new connections is full, and libnbd gives up. That is
 * not what is measured, so fio begins again.
 */
async function fioAgain(
  programs: Programs,
  server: RunningServer,
  args: readonly string[],
  options: FioOptions,
): Promise<void> {
  for (let attempt = 1; ; attempt++)
    try {
      await fio(programs, server, args, options);
      return;
    } catch (error) {
      const isFull = messageOf(error).includes('server backlog overflowed');
      if (!isFull || attempt === ATTEMPTS_MAX) throw error;
    }
}

async function fio(
  programs: Programs,
  { client }: RunningServer,
  args: readonly string[],
  { folder, seconds }: FioOptions,
): Promise<void> {
  const [command = '', ...rest] = [...client.wrapper, 'fio', ...args];
  const limitMs = seconds * 1000 + EXTRA_MS;
  await programs.run(command, rest, { env: client.env, cwd: folder, limitMs });
}

function reportOf(job: Job, row: Row, work: FioWork): ClientReport {
  const directions = [job.read, job.write].filter(({ total_ios }) => total_ios > 0);
  const sum = (of: (one: Direction) => number): number =>
    directions.reduce((total, one) => total + of(one), 0);
  const requests = sum((one) => one.total_ios);
  if (requests === 0) throw new Error('fio was not answered a single request');
  // Of a mix the slower direction; with fsync, the fsync.
  const latencies =
    work.fsyncEvery === undefined ? directions.map((one) => one.clat_ns) : [job.sync.lat_ns];
  const percentile = (name: string): number =>
    Math.max(...latencies.map((one) => one.percentile?.[name] ?? NaN)) / 1000;
  // A group's share is the mean of its threads'.
  const clientCores = ((job.usr_cpu + job.sys_cpu) / 100) * work.connections;
  return {
    value: row.unit === 'IOPS' ? sum((one) => one.iops) : sum((one) => one.bw_bytes) / 1e6,
    requests,
    bytes: sum((one) => one.io_bytes),
    seconds: job.job_runtime / 1000 / work.connections,
    latencyUs: { p50: percentile('50.000000'), p99: percentile('99.000000') },
    clientCores,
    clientSaturated: clientCores >= SATURATED * Math.min(work.connections, availableParallelism()),
  };
}
