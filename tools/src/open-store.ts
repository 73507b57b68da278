import { messageOf, StoreError, type ObjectPool, type ObjectStore } from '@store/core';
import { openFileStore } from '@store/daemon';
import { dieOfDisk, type Context } from './program.js';
import { SETTINGS } from './settings.js';

const LOCK_POLL_MS = 20;

export interface OpenStoreOptions {
  /** How long somebody who is about to leave the folder may take. */
  readonly patienceMs?: number;
}

/** Opens the store that the settings name. It must be closed. */
export async function openStore(
  context: Context,
  create: boolean,
  { patienceMs = 0 }: OpenStoreOptions = {},
): Promise<ObjectStore> {
  const { clock, timers } = context.env;
  const deadline = clock.now() + patienceMs;
  for (;;)
    try {
      return await openOnce(context, create);
    } catch (error) {
      const isTaken = error instanceof StoreError && error.code === 'E_IN_USE';
      if (!isTaken || clock.now() >= deadline) throw error;
      await timers.sleep(LOCK_POLL_MS);
    }
}

function openOnce(context: Context, create: boolean): Promise<ObjectStore> {
  const { env, log } = context;
  return openFileStore(env, context.get(SETTINGS.dir), {
    create,
    // Nothing can be promised any more, not even what is in memory: the next start knows what is on disk.
    onFailure: (error) => dieOfDisk(log, error),
  });
}

/** Opens the pool that the settings name, for the time of `use`. */
export async function withPool<T>(
  context: Context,
  create: boolean,
  use: (pool: ObjectPool) => Promise<T>,
  options: OpenStoreOptions = {},
): Promise<T> {
  const store = await openStore(context, create, options);
  let result: T;
  try {
    result = await use(await store.openPool(context.get(SETTINGS.pool), { create }));
  } catch (error) {
    // What went wrong first is what the user must hear of.
    await store.close().catch((closing: unknown) => {
      context.log.error({ err: closing }, `Closing failed: ${messageOf(closing)}`);
    });
    throw error;
  }
  await store.close();
  return result;
}
