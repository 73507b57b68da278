import { WRITE_FLAGS, type Done, type DoneWith, type Extent } from '@store/core';
import type { Backend } from '../backend.js';
import { MemoryBackend } from '../memory-backend.js';

/** A disk with a write cache that a power cut empties: only what was flushed, or written durably, is left. */
export class VolatileBackend implements Backend {
  readonly bytes: number;
  readonly readOnly = false;
  readonly fastZeroBytes = 1;
  /** Operations that reached it, by name. */
  readonly calls: string[] = [];
  #cache: Buffer;
  #platter: Buffer;
  readonly #extents: MemoryBackend;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#cache = Buffer.alloc(bytes);
    this.#platter = Buffer.alloc(bytes);
    this.#extents = new MemoryBackend(bytes);
  }

  /** The power fails and comes back. */
  cutPower(): void {
    this.#cache = Buffer.from(this.#platter);
  }

  read(offset: number, target: Buffer, done: Done): void {
    this.#cache.copy(target, 0, offset, offset + target.length);
    done(null);
  }

  write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    this.calls.push('write');
    this.#store(offset, Buffer.concat(parts), flags, done);
  }

  zero(offset: number, bytes: number, flags: number, done: Done): void {
    this.calls.push('zero');
    this.#store(offset, Buffer.alloc(bytes), flags, done);
  }

  flush(done: Done): void {
    this.calls.push('flush');
    setImmediate(() => {
      this.#platter = Buffer.from(this.#cache);
      done(null);
    });
  }

  prefetch(_offset: number, _bytes: number, done: Done): void {
    this.calls.push('prefetch');
    done(null);
  }

  extents(offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    this.#extents.extents(offset, bytes, done);
  }

  #store(offset: number, data: Buffer, flags: number, done: Done): void {
    data.copy(this.#cache, offset);
    if ((flags & WRITE_FLAGS.durable) === 0) {
      done(null);
      return;
    }
    setImmediate(() => {
      data.copy(this.#platter, offset);
      done(null);
    });
  }
}
