/**
 * Carries one TCP connection between a client and a target, as badly as it is told: in pieces of any length, late, not at
 * all for a while, or to an end in the middle of anything. The order of the bytes stays, as TCP promises.
 */
import { connect, type Socket } from 'node:net';
import type { SeededRandom } from '../tagged-writer/seeded-random.js';

export interface StreamFaults {
  /** Each connection is cut after a random time in this range; null: it is not. */
  readonly cutAfterMs?: readonly [number, number] | null;
  /** What arrives goes on in pieces of 1 to so many bytes; 0: as it came. */
  readonly pieceBytesMax?: number;
  /** Each piece waits 0 to so many ms. */
  readonly delayMsMax?: number;
}

/** How a connection ends that is cut: with a reset, or as if its other end had closed it. */
export type Cut = 'reset' | 'close';

const STALL_LOOK_MS = 5;

export class StreamRelay {
  readonly #client: Socket;
  readonly #target: Socket;
  readonly #faults: StreamFaults;
  readonly #random: SeededRandom;
  readonly #timer: NodeJS.Timeout | null;
  #isOver = false;
  /**
   * Nothing goes on while this is true, not even the news that an end is gone: what was on its way arrives later, when
   * nobody waits for it any more.
   */
  isStalled = false;
  wasCut = false;

  constructor(
    client: Socket,
    targetPort: number,
    options: {
      readonly faults: StreamFaults;
      readonly random: SeededRandom;
      readonly ended: () => void;
    },
  ) {
    const { faults, random, ended } = options;
    this.#client = client;
    this.#target = connect({ host: '127.0.0.1', port: targetPort, allowHalfOpen: true });
    this.#faults = faults;
    this.#random = random;
    for (const socket of [this.#client, this.#target]) {
      socket.setNoDelay(true);
      socket.on('error', () => {
        if (!this.isStalled) this.#end('reset'); // either end may break: then both do
      });
    }
    const { cutAfterMs = null } = faults;
    this.#timer =
      cutAfterMs === null
        ? null
        : setTimeout(
            () => this.cut(random.pick(['reset', 'close'])),
            random.between(...cutAfterMs),
          );
    const both = [this.#carry(client, this.#target), this.#carry(this.#target, client)];
    void Promise.all(both).then(() => {
      this.#end('close');
      ended();
    });
  }

  /** Ends the connection now, whatever is under way. */
  cut(how: Cut): void {
    if (this.#isOver) return;
    this.wasCut = true;
    this.#end(how);
  }

  #end(how: Cut): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (const socket of [this.#client, this.#target]) {
      // libuv does not reset what is being shut down, and Node would leave it open.
      const canReset = !socket.connecting && !socket.writableEnded;
      if (how === 'reset' && canReset) socket.resetAndDestroy();
      else socket.destroy();
    }
  }

  async #carry(from: Socket, to: Socket): Promise<void> {
    try {
      // No encoding was set, so these are buffers.
      for await (const chunk of from as AsyncIterable<Buffer>)
        for (const piece of this.#cutUp(chunk)) await this.#send(to, piece);
      await this.#wakes();
      if (!this.#isOver) to.end();
    } catch {
      await this.#wakes();
      this.#end('close'); // a broken end breaks the other
    }
  }

  *#cutUp(chunk: Buffer): Generator<Buffer> {
    const { pieceBytesMax = 0 } = this.#faults;
    for (let at = 0; at < chunk.length;) {
      const bytes = pieceBytesMax === 0 ? chunk.length : this.#random.between(1, pieceBytesMax);
      yield chunk.subarray(at, at + bytes);
      at += bytes;
    }
  }

  async #send(to: Socket, piece: Buffer): Promise<void> {
    const { delayMsMax = 0, pieceBytesMax = 0 } = this.#faults;
    if (delayMsMax > 0) await pause(this.#random.below(delayMsMax + 1));
    else if (pieceBytesMax > 0) await new Promise(setImmediate);
    await this.#wakes();
    if (!this.#isOver && !to.write(piece)) await roomIn(to);
  }

  async #wakes(): Promise<void> {
    while (this.isStalled && !this.#isOver) await pause(STALL_LOOK_MS);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Resolves when more can be written, or never will be. */
function roomIn(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    if (socket.destroyed) resolve();
    else socket.once('drain', done).once('close', done);
  });
}
