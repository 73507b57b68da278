/**
 * A connection inside TLS, with the promises of a plain one (`Connection`). What several completions of one turn
 * write leaves as few records as possible.
 */
import type { TLSSocket } from 'node:tls';
import { invariant } from '../util/invariant.js';
import type { Connection, ConnectionEvents, TlsPeer } from './network.js';

/** Unsent bytes from which `write` asks the writer to wait for `drain`. */
const UNSENT_BYTES_HIGH = 256 * 1024;

export class RealTlsConnection implements Connection {
  readonly peer: string;
  /** Another process cannot go on with it: the keys are in this one. */
  readonly descriptor = null;
  readonly #socket: TLSSocket;
  #error: Error | null = null;
  #events: ConnectionEvents | null = null;
  #queue: Buffer[] = [];
  #unsentBytes = 0;
  #flushScheduled = false;
  #drainWanted = false;
  #ending = false;
  #isClosed = false;

  constructor(socket: TLSSocket, peer: string) {
    this.peer = peer;
    this.#socket = socket;
    socket.on('error', (error: Error) => (this.#error = error));
    socket.on('close', () => {
      this.#isClosed = true;
      this.#queue = [];
      this.#events?.closed(this.#error);
    });
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  start(events: ConnectionEvents): void {
    this.#events = events;
    if (this.#isClosed) {
      events.closed(this.#error);
      return;
    }
    this.#socket.on('end', () => events.end());
    this.#socket.on('data', (chunk: Buffer) => events.data(chunk));
  }

  write(parts: readonly Buffer[]): boolean {
    if (this.#ending || this.#socket.destroyed) return true;
    for (const part of parts) {
      this.#queue.push(part);
      this.#unsentBytes += part.length;
    }
    if (!this.#flushScheduled) {
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
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const last = parts.pop();
    if (last === undefined || this.#socket.destroyed) return;
    this.#queue = [];
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

  /** TLS says goodbye before TCP does (T11). */
  end(): void {
    if (this.#ending) return;
    this.#flush();
    this.#ending = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  startTls(): Promise<{ connection: Connection; peer: TlsPeer }> {
    invariant(false, 'TLS starts once');
  }

  /** The keys are in this process. */
  release(): null {
    return null;
  }
}
