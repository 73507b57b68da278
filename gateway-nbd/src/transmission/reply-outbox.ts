/**
 * Answers on their way to the socket. The buffer of a READ has room for the reply header in front, so that header
 * and data are one piece; small ones are cut from a slab, and neighbours that finish one after the other become one
 * piece without copying. A slab is cut up once and never used again: while the socket or the backend still holds a
 * slice, nobody else can be writing there.
 */
import { NBD_MAGIC } from '../protocol/constants.js';
import { POOLED_BYTES_MIN, type BufferPool } from './buffer-pool.js';

// Simple reply, big-endian.
const AT_MAGIC = 0; //        4  NBD_MAGIC.SIMPLE_REPLY
const AT_ERROR = 4; //        4  NBD_ERROR
const AT_COOKIE_HIGH = 8; //  4
const AT_COOKIE_LOW = 12; //  4  data of a successful READ follows
export const REPLY_HEADER_BYTES = 16;

const SLAB_BYTES = 256 * 1024;
/** Longer replies get a buffer of their own. */
const SLAB_REPLY_BYTES_MAX = 16 * 1024 + REPLY_HEADER_BYTES;

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

  /** Room for one reply with `dataBytes` of data. */
  allocate(dataBytes: number): Buffer {
    const bytes = REPLY_HEADER_BYTES + dataBytes;
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

  /** Writes the reply header into the start of `reply` and queues it. */
  push(reply: Buffer, error: number, cookieHigh: number, cookieLow: number): void {
    reply.writeUInt32BE(NBD_MAGIC.SIMPLE_REPLY, AT_MAGIC);
    reply.writeUInt32BE(error, AT_ERROR);
    reply.writeUInt32BE(cookieHigh, AT_COOKIE_HIGH);
    reply.writeUInt32BE(cookieLow, AT_COOKIE_LOW);
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
