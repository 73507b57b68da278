/** `store recovery`: how fast lost copies are made again. */
import { formatSize, parseSize, StoreError, type RateReport } from '@store/core';
import type { Command } from 'commander';
import { asUsage, handles } from '../program.js';
import { UsageError } from '../usage-error.js';
import { addAdminFlags, answer, withMaster } from './ask-master.js';
import { printable } from './printable.js';
import { counted } from './quantities.js';

const AUTO = 'auto';
/** Below that copies would never be finished. */
const RATE_MIN: number = 64 * 1024;

/** Adds the command to `program`. */
export function addRecoveryCommand(program: Command): void {
  const recovery = program
    .command('recovery')
    .description('how fast lost and moved copies are made again');
  const set = recovery
    .command('set')
    .description('say how much each daemon may send in a second to make copies equal')
    .requiredOption('--rate <size>', 'in a second: 100M; or auto, by what clients feel')
    .addHelpText(
      'after',
      `
With auto, which is the default, copies are made below what clients do: at most so fast that their requests take twice
as long. A rate holds until another one is set; store status shows it.

Example:
  store recovery set --rate 100M --master 127.0.0.1:4010
  store recovery set --rate auto --master 127.0.0.1:4010`,
    );
  addAdminFlags(set);
  handles(set, async (context) => {
    const { rate } = set.opts<{ rate: string }>();
    const bytesPerSecond = rate === AUTO ? 0 : parseRate(rate);
    const report = await withMaster(
      context,
      async (guide) => (await guide.administer('recovery set', { bytesPerSecond })) as RateReport,
    );
    answer(context, report, (told) => text(told, bytesPerSecond));
    const silent = report.daemons.filter(({ problem }) => problem !== null).length;
    if (silent > 0)
      throw new StoreError(
        'E_UNREACHABLE',
        `${counted(silent, 'daemon')} did not answer and may go on as before until they register again: try again`,
      );
  });
}

function parseRate(text: string): number {
  const bytes = asUsage(() => parseSize(text));
  if (bytes >= RATE_MIN) return bytes;
  throw new UsageError(
    `A rate is at least ${formatSize(RATE_MIN)} in a second, not '${text}'; auto gives way to clients by itself`,
  );
}

function text({ daemons }: RateReport, bytesPerSecond: number): string {
  const told = daemons.filter(({ problem }) => problem === null).length;
  const how = bytesPerSecond === 0 ? 'by what clients feel' : `at ${formatSize(bytesPerSecond)}/s`;
  const silent = daemons.flatMap(({ daemon, address, problem }) =>
    problem === null ? [] : [`Daemon ${daemon} (${address}) did not answer: ${printable(problem)}`],
  );
  const first =
    told === 0
      ? `No daemon is connected; those that come will make copies equal ${how}`
      : `${counted(told, 'daemon')} will make copies equal ${how}, and those that come as well`;
  return [first, ...silent].join('\n');
}
