/** `store pool`: the pools of a cluster. */
import {
  checkPoolName,
  choiceSetting,
  DURABILITIES,
  FAILURE_DOMAINS,
  numberSetting,
  type ClusterStatus,
  type JsonFields,
  type PoolStatus,
  type Setting,
} from '@store/core';
import type { Command } from 'commander';
import { asUsage, handles, type Context } from '../program.js';
import { UsageError } from '../usage-error.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { addChangeFlags, makeChanges } from './make-changes.js';
import { poolFacts, poolTable } from './print-pools.js';

const SETTABLE = {
  replicas: numberSetting('replicas', { min: 1, max: 16, fallback: 3 }),
  minReplicas: numberSetting('min-replicas', { min: 1, max: 16, fallback: 2 }),
  failureDomain: choiceSetting('failure-domain', FAILURE_DOMAINS, 'disk'),
  durability: choiceSetting('durability', DURABILITIES, 'flush'),
} as const;
const groupsSetting = numberSetting('groups', { min: 1, max: 65_536, fallback: 128 });

/** Adds the commands to `program`. */
export function addPoolCommands(program: Command): void {
  const pool = program.command('pool').description('the pools of a cluster');
  addList(pool);
  addInfo(pool);
  addPoolChanges(pool, false);
}

/** @param plans - They only say what the change would move. */
export function addPoolChanges(parent: Command, plans: boolean): void {
  addCreate(parent, plans);
  addSet(parent, plans);
  addRemove(parent, plans);
}

/**
 * The pool that a command is about. `--pool` is a flag of the whole program, and what a variable or a file says of it
 * was meant for other commands: here it counts on the command line alone.
 */
export function poolNamed(command: Command, positional: string | undefined): string {
  const { pool } = command.optsWithGlobals<{ pool?: string }>();
  if (positional !== undefined && pool !== undefined && positional !== pool)
    throw new UsageError(`Which pool, '${positional}' or '${pool}'? Name one`);
  const name = positional ?? pool;
  if (name === undefined) throw new UsageError('Say which pool: give its name');
  asUsage(() => checkPoolName(name));
  return name;
}

function addList(pool: Command): void {
  const ls = pool
    .command('ls')
    .description('list the pools')
    .addHelpText('after', '\nExample:\n  store pool ls --master 127.0.0.1:4010');
  addAdminFlags(ls);
  handles(ls, async (context) => {
    const { pools } = await withMaster(context, (guide) => look<ClusterStatus>(guide, 'status'));
    answer(context, pools, (list) =>
      list.length === 0
        ? 'There is no pool yet; make one: store pool create NAME'
        : poolTable(list),
    );
  });
}

function addInfo(pool: Command): void {
  const info = pool
    .command('info')
    .description('say all about a pool')
    .argument('[name]', 'the pool')
    .addHelpText('after', '\nExample:\n  store pool info vms --master 127.0.0.1:4010');
  addAdminFlags(info);
  handles(info, async (context, [positional]) => {
    const name = poolNamed(info, positional);
    const status = await withMaster(context, (guide) =>
      look<PoolStatus>(guide, 'pool info', { name }),
    );
    answer(context, status, poolFacts);
  });
}

function addCreate(parent: Command, plans: boolean): void {
  const create = parent
    .command('create')
    .description('make a pool')
    .argument('[name]', 'what it is called')
    .option('--groups <number>', 'parts that are placed on daemons, a power of two (default: 128)')
    .addHelpText(
      'after',
      example(plans, 'create vms --replicas 3 --failure-domain host --master 127.0.0.1:4010'),
    );
  addSettableFlags(create, true);
  addChangeFlags(create, { plans, asks: false });
  handles(create, async (context, [positional]) => {
    const name = poolNamed(create, positional);
    const args = { ...settingsGiven(context), ...given(context, 'groups', groupsSetting), name };
    await makeChanges(context, [{ command: 'pool create', args }], { plans, consent: null });
  });
}

function addSet(parent: Command, plans: boolean): void {
  const set = parent
    .command('set')
    .description('change what a pool promises; what is not named stays')
    .argument('[name]', 'the pool')
    .addHelpText(
      'after',
      `
With more --replicas new copies are made one group after the other; with fewer they go.
${example(plans, 'set vms --replicas 3 --master 127.0.0.1:4010')}`,
    );
  addSettableFlags(set, false);
  addChangeFlags(set, { plans, asks: false });
  handles(set, async (context, [positional]) => {
    const name = poolNamed(set, positional);
    const settings = settingsGiven(context);
    if (Object.keys(settings).length === 0)
      throw new UsageError(
        'Say what to change: --replicas, --min-replicas, --failure-domain or --durability',
      );
    const args = { ...settings, name };
    await makeChanges(context, [{ command: 'pool set', args }], { plans, consent: null });
  });
}

function addRemove(parent: Command, plans: boolean): void {
  const rm = parent
    .command('rm')
    .description('remove a pool and all that it holds; it cannot be undone')
    .argument('[name]', 'the pool')
    .addHelpText('after', example(plans, 'rm vms --master 127.0.0.1:4010'));
  addChangeFlags(rm, { plans, asks: true });
  handles(rm, async (context, [positional]) => {
    const name = poolNamed(rm, positional);
    await makeChanges(context, [{ command: 'pool rm', args: { name } }], {
      plans,
      consent: { kind: 'name', name },
    });
  });
}

function addSettableFlags(command: Command, isNew: boolean): void {
  const byDefault = (text: string): string => (isNew ? ` (default: ${text})` : '');
  command
    .option(
      '--replicas <number>',
      `copies of everything, 1 to 16${byDefault('3, or as many as there are daemons to keep them apart')}`,
    )
    .option(
      '--min-replicas <number>',
      `with fewer copies in sync nothing is written${byDefault('2, or 1 with one copy')}`,
    )
    .option(
      '--failure-domain <domain>',
      `no two copies on the same disk, host or rack${byDefault('disk')}`,
    )
    .option(
      '--durability <when>',
      `flush: what is answered is in the memory of all copies, and on their disks with the next flush; write: on their disks with each write${byDefault('flush')}`,
    );
}

/** What was named, and nothing else. */
function settingsGiven(context: Context): JsonFields {
  return {
    ...given(context, 'replicas', SETTABLE.replicas),
    ...given(context, 'minReplicas', SETTABLE.minReplicas),
    ...given(context, 'failureDomain', SETTABLE.failureDomain),
    ...given(context, 'durability', SETTABLE.durability),
  };
}

function given(context: Context, field: string, setting: Setting<unknown>): JsonFields {
  return context.placeOf(setting) === null ? {} : { [field]: context.get(setting) };
}

function example(plans: boolean, text: string): string {
  return `\nExample:\n  store ${plans ? 'plan ' : ''}pool ${text}`;
}
