/**
 * A first look at the speed: fio over a Unix socket on a 1 GiB image, ours beside `nbdkit file` on the same disk.
 * The two take turns (A B A B) in every round, because only interleaved runs compare; medians are printed.
 *
 * `--json` prints JSON, `--seconds N` sets the length of each measurement (4).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run } from '../host/command.js';
import { waitUntil } from '../host/wait-until.js';
import { StoreServer } from '../server/store-server.js';

interface Row {
  readonly title: string;
  readonly unit: 'IOPS' | 'MB/s';
  readonly job: readonly string[];
}

/** What was measured in each round. */
interface Result {
  readonly row: Row;
  readonly ours: number[];
  readonly theirs: number[];
}

const ROUNDS = 3;
const GIB = 1024 ** 3;
const ROWS: readonly Row[] = [
  { title: 'randread 4k QD1', unit: 'IOPS', job: ['--rw=randread', '--bs=4k', '--iodepth=1'] },
  { title: 'randread 4k QD32', unit: 'IOPS', job: ['--rw=randread', '--bs=4k', '--iodepth=32'] },
  { title: 'randwrite 4k QD1', unit: 'IOPS', job: ['--rw=randwrite', '--bs=4k', '--iodepth=1'] },
  { title: 'randwrite 4k QD32', unit: 'IOPS', job: ['--rw=randwrite', '--bs=4k', '--iodepth=32'] },
  { title: 'read 1M QD4', unit: 'MB/s', job: ['--rw=read', '--bs=1M', '--iodepth=4'] },
  { title: 'write 1M QD4', unit: 'MB/s', job: ['--rw=write', '--bs=1M', '--iodepth=4'] },
];

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, seconds: { type: 'string', default: '4' } },
});
await main(Number(values.seconds), values.json);

async function main(seconds: number, json: boolean): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const undo: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  try {
    const teardown = (step: () => unknown): number => undo.push(step);
    const options = { dir: join(folder, 'data'), image: 'bench', createBytes: GIB };
    const socket = join(folder, 'ours.sock');
    const ours = await StoreServer.start({ teardown }, { ...options, socket });
    const theirs = await startNbdkit(folder, teardown);
    const results = await measure(folder, ours.uri, theirs, seconds, json);
    if (json) console.log(JSON.stringify(results.map(summary), null, 2));
    else printTable(results);
    await ours.stop();
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

async function startNbdkit(
  folder: string,
  teardown: (step: () => unknown) => unknown,
): Promise<string> {
  const file = join(folder, 'theirs.raw');
  const socket = join(folder, 'theirs.sock');
  await run('truncate', ['-s', `${GIB}`, file]);
  const child = spawn('nbdkit', ['-f', '-U', socket, 'file', file], { stdio: 'ignore' });
  teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  await waitUntil('nbdkit to listen', 10_000, () => existsSync(socket));
  return `nbd+unix:///?socket=${socket}`;
}

async function measure(
  folder: string,
  ours: string,
  theirs: string,
  seconds: number,
  quiet: boolean,
): Promise<Result[]> {
  for (const uri of [ours, theirs]) await fill(folder, uri);
  const results = ROWS.map((row) => ({ row, ours: [] as number[], theirs: [] as number[] }));
  for (let round = 1; round <= ROUNDS; round++) {
    for (const result of results) {
      if (!quiet) process.stderr.write(`round ${round} of ${ROUNDS}: ${result.row.title}\n`);
      result.ours.push(await fio(folder, ours, result.row, seconds));
      result.theirs.push(await fio(folder, theirs, result.row, seconds));
    }
  }
  return results;
}

/** Writes the whole image once, so that reads find data. */
async function fill(folder: string, uri: string): Promise<void> {
  const job = ['--rw=write', '--bs=1M', '--iodepth=4', `--size=${GIB}`, '--end_fsync=1'];
  await run('fio', ['--name=fill', '--ioengine=nbd', `--uri=${uri}`, ...job], {
    limitMs: 120_000,
    cwd: folder,
  });
}

async function fio(folder: string, uri: string, row: Row, seconds: number): Promise<number> {
  const report = join(folder, 'report.json');
  await run(
    'fio',
    [
      ...['--name=bench', '--ioengine=nbd', `--uri=${uri}`, `--size=${GIB}`, '--time_based'],
      ...[`--runtime=${seconds}`, '--output-format=json', `--output=${report}`, ...row.job],
    ],
    { limitMs: (seconds + 60) * 1000, cwd: folder },
  );
  const text = readFileSync(report, 'utf8');
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
    jobs: Record<'read' | 'write', { iops: number; bw_bytes: number }>[];
  }; // what fio documents
  const { read, write } = jobs[0] ?? { read: null, write: null };
  const busy = read !== null && read.iops > 0 ? read : write;
  if (busy === null) throw new Error('fio reported no job');
  return row.unit === 'IOPS' ? busy.iops : busy.bw_bytes / 1e6;
}

function summary({ row, ours, theirs }: Result): Record<string, string | number> {
  const [a, b] = [median(ours), median(theirs)];
  const ratio = Number((a / b).toFixed(2));
  return { work: row.title, unit: row.unit, store: Math.round(a), nbdkit: Math.round(b), ratio };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
}

function printTable(results: readonly Result[]): void {
  const line = (...cells: readonly unknown[]): string =>
    `| ${String(cells[0]).padEnd(18)} | ${cells
      .slice(1)
      .map((cell) => String(cell).padStart(8))
      .join(' | ')} |`;
  console.log(line('work', 'store', 'nbdkit', 'ratio', 'unit'));
  console.log(`| ${'-'.repeat(18)} |${' -------- |'.repeat(4)}`);
  for (const result of results) {
    const { work, store, nbdkit, ratio, unit } = summary(result);
    console.log(line(work, store, nbdkit, ratio, unit));
  }
}
