/** `store daemon`: the storage daemons of a cluster, and what they are to hold. */
import type { ClusterStatus, JsonFields } from '@store/core';
import type { Command } from 'commander';
import { asUsage, handles } from '../program.js';
import { UsageError } from '../usage-error.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { parseWeight } from './daemon-weight.js';
import { addChangeFlags, makeChanges } from './make-changes.js';
import { daemonTable } from './print-daemons.js';

const DAEMON_ID_MAX: number = 2 ** 32 - 1;

/** Adds the commands to `program`. */
export function addDaemonCommands(program: Command): void {
  const daemon = program
    .command('daemon')
    .description('the storage daemons of a cluster, and what they are to hold');
  addList(daemon);
  addDaemonChanges(daemon, false);
}

function addList(daemon: Command): void {
  const ls = daemon
    .command('ls')
    .description('list the daemons: their state, place, weight, and how full they are')
    .addHelpText('after', '\nExample:\n  store daemon ls --master 127.0.0.1:4010');
  addAdminFlags(ls);
  handles(ls, async (context) => {
    const { daemons } = await withMaster(context, (guide) => look<ClusterStatus>(guide, 'status'));
    answer(context, daemons, (list) =>
      list.length === 0
        ? 'No daemon has registered; start one: store file-store --dir DIR --master HOST:PORT'
        : daemonTable(list),
    );
  });
}

interface DaemonChange {
  readonly name: string;
  readonly description: string;
  /** Whether somebody has to agree. */
  readonly asks: boolean;
  readonly command: string;
  readonly args: JsonFields;
}

const CHANGES: readonly DaemonChange[] = [
  {
    name: 'out',
    description: 'have a daemon hold nothing: what it had is recovered from other copies',
    asks: true,
    command: 'daemon set',
    args: { membership: 'out' },
  },
  {
    name: 'in',
    description: 'have a daemon hold its part again',
    asks: false,
    command: 'daemon set',
    args: { membership: 'in' },
  },
  {
    name: 'drain',
    description: 'give a daemon nothing new; it goes on serving what it has, which moves away',
    asks: true,
    command: 'daemon set',
    args: { membership: 'draining' },
  },
  {
    name: 'rm',
    description: 'have the cluster forget a daemon that holds nothing any more',
    asks: true,
    command: 'daemon rm',
    args: {},
  },
];

/** @param plans - They only say what the change would move. */
export function addDaemonChanges(parent: Command, plans: boolean): void {
  for (const change of CHANGES) addChange(parent, change, plans);
  addReweight(parent, plans);
}

function addChange(parent: Command, change: DaemonChange, plans: boolean): void {
  const { name, description, asks, command, args } = change;
  const one = parent
    .command(name)
    .description(description)
    .argument('<id...>', 'the daemons: their numbers in store daemon ls')
    .addHelpText('after', example(plans, `${name} 3 --master 127.0.0.1:4010`));
  addChangeFlags(one, { plans, asks });
  handles(one, async (context, ids) => {
    const changes = parseIds(ids).map((daemon) => ({ command, args: { ...args, daemon } }));
    await makeChanges(context, changes, { plans, consent: asks ? { kind: 'yes' } : null });
  });
}

function addReweight(parent: Command, plans: boolean): void {
  const reweight = parent
    .command('reweight')
    .description('say how much a daemon is to hold, in proportion to the others')
    .usage('[options] <id...> <weight>')
    .argument('<id-and-weight...>', 'the daemons, then a number, a size like 500G, or auto')
    .addHelpText(
      'after',
      `
A size weighs as much as a disk of that capacity: its MiB. auto goes by the capacity again.
${example(plans, 'reweight 3 500G --master 127.0.0.1:4010')}`,
    );
  addChangeFlags(reweight, { plans, asks: true });
  handles(reweight, async (context, words) => {
    const weightText = words.at(-1) ?? '';
    if (words.length < 2)
      throw new UsageError('Say which daemon and its weight: store daemon reweight 3 500G');
    const weight = asUsage(() => parseWeight(weightText));
    const changes = parseIds(words.slice(0, -1)).map((daemon) => ({
      command: 'daemon set',
      args: { daemon, weight },
    }));
    await makeChanges(context, changes, { plans, consent: { kind: 'yes' } });
  });
}

function example(plans: boolean, text: string): string {
  return `\nExample:\n  store ${plans ? 'plan ' : ''}daemon ${text}`;
}

/** Each once. */
function parseIds(texts: readonly string[]): number[] {
  const ids = texts.map((text) => {
    const id = /^\d+$/.test(text) ? Number(text) : 0;
    if (id >= 1 && id <= DAEMON_ID_MAX) return id;
    throw new UsageError(
      `'${text}' is not the number of a daemon; their numbers are in: store daemon ls`,
    );
  });
  return [...new Set(ids)];
}
