/**
 * A connection inside TLS, with the promises of a plain one (`Connection`). What several completions of one turn
 * write leaves as few records as possible.
 *
 * Node reports each TLS record by itself, in memory of its own, and clients send a record for each header and one for
 * each payload. What comes in one turn of the event loop is copied together and reported once.
 */
import type { TLSSocket } from 'node:tls';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import type { Connection, ConnectionEvents, TlsPeer } from './network.js';
import type { DirectConnection } from './real-connection.js';
import { ReceiveBuffer } from './real-receive-buffer.js';
import { SendQueue } from './real-send-queue.js';

export class RealTlsConnection implements DirectConnection {
  readonly peer: string;
  /** Another process cannot go on with it: the keys are in this one. */
  readonly descriptor = null;
  readonly #socket: TLSSocket;
  #error: Error | null = null;
  #events: ConnectionEvents | null = null;
  readonly #sending: SendQueue;
  readonly #received: ReceiveBuffer = new ReceiveBuffer();
  /** Bytes that arrived and were not reported. */
  #arrivedBytes = 0;
  #reportScheduled = false;
  #handlingChunk = false;
  #paused = false;
  /** What came while it is paused: the rest of a record at most. */
  readonly #held: Buffer[] = [];
  /** The peer has ended, and that was not reported yet. */
  #hasEnded = false;
  #ending = false;
  #isClosed = false;

  constructor(socket: TLSSocket, peer: string) {
    this.peer = peer;
    this.#socket = socket;
    const drained = (): void => this.#events?.drain();
    this.#sending = new SendQueue({ socket, descriptor: () => null, drained });
    socket.on('error', (error: Error) => (this.#error = error));
    socket.on('close', () => {
      this.#isClosed = true;
      this.#sending.clear();
      this.#events?.closed(this.#error);
    });
  }

  get unsentBytes(): number {
    return this.#sending.unsentBytes;
  }

  start(events: ConnectionEvents): void {
    this.#events = events;
    if (this.#isClosed) {
      events.closed(this.#error);
      return;
    }
    this.#socket.on('end', () => {
      this.#hasEnded = true;
      this.#scheduleReport();
    });
    this.#socket.on('data', (chunk: Buffer) => this.#arrived(chunk));
  }

  receiveInto(target: Buffer): boolean {
    if (this.#handlingChunk) this.#received.direct(target);
    return this.#handlingChunk;
  }

  #arrived(record: Buffer): void {
    for (let at = 0; at < record.length;) {
      if (this.#paused) {
        this.#held.push(record.subarray(at));
        return;
      }
      const room = this.#received.next();
      const count = record.copy(room, this.#arrivedBytes, at);
      at += count;
      this.#arrivedBytes += count;
      if (this.#arrivedBytes === room.length) this.#reportBytes();
    }
    this.#scheduleReport();
  }

  #scheduleReport(): void {
    if (this.#reportScheduled) return;
    this.#reportScheduled = true;
    setImmediate(() => {
      this.#reportScheduled = false;
      this.#report();
    });
  }

  /** Nothing while it is paused; the end comes after everything else. */
  #report(): void {
    if (!this.#mayReport()) return;
    for (const record of this.#held.splice(0)) this.#arrived(record);
    if (this.#mayReport() && this.#arrivedBytes > 0) this.#reportBytes();
    if (!this.#mayReport() || !this.#hasEnded) return;
    this.#hasEnded = false;
    this.#events?.end();
  }

  #mayReport(): boolean {
    return !this.#paused && !this.#isClosed;
  }

  #reportBytes(): void {
    const chunk = this.#received.landed(this.#arrivedBytes);
    this.#arrivedBytes = 0;
    this.#handlingChunk = true;
    const isDone = this.#events?.data(chunk) ?? true;
    this.#handlingChunk = false;
    if (isDone) this.#received.takeBack(chunk);
  }

  write(parts: readonly Buffer[], now = false): boolean {
    if (this.#ending || this.#socket.destroyed) return true;
    return this.#sending.write(parts, now || this.#handlingChunk);
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#socket.resume();
    this.#scheduleReport();
  }

  /** TLS says goodbye before TCP does (T11). */
  end(): void {
    if (this.#ending) return;
    this.#sending.flush();
    this.#ending = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  startTls(): Promise<{ connection: Connection; peer: TlsPeer }> {
    invariant(false, 'TLS starts once');
  }

  startTlsClient(): Promise<Connection> {
    invariant(false, 'TLS starts once');
  }

  exportKey(label: string, bytes: number): Buffer {
    if (this.#socket.destroyed)
      throw new StoreError('E_CLOSED', 'A TLS connection that is closed makes no keys');
    // Without a context TLS 1.2 makes other bytes than with an empty one: both ends give that one.
    return this.#socket.exportKeyingMaterial(bytes, label, Buffer.alloc(0));
  }

  /** The keys are in this process. */
  release(): null {
    return null;
  }
}
