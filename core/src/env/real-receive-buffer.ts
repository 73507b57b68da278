/**
 * Where received bytes land: in a slab that is cut up and handed out, or in memory that the receiver named. A chunk
 * that its receiver is done with gives its place back, so that a connection whose requests are answered at once keeps
 * using the same few warm pages.
 */

const SLAB_BYTES = 256 * 1024;
/** A slab with less room than this is left to its readers. */
const ROOM_BYTES_MIN = 64 * 1024;

export class ReceiveBuffer {
  #slab: Buffer | null = null;
  /** The first byte of the slab that is nobody's. */
  #slabAt = 0;
  #target: Buffer | null = null;
  #targetAt = 0;
  /** What `next` gave last. */
  #landing: Buffer = Buffer.alloc(0);

  /** The next bytes land in `target` until it is full. Only before `next` is asked for their place. */
  direct(target: Buffer): void {
    this.#target = target;
    this.#targetAt = 0;
  }

  /** Where the next bytes shall land. */
  next(): Buffer {
    if (this.#target !== null) {
      this.#landing = this.#target.subarray(this.#targetAt);
      return this.#landing;
    }
    let slab = this.#slab;
    if (slab === null || slab.length - this.#slabAt < ROOM_BYTES_MIN) {
      slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#slab = slab;
      this.#slabAt = 0;
    }
    const landing = this.#landing;
    if (landing.buffer !== slab.buffer || landing.byteOffset !== this.#slabAt)
      this.#landing = slab.subarray(this.#slabAt);
    return this.#landing;
  }

  /** `bytes` have landed where `next` said. @returns them */
  landed(bytes: number): Buffer {
    if (this.#target === null) {
      this.#slabAt += bytes;
    } else {
      this.#targetAt += bytes;
      if (this.#targetAt === this.#target.length) this.#target = null;
    }
    return this.#landing.subarray(0, bytes);
  }

  /** Nobody needs the chunk that landed last. */
  takeBack(chunk: Buffer): void {
    if (chunk.buffer === this.#slab?.buffer) this.#slabAt = chunk.byteOffset;
  }
}
