/**
 * A connection inside TLS, with the promises of a plain one (`Connection`). What several completions of one turn
 * write leaves as few records as possible.
 */
import type { TLSSocket } from 'node:tls';
import { invariant } from '../util/invariant.js';
import type { Connection, ConnectionEvents, TlsPeer } from './network.js';
import { SendQueue } from './real-send-queue.js';

export class RealTlsConnection implements Connection {
  readonly peer: string;
  /** Another process cannot go on with it: the keys are in this one. */
  readonly descriptor = null;
  readonly #socket: TLSSocket;
  #error: Error | null = null;
  #events: ConnectionEvents | null = null;
  readonly #sending: SendQueue;
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
    this.#socket.on('end', () => events.end());
    this.#socket.on('data', (chunk: Buffer) => events.data(chunk));
  }

  write(parts: readonly Buffer[]): boolean {
    if (this.#ending || this.#socket.destroyed) return true;
    return this.#sending.write(parts, false);
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

  /** The keys are in this process. */
  release(): null {
    return null;
  }
}
