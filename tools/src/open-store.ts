import { messageOf, type ObjectPool, type ObjectStore } from '@store/core';
import { openFileStore } from '@store/daemon';
import { dieOfDisk, type Context } from './program.js';
import { SETTINGS } from './settings.js';

/** Opens the store that the settings name. It must be closed. */
export async function openStore(context: Context, create: boolean): Promise<ObjectStore> {
  const { env, log } = context;
  return openFileStore(env, context.get(SETTINGS.dir), {
    create,
    // Nothing can be promised any more, not even what is in memory: the next start knows what is on disk.
    onFailure: (error) => dieOfDisk(log, error),
  });
}

/** Opens the pool that the settings name, for the time of `use`. */
export async function withPool(
  context: Context,
  create: boolean,
  use: (pool: ObjectPool) => Promise<void>,
): Promise<void> {
  const store = await openStore(context, create);
  try {
    await use(await store.openPool(context.get(SETTINGS.pool), { create }));
  } catch (error) {
    // What went wrong first is what the user must hear of.
    await store.close().catch((closing: unknown) => {
      context.log.error({ err: closing }, `Closing failed: ${messageOf(closing)}`);
    });
    throw error;
  }
  await store.close();
}
