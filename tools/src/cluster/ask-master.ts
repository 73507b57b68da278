/** What the commands that administer a cluster have in common: how they reach its masters, and how they answer. */
import type { JsonFields, MasterGuide } from '@store/core';
import type { Command } from 'commander';
import type { Context } from '../program.js';
import { addMasterFlags } from '../reaching/daemon-settings.js';
import { openGuide } from '../reaching/open-cluster.js';
import { SETTINGS } from '../settings.js';

const TIMEOUT_SECONDS = 10;

export function addAdminFlags(command: Command): Command {
  return addMasterFlags(command)
    .option(
      '--daemon-timeout <seconds>',
      `give up when no master has answered for so long (default: ${TIMEOUT_SECONDS})`,
    )
    .option('--insecure', 'allow a master on another machine without TLS: all goes in the clear');
}

/** @throws StoreError if no master lets us in; what `work` throws */
export async function withMaster<T>(
  context: Context,
  work: (guide: MasterGuide) => Promise<T>,
): Promise<T> {
  const guide = await openGuide(context, TIMEOUT_SECONDS);
  try {
    return await work(guide);
  } finally {
    await guide.close();
  }
}

/**
 * Asks for something that changes nothing.
 * @typeParam T - What this command of `AdminService` answers: masters and these commands are of one release.
 */
export async function look<T>(
  guide: MasterGuide,
  command: string,
  args: JsonFields = {},
): Promise<T> {
  return (await guide.administer(command, args, false)) as T;
}

/** Prints the result as JSON if that is wanted, else what `text` makes of it. */
export function answer<T>(context: Context, result: T, text: (result: T) => string): void {
  context.print(context.get(SETTINGS.json) ? JSON.stringify(result) : text(result));
}
