/** `store master recover`: makes the state of lost masters anew, from what the daemons have kept. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { ClientKey, numberSetting, StoreError, switchSetting } from '@store/core';
import {
  Election,
  readWhatIsLeft,
  rebuildState,
  RecoveryDesk,
  withAdministrator,
  writeRecovered,
  type ClusterState,
  type KeptByDaemon,
  type Leadership,
  type StateStore,
} from '@store/master';
import type { Command } from 'commander';
import { formatHostPort } from '../host-port.js';
import { dieOf, handles, type Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { UsageError } from '../usage-error.js';
import { PRIVATE_MODE, writeNewFile } from '../write-new-file.js';
import { MasterTls } from './master-tls.js';
import { addMasterServerFlags, masterGiven, type MasterGiven } from './master-settings.js';
import { openState } from './open-state.js';

const SETTING = {
  wait: numberSetting('wait', { min: 1, max: 86_400, fallback: 20 }),
  yes: switchSetting('yes'),
} as const;
const TTL_MS = 3000;
const ELECTION_MS = 15_000;
const ADMIN = 'admin';
const ADMIN_KEY_FILE = 'admin.key';

/** Adds the command to `master`. */
export function addRecoverCommand(master: Command): void {
  const command = master
    .command('recover')
    .description('make the state of lost masters anew, from what the daemons have kept')
    .option('--wait <seconds>', 'go on when no other daemon has come for so long (default: 20)')
    .option('--yes', 'do not ask before the state is written')
    .addHelpText(
      'after',
      `
For when the --state-dir (or what etcd held) is lost, damaged, or an old copy, and only then. Stop all masters, and
run this in the place of one, with its flags: daemons that run come by themselves. Wait until all of them have come.
Data is not touched. Clients are kept if anything is left of the old state; else there is the administrator of
admin.key alone, and the others are made again: store client create.

Example:
  store master recover --state-dir /var/lib/store-master --peer-address 0.0.0.0:4000 \\
    --peer-cert master1.crt --peer-key master1.key --peer-ca-cert ca.crt`,
    );
  addMasterServerFlags(command);
  handles(command, (context) => recover(context, masterGiven(context)));
}

async function recover(context: Context, given: MasterGiven): Promise<void> {
  const store = await openState(context, given);
  try {
    const election = await lead(context, store);
    try {
      const left = await readWhatIsLeft(store);
      if (left.problem !== null) context.log.warn({}, `The old state: ${left.problem}`);
      const kept = await collect(context, given);
      const { env } = context;
      const now = Math.floor(env.clock.wallSeconds());
      const rebuilt = rebuildState({ old: left.state, kept, now, random: env.random });
      const { state, writeKey } = administered(context, given, rebuilt, now);
      await confirm(context, state, kept.length);
      await writeKey();
      await writeRecovered(store, election.leadership, state);
      const { version, daemons, pools } = state.map;
      context.print(
        context.get(SETTINGS.json)
          ? JSON.stringify({ version, daemons: daemons.length, pools: pools.length })
          : `Recovered: map ${version}, ${daemons.length} daemons, ${pools.length} pools, ${state.clients.size} clients. Now start the masters.`,
      );
    } finally {
      await election.close();
    }
  } finally {
    await store.close();
  }
}

async function lead(
  { env }: Context,
  store: StateStore,
): Promise<{ leadership: Leadership; close: () => Promise<void> }> {
  let won: (leadership: Leadership) => void = () => undefined;
  const winning = new Promise<Leadership>((resolve) => (won = resolve));
  const election = new Election(env, store, {
    address: '{}',
    ttlMs: TTL_MS,
    events: { won, lost: () => undefined, follows: () => undefined },
  });
  const late = env.timers.sleep(ELECTION_MS).then(() => null);
  const leadership = await Promise.race([winning, late]);
  if (leadership !== null) return { leadership, close: () => election.close() };
  await election.close();
  throw new StoreError('E_IN_USE', 'A master is running on this state; stop all masters first');
}

/** Waits for daemons until no other one comes. @throws StoreError `E_NOT_FOUND` if none has a map */
async function collect(context: Context, given: MasterGiven): Promise<KeptByDaemon[]> {
  const { env, log, stop } = context;
  const tls = await MasterTls.open(given, log);
  const waitMs = context.get(SETTING.wait) * 1000;
  let lastAt = env.clock.now();
  const desk = new RecoveryDesk({
    env,
    peerTls: tls.peer,
    insecure: given.insecure,
    answered: (address, kept) => {
      lastAt = env.clock.now();
      const has = kept === null ? 'has kept no map' : `has map ${kept.map.version}`;
      log.info({ daemon: address }, `A daemon has come and ${has}`);
    },
    defect: (error) => dieOf(log, error),
  });
  try {
    const bound = await desk.listen(given.peer);
    const where = 'host' in bound ? formatHostPort(bound) : bound.path;
    log.info(
      { peerAddress: where },
      `Waiting for daemons; ${waitMs / 1000} s after the last one this goes on`,
    );
    while (env.clock.now() - lastAt < waitMs) {
      if (stop.aborted) throw new StoreError('E_CLOSED', 'Stopped; nothing was changed');
      await env.timers.sleep(100);
    }
    return [...desk.kept.values()];
  } finally {
    await desk.close();
  }
}

/** Somebody must be able to administer what was recovered. */
function administered(
  { env }: Context,
  { stateDir }: MasterGiven,
  state: ClusterState,
  now: number,
): { state: ClusterState; writeKey: () => Promise<void> } {
  const nothing = (): Promise<void> => Promise.resolve();
  if ([...state.clients.values()].some(({ isAdmin }) => isAdmin))
    return { state, writeKey: nothing };
  const path = join(stateDir, ADMIN_KEY_FILE);
  const isThere = existsSync(path);
  const key = isThere
    ? ClientKey.parse(path, readFileSync(path, 'utf8'))
    : ClientKey.create(ADMIN, env.random);
  return {
    state: withAdministrator(state, key, now),
    writeKey: isThere ? nothing : () => writeNewFile(path, key.toText(), { mode: PRIVATE_MODE }),
  };
}

async function confirm(context: Context, { map }: ClusterState, answered: number): Promise<void> {
  const missing = map.daemons.length - answered;
  const what = `${answered} of ${map.daemons.length} daemons have answered; the new state has map ${map.version} with ${map.pools.length} pools.`;
  context.log.info({ missing }, what);
  if (context.get(SETTING.yes)) return;
  if (!process.stdin.isTTY)
    throw new UsageError(`${what} Add --yes to write it; nothing was changed`);
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const risk =
    missing > 0
      ? ` What the ${missing} missing ones know is not in it: if one of them has newer groups, it will be refused.`
      : '';
  const answer = await lines.question(`${what}${risk} Write it? [y/N] `);
  lines.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new StoreError('E_CANCELLED', 'Nothing was changed');
}
