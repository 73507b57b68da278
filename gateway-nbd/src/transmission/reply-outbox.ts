/**
 * Answers on their way to the socket. The buffer of a READ has room for the header in front, so that header and data
 * are one piece; small ones are cut from a slab, and neighbours that finish one after the other become one piece
 * without copying. A slab is cut up once and never used again: while the socket or the backend still holds a slice,
 * nobody else can be writing there.
 */
import { POOLED_BYTES_MIN, type BufferPool } from './buffer-pool.js';

const SLAB_BYTES = 256 * 1024;
/** Longer replies get a buffer of their own; 16 KiB of data and any header fit. */
const SLAB_REPLY_BYTES_MAX = 16 * 1024 + 64;

export class ReplyOutbox {
  #slab: Buffer = Buffer.alloc(0);
  #slabAt = 0;
  readonly #pool: BufferPool;
  #parts: Buffer[] = [];
  /** The last part, as long as it may still grow. */
  #run: Buffer | null = null;
  #runBytes = 0;
  #bytes = 0;
  /** Bytes ever given to the socket. */
  #takenBytes = 0;
  /** Pooled buffers on their way, and how much has been sent when the last byte of each has. */
  #borrowed: { buffer: Buffer; end: number }[] = [];

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Bytes that wait for `takeParts`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Room for one answer, or a piece of one, of exactly `bytes`. */
  allocate(bytes: number): Buffer {
    if (bytes > SLAB_REPLY_BYTES_MAX)
      return bytes < POOLED_BYTES_MIN
        ? Buffer.allocUnsafeSlow(bytes)
        : this.#pool.take(bytes).subarray(0, bytes);
    if (this.#slab.length - this.#slabAt < bytes) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#slabAt = 0;
    }
    const at = this.#slabAt;
    this.#slabAt += bytes;
    return this.#slab.subarray(at, at + bytes);
  }

  /** Queues what `allocate` gave and the caller has filled. */
  push(reply: Buffer): void {
    this.#bytes += reply.length;
    if (reply.length >= POOLED_BYTES_MIN)
      this.#borrowed.push({
        buffer: Buffer.from(reply.buffer),
        end: this.#takenBytes + this.#bytes,
      });
    const run = this.#run;
    if (run?.buffer === reply.buffer && run.byteOffset + this.#runBytes === reply.byteOffset) {
      this.#runBytes += reply.length;
    } else {
      this.#endRun();
      this.#run = reply;
      this.#runBytes = reply.length;
    }
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

  /** All but the last `unsentBytes` of what was taken has left: its buffers are free again. */
  sentAllBut(unsentBytes: number): void {
    const sentBytes = this.#takenBytes - unsentBytes;
    let count = 0;
    for (const { buffer, end } of this.#borrowed) {
      if (end > sentBytes) break;
      this.#pool.release(buffer);
      count += 1;
    }
    if (count > 0) this.#borrowed.splice(0, count);
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
