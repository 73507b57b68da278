/**
 * Connections within one machine that leave TCP out. Whoever listens on a loopback address may be reached through a Unix
 * socket besides, whose abstract name is made of that address: as the loopback device it belongs to a network namespace,
 * and it is gone when the process is. Who connects tries it first. What that brings is in ARCHITECTURE.md.
 *
 * For both ends it is a connection to that address (`Connection.peer`), with all that is demanded there. Who connects
 * trusts a listener of root or of its own user only: everybody may take a name before a daemon does.
 */
import { connect, isIPv6, type Server, type Socket } from 'node:net';
import { messageOf } from '../util/errors.js';
import { hostOfPeer, isLoopbackPeer } from '../util/peer-address.js';
import type { Log } from './log.js';
import type { Connection } from './network.js';
import { addressText } from './real-address-advice.js';
import { RealConnection } from './real-connection.js';
import { listening, newServer } from './real-server.js';
import { socketCalls } from './socket-calls.js';

interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** What `struct sockaddr_un` has room for. */
const NAME_BYTES = 108;

/**
 * The abstract name of the socket beside a TCP address; null: it has none. All its bytes count, and some versions of Node
 * fill it up with zeros: so it is as long as it may be.
 */
export function localNameOf(address: TcpAddress): string | null {
  const text = addressText(address);
  const isThere = process.platform === 'linux' && isLoopbackPeer(text);
  return isThere ? `\0store/${text}`.padEnd(NAME_BYTES, '\0') : null;
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
  // Over TCP, and with datagrams, whoever connects to 127.0.0.2 comes from 127.0.0.1 as well.
  const peer = isIPv6(hostOfPeer(addressText(address))) ? '[::1]:0' : '127.0.0.1:0';
  const server = newServer(accept, peer);
  try {
    await listening(server, () => server.listen({ path, backlog }));
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

/** Never waits. @returns Null if nobody listens beside TCP there, or nobody to be trusted, or too many wait already */
export async function dialLocally(address: TcpAddress): Promise<Connection | null> {
  const path = localNameOf(address);
  if (path === null || socketCalls() === null) return null; // nobody could be trusted
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
