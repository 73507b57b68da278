/** The commands with which people look after a cluster. */
import type { Command } from 'commander';
import { addClientCommands } from './client-commands.js';
import { addDaemonCommands } from './daemon-commands.js';
import { addGroupCommands } from './group-commands.js';
import { addMapCommands } from './map-commands.js';
import { addPlanCommands } from './plan-commands.js';
import { addPoolCommands } from './pool-commands.js';
import { addRecoveryCommand } from './recovery-command.js';
import { addRepairCommand } from './repair-command.js';
import { addScrubCommands } from './scrub-commands.js';
import { addStatusCommand } from './status-command.js';

/** Adds the commands to `program`. */
export function addClusterCommands(program: Command): void {
  addStatusCommand(program);
  addDaemonCommands(program);
  addPoolCommands(program);
  addGroupCommands(program);
  addScrubCommands(program);
  addRepairCommand(program);
  addRecoveryCommand(program);
  addMapCommands(program);
  addPlanCommands(program);
  addClientCommands(program);
}
