/**
 * How a change of the cluster goes: the master says what it would move, whoever asked agrees, it is made. Several are
 * all looked at before the first one is made, so that a mistake in one changes nothing.
 */
import {
  messageOf,
  StoreError,
  switchSetting,
  type ChangePlan,
  type JsonFields,
  type MasterGuide,
} from '@store/core';
import type { Command } from 'commander';
import type { Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { addAdminFlags, answer, withMaster } from './ask-master.js';
import { needConsent, needTerminal, type Consent } from './ask-person.js';
import { doneText, planText } from './print-plan.js';

const dryRunSetting = switchSetting('dry-run');
export const yesSetting: ReturnType<typeof switchSetting> = switchSetting('yes');

/** A command of the administration that takes `dryRun` and answers with a plan. */
export interface Change {
  readonly command: string;
  readonly args: JsonFields;
}

export interface ChangeOptions {
  /** Only says what would be. */
  readonly plans: boolean;
  /** Null: it does no harm, and nobody is asked. */
  readonly consent: Consent | null;
}

/** @param asks - Whether somebody has to agree. */
export function addChangeFlags(
  command: Command,
  { plans, asks }: { plans: boolean; asks: boolean },
): Command {
  addAdminFlags(command);
  if (plans) return command;
  command.option('--dry-run', 'say what it would do, and do nothing');
  return asks ? command.option('--yes', 'do not ask') : command;
}

export async function makeChanges(
  context: Context,
  changes: readonly Change[],
  { plans, consent }: ChangeOptions,
): Promise<void> {
  const dryRun = plans || context.get(dryRunSetting);
  const asks = !dryRun && consent !== null && !context.get(yesSetting);
  if (asks) needTerminal();
  await withMaster(context, async (guide) => {
    if (dryRun || asks || changes.length > 1) {
      const planned = await plansOf(guide, changes);
      if (dryRun) {
        printPlans(context, planned);
        return;
      }
      if (asks) {
        process.stderr.write(`${planned.map(planText).join('\n')}\n`);
        await needConsent(consent, context.stop);
      }
    }
    await makeAll(context, guide, changes);
  });
}

async function plansOf(guide: MasterGuide, changes: readonly Change[]): Promise<ChangePlan[]> {
  const planned: ChangePlan[] = [];
  for (const change of changes) planned.push(await run(guide, change, true));
  return planned;
}

/** As JSON each plan is a line of its own. */
function printPlans(context: Context, planned: readonly ChangePlan[]): void {
  for (const plan of planned) answer(context, plan, planText);
  if (planned.length > 1 && !context.get(SETTINGS.json))
    context.print('Each of these plans is for its change alone.');
}

async function makeAll(
  context: Context,
  guide: MasterGuide,
  changes: readonly Change[],
): Promise<void> {
  for (const [made, change] of changes.entries())
    try {
      answer(context, await run(guide, change, false), doneText);
    } catch (error) {
      if (!(error instanceof StoreError) || made === 0) throw error;
      throw new StoreError(
        error.code,
        `${messageOf(error)} (of the ${changes.length} changes the first ${made} were made)`,
        { cause: error },
      );
    }
}

async function run(guide: MasterGuide, change: Change, dryRun: boolean): Promise<ChangePlan> {
  const { command, args } = change;
  // All of them answer with a plan.
  return (await guide.administer(command, { ...args, dryRun }, !dryRun)) as ChangePlan;
}
