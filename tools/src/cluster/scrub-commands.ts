/** `store scrub`: has copies compared and checked now, and says what was found. */
import { checkPoolName, switchSetting, type ScrubReport } from '@store/core';
import type { Command } from 'commander';
import { asUsage, handles } from '../program.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { begunText, scrubText } from './print-scrubs.js';

const deepSetting = switchSetting('deep');

/** Adds the commands to `program`. */
export function addScrubCommands(program: Command): void {
  const scrub = program
    .command('scrub')
    .description('have the copies of everything compared and checked, as happens by itself');
  addStart(scrub);
  addStatus(scrub);
}

function addStart(scrub: Command): void {
  const start = scrub
    .command('start')
    .description('have groups looked through now, beside the work of clients')
    .option(
      '--deep',
      'read every byte on every daemon; else only objects and versions are compared',
    )
    .addHelpText(
      'after',
      `
By itself each group is looked through once a day, and deeply once a week. What is found is mended from a good copy.
With --pool only the groups of that pool. A daemon that is started again forgets what it was to look through.

Example:
  store scrub start --pool vms --deep --master 127.0.0.1:4010`,
    );
  addAdminFlags(start);
  handles(start, async (context) => {
    const args = { ...poolOnly(start), deep: context.get(deepSetting) };
    const report = await withMaster(
      context,
      async (guide) => (await guide.administer('scrub start', args)) as ScrubReport,
    );
    answer(context, report, begunText);
  });
}

function addStatus(scrub: Command): void {
  const status = scrub
    .command('status')
    .description('say what is being looked through, and what was found since the daemons started')
    .addHelpText(
      'after',
      `
With --pool only what was found in that pool is listed. The numbers are of all pools.

Example:
  store scrub status --master 127.0.0.1:4010`,
    );
  addAdminFlags(status);
  handles(status, async (context) => {
    const report = await withMaster(context, (guide) =>
      look<ScrubReport>(guide, 'scrub status', poolOnly(status)),
    );
    answer(context, report, scrubText);
  });
}

/** The pool of the command line; none: all. What a variable or a file says of it was meant for other commands. */
export function poolOnly(command: Command): { readonly pool?: string } {
  const { pool } = command.optsWithGlobals<{ pool?: string }>();
  if (pool === undefined) return {};
  asUsage(() => checkPoolName(pool));
  return { pool };
}
