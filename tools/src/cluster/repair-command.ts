/** `store repair`: a deep scrub that is waited for, and what it found. */
import { StoreError, type MasterGuide, type ScrubReport } from '@store/core';
import type { Command } from 'commander';
import { handles, type Context } from '../program.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { findingLines, troubles } from './print-scrubs.js';
import { bar, counted, percentOf } from './quantities.js';
import { RepairTally, type Repaired } from './repair-tally.js';
import { poolOnly } from './scrub-commands.js';

const LOOK_MS = 1000;
const BAR_WIDTH = 30;

/** Adds the command to `program`. */
export function addRepairCommand(program: Command): void {
  const repair = program
    .command('repair')
    .description('read every byte of every copy, mend what is damaged, and say what it was')
    .addHelpText(
      'after',
      `
The same as store scrub start --deep, waited for. It exits with 1 if something could not be mended, or not be looked
through. Ctrl-C ends the waiting; the daemons go on. With --pool only the groups of that pool.

Example:
  store repair --pool vms --master 127.0.0.1:4010`,
    );
  addAdminFlags(repair);
  handles(repair, async (context) => {
    await withMaster(context, async (guide) => {
      const repaired = await run(context, guide, poolOnly(repair));
      answer(context, repaired, text);
      failIfLeft(repaired);
    });
  });
}

async function run(
  context: Context,
  guide: MasterGuide,
  pool: { readonly pool?: string },
): Promise<Repaired> {
  const tally = new RepairTally(await look<ScrubReport>(guide, 'scrub status'));
  const begun = (await guide.administer('scrub start', { ...pool, deep: true })) as ScrubReport;
  tally.begun(begun);
  const progress = new ProgressLine(process.stderr);
  while (!tally.isOver && !context.stop.aborted) {
    progress.show(tally.done, tally.groups, tally.found);
    await sleepUntil(context, LOOK_MS);
    tally.look(await look<ScrubReport>(guide, 'scrub status'));
  }
  progress.end();
  if (!tally.isOver)
    throw new StoreError(
      'E_CLOSED',
      'Nobody waits any more; the daemons go on, and what they find says: store scrub status',
    );
  return tally.result();
}

function text(repaired: Repaired): string {
  const { groups, looked, objects, found, mended, findings, report } = repaired;
  const first = `${looked} of ${counted(groups, 'group')} were looked through, ${counted(objects, 'copy', 'copies')} of objects: ${found === 0 ? 'all is well' : `${found} found, ${mended} mended`}`;
  const untold = found - findings.length;
  const more =
    untold > 0 ? [`${untold} more are in the logs of the daemons: "A scrub has found"`] : [];
  return [first, ...findingLines(findings, report), ...more, ...troubles(report)].join('\n');
}

function failIfLeft({ groups, looked, found, mended, report }: Repaired): void {
  if (found > mended)
    throw new StoreError(
      'E_CHECKSUM',
      `${found - mended} could not be mended: no good copy runs. Start the daemons that are down, and try again`,
    );
  if (looked < groups || report.groupsOutOfReach > 0)
    throw new StoreError(
      'E_UNREACHABLE',
      `Not all groups were looked through (${looked} of ${groups + report.groupsOutOfReach}): their daemons went, or lead them no more. See store status, and try again`,
    );
}

function sleepUntil({ env, stop }: Context, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      timer.cancel();
      stop.removeEventListener('abort', over);
      resolve();
    };
    const timer = env.timers.after(ms, over);
    stop.addEventListener('abort', over, { once: true });
  });
}

/** One line that is written again and again; nothing where nobody looks. */
class ProgressLine {
  readonly #terminal: NodeJS.WriteStream;
  #isShown = false;

  constructor(terminal: NodeJS.WriteStream) {
    this.#terminal = terminal;
  }

  show(done: number, all: number, found: number): void {
    if (!this.#terminal.isTTY) return;
    this.#isShown = true;
    const what = `${percentOf(done, all)} % of ${counted(all, 'group')}, ${found} found`;
    this.#terminal.write(`\r${bar(done, all, BAR_WIDTH)} ${what}\x1b[K`);
  }

  end(): void {
    if (this.#isShown) this.#terminal.write('\r\x1b[K');
  }
}
