/** `store plan`: what a change of the cluster would move, without making it. */
import type { ChangePlan } from '@store/core';
import type { Command } from 'commander';
import { handles } from '../program.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { addDaemonChanges } from './daemon-commands.js';
import { addPoolChanges } from './pool-commands.js';
import { planText } from './print-plan.js';

/** Adds the commands to `program`. */
export function addPlanCommands(program: Command): void {
  const plan = program
    .command('plan')
    .description('say what a change of the cluster would move, and change nothing');
  addRebalance(plan);
  addDaemonChanges(plan.command('daemon').description('plan a change of daemons'), true);
  addPoolChanges(plan.command('pool').description('plan a change of pools'), true);
}

function addRebalance(plan: Command): void {
  const rebalance = plan
    .command('rebalance')
    .description('what would move if everything were placed anew')
    .addHelpText('after', '\nExample:\n  store plan rebalance --master 127.0.0.1:4010');
  addAdminFlags(rebalance);
  handles(rebalance, async (context) => {
    const planned = await withMaster(context, (guide) => look<ChangePlan>(guide, 'plan rebalance'));
    answer(context, planned, planText);
  });
}
