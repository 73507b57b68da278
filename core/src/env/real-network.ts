/** The network of the real machine: listening sockets, on node:net, and what others make. */
import { chmodSync, existsSync, lstatSync, unlinkSync, type Stats } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname, resolve as resolvePath } from 'node:path';
import { errnoOf, messageOf, StoreError } from '../util/errors.js';
import type { Log } from './log.js';
import type {
  Connection,
  ListenAddress,
  Listener,
  ListeningDescriptor,
  ListenOptions,
  Network,
} from './network.js';
import { portAdvice } from './real-address-advice.js';
import { RealConnection } from './real-connection.js';
import { openDatagrams } from './real-datagrams.js';
import { dial } from './real-dial.js';
import { listenLocally } from './real-local-sockets.js';
import { listening, newServer } from './real-server.js';
import {
  closeDescriptor,
  duplicateDescriptor,
  SOCK_STREAM,
  socketCalls,
  systemError,
  UNIX_PATH_BYTES_MAX,
  type SocketCalls,
} from './socket-calls.js';

const STALE_PROBE_MS = 2000;
const BACKLOG = 1024;

/** TCP, UDP and Unix sockets of this machine. */
export function realNetwork(log: Log): Network {
  return {
    listen: (address, accept, options) => listen(log, address, accept, options),
    listenOn: (socket, accept) => listenOn(log, socket, accept),
    adopt,
    connect: dial,
    openDatagrams,
  };
}

async function listen(
  log: Log,
  address: ListenAddress,
  accept: (connection: Connection) => void,
  { alsoLocally = false }: ListenOptions = {},
): Promise<Listener> {
  const server = newServer(accept);
  if (!('path' in address)) {
    await listenOnPort(server, address.host, address.port);
    const listener = listenerOf(log, server, addressOf(server, address), null);
    return alsoLocally ? withLocal(log, listener, accept) : listener;
  }
  const isOurs = await listenOnPath(server, address.path);
  return listenerOf(log, server, address, isOurs ? resolvePath(address.path) : null);
}

/** The listener, and a socket beside it where that can be had. */
async function withLocal(
  log: Log,
  tcp: Listener,
  accept: (connection: Connection) => void,
): Promise<Listener> {
  const { address } = tcp;
  const local = 'path' in address ? null : await listenLocally(log, address, BACKLOG, accept);
  if (local === null) return tcp;
  return {
    address,
    // What is passed on is the socket of TCP, which everybody can use; who waits at the other one connects again.
    release: () => {
      const released = tcp.release();
      local.close();
      return released;
    },
    close: () => {
      local.close();
      return tcp.close();
    },
  };
}

async function listenOn(
  log: Log,
  socket: ListeningDescriptor,
  accept: (connection: Connection) => void,
): Promise<Listener> {
  const { descriptor, path } = socket;
  const server = newServer(accept);
  try {
    await listening(server, () => server.listen({ fd: descriptor, backlog: BACKLOG }));
  } catch (error) {
    throw new StoreError(
      'E_SYSTEM',
      `Descriptor ${descriptor} is not a listening socket: ${messageOf(error)}`,
      { cause: error },
    );
  }
  const bound = server.address();
  const address =
    bound === null || typeof bound === 'string'
      ? { path: path ?? socketCalls()?.boundPath(descriptor) ?? '' }
      : { host: bound.address, port: bound.port };
  return listenerOf(log, server, address, path);
}

function adopt(descriptor: number): Connection {
  try {
    return new RealConnection(descriptor);
  } catch (error) {
    throw new StoreError(
      'E_SYSTEM',
      `Descriptor ${descriptor} is not a connection: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** @param path - The file of a Unix socket that goes with it; Node removes one that Node has made. */
function listenerOf(
  log: Log,
  server: Server,
  address: ListenAddress,
  path: string | null,
): Listener {
  server.on('error', (error) => log.error({ err: error }, 'Accepting connections failed'));
  const file = path === null ? null : statOf(path);
  let isReleased = false;
  // Node calls back only when the last connection is gone; the listening socket closes at once.
  return {
    address,
    release: () => {
      const { _handle: handle } = server as unknown as { _handle: { fd: number } | null };
      if (handle === null || handle.fd < 0)
        throw new StoreError('E_SYSTEM', 'A socket that is closed cannot be passed on');
      const descriptor = duplicateDescriptor(handle.fd);
      isReleased = true;
      server.close();
      return { descriptor, path };
    },
    close: () => {
      server.close();
      if (path !== null && file !== null && !isReleased) removeSocketFile(log, path, file);
      return Promise.resolve();
    },
  };
}

function statOf(path: string): Stats | null {
  return lstatSync(path, { throwIfNoEntry: false }) ?? null;
}

/** Whoever has put another file there since keeps it. */
function removeSocketFile(log: Log, path: string, ours: Stats): void {
  try {
    const now = statOf(path);
    if (now?.ino === ours.ino && now.dev === ours.dev) unlinkSync(path);
  } catch (error) {
    log.warn({ path }, `The file of the socket could not be removed: ${messageOf(error)}`);
  }
}

function addressOf(server: Server, asked: ListenAddress): ListenAddress {
  const bound = server.address();
  return bound === null || typeof bound === 'string'
    ? asked
    : { host: bound.address, port: bound.port };
}

async function listenOnPort(server: Server, host: string, port: number): Promise<void> {
  try {
    await listening(server, () => server.listen({ host, port, backlog: BACKLOG }));
  } catch (error) {
    throw new StoreError('E_SYSTEM', `Cannot listen on ${host}:${port}: ${portAdvice(error)}`, {
      cause: error,
    });
  }
}

/** @returns True if the file is ours to remove; else Node does it when it closes the socket. */
async function listenOnPath(server: Server, path: string): Promise<boolean> {
  if (Buffer.byteLength(path) > UNIX_PATH_BYTES_MAX)
    throw new StoreError(
      'E_SYSTEM',
      `Cannot listen on ${path}: the path of a socket has at most ${UNIX_PATH_BYTES_MAX} bytes; choose a shorter one`,
    );
  try {
    try {
      return await bindPrivately(server, path);
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE') throw error;
      await removeStaleSocket(path);
      return await bindPrivately(server, path);
    }
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError('E_SYSTEM', `Cannot listen on ${path}: ${pathAdvice(error, path)}`, {
      cause: error,
    });
  }
}

/**
 * The socket never exists with wider permissions. It is bound by us where possible: Node removes the file of a socket
 * that it bound as soon as it closes it, also when somebody else goes on listening there.
 */
async function bindPrivately(server: Server, path: string): Promise<boolean> {
  const calls = socketCalls();
  await listening(server, () => {
    const umask = process.umask(0o177);
    try {
      if (calls === null) server.listen({ path, backlog: BACKLOG });
      else server.listen({ fd: boundSocket(calls, path), backlog: BACKLOG });
    } finally {
      process.umask(umask);
    }
  });
  chmodSync(path, 0o600);
  return calls !== null;
}

function boundSocket(calls: SocketCalls, path: string): number {
  const descriptor = calls.unixSocket(SOCK_STREAM);
  if (descriptor < 0) throw systemError('socket', descriptor);
  const result = calls.bindUnix(descriptor, path);
  if (result === 0) return descriptor;
  closeDescriptor(descriptor);
  throw systemError('bind', result);
}

function pathAdvice(error: unknown, path: string): string {
  switch (errnoOf(error)) {
    case 'EACCES': // libuv says so too when the folder is not there
    case 'ENOENT':
    case 'ENOTDIR':
      return existsSync(dirname(path))
        ? 'no permission; choose a folder you may write to'
        : 'its folder does not exist; create it first';
    case 'EROFS':
      return 'its file system is read-only; choose another folder';
    case 'EADDRINUSE':
      return 'another program took it; choose another path';
    default:
      return messageOf(error);
  }
}

/** Removes a socket file that nobody answers on. @throws StoreError if it is anything else */
async function removeStaleSocket(path: string): Promise<void> {
  if (!lstatSync(path).isSocket())
    throw new StoreError(
      'E_SYSTEM',
      `Cannot listen on ${path}: there is a file of another kind; remove it or choose another path`,
    );
  if (await somebodyAnswers(path))
    throw new StoreError(
      'E_SYSTEM',
      `Cannot listen on ${path}: another program serves there; stop it or choose another path`,
    );
  unlinkSync(path);
}

/** Only a refused connection proves that nobody listens; anything else leaves the file alone. */
function somebodyAnswers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path, timeout: STALE_PROBE_MS });
    const answer = (alive: boolean): void => {
      probe.destroy();
      resolve(alive);
    };
    probe.once('connect', () => answer(true));
    probe.once('timeout', () => answer(true));
    probe.once('error', (error) => answer(errnoOf(error) !== 'ECONNREFUSED'));
  });
}
