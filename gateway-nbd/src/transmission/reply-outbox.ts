/**
 * Answers on their way to the socket. The buffer of a READ has room for the header in front, so that header and data
 * are one piece; small ones are cut from a slab, and neighbours that finish one after the other become one piece
 * without copying.
 *
 * Memory is used again, because fresh memory costs more than the work: 4 KiB reads at depth 32 spent a sixth of
 * their time in the garbage collector, for nothing but slabs. A slab or a large buffer goes back to the pool when
 * every piece cut from it was queued and the operating system has taken the last byte of each. A piece that is never
 * queued (the READ failed, and whoever failed may still be writing) keeps its memory from ever coming back: that is
 * for the garbage collector.
 */
import { POOLED_BYTES_MIN, type BufferPool } from './buffer-pool.js';

const SLAB_BYTES = 256 * 1024;
/** Longer replies get a buffer of their own; 16 KiB of data and any header fit. */
const SLAB_REPLY_BYTES_MAX = 16 * 1024 + 64;

/** Memory that replies are cut from. */
interface Slab {
  readonly memory: Buffer;
  /** How much of it has been cut. */
  cutBytes: number;
  /** Pieces that were cut and have not left. */
  live: number;
}

/** Replies that were queued one after the other and lie in one slab. */
interface Queued {
  readonly slab: Slab;
  count: number;
  /** All bytes ever queued, up to the end of the last of them. */
  end: number;
}

export class ReplyOutbox {
  readonly #pool: BufferPool;
  /** What small replies are cut from; null while nothing is cut. */
  #slab: Slab | null = null;
  /** Slabs with live pieces, by the memory they cut up. */
  readonly #slabs = new Map<ArrayBufferLike, Slab>();
  /** In the order of the bytes. */
  #queued: Queued[] = [];
  #parts: Buffer[] = [];
  /** The last part, as long as it may still grow. */
  #run: Buffer | null = null;
  #runBytes = 0;
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
  allocate(bytes: number): Buffer {
    if (bytes <= SLAB_REPLY_BYTES_MAX) return this.#cut(this.#slabFor(bytes), bytes);
    if (bytes < POOLED_BYTES_MIN) return Buffer.allocUnsafeSlow(bytes);
    return this.#cut(this.#newSlab(bytes), bytes);
  }

  /** Queues what `allocate` gave and the caller has filled. */
  push(reply: Buffer): void {
    this.#bytes += reply.length;
    const slab = this.#slabs.get(reply.buffer);
    if (slab !== undefined) this.#enqueue(slab);
    const run = this.#run;
    if (run?.buffer === reply.buffer && run.byteOffset + this.#runBytes === reply.byteOffset) {
      this.#runBytes += reply.length;
    } else {
      this.#endRun();
      this.#run = reply;
      this.#runBytes = reply.length;
    }
  }

  /** A piece will not be queued, and somebody may still be writing to it: its memory is nobody's any more. */
  abandon(reply: Buffer): void {
    if (this.#slab?.memory.buffer === reply.buffer) this.#slab = null;
    this.#slabs.delete(reply.buffer);
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

  /** All but the last `unsentBytes` of what was taken has left: its memory is free again. */
  sentAllBut(unsentBytes: number): void {
    const sentBytes = this.#takenBytes - unsentBytes;
    let gone = 0;
    for (const { slab, count, end } of this.#queued) {
      if (end > sentBytes) break;
      gone += 1;
      slab.live -= count;
      if (slab.live === 0) this.#release(slab);
    }
    if (gone === this.#queued.length) this.#queued = [];
    else if (gone > 0) this.#queued.splice(0, gone);
  }

  #slabFor(bytes: number): Slab {
    const slab = this.#slab;
    if (slab !== null && slab.memory.length - slab.cutBytes >= bytes) return slab;
    this.#slab = this.#newSlab(SLAB_BYTES);
    return this.#slab;
  }

  #newSlab(bytes: number): Slab {
    const slab = { memory: this.#pool.take(bytes), cutBytes: 0, live: 0 };
    this.#slabs.set(slab.memory.buffer, slab);
    return slab;
  }

  #cut(slab: Slab, bytes: number): Buffer {
    const at = slab.cutBytes;
    slab.cutBytes += bytes;
    slab.live += 1;
    return slab.memory.subarray(at, slab.cutBytes);
  }

  #enqueue(slab: Slab): void {
    const end = this.#takenBytes + this.#bytes;
    const last = this.#queued.at(-1);
    if (last?.slab === slab) {
      last.count += 1;
      last.end = end;
    } else {
      this.#queued.push({ slab, count: 1, end });
    }
  }

  #release(slab: Slab): void {
    this.#slabs.delete(slab.memory.buffer);
    if (this.#slab === slab) this.#slab = null;
    this.#pool.release(slab.memory);
  }

  #endRun(): void {
    const run = this.#run;
    if (run === null) return;
    this.#parts.push(
      run.length === this.#runBytes ? run : Buffer.from(run.buffer, run.byteOffset, this.#runBytes),
    );
    this.#run = null;
  }
}
