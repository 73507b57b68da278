/**
 * Opens a folder that another program has: through the socket on which that one serves it. The owner may be about to
 * begin serving, or to leave: then it is tried again for a moment.
 */
import { openRemoteStore, StoreError, type ObjectStore, type RemoteStore } from '@store/core';
import { ownerSocketPath } from '../owner-socket.js';
import type { Context } from '../program.js';

const PATIENCE_MS = 2000;
const RETRY_MS = 100;

/**
 * @param openFolder - Opens the folder itself; `E_IN_USE` if somebody has it.
 * @param timeoutSeconds - How long the owner may take to answer.
 * @throws StoreError `E_IN_USE` if the owner serves nobody
 */
export async function openOrJoin<T extends ObjectStore>(
  context: Context,
  dir: string,
  openFolder: () => Promise<T>,
  timeoutSeconds: number,
): Promise<T | RemoteStore> {
  const { clock, timers } = context.env;
  const deadline = clock.now() + PATIENCE_MS;
  for (;;) {
    let taken: StoreError;
    try {
      return await openFolder();
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_IN_USE') throw error;
      taken = error;
    }
    try {
      return await join(context, dir, timeoutSeconds);
    } catch (error) {
      const isAway =
        error instanceof StoreError && ['E_UNREACHABLE', 'E_CLOSED'].includes(error.code);
      if (!isAway) throw error;
      context.log.debug({}, `The owner of the folder does not serve: ${error.message}`);
      if (clock.now() >= deadline) throw taken;
      await timers.sleep(RETRY_MS);
    }
  }
}

async function join(context: Context, dir: string, timeoutSeconds: number): Promise<RemoteStore> {
  const socket = ownerSocketPath(dir);
  try {
    const store = await openRemoteStore({
      env: context.env,
      address: { path: socket.path },
      name: context.program,
      ticket: null,
      tls: null,
      deadlineMs: timeoutSeconds * 1000,
      datagramBytes: 0,
    });
    context.log.debug({ socket: socket.path }, 'Using the folder through its owner');
    return store; // the path must stay good: it may have to connect again
  } catch (error) {
    socket.close();
    throw error;
  }
}
