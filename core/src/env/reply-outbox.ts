/**
 * Answers on their way to the socket. The buffer of a READ has room for the header in front, so that header and data
 * are one piece; small ones are cut from a slab, and neighbours that finish one after the other become one piece
 * without copying.
 *
 * Memory is used again, because fresh memory costs more than the work: 4 KiB reads at depth 32 spent a sixth of
 * their time in the garbage collector, for nothing but slabs. A slab or a large buffer goes back to the pool when
 * every piece cut from it was queued and the operating system has taken the last byte of each, or when the connection
 * is closed. A piece that is never queued because its READ failed (and whoever failed may still be writing) keeps its
 * memory from ever coming back: that is for the garbage collector.
 *
 * Until then an answer counts for all of its bytes, also if the last of them alone is still here: the memory is.
 */
import type { BufferPool } from './buffer-pool.js';
import { Reply, type Slab } from './reply.js';

const SLAB_BYTES = 256 * 1024;
/** Longer replies get a buffer of their own; 16 KiB of data and any header fit. */
const SLAB_REPLY_BYTES_MAX = 16 * 1024 + 64;

/** Replies that were queued one after the other and lie in one slab; or one with memory of its own. */
interface Queued {
  readonly slab: Slab | null;
  count: number;
  bytes: number;
  /** All bytes ever queued, up to the end of the last of them. */
  end: number;
}

export class ReplyOutbox {
  readonly #pool: BufferPool;
  /** What small replies are cut from; null while nothing is cut. */
  #slab: Slab | null = null;
  /** In the order of the bytes. */
  #queued: Queued[] = [];
  #parts: Buffer[] = [];
  /** The last part, as long as it may still grow: bytes `[start, end)` of some memory. */
  #run: Buffer | null = null;
  #runStart = 0;
  #runEnd = 0;
  #bytes = 0;
  /** Bytes ever given to the socket. */
  #takenBytes = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Bytes that wait for `takeParts`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Room for one answer, or a piece of one, of exactly `bytes`. */
  allocate(bytes: number): Reply {
    if (bytes <= SLAB_REPLY_BYTES_MAX) return cut(this.#slabFor(bytes), bytes);
    return cut(this.#newSlab(bytes), bytes);
  }

  /** Queues what `allocate` gave and the caller has filled. */
  push(reply: Reply): void {
    this.#bytes += reply.bytes;
    this.#enqueue(reply);
    if (this.#run !== reply.memory || this.#runEnd !== reply.at) {
      this.#endRun();
      this.#run = reply.memory;
      this.#runStart = reply.at;
    }
    this.#runEnd = reply.at + reply.bytes;
  }

  /** A piece will not be queued, and somebody may still be writing to it: its memory is nobody's any more. */
  abandon(reply: Reply): void {
    if (reply.slab === null) return;
    reply.slab.isSpoiled = true;
    if (this.#slab === reply.slab) this.#slab = null;
  }

  /** A piece will not be queued, and nobody writes to it. */
  discard(reply: Reply): void {
    if (reply.slab !== null) this.#haveLeft(reply.slab, 1);
  }

  /** The connection is closed, nothing is sent any more. @returns Bytes that had not left */
  close(): number {
    this.takeParts();
    return this.sentAllBut(0);
  }

  /** Everything queued, to be sent in this order. */
  takeParts(): Buffer[] {
    this.#endRun();
    const parts = this.#parts;
    this.#parts = [];
    this.#takenBytes += this.#bytes;
    this.#bytes = 0;
    return parts;
  }

  /**
   * All but the last `unsentBytes` of what was taken has left: its memory is free again.
   * @returns Bytes of the answers whose memory nothing holds any more
   */
  sentAllBut(unsentBytes: number): number {
    const sentBytes = this.#takenBytes - unsentBytes;
    let gone = 0;
    let goneBytes = 0;
    // By index: an iterator would be garbage of each send.
    for (;;) {
      const first = this.#queued[gone];
      if (first === undefined || first.end > sentBytes) break;
      gone += 1;
      goneBytes += first.bytes;
      if (first.slab !== null) this.#haveLeft(first.slab, first.count);
    }
    if (gone === this.#queued.length) this.#queued = [];
    else if (gone > 0) this.#queued.splice(0, gone);
    return goneBytes;
  }

  #slabFor(bytes: number): Slab {
    const slab = this.#slab;
    if (slab !== null && slab.memory.length - slab.cutBytes >= bytes) return slab;
    this.#slab = this.#newSlab(SLAB_BYTES);
    return this.#slab;
  }

  #newSlab(bytes: number): Slab {
    return { memory: this.#pool.take(bytes), cutBytes: 0, live: 0, isSpoiled: false };
  }

  #enqueue({ slab, bytes }: Reply): void {
    const end = this.#takenBytes + this.#bytes;
    const last = slab === null ? undefined : this.#queued.at(-1);
    if (last !== undefined && last.slab === slab) {
      last.count += 1;
      last.bytes += bytes;
      last.end = end;
    } else {
      this.#queued.push({ slab, count: 1, bytes, end });
    }
  }

  /** So many pieces of it are nobody's any more. */
  #haveLeft(slab: Slab, count: number): void {
    slab.live -= count;
    if (slab.live > 0) return;
    if (this.#slab === slab) this.#slab = null;
    if (!slab.isSpoiled) this.#pool.release(slab.memory);
  }

  #endRun(): void {
    const run = this.#run;
    if (run === null) return;
    this.#parts.push(run.subarray(this.#runStart, this.#runEnd));
    this.#run = null;
  }
}

function cut(slab: Slab, bytes: number): Reply {
  const at = slab.cutBytes;
  slab.cutBytes += bytes;
  slab.live += 1;
  return new Reply(slab.memory, at, bytes, slab);
}
