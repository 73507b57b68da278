/**
 * What is on its way out through a socket of node:net. Parts written in one turn of the event loop leave together.
 *
 * A plain socket is offered them with one system call of ours (`sendmsg`), which spares Node's streams and takes a
 * third of the time; what the operating system does not take at once, and any error, is left to the stream, which
 * waits and reports as always.
 */
import type { Socket } from 'node:net';
import { sliceParts } from '../util/byte-parts.js';
import { native } from './real-native.js';

/** Unsent bytes from which `write` asks the writer to wait. */
const UNSENT_BYTES_HIGH = 256 * 1024;

export interface SendQueueOptions {
  readonly socket: Socket;
  /** Descriptor to send through; null if only the stream can. */
  readonly descriptor: () => number | null;
  /** Everything was handed to the operating system, after a `write` that left something unsent. */
  readonly drained: () => void;
}

export class SendQueue {
  readonly #socket: Socket;
  readonly #descriptor: () => number | null;
  readonly #drained: () => void;
  readonly #native = native();
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** Queued, or given to the stream and not sent. */
  #unsentBytes = 0;
  #flushScheduled = false;
  #drainWanted = false;

  constructor({ socket, descriptor, drained }: SendQueueOptions) {
    this.#socket = socket;
    this.#descriptor = descriptor;
    this.#drained = drained;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  /**
   * @param now - More is not to be expected in this turn.
   * `drained` tells when all has left, unless it has when this or a later `write` returns; never from within.
   * @returns False: wait for that before writing much more.
   */
  write(parts: readonly Buffer[], now: boolean): boolean {
    for (const part of parts) {
      this.#queue.push(part);
      this.#queuedBytes += part.length;
      this.#unsentBytes += part.length;
    }
    if (now) {
      this.#drainWanted = false;
      this.flush();
    } else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      setImmediate(() => {
        this.#flushScheduled = false;
        this.flush();
      });
    }
    this.#drainWanted = this.#unsentBytes > 0;
    return this.#unsentBytes <= UNSENT_BYTES_HIGH;
  }

  /** Sends what is queued. */
  flush(): void {
    if (this.#queuedBytes === 0 || this.#socket.destroyed) return;
    const parts = this.#queue;
    const bytes = this.#queuedBytes;
    this.#queue = [];
    this.#queuedBytes = 0;
    const taken = this.#unsentBytes === bytes ? this.#offer(parts) : 0;
    if (taken < bytes) this.#stream(taken === 0 ? parts : sliceParts(parts, taken, bytes - taken));
    if (taken > 0) this.#sent(taken);
  }

  /** The socket is gone, and what was queued with it. */
  clear(): void {
    this.#queue = [];
    this.#queuedBytes = 0;
  }

  /** @returns bytes that the operating system took at once. Only while the stream holds nothing. */
  #offer(parts: readonly Buffer[]): number {
    const descriptor = this.#descriptor();
    if (this.#native === null || descriptor === null) return 0;
    return Math.max(0, this.#native.send(descriptor, parts));
  }

  #stream(parts: readonly Buffer[]): void {
    const last = parts.length - 1;
    let bytes = 0;
    this.#socket.cork();
    parts.forEach((part, index) => {
      bytes += part.length;
      if (index < last) this.#socket.write(part);
      else this.#socket.write(part, () => this.#sent(bytes));
    });
    this.#socket.uncork();
  }

  #sent(bytes: number): void {
    this.#unsentBytes -= bytes;
    if (this.#unsentBytes > 0 || !this.#drainWanted || this.#socket.destroyed) return;
    this.#drainWanted = false;
    this.#drained();
  }
}
