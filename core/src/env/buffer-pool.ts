/**
 * Buffers used again. A fresh MiB costs its page faults and a share of garbage collection, together more than copying it:
 * 1 MiB reads at depth 4 went from 1.2 to 2.3 GiB/s with this pool. Small payloads that somebody keeps for a while are
 * copied into buffers of the pool, so that what they arrived in is free at once: slabs that were left to their readers made
 * every process of a cluster collect all of its garbage after each 1,500 writes of 4 KiB.
 *
 * What was not needed for a while is given up (`trim`), as is what comes back beyond what the pool may keep: its pages
 * go back to the system at once, all but those that it shares with its neighbours. Left to the garbage collector they stay
 * resident until it comes by, which after a hundred MiB of large replies it had not: their senders' memory was free in every
 * count, and used.
 *
 * A buffer comes back only when nobody can touch it any more: the payload of a WRITE when the backend has answered
 * without an error, the reply to a READ when the operating system has taken its last byte or the connection is closed.
 * Whatever is in doubt (errors) is left to the garbage collector.
 */
import { invariant } from '../util/invariant.js';
import { dropPages } from './real-memory.js';

/** Room for a header beside a payload of a power of two. */
const HEADROOM_BYTES = 4096;
/** Below it sizes are multiples of a block. */
const SMALL_BYTES_MAX = 64 * 1024;
const BLOCK_BYTES = 4096;
const POOLED_BYTES_MAX = 4 * 1024 * 1024 + HEADROOM_BYTES;
const POISON = 0xdb;
const SIZES_PER_DOUBLING = 4;

/** Free buffers of one size. */
interface Shelf {
  readonly buffers: Buffer[];
  /** The least there were since the last `trim`: so many nobody needed. */
  idleCount: number;
}

export class BufferPool {
  readonly #keepBytesMax: number;
  readonly #poison: boolean;
  /** By size. */
  readonly #shelves = new Map<number, Shelf>();
  #keptBytes = 0;

  /** @param options - `poison` overwrites what comes back, so that a use after release cannot go unnoticed. */
  constructor(keepBytesMax: number, options: { poison: boolean }) {
    this.#keepBytesMax = keepBytesMax;
    this.#poison = options.poison;
  }

  /** Bytes in free buffers. */
  get keptBytes(): number {
    return this.#keptBytes;
  }

  /** A buffer of at least `bytes`, with whatever was in it. */
  take(bytes: number): Buffer {
    const size = sizeFor(bytes);
    const shelf = this.#shelves.get(size);
    const kept = shelf?.buffers.pop();
    if (shelf === undefined || kept === undefined) return Buffer.allocUnsafeSlow(size);
    this.#keptBytes -= size;
    if (shelf.buffers.length < shelf.idleCount) shelf.idleCount = shelf.buffers.length;
    return kept;
  }

  /** Gives up what nobody needed since the last call. */
  trim(): void {
    for (const [size, shelf] of this.#shelves) {
      const { buffers } = shelf;
      // Those at the bottom: the warm ones are on top.
      for (const buffer of buffers.splice(0, shelf.idleCount)) {
        dropPages(buffer);
        this.#keptBytes -= size;
      }
      shelf.idleCount = buffers.length;
    }
  }

  /** Takes back a whole buffer that `take` gave; nobody may use it or a slice of it any more. */
  release(buffer: Buffer): void {
    const size = buffer.length;
    invariant(size === buffer.buffer.byteLength, 'a whole buffer comes back');
    if (this.#poison) buffer.fill(POISON);
    if (size > POOLED_BYTES_MAX || this.#keptBytes + size > this.#keepBytesMax) {
      dropPages(buffer);
      return;
    }
    const shelf = this.#shelves.get(size);
    if (shelf === undefined) this.#shelves.set(size, { buffers: [buffer], idleCount: 0 });
    else shelf.buffers.push(buffer);
    this.#keptBytes += size;
  }
}

/**
 * Four sizes between one power of two and the next, and fewer bytes than a block too many for small ones: a request is
 * charged for its bytes, not for its buffer's.
 */
function sizeFor(bytes: number): number {
  if (bytes < SMALL_BYTES_MAX) return Math.max(Math.ceil(bytes / BLOCK_BYTES), 1) * BLOCK_BYTES;
  let payloadBytes = SMALL_BYTES_MAX;
  let step = SMALL_BYTES_MAX;
  while (payloadBytes + HEADROOM_BYTES < bytes) {
    step = payloadBytes / SIZES_PER_DOUBLING;
    payloadBytes *= 2;
  }
  while (payloadBytes - step >= SMALL_BYTES_MAX && payloadBytes - step + HEADROOM_BYTES >= bytes)
    payloadBytes -= step;
  const size = payloadBytes + HEADROOM_BYTES;
  return size > POOLED_BYTES_MAX ? bytes : size;
}
