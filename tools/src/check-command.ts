/** `store check`: reads everything in a folder and compares it with its checksums. */
import { formatSize, StoreError } from '@store/core';
import { checkFolder, type CheckReport } from '@store/daemon';
import type { Command } from 'commander';
import { quote } from './attach-advice.js';
import { handles } from './program.js';
import { ProgressBar } from './progress-bar.js';
import { SETTINGS } from './settings.js';

/** Damaged places that are named one by one; the rest is counted. */
const DAMAGE_SHOWN_MAX = 50;

/** Adds the command to `program`. */
export function addCheckCommand(program: Command): void {
  const command = program
    .command('check')
    .description('compare all that is stored with its checksums; the way back after a disk failed')
    .option('--accept-damage', 'use the folder again all the same; what is damaged answers errors')
    .addHelpText('after', '\nExample:\n  store check --dir ./store-data');
  handles(command, async (context) => {
    const dir = context.get(SETTINGS.dir);
    const bar = new ProgressBar('Checking', context.env.clock);
    const report = await checkFolder(context.env, dir, {
      acceptDamage: command.opts()['acceptDamage'] === true,
      onProgress: (done, total) => {
        if (context.stop.aborted)
          throw new StoreError(
            'E_CLOSED',
            'Interrupted; what was checked so far says nothing about the rest',
          );
        bar.update(done, total);
      },
    }).finally(() => bar.finish());
    context.print(context.get(SETTINGS.json) ? JSON.stringify(report) : summary(report));
    if (report.isUsable && report.damage.length === 0) return;
    const count = report.damage.length === 1 ? '1 place is' : `${report.damage.length} places are`;
    if (report.isUsable)
      throw new StoreError('E_CHECKSUM', `${count} damaged; restore what is named above`);
    throw new StoreError(
      'E_CHECKSUM',
      report.damage.length === 0
        ? `The disk failed again; replace it and restore '${dir}'`
        : `${count} damaged; restore '${dir}', or use the rest with: store check --dir ${quote(dir)} --accept-damage`,
    );
  });
}

function summary(report: CheckReport): string {
  const lines = report.damage.slice(0, DAMAGE_SHOWN_MAX);
  const more = report.damage.length - lines.length;
  if (more > 0) lines.push(`and ${more} more`);
  const unverified =
    report.unverifiedBytes === 0
      ? ''
      : `, ${formatSize(report.unverifiedBytes)} written just before a crash could not be compared`;
  lines.push(
    `${report.objects} objects, ${formatSize(report.verifiedBytes)} compared${unverified}`,
  );
  if (report.hadFailed)
    lines.push(
      report.isUsable
        ? 'The folder was marked as failed and can be used again'
        : 'The folder stays marked as failed',
    );
  return lines.join('\n');
}
