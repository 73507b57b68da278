/**
 * Connecting as a client, on node:net. Nothing is read before the connection is started, so that what the peer sends
 * first lands in the connection's own receive buffers.
 */
import { connect, type Socket } from 'node:net';
import { errnoOf, StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import type { Connection, ListenAddress } from './network.js';
import { addressText, reachAdvice } from './real-address-advice.js';
import { RealConnection } from './real-connection.js';
import { dialLocally } from './real-local-sockets.js';
import { UNIX_PATH_BYTES_MAX } from './socket-calls.js';

/** A Unix socket whose queue is full refuses at once; TCP waits by itself. */
const FULL_QUEUE_RETRY_MS = 20;

/** See `Network.connect`. */
export async function dial(
  address: ListenAddress,
  { timeoutMs }: { timeoutMs: number },
): Promise<Connection> {
  invariant(timeoutMs > 0, 'connecting has a time limit');
  checkAddress(address);
  const deadline = performance.now() + timeoutMs;
  const local = 'path' in address ? null : await dialLocally(address);
  if (local !== null) return local;
  for (;;) {
    try {
      return new RealConnection(await connected(address, deadline - performance.now(), timeoutMs));
    } catch (error) {
      const isWorthWaiting = performance.now() + FULL_QUEUE_RETRY_MS < deadline;
      if (errnoOf(error) === 'EAGAIN' && isWorthWaiting) {
        await new Promise((resolve) => setTimeout(resolve, FULL_QUEUE_RETRY_MS));
        continue;
      }
      const why = error instanceof Late ? error.message : reachAdvice(error, address);
      throw new StoreError('E_UNREACHABLE', `Cannot reach ${addressText(address)}: ${why}`, {
        cause: error,
      });
    }
  }
}

/** What no server can have. @throws StoreError `E_INVALID` */
function checkAddress(address: ListenAddress): void {
  if ('path' in address) {
    const bytes = Buffer.byteLength(address.path);
    if (bytes > UNIX_PATH_BYTES_MAX)
      throw new StoreError(
        'E_INVALID',
        `Cannot reach ${address.path}: the path of a socket has at most ${UNIX_PATH_BYTES_MAX} bytes; choose a shorter one`,
      );
    if (bytes === 0)
      throw new StoreError('E_INVALID', 'The path of a socket is empty; give one to connect to');
    return;
  }
  const { host, port } = address;
  if (host === '' || !Number.isInteger(port) || port < 1 || port > 65535)
    throw new StoreError(
      'E_INVALID',
      `Cannot reach ${addressText(address)}: give a host and a port from 1 to 65535`,
    );
}

class Late extends Error {}

/** @returns A connected socket that reads nothing yet */
function connected(address: ListenAddress, leftMs: number, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...address, allowHalfOpen: true, noDelay: true });
    socket.pause();
    const fail = (error: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(
      () =>
        fail(
          new Late(
            `nobody answers within ${timeoutMs} ms; is the machine up, and no firewall between?`,
          ),
        ),
      Math.max(1, leftMs),
    );
    socket.on('error', fail);
    socket.once('connect', () => {
      clearTimeout(timer);
      if (isOwnEcho(socket)) fail(refused());
      else resolve(socket);
    });
  });
}

/**
 * True if the socket is connected to itself: TCP allows it when the system picks the very port that nobody listens on
 * as ours, which happens to those who try again and again.
 */
function isOwnEcho(socket: Socket): boolean {
  const { localAddress, localPort, remoteAddress, remotePort } = socket;
  return localPort !== undefined && localPort === remotePort && localAddress === remoteAddress;
}

function refused(): Error {
  return Object.assign(new Error('connected to itself'), { code: 'ECONNREFUSED' });
}
