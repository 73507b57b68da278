/** What a process that has opened a folder for itself does for its user's other programs: it serves them the folder. */
import { Blocklist, SecretRing } from '@store/core';
import { DaemonServer, type FileStore, type ServedStore } from '@store/daemon';
import { listenForOwner } from '../owner-socket.js';
import { dieOf, type Context } from '../program.js';

export interface OwnerServer {
  /** Answers what is under way. The folder may be closed after this. */
  close(options: { drainMs: number }): Promise<void>;
}

/**
 * Serves the owner's socket of a folder.
 * @param served - What is served of `store`, which is in `dir`.
 */
export async function serveOwner(
  context: Context,
  dir: string,
  store: FileStore,
  served: ServedStore,
): Promise<OwnerServer> {
  const { diskId, startId, lineage } = store;
  const server = new DaemonServer({
    env: context.env,
    store: served,
    identity: { diskId, startId, lineage },
    door: {
      secrets: new SecretRing([]),
      blocklist: new Blocklist(),
      tls: null,
      peerTls: null,
      insecure: false,
    },
    datagramBytes: 0,
    defect: (error) => dieOf(context.log, error),
  });
  const closePath = await listenForOwner(context, server, dir);
  return {
    async close(options) {
      await server.close(options);
      closePath();
    },
  };
}
