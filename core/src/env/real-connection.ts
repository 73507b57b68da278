/**
 * A socket of the real machine, on node:net.
 *
 * Receiving: reads land in slabs that are cut up and handed out (nothing is copied, no byte of a slab is ever used
 * twice), and a receiver that knows what comes next names the buffer it shall land in (`receiveInto`).
 * Measured, 1 MiB writes: 330 us of CPU each with `receiveInto`, 450 with slabs alone or with Node's default chunks.
 * Sending: what is written while a chunk is being handled, or by several completions of one turn of the event loop,
 * leaves in one `writev`.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Connection, ConnectionEvents, TlsContext, TlsPeer } from './network.js';
import { startTls } from './real-tls.js';
import { duplicateDescriptor } from './socket-calls.js';

const SLAB_BYTES = 64 * 1024;
/** A slab with less room than this is left to its readers. */
const READ_BYTES_MIN = 16 * 1024;
/** Unsent bytes from which `write` asks the writer to wait for `drain`. */
const UNSENT_BYTES_HIGH = 256 * 1024;
const KEEP_ALIVE_MS = 30_000;

/** A connection that can place what arrives where its receiver wants it. */
export interface DirectConnection extends Connection {
  /**
   * The next bytes land in `target` until it is full, instead of in chunks of the connection's own. They are
   * reported through `data` as usual, as slices of `target`; but for the first ones, if this is not called from
   * within `data`: they may have a place already, and leave theirs in `target` unused.
   */
  receiveInto(target: Buffer): void;
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

/** The socket behind a descriptor that another process opened. */
function socketOn(descriptor: number, onread: OnRead): Socket {
  const options = { fd: descriptor, readable: true, writable: true, allowHalfOpen: true };
  return new Socket({ ...options, manualStart: true, onread } as SocketConstructorOpts);
}

/** An accepted socket; see `Connection`. */
export class RealConnection implements DirectConnection {
  readonly peer: string;
  readonly #socket: Socket;
  #events: ConnectionEvents | null = null;
  #error: Error | null = null;

  #slab: Buffer = Buffer.alloc(0);
  #slabAt = 0;
  #target: Buffer | null = null;
  #targetAt = 0;
  /** Where the read under way lands: chosen before the last one was reported, or when the socket was made. */
  #landing: Buffer = this.#slab;
  #landsInSlab = true;

  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #unsentBytes = 0;
  #flushScheduled = false;
  #handlingChunk = false;
  #drainWanted = false;
  #ending = false;

  /** @param accepted - A paused socket of `node:net`, or the descriptor of one that another process accepted. */
  constructor(accepted: Socket | number) {
    const onread = {
      buffer: () => this.#nextLanding(),
      callback: (bytes: number) => this.#received(bytes),
    };
    if (typeof accepted === 'number') {
      this.#socket = socketOn(accepted, onread);
      this.peer = peerOf(this.#socket);
    } else {
      this.peer = peerOf(accepted);
      this.#socket = adopt(accepted, onread);
    }
    this.#socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#socket.setNoDelay(true);
    // A socket without this listener would end the process when the peer vanishes before `start`.
    this.#socket.on('error', (error) => (this.#error = error));
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  start(events: ConnectionEvents): void {
    this.#events = events;
    this.#socket.on('end', () => this.#events?.end());
    this.#socket.on('close', () => {
      this.#queue = [];
      this.#events?.closed(this.#error);
    });
    this.#socket.resume();
  }

  receiveInto(target: Buffer): void {
    this.#target = target;
    this.#targetAt = 0;
  }

  #nextLanding(): Buffer {
    this.#landsInSlab = this.#target === null;
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
    // A target that was named between two reads, rather than while one was reported, misses the first of its bytes:
    // they are in the slab, and must stay there.
    if (this.#landsInSlab) this.#slabAt += bytes;
    if (this.#target !== null) {
      this.#targetAt += bytes;
      if (this.#targetAt >= this.#target.length) this.#target = null;
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

  async startTls(context: TlsContext): Promise<{ connection: Connection; peer: TlsPeer }> {
    this.#flush();
    const started = await startTls(this.#socket, context, this.peer);
    this.#events = null;
    return started;
  }

  get descriptor(): number | null {
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
