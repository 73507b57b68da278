/** `store key`: the secrets of pools, and tickets for their clients. */
import {
  checkPoolName,
  choiceSetting,
  momentText,
  PoolSecret,
  makeTicket,
  StoreError,
  switchSetting,
  textSetting,
  TICKET_RIGHTS,
  TicketFile,
  type TicketRights,
} from '@store/core';
import type { Command } from 'commander';
import { quote } from './attach-advice.js';
import { fileNameOf } from './file-name.js';
import { durationSetting } from './keys/duration.js';
import { describeKeyFile } from './keys/key-file-description.js';
import {
  checkPool,
  pathOfGeneration,
  readGenerations,
  readSecret,
  type KeptSecret,
} from './keys/secret-generations.js';
import { asUsage, handles, type Context } from './program.js';
import { SETTINGS } from './settings.js';
import { UsageError } from './usage-error.js';
import { withAdvice } from './with-advice.js';
import { PRIVATE_MODE, writeNewFile } from './write-new-file.js';

const poolSetting = textSetting('pool', null); // a secret for a pool that nobody named would be a mistake
const outSetting = textSetting('out', null);
const secretSetting = textSetting('secret', null);
const clientSetting = textSetting('client', null);
const rotateSetting = switchSetting('rotate');
const rightsSetting = choiceSetting<TicketRights | ''>('rights', TICKET_RIGHTS, '');
const expiresSetting = durationSetting('expires');

/** Adds the commands to `program`. */
export function addKeyCommands(program: Command): void {
  const key = program
    .command('key')
    .description('secrets of pools, and tickets with which clients get in');
  addCreate(key);
  addTicket(key);
  addShow(key);
}

function addCreate(key: Command): void {
  const create = key
    .command('create')
    .description('make the secret of a pool: its daemons need it, and whoever makes tickets')
    .option('--out <file>', 'where to (default: POOL.secret)')
    .option('--rotate', 'make the next generation, in a file beside it: POOL.secret.2, and so on')
    .addHelpText(
      'after',
      `
To change a secret without anybody noticing: make the next generation with --rotate; give it to the
daemons beside the old one; make new tickets with --secret POOL.secret.2; when the last old ticket has
expired, take the old file away from the daemons.

Example:
  store key create --pool testpool
  store key create --pool testpool --rotate`,
    );
  handles(create, async (context) => {
    const pool = neededPool(context, 'store key create --pool NAME');
    const path = context.get(outSetting) ?? defaultSecretPath(pool, 'say where to with --out FILE');
    const kept = await readGenerations(path, pool);
    const made = context.get(rotateSetting)
      ? nextGeneration(context, path, pool, kept)
      : firstGeneration(context, path, pool, kept);
    const { secret } = made;
    await writeNewFile(made.path, secret.toText(), { mode: PRIVATE_MODE });
    const { generation } = secret;
    const fingerprint = secret.fingerprint();
    if (context.get(SETTINGS.json)) {
      context.print(JSON.stringify({ file: made.path, pool, generation, fingerprint }));
      return;
    }
    const from = generation === 1 ? '' : ` --secret ${quote(made.path)}`;
    context.print(
      `Made generation ${generation} of the secret of pool '${pool}': ${made.path}
Give it to the daemons of the pool, and keep it from everybody else. Then make tickets for clients:
  store key ticket --pool ${quote(pool)} --client NAME --rights rw --expires 30d${from}`,
    );
  });
}

function addTicket(key: Command): void {
  const ticket = key
    .command('ticket')
    .description('make a ticket: the file with which a client gets into a pool')
    .option('--client <name>', 'who gets it')
    .option('--rights <rights>', 'r reads, rw writes too, rwa also makes and removes images')
    .option('--expires <time>', 'how long it is good: 30d, 12h, 90m; up to ten years')
    .option('--secret <file>', 'the secret of the pool (default: POOL.secret)')
    .option('--out <file>', 'where to (default: NAME.ticket)')
    .addHelpText(
      'after',
      `
Whoever can read the file is that client: bring it to its machine in private.

Example:
  store key ticket --pool testpool --client host1 --rights rw --expires 30d`,
    );
  handles(ticket, async (context) => {
    const client = needed(context.get(clientSetting), 'Say who gets it: --client NAME');
    const rights = needed(context.get(rightsSetting) || null, 'Say what it allows: --rights rw');
    const lasts = needed(context.get(expiresSetting), 'Say how long it is good: --expires 30d');
    const path =
      context.get(outSetting) ??
      fileNameOf('client', client, '.ticket', 'say where to with --out FILE');
    const { secret } = await secretForTicket(context);
    const issued = Math.floor(Date.now() / 1000);
    const fields = { client, rights, issued, expires: issued + lasts };
    const made = asUsage(() => makeTicket(secret, fields, context.env.random));
    const text = TicketFile.of(secret, made).toText();
    await withAdvice({ E_EXISTS: 'choose another place with --out FILE' }, () =>
      writeNewFile(path, text, { mode: PRIVATE_MODE }),
    );
    if (context.get(SETTINGS.json)) context.print(JSON.stringify({ file: path, ...made }));
    else
      context.print(
        `Made a ticket for '${client}': ${path}
It allows ${rights} in pool '${made.pool}' until ${momentText(made.expires)}; its id is ${made.id}`,
      );
  });
}

function addShow(key: Command): void {
  const show = key
    .command('show')
    .description('say what a secret or a ticket is, without showing what must stay secret')
    .argument('<file>', 'the file')
    .addHelpText('after', '\nExample:\n  store key show host1.ticket');
  handles(show, async (context, [path = '']) => {
    const { facts, lines } = await describeKeyFile(path, Math.floor(Date.now() / 1000));
    context.print(context.get(SETTINGS.json) ? JSON.stringify(facts) : lines.join('\n'));
  });
}

function firstGeneration(
  context: Context,
  path: string,
  pool: string,
  kept: readonly KeptSecret[],
): KeptSecret {
  const there = kept.at(-1);
  if (there !== undefined)
    throw new StoreError(
      'E_EXISTS',
      `${there.path} is there already, and is left as it is; make the next generation with --rotate, or choose another place with --out FILE`,
    );
  return { path, secret: asUsage(() => PoolSecret.create(pool, 1, context.env.random)) };
}

function nextGeneration(
  context: Context,
  path: string,
  pool: string,
  kept: readonly KeptSecret[],
): KeptSecret {
  const newest = kept.at(-1);
  if (newest === undefined)
    throw new StoreError(
      'E_NOT_FOUND',
      `There is no ${path} to follow; make the first secret without --rotate, or say with --out where it is`,
    );
  const generation = newest.secret.generation + 1;
  return {
    path: pathOfGeneration(path, generation),
    secret: asUsage(() => PoolSecret.create(pool, generation, context.env.random)),
  };
}

/** The one of `--secret`; else the one there is. */
async function secretForTicket(context: Context): Promise<KeptSecret> {
  const named = context.get(secretSetting);
  if (named !== null) {
    const kept = await readSecret(named);
    const pool = context.get(poolSetting);
    if (pool !== null) checkPool(kept, pool);
    return kept;
  }
  const pool = neededPool(context, 'store key ticket --pool NAME, or --secret FILE');
  const path = defaultSecretPath(pool, 'say where the secret is with --secret FILE');
  const [first, ...more] = await readGenerations(path, pool);
  if (first === undefined)
    throw new StoreError(
      'E_NOT_FOUND',
      `There is no ${path} here; make one with store key create --pool ${quote(pool)}, or say where it is with --secret FILE`,
    );
  if (more.length > 0)
    throw new UsageError(
      `Which secret: ${[first, ...more].map((one) => one.path).join(', ')}? Say so with --secret FILE; the daemons must have it`,
    );
  return first;
}

function neededPool(context: Context, how: string): string {
  const pool = needed(context.get(poolSetting), `Say which pool: ${how}`);
  asUsage(() => checkPoolName(pool));
  return pool;
}

function needed<T>(value: T | null, message: string): T {
  if (value === null) throw new UsageError(message);
  return value;
}

function defaultSecretPath(pool: string, remedy: string): string {
  return fileNameOf('pool', pool, '.secret', remedy);
}
