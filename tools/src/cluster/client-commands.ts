/** `store client`: who may use a cluster, and what for. */
import {
  messageOf,
  StoreError,
  switchSetting,
  textSetting,
  type ClientStatus,
  type MasterGuide,
} from '@store/core';
import type { Command } from 'commander';
import { quote } from '../attach-advice.js';
import { asUsage, handles, type Context } from '../program.js';
import { UsageError } from '../usage-error.js';
import { PRIVATE_MODE, writeNewFile } from '../write-new-file.js';
import { addAdminFlags, answer, look, withMaster } from './ask-master.js';
import { needConsent, needTerminal } from './ask-person.js';
import { parseRights, rightsText, type RightsByPool } from './client-rights.js';
import { keyPath, needFreePlace, needReplaceable } from './key-place.js';
import { yesSetting } from './make-changes.js';
import { textTable, words } from './text-table.js';

const outSetting = textSetting('out', null);
const adminSetting = switchSetting('admin');
const rightsSetting = textSetting('rights', null);

/** Adds the commands to `program`. */
export function addClientCommands(program: Command): void {
  const client = program
    .command('client')
    .description('who may use a cluster, and what for; each has a key');
  addCreate(client);
  addList(client);
  addSet(client);
  addRotate(client);
  addRemove(client);
}

function addCreate(client: Command): void {
  const create = client
    .command('create')
    .description('let somebody in, and write the key with which it proves who it is')
    .argument('<name>', 'what it is called')
    .option('--admin', 'it may also change the cluster: daemons, pools, clients')
    .option('--out <file>', 'where to write the key (default: NAME.key)')
    .addHelpText(
      'after',
      `
Whoever can read the file is that client: bring it to its machine in private.

Example:
  store client create host1 --rights vms=rw,logs=r --master 127.0.0.1:4010 --client-key admin.key
  store client create backup --rights '*=r' --master 127.0.0.1:4010 --client-key admin.key`,
    );
  addRightsFlag(create);
  addAdminFlags(create);
  handles(create, async (context, [name = '']) => {
    const isAdmin = context.get(adminSetting);
    const given = rightsGiven(context, create);
    if (given === null && !isAdmin)
      throw new UsageError(
        `Say what it may do: --rights POOL=rw, or --admin; for example: store client create ${quote(name)} --rights vms=rw`,
      );
    const rights = given ?? {};
    const path = keyPath(name, context.get(outSetting));
    await needFreePlace(path);
    const key = await withMaster(context, (guide) =>
      keyFrom(guide, 'client create', { name, rights, isAdmin }),
    );
    try {
      await writeNewFile(path, key, { mode: PRIVATE_MODE });
    } catch (error) {
      throw keyLost(error, `The client '${name}' was made, but its key is lost`, name);
    }
    answer(
      context,
      { name, file: path, isAdmin, rights },
      () => `Made client '${name}', its key is in ${path}
It may ${allowedText(isAdmin, rights)}; keep the file from everybody else, and use it with --client-key`,
    );
  });
}

function addList(client: Command): void {
  const ls = client
    .command('ls')
    .description('list who may use the cluster')
    .addHelpText(
      'after',
      '\nExample:\n  store client ls --master 127.0.0.1:4010 --client-key admin.key',
    );
  addAdminFlags(ls);
  handles(ls, async (context) => {
    const clients = await withMaster(context, listed);
    answer(context, clients, clientTable);
  });
}

function addSet(client: Command): void {
  const set = client
    .command('set')
    .description('change what a client may do; what is not named stays')
    .argument('<name>', 'the client')
    .option('--admin', 'it may change the cluster: daemons, pools, clients')
    .option('--no-admin', 'it may not change the cluster')
    .addHelpText(
      'after',
      `
--rights are all that it may do in pools from now on, not added to those it has. Tickets that it was given
before are good for up to a day; what must end at once takes store client rotate, or rm.

Example:
  store client set host1 --rights vms=rwa --master 127.0.0.1:4010 --client-key admin.key`,
    );
  addRightsFlag(set);
  addAdminFlags(set);
  handles(set, async (context, [name = '']) => {
    const { admin } = set.opts<{ admin?: boolean }>();
    const given = rightsGiven(context, set);
    if (given === null && admin === undefined)
      throw new UsageError('Say what to change: --rights POOL=rw, --admin or --no-admin');
    const changed = await withMaster(context, async (guide) => {
      const before = (await listed(guide)).find((one) => one.name === name);
      if (before === undefined)
        throw new StoreError('E_NOT_FOUND', `There is no client '${name}'; see store client ls`);
      const next = { isAdmin: admin ?? before.isAdmin, rights: given ?? before.rights };
      await guide.administer('client set', { name, ...next });
      return { name, ...next };
    });
    answer(
      context,
      changed,
      ({ isAdmin, rights }) => `Client '${name}' may now ${allowedText(isAdmin, rights)}`,
    );
  });
}

function addRotate(client: Command): void {
  const rotate = client
    .command('rotate')
    .description('give a client a new key; the old one is worth nothing at once')
    .argument('<name>', 'the client')
    .option('--out <file>', 'where to write the key (default: NAME.key)')
    .addHelpText(
      'after',
      `
A file with its old key is replaced, anything else is not.

Example:
  store client rotate host1 --master 127.0.0.1:4010 --client-key admin.key`,
    );
  addAdminFlags(rotate);
  handles(rotate, async (context, [name = '']) => {
    const path = keyPath(name, context.get(outSetting));
    await needReplaceable(path, name);
    // Whoever changes its own key is let in no more with the one that it had.
    const key = await withMaster(context, (guide) => keyFrom(guide, 'client rotate', { name }));
    try {
      await writeNewFile(path, key, { mode: PRIVATE_MODE, replaces: true });
    } catch (error) {
      throw keyLost(error, `The old key of '${name}' is worth nothing and the new one lost`, name);
    }
    answer(
      context,
      { name, file: path },
      () => `The new key of client '${name}' is in ${path}; the old one is worth nothing now`,
    );
  });
}

function addRemove(client: Command): void {
  const rm = client
    .command('rm')
    .description('let a client in no more; its key and its tickets are worth nothing at once')
    .argument('<name>', 'the client')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      '\nExample:\n  store client rm host1 --master 127.0.0.1:4010 --client-key admin.key',
    );
  addAdminFlags(rm);
  handles(rm, async (context, [name = '']) => {
    const asks = !context.get(yesSetting);
    if (asks) needTerminal();
    await withMaster(context, async (guide) => {
      if (asks) {
        process.stderr.write(`Client ${JSON.stringify(name)} will be let in no more.\n`);
        await needConsent({ kind: 'yes' }, context.stop);
      }
      await guide.administer('client rm', { name });
    });
    answer(context, { removed: name }, () => `Removed client '${name}'`);
  });
}

function addRightsFlag(command: Command): void {
  command.option(
    '--rights <rights>',
    "POOL=RIGHT,...: r reads, rw writes too, rwa also makes and removes images; '*' is all pools",
    (value: string, before: readonly string[] | undefined) => [...(before ?? []), value],
  );
}

/** Null: none were given. */
function rightsGiven(context: Context, command: Command): RightsByPool | null {
  const { rights: flags } = command.opts<{ rights?: readonly string[] }>();
  const one = context.get(rightsSetting); // of the environment
  const texts = flags ?? (one === null ? [] : [one]);
  return texts.length === 0 ? null : asUsage(() => parseRights(texts));
}

function listed(guide: MasterGuide): Promise<readonly ClientStatus[]> {
  return look(guide, 'client ls');
}

/** The text of a key file. @throws StoreError, with what helps if the answer was lost and the key with it */
async function keyFrom(
  guide: MasterGuide,
  command: 'client create' | 'client rotate',
  args: { readonly name: string } & Record<string, unknown>,
): Promise<string> {
  try {
    return (await guide.administer(command, args)) as string; // as `AdminService` says
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'E_IN_DOUBT') throw error;
    throw new StoreError(
      'E_IN_DOUBT',
      `${messageOf(error)}. If store client ls shows '${args.name}', get a new key: store client rotate ${quote(args.name)}`,
      { cause: error },
    );
  }
}

function keyLost(error: unknown, what: string, name: string): StoreError {
  return new StoreError(
    'E_SYSTEM',
    `${what}: ${messageOf(error)}; get a new key with: store client rotate ${quote(name)} --out FILE`,
    { cause: error },
  );
}

function allowedText(isAdmin: boolean, rights: RightsByPool): string {
  const inPools =
    Object.keys(rights).length === 0 ? 'use no pool' : `use pools: ${rightsText(rights)}`;
  return isAdmin ? `change the cluster, and ${inPools}` : inPools;
}

function clientTable(clients: readonly ClientStatus[]): string {
  const columns = ['NAME', 'ADMIN', 'RIGHTS', 'CREATED', 'NEW KEY'].map(words);
  const rows = clients.map(({ name, isAdmin, rights, created, rotated }) => [
    name,
    isAdmin ? 'yes' : 'no',
    rightsText(rights),
    momentOf(created),
    rotated === null ? '-' : momentOf(rotated),
  ]);
  return textTable(columns, rows);
}

/** Of an ISO 8601 time, as far as people want to know. */
function momentOf(time: string): string {
  return `${time.slice(0, 10)} ${time.slice(11, 16)}`;
}
