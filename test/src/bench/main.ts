/**
 * `make bench`: our NBD server beside others from Debian, with the same work on the same disk, interleaved.
 * Progress goes to standard error, tables (or JSON) to standard output, and all of it into files.
 */
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { messageOf } from '@store/core';
import { parseOptions, USAGE, type BenchOptions } from './bench-options.js';
import { IMAGE_BYTES, runBench } from './bench-run.js';
import { machineFacts } from './machine.js';
import { Programs } from './programs.js';
import { reportMarkdown } from './report-table.js';
import { reportOf } from './report.js';
import { reportSvg } from './report-svg.js';
import { CLUSTER } from './server-kinds.js';

const EXIT = { done: 0, failed: 1, usage: 2, interrupted: 130 } as const;

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  if (args.includes('--help')) {
    console.log(USAGE);
    return EXIT.done;
  }
  let options: BenchOptions;
  try {
    options = parseOptions(args);
  } catch (error) {
    console.error(`${messageOf(error)}\n${USAGE}`);
    return EXIT.usage;
  }
  const programs = new Programs();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => programs.interrupt(signal));
  let code: number;
  try {
    code = await bench(programs, options);
  } catch (error) {
    console.error(messageOf(error));
    code = programs.interrupted === null ? EXIT.failed : EXIT.interrupted;
  }
  try {
    await programs.end();
  } catch (error) {
    console.error(`Not everything could be taken down: ${messageOf(error)}`);
    return EXIT.failed;
  }
  return code;
}

async function bench(programs: Programs, options: BenchOptions): Promise<number> {
  const out = resolve(options.out);
  mkdirSync(out, { recursive: true }); // fails now rather than after the run
  const folder = makeFolder(programs, options);
  const machine = await machineFacts(folder);
  if (machine.loadBefore > machine.cores / 4)
    console.error(
      `Something else is running (load ${machine.loadBefore}): the figures will be worth little`,
    );
  const run = { ...options, folder };
  const report = await reportOf(machine, run, await runBench(programs, run));
  const json = `${JSON.stringify(report, null, 2)}\n`;
  const markdown = reportMarkdown(report);
  writeFileSync(join(out, 'bench.json'), json);
  writeFileSync(join(out, 'bench.md'), markdown);
  writeFileSync(join(out, 'bench.svg'), reportSvg(report));
  process.stdout.write(options.json ? json : markdown);
  process.stderr.write(`Written: ${out}/bench.{json,md,svg}\n`);
  const ours = options.kinds.filter(({ isOurs }) => isOurs);
  const failed = report.rows.some(({ cells }) =>
    ours.some(({ name }) => cells[name]?.reason?.startsWith('failed') === true),
  );
  return failed ? EXIT.failed : EXIT.done;
}

/** For the images; goes away with the run. @throws Error if the disk has no room */
function makeFolder(programs: Programs, { work, kinds }: BenchOptions): string {
  // An image for each server, the file they are filled from, and what servers keep beside their images.
  const copies = kinds.some(({ name }) => name === CLUSTER) ? 2 : 0;
  const needed = (kinds.length + copies + 2) * IMAGE_BYTES;
  const { bavail, bsize } = statfsSync(work);
  if (bavail * bsize < needed)
    throw new Error(
      `${work} has ${Math.floor((bavail * bsize) / 1e9)} GB free, ${Math.ceil(needed / 1e9)} GB are needed; name another disk with --work DIR`,
    );
  const folder = mkdtempSync(join(work, 'bench-'));
  programs.atEnd(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
