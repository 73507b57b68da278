/** `store status`: the state of a cluster on one screen. */
import { StoreError, switchSetting, type ClusterStatus, type MasterGuide } from '@store/core';
import type { Command } from 'commander';
import { handles, type Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { unlessStopped } from '../until-stopped.js';
import { UsageError } from '../usage-error.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { paintFor } from './paint.js';
import { statusText } from './print-status.js';
import { printable } from './printable.js';
import { counted } from './quantities.js';
import { Screen } from './screen.js';

const REDRAW_MS = 2000;

const watchSetting = switchSetting('watch');
const checkSetting = switchSetting('check');

/** Adds the command to `program`. */
export function addStatusCommand(program: Command): void {
  const command = program
    .command('status')
    .description('the state of a cluster: its health, what is wrong and what helps, who holds what')
    .option('--watch', 'show it again every two seconds, until Ctrl-C')
    .option('--check', 'exit with 1 unless the health is ok')
    .addHelpText(
      'after',
      `
Colours are for terminals; the variable NO_COLOR turns them off.

Example:
  store status --master 127.0.0.1:4010
  store status --check --json --master 127.0.0.1:4010`,
    );
  addAdminFlags(command);
  handles(command, async (context) => {
    const [watches, checks] = [context.get(watchSetting), context.get(checkSetting)];
    if (watches && checks)
      throw new UsageError('--watch goes on until Ctrl-C, and --check once; give one of them');
    await withMaster(context, async (guide) => {
      if (watches) await watch(context, guide);
      else await once(context, guide, checks);
    });
  });
}

async function once(context: Context, guide: MasterGuide, checks: boolean): Promise<void> {
  const status = await statusFrom(guide);
  const paint = paintFor(process.stdout, process.env);
  answer(context, status, () => statusText(status, paint));
  if (checks && status.health !== 'ok')
    throw new StoreError(
      'E_SYSTEM',
      `The health of the cluster is '${status.health}': ${counted(status.problems.length, 'problem')}`,
    );
}

/** A master that does not answer for a while is a thing to show, too. As JSON each status is a line. */
async function watch(context: Context, guide: MasterGuide): Promise<void> {
  const { stop } = context;
  const screen = new Screen(process.stdout);
  const paint = paintFor(process.stdout, process.env);
  while (!stop.aborted) {
    try {
      const status = await unlessStopped(statusFrom(guide), stop);
      if (status === null) return;
      if (context.get(SETTINGS.json)) context.print(JSON.stringify(status));
      else screen.show(statusText(status, paint));
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === 'E_DENIED') throw error;
      if (context.get(SETTINGS.json)) context.log.warn({ code: error.code }, error.message);
      else screen.show(paint('red', `No answer, still trying: ${printable(error.message)}`));
    }
    await unlessStopped(context.env.timers.sleep(REDRAW_MS), stop);
  }
}

function statusFrom(guide: MasterGuide): Promise<ClusterStatus> {
  return look(guide, 'status');
}
