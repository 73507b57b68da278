import {
  ClusterStore,
  messageOf,
  RemoteStore,
  StoreError,
  type ObjectPool,
  type ObjectStore,
} from '@store/core';
import { FileStore, openFileStore } from '@store/daemon';
import { dieOfDisk, type Context } from './program.js';
import { openCluster } from './reaching/open-cluster.js';
import { openDaemon } from './reaching/open-daemon.js';
import { openOrJoin } from './reaching/open-owner.js';
import { placeFlags, storePlace } from './reaching/store-place.js';
import { SETTINGS } from './settings.js';
import { unlessStopped } from './until-stopped.js';

const LOCK_POLL_MS = 20;
/** Of a command's requests. */
export const COMMAND_TIMEOUT_SECONDS = 30;
/** What a daemon that is gone can hold up a program that wants to end. */
const CLOSE_MS = 10_000;

export interface OpenStoreOptions {
  /** Without `joins`: how long somebody who is about to leave the folder may take. */
  readonly patienceMs?: number;
  /** Go through the process that has the folder, if there is one. */
  readonly joins?: boolean;
  /** How long a daemon may take to answer. */
  readonly timeoutSeconds?: number;
}

/** What the settings can name. */
export type OpenedStore = FileStore | RemoteStore | ClusterStore;

/** Opens the store that the settings name. It must be closed. */
export async function openStore(
  context: Context,
  create: boolean,
  options: OpenStoreOptions = {},
): Promise<OpenedStore> {
  const { patienceMs = 0, joins = true, timeoutSeconds = COMMAND_TIMEOUT_SECONDS } = options;
  const place = storePlace(context);
  if (place.kind === 'daemon') return openDaemon(context, place.address, timeoutSeconds);
  if (place.kind === 'cluster') return openCluster(context, timeoutSeconds);
  if (joins)
    return openOrJoin(
      context,
      place.dir,
      () => openFolder(context, place.dir, create),
      timeoutSeconds,
    );
  const { clock, timers } = context.env;
  const deadline = clock.now() + patienceMs;
  for (;;)
    try {
      return await openFolder(context, place.dir, create);
    } catch (error) {
      const isTaken = error instanceof StoreError && error.code === 'E_IN_USE';
      if (!isTaken || clock.now() >= deadline) throw error;
      await timers.sleep(LOCK_POLL_MS);
    }
}

function openFolder(context: Context, dir: string, create: boolean): Promise<FileStore> {
  const { env, log } = context;
  return openFileStore(env, dir, {
    create,
    // Nothing can be promised any more, not even what is in memory: the next start knows what is on disk.
    onFailure: (error) => dieOfDisk(log, error),
  });
}

/** Opens the pool that the settings name, for the time of `use`. */
export async function withPool<T>(
  context: Context,
  create: boolean,
  use: (pool: ObjectPool, store: OpenedStore) => Promise<T>,
  options: OpenStoreOptions = {},
): Promise<T> {
  const store = await openStore(context, create, options);
  let result: T;
  try {
    const opening = openPool(context, store, create);
    // What a folder takes is short, and whoever has taken over another's sockets has to get as far as to remove them.
    const pool =
      store instanceof FileStore ? await opening : await unlessStopped(opening, context.stop);
    if (pool === null) throw new StoreError('E_CLOSED', 'Stopped before the storage answered');
    result = await use(pool, store);
  } catch (error) {
    // What went wrong first is what the user must hear of.
    await close(context, store).catch((closing: unknown) => {
      context.log.error({ err: closing }, `Closing failed: ${messageOf(closing)}`);
    });
    throw error;
  }
  await close(context, store);
  return result;
}

async function openPool(
  context: Context,
  store: ObjectStore,
  create: boolean,
): Promise<ObjectPool> {
  const name = context.get(SETTINGS.pool);
  try {
    return await store.openPool(name, { create });
  } catch (error) {
    // The daemon's advice is for its own machine.
    if (!(error instanceof StoreError && error.code === 'E_NOT_FOUND')) throw error;
    if (storePlace(context).kind !== 'daemon') throw error;
    throw new StoreError(
      'E_NOT_FOUND',
      `There is no pool '${name}' there; check the name, or make it with its first image: store-image create ${placeFlags(context)} --pool ${name} IMAGE --size 10G`,
      { cause: error },
    );
  }
}

async function close({ env }: Context, store: ObjectStore): Promise<void> {
  const closing = store.close();
  if (!(store instanceof RemoteStore || store instanceof ClusterStore)) {
    await closing;
    return;
  }
  await new Promise<void>((resolve, reject) => {
    const timer = env.timers.after(CLOSE_MS, () =>
      reject(
        new StoreError(
          'E_TIMEOUT',
          `The storage does not answer: what was not flushed may be lost (waited ${CLOSE_MS / 1000} s)`,
        ),
      ),
    );
    closing.then(resolve, reject).finally(() => timer.cancel());
  });
}
