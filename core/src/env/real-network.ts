/**
 * Sockets of the real machine, on node:net.
 *
 * Receiving: reads land in slabs that are cut up and handed out (nothing is copied, no byte of a slab is ever used
 * twice), and a receiver that knows what comes next names the buffer it shall land in (`receiveInto`).
 * Measured, 1 MiB writes: 330 us of CPU each with `receiveInto`, 450 with slabs alone or with Node's default chunks.
 * Sending: what is written while a chunk is being handled, or by several completions of one turn of the event loop,
 * leaves in one `writev`.
 */
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, Socket, type Server } from 'node:net';
import { dirname } from 'node:path';
import { errnoOf, messageOf, StoreError } from '../util/errors.js';
import type { Log } from './log.js';
import type { Connection, ConnectionEvents, ListenAddress, Listener, Network } from './network.js';

const SLAB_BYTES = 64 * 1024;
/** A slab with less room than this is left to its readers. */
const READ_BYTES_MIN = 16 * 1024;
/** Unsent bytes from which `write` asks the writer to wait for `drain`. */
const UNSENT_BYTES_HIGH = 256 * 1024;
const KEEP_ALIVE_MS = 30_000;
/** `sun_path` has 108 bytes with its terminating zero. */
const UNIX_PATH_BYTES_MAX = 107;
const STALE_PROBE_MS = 2000;
const BACKLOG = 1024;

/** A connection that can place what arrives where its receiver wants it. */
export interface DirectConnection extends Connection {
  /**
   * The next bytes land in `target` until it is full, instead of in chunks of the connection's own. They are
   * reported through `data` as usual, as slices of `target`.
   */
  receiveInto(target: Buffer): void;
}

/** TCP and Unix sockets of this machine. */
export function realNetwork(log: Log): Network {
  return {
    listen: (address, accept) => listen(log, address, accept),
  };
}

async function listen(
  log: Log,
  address: ListenAddress,
  accept: (connection: Connection) => void,
): Promise<Listener> {
  const server = createServer(
    { allowHalfOpen: true, noDelay: true, pauseOnConnect: true },
    (accepted) => accept(new RealConnection(accepted)),
  );
  if ('path' in address) await listenOnPath(server, address.path);
  else await listenOnPort(server, address.host, address.port);
  server.on('error', (error) => log.error({ err: error }, 'Accepting connections failed'));
  return {
    address: addressOf(server, address),
    close: () => {
      // Node calls back only when the last connection is gone; the listening socket closes at once, and with it
      // goes the file of a Unix socket.
      server.close();
      return Promise.resolve();
    },
  };
}

function addressOf(server: Server, asked: ListenAddress): ListenAddress {
  const bound = server.address();
  return bound === null || typeof bound === 'string'
    ? asked
    : { host: bound.address, port: bound.port };
}

function listening(server: Server, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.removeListener('error', reject);
      resolve();
    });
    start();
  });
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

function portAdvice(error: unknown): string {
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return 'the port is taken; stop the program that uses it or choose another port';
    case 'EACCES':
      return 'no permission; choose a port from 1024 up or run as root';
    case 'EADDRNOTAVAIL':
      return 'this machine does not have that address; choose one of `ip address` or 127.0.0.1';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'no such host name; write an address, for example 127.0.0.1';
    default:
      return messageOf(error);
  }
}

async function listenOnPath(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > UNIX_PATH_BYTES_MAX)
    throw new StoreError(
      'E_SYSTEM',
      `Cannot listen on ${path}: the path of a socket has at most ${UNIX_PATH_BYTES_MAX} bytes; choose a shorter one`,
    );
  try {
    try {
      await bindPrivately(server, path);
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE') throw error;
      await removeStaleSocket(path);
      await bindPrivately(server, path);
    }
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError('E_SYSTEM', `Cannot listen on ${path}: ${pathAdvice(error, path)}`, {
      cause: error,
    });
  }
}

/** Binding happens inside `listen`, so that the socket never exists with wider permissions. */
async function bindPrivately(server: Server, path: string): Promise<void> {
  await listening(server, () => {
    const umask = process.umask(0o177);
    try {
      server.listen({ path, backlog: BACKLOG });
    } finally {
      process.umask(umask);
    }
  });
  chmodSync(path, 0o600);
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

function peerOf(socket: Socket): string {
  const { remoteAddress, remotePort, remoteFamily } = socket;
  if (remoteAddress === undefined || remotePort === undefined) return 'unix';
  return remoteFamily === 'IPv6'
    ? `[${remoteAddress}]:${remotePort}`
    : `${remoteAddress}:${remotePort}`;
}

/** Called by Node for every read: where it shall land, and that it did. */
interface OnRead {
  buffer: () => Uint8Array;
  callback: (bytes: number, target: Uint8Array) => boolean;
}

/**
 * Gives an accepted, paused socket its own receive buffers. Node takes `onread` only when a socket is made, so a new
 * one takes over the handle of the accepted one (the undocumented `handle` option that node:net itself uses).
 */
function adopt(accepted: Socket, onread: OnRead): Socket {
  const owner = accepted as unknown as { _handle: object | null };
  const handle = owner._handle;
  owner._handle = null;
  const options = { handle, allowHalfOpen: true, manualStart: true, onread };
  return new Socket(options);
}

class RealConnection implements DirectConnection {
  readonly peer: string;
  readonly #socket: Socket;
  #events: ConnectionEvents | null = null;
  #error: Error | null = null;

  #slab: Buffer = Buffer.alloc(0);
  #slabAt = 0;
  #target: Buffer | null = null;
  #targetAt = 0;
  /** Where the read under way lands. */
  #landing: Buffer = this.#slab;

  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #unsentBytes = 0;
  #flushScheduled = false;
  #handlingChunk = false;
  #drainWanted = false;
  #ending = false;

  constructor(accepted: Socket) {
    this.peer = peerOf(accepted);
    accepted.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket = adopt(accepted, {
      buffer: () => this.#nextLanding(),
      callback: (bytes) => this.#received(bytes),
    });
    // A socket without this listener would end the process when the peer vanishes before `start`.
    this.#socket.on('error', (error) => (this.#error = error));
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  start(events: ConnectionEvents): void {
    this.#events = events;
    this.#socket.on('end', () => events.end());
    this.#socket.on('close', () => {
      this.#queue = [];
      events.closed(this.#error);
    });
    this.#socket.resume();
  }

  receiveInto(target: Buffer): void {
    this.#target = target;
    this.#targetAt = 0;
  }

  #nextLanding(): Buffer {
    if (this.#target !== null) {
      this.#landing = this.#target.subarray(this.#targetAt);
    } else {
      if (this.#slab.length - this.#slabAt < READ_BYTES_MIN) {
        this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
        this.#slabAt = 0;
      }
      this.#landing = this.#slab.subarray(this.#slabAt);
    }
    return this.#landing;
  }

  #received(bytes: number): boolean {
    const chunk = this.#landing.subarray(0, bytes);
    if (this.#target === null) {
      this.#slabAt += bytes;
    } else {
      this.#targetAt += bytes;
      if (this.#targetAt === this.#target.length) this.#target = null;
    }
    this.#handlingChunk = true;
    this.#events?.data(chunk);
    this.#handlingChunk = false;
    if (this.#queue.length > 0) this.#flush();
    return true;
  }

  write(parts: readonly Buffer[]): boolean {
    if (this.#ending || this.#socket.destroyed) return true;
    for (const part of parts) {
      this.#queue.push(part);
      this.#queuedBytes += part.length;
      this.#unsentBytes += part.length;
    }
    if (!this.#handlingChunk && !this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => {
        this.#flushScheduled = false;
        this.#flush();
      });
    }
    this.#drainWanted ||= this.#unsentBytes > UNSENT_BYTES_HIGH;
    return !this.#drainWanted;
  }

  #flush(): void {
    const parts = this.#queue;
    const bytes = this.#queuedBytes;
    const last = parts.pop();
    if (last === undefined || this.#socket.destroyed) return;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    this.#socket.write(last, () => this.#sent(bytes));
    this.#socket.uncork();
  }

  #sent(bytes: number): void {
    this.#unsentBytes -= bytes;
    if (this.#unsentBytes > 0 || !this.#drainWanted || this.#socket.destroyed) return;
    this.#drainWanted = false;
    this.#events?.drain();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    if (this.#ending) return;
    this.#flush();
    this.#ending = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
