/**
 * The socket in a data folder on which the process that owns the folder serves its user's other programs. Whoever holds
 * the folder's lock owns the socket too: one that a dead owner left behind is taken over, and it is closed before the
 * lock is.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, StoreError, UNIX_PATH_BYTES_MAX } from '@store/core';
import type { DaemonServer } from '@store/daemon';
import type { Context } from './program.js';

/** In the data folder. */
const OWNER_SOCKET = 'store.sock';

/** The socket of a folder, by a path that fits into the address of a socket. */
export interface OwnerSocketPath {
  readonly path: string;
  /** The path means nothing after this. */
  readonly close: () => void;
}

/**
 * A folder whose own path is too long is reached through a descriptor of it, which this process alone can use.
 * @throws StoreError `E_SYSTEM` if there is no such folder
 */
export function ownerSocketPath(dir: string): OwnerSocketPath {
  const path = join(dir, OWNER_SOCKET);
  if (Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX) return { path, close: () => undefined };
  let descriptor: number;
  try {
    descriptor = openSync(dir, 'r');
  } catch (error) {
    throw new StoreError('E_SYSTEM', `Cannot open '${dir}': ${messageOf(error)}`, { cause: error });
  }
  return {
    path: `/proc/self/fd/${descriptor}/${OWNER_SOCKET}`,
    close: () => closeSync(descriptor),
  };
}

/**
 * Serves the owner's socket of a folder. One that cannot be served is a warning: the folder is used all the same.
 * @returns To be called when `server` is closed.
 */
export async function listenForOwner(
  { log }: Pick<Context, 'log'>,
  server: DaemonServer,
  dir: string,
): Promise<() => void> {
  let socket: OwnerSocketPath | null = null;
  try {
    socket = ownerSocketPath(dir);
    await server.listen({ path: socket.path }, 'owner');
    return socket.close;
  } catch (error) {
    socket?.close();
    if (!(error instanceof StoreError)) throw error;
    log.warn({}, `Other programs cannot use this folder meanwhile: ${error.message}`);
    return () => undefined;
  }
}
