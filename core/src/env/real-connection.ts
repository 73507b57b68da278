/**
 * A socket of the real machine, on node:net.
 *
 * Receiving: reads land in memory of ours (`ReceiveBuffer`), and a receiver that knows what comes next names the buffer
 * it shall land in (`receiveInto`). Measured, 1 MiB writes: 330 us of CPU each with `receiveInto`, 450 with slabs alone
 * or with Node's default chunks. A client that waits for each answer is looked out for (`LookOut`).
 * Sending: what is written while a chunk is being handled leaves at once, what several completions of one turn of the
 * event loop write leaves together (`SendQueue`).
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { StoreError } from '../util/errors.js';
import type {
  Connection,
  ConnectionEvents,
  TlsClientContext,
  TlsContext,
  TlsPeer,
} from './network.js';
import { native } from './real-native.js';
import { LookOut } from './real-look-out.js';
import { ReceiveBuffer } from './real-receive-buffer.js';
import { SendQueue } from './real-send-queue.js';
import { startTlsClient } from './real-tls-client.js';
import { startTls } from './real-tls.js';
import { duplicateDescriptor } from './socket-calls.js';

const KEEP_ALIVE_MS = 30_000;
/** Room for a whole long reply: what does not fit waits for the client, and for the event loop each time. */
const SEND_BUFFER_BYTES: number = 1024 * 1024;

/** A connection that can place what arrives where its receiver wants it. */
export interface DirectConnection extends Connection {
  /**
   * The next bytes land in `target` until it is full, instead of in chunks of the connection's own. They are
   * reported through `data` as usual, as slices of `target`.
   * @returns False, and nothing happens, if this is not called from within `data`: the next bytes have their place
   *   already then.
   */
  receiveInto(target: Buffer): boolean;
}

function isPipe(socket: Socket): boolean {
  const { _handle: handle } = socket as unknown as { _handle: object | null };
  return handle !== null && handle.constructor.name === 'Pipe';
}

/** Who is at the other end: `unix` for a Unix socket, `gone` if nobody can say any more. */
function peerOf(socket: Socket): string {
  const { remoteAddress, remotePort, remoteFamily } = socket;
  if (remoteAddress === undefined || remotePort === undefined)
    // A TCP connection that was reset already has no address any more: it is nobody's, least of all our own user's.
    return isPipe(socket) ? 'unix' : 'gone';
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
 * Gives a paused socket its own receive buffers. Node takes `onread` only when a socket is made, so a new one takes over
 * the handle of the old one (the undocumented `handle` option that node:net itself uses).
 */
function adopt(accepted: Socket, onread: OnRead): Socket {
  const owner = accepted as unknown as { _handle: object | null };
  const handle = owner._handle;
  owner._handle = null;
  const options = { handle, allowHalfOpen: true, manualStart: true, onread };
  return new Socket(options);
}

/** The socket behind a descriptor that another process opened. */
function socketOn(descriptor: number, onread: OnRead): Socket {
  const options = { fd: descriptor, readable: true, writable: true, allowHalfOpen: true };
  return new Socket({ ...options, manualStart: true, onread } as SocketConstructorOpts);
}

/** A socket that was accepted, or that connected; see `Connection`. */
export class RealConnection implements DirectConnection {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #received: ReceiveBuffer = new ReceiveBuffer();
  readonly #sending: SendQueue;
  readonly #lookOut: LookOut = new LookOut();
  #events: ConnectionEvents | null = null;
  #error: Error | null = null;
  #handlingChunk = false;
  #paused = false;
  #ending = false;
  /** TLS lies over the socket: nothing leaves or arrives beside it. */
  #isSpent = false;

  /**
   * @param accepted - A paused, connected socket of `node:net`, or the descriptor of one that another process has.
   * @param peer - Who is at the other end, where the socket does not know.
   */
  constructor(accepted: Socket | number, peer?: string) {
    const onread = {
      buffer: () => this.#received.next(),
      callback: (bytes: number) => this.#arrived(bytes),
    };
    if (typeof accepted === 'number') {
      this.#socket = socketOn(accepted, onread);
      this.peer = peer ?? peerOf(this.#socket);
    } else {
      this.peer = peer ?? peerOf(accepted);
      this.#socket = adopt(accepted, onread);
    }
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.setNoDelay(true);
    const { descriptor } = this;
    if (descriptor !== null) native()?.sendBuffer(descriptor, SEND_BUFFER_BYTES);
    // A socket without this listener would end the process when the peer vanishes before `start`.
    this.#socket.on('error', (error) => (this.#error = error));
    this.#sending = new SendQueue({
      socket: this.#socket,
      descriptor: () => this.descriptor,
      drained: () => this.#events?.drain(),
    });
  }

  get unsentBytes(): number {
    return this.#sending.unsentBytes;
  }

  start(events: ConnectionEvents): void {
    this.#events = events;
    this.#socket.on('end', () => this.#events?.end());
    this.#socket.on('close', () => {
      this.#sending.clear();
      this.#lookOut.closed();
      this.#events?.closed(this.#error);
    });
    // The stream begins to read at once. It would in a later turn, even if it was paused in this one.
    this.#socket.read(0);
    this.#socket.resume();
  }

  receiveInto(target: Buffer): boolean {
    if (this.#handlingChunk) this.#received.direct(target);
    return this.#handlingChunk;
  }

  /** Through the event loop. Node asks for the next buffer when this returns. */
  #arrived(bytes: number): boolean {
    if (this.#events?.bringsAnswers === true) {
      this.#handle(bytes);
      return true;
    }
    this.#lookOut.arrived();
    this.#handle(bytes);
    this.#lookOut.look(
      this.descriptor,
      () => (this.#awaited() === 'peer' ? this.#received.next() : null),
      (more) => this.#handle(more),
    );
    if (this.#awaited() === 'answer') this.#lookOut.answering();
    return true;
  }

  #handle(bytes: number): void {
    const chunk = this.#received.landed(bytes);
    this.#handlingChunk = true;
    const isDone = this.#events?.data(chunk) ?? true;
    this.#handlingChunk = false;
    if (isDone) this.#received.takeBack(chunk);
  }

  // No getter: V8 runs private ones, which each request needs, outside of compiled code.
  #awaited(): 'peer' | 'answer' | null {
    if (this.#paused || this.#ending || this.#isSpent || this.#socket.destroyed) return null;
    return this.#events?.awaits?.() ?? null;
  }

  write(parts: readonly Buffer[], now = false): boolean {
    if (this.#ending || this.#isSpent || this.#socket.destroyed) return true;
    if (this.#handlingChunk) return this.#sending.write(parts, true);
    if (now) {
      this.#lookOut.answered();
      return this.#sending.write(parts, true);
    }
    return this.#sending.write(parts, this.#lookOut.answered());
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#socket.resume();
  }

  end(): void {
    if (this.#ending) return;
    this.#sending.flush();
    this.#ending = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async startTls(context: TlsContext): Promise<{ connection: Connection; peer: TlsPeer }> {
    this.#leaveToTls();
    const started = await startTls(this.#socket, context, this.peer);
    this.#events = null;
    return started;
  }

  async startTlsClient(context: TlsClientContext, host: string): Promise<Connection> {
    this.#leaveToTls();
    const connection = await startTlsClient(this.#socket, context, host, this.peer);
    this.#events = null;
    return connection;
  }

  /** What was written leaves first: Node lets TLS wait for it. */
  #leaveToTls(): void {
    if (this.#socket.destroyed)
      throw new StoreError('E_UNREACHABLE', `The connection to ${this.peer} is closed`);
    this.#sending.flush();
    this.#isSpent = true;
  }

  exportKey(): null {
    return null;
  }

  get descriptor(): number | null {
    if (this.#isSpent || this.#socket.destroyed) return null;
    const { _handle: handle } = this.#socket as unknown as { _handle: { fd: number } | null };
    return handle === null || handle.fd < 0 ? null : handle.fd;
  }

  release(): number | null {
    const { descriptor } = this;
    const copy = descriptor === null ? null : duplicateDescriptor(descriptor);
    // Closes our descriptor only: shutdown(2) would end the connection for everybody who has it.
    this.#socket.destroy();
    return copy;
  }
}
