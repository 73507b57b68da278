/**
 * Connections within one machine that leave TCP out. Whoever listens on a loopback address may be reached through a Unix
 * socket besides, whose abstract name is made of that address: as the loopback device it belongs to a network namespace,
 * and it is gone when the process is. Who connects tries it first. Measured, three daemons with three copies and a
 * gateway on one machine, medians of three turns: writes one at a time 1.3 times as many, reads 1.2 times, at depth 32
 * 1.04 and 1.24 times.
 *
 * For both ends it is a connection to that address (`Connection.peer`), with all that is demanded there. Who connects
 * trusts a listener of root or of its own user only: everybody may take a name before a daemon does.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { messageOf } from '../util/errors.js';
import { isLoopbackPeer } from '../util/peer-address.js';
import type { Log } from './log.js';
import type { Connection } from './network.js';
import { addressText } from './real-address-advice.js';
import { RealConnection } from './real-connection.js';
import { socketCalls } from './socket-calls.js';

interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** The abstract name of the socket beside a TCP address; null: it has none. */
export function localNameOf(address: TcpAddress): string | null {
  const text = addressText(address);
  return process.platform === 'linux' && isLoopbackPeer(text) ? `\0store/${text}` : null;
}

/**
 * Listens beside TCP.
 * @param address - Where TCP listens, which keeps others of this project away from the name.
 * @returns Null if it cannot be had: everybody connects over TCP
 */
export async function listenLocally(
  log: Log,
  address: TcpAddress,
  backlog: number,
  accept: (connection: Connection) => void,
): Promise<Server | null> {
  const path = localNameOf(address);
  if (path === null) return null;
  // A process of this machine that has no port.
  const peer = addressText({ host: address.host, port: 0 });
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) =>
    accept(new RealConnection(accepted, peer)),
  );
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ path, backlog }, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
  } catch (error) {
    log.warn(
      { address: addressText(address), err: error },
      `Programs on this machine connect over TCP, which is slower: ${messageOf(error)}`,
    );
    return null;
  }
  server.on('error', (error) => log.error({ err: error }, 'Accepting connections failed'));
  return server;
}

/** @returns Null if nobody listens beside TCP there, or nobody to be trusted, or too many wait already */
export async function dialLocally(address: TcpAddress): Promise<Connection | null> {
  const path = localNameOf(address);
  if (path === null) return null;
  const socket = await new Promise<Socket | null>((resolve) => {
    const dialled = connect({ path, allowHalfOpen: true });
    dialled.pause();
    dialled.once('connect', () => resolve(dialled));
    dialled.once('error', () => resolve(null)); // TCP says what is wrong
  });
  if (socket === null) return null;
  const connection = new RealConnection(socket, addressText(address));
  if (isOfTrusted(connection.descriptor)) return connection;
  connection.destroy();
  return null;
}

/** Who listens is root, or our own user. */
function isOfTrusted(descriptor: number | null): boolean {
  const listener = descriptor === null ? null : (socketCalls()?.peer(descriptor) ?? null);
  return listener !== null && (listener.uid === 0 || listener.uid === process.geteuid?.());
}
