/** Servers of node:net, as all listeners of ours are made. */
import { createServer, type Server } from 'node:net';
import type { Connection } from './network.js';
import { RealConnection } from './real-connection.js';

/** @param peer - Who connects, where a socket cannot know; else the socket says it. */
export function newServer(accept: (connection: Connection) => void, peer?: string): Server {
  return createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (accepted) =>
    accept(new RealConnection(accepted, peer)),
  );
}

/** Resolves when the server that `start` starts listens. */
export function listening(server: Server, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.removeListener('error', reject);
      resolve();
    });
    start();
  });
}
