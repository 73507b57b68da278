/**
 * Uses a pool the way a hostile caller may: buffers it passed in are overwritten as soon as they are answered, so
 * an implementation that goes on using one shows up as wrong bytes. It also insists on exactly one answer.
 * Test equipment, published through `@store/core/testing`.
 */
import { StoreError, type Done, type DoneWith, type ErrorCode } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import type { Extent, ObjectPool, ObjectRef } from './object-pool.js';

const POISON = 0xdb;

/** Promises instead of callbacks, fresh buffers that are poisoned after the answer. */
export class PoolUser {
  readonly pool: ObjectPool;

  constructor(pool: ObjectPool) {
    this.pool = pool;
  }

  /** @returns What was read, in a buffer of the caller's own. */
  async read(ref: ObjectRef, offset: number, bytes: number): Promise<Buffer> {
    const target = Buffer.alloc(bytes, POISON);
    await answered((done) => {
      this.pool.read(ref, offset, target, done);
    });
    const seen = Buffer.from(target);
    target.fill(POISON);
    return seen;
  }

  async write(
    ref: ObjectRef,
    offset: number,
    bytes: Buffer | readonly Buffer[],
    flags = 0,
  ): Promise<void> {
    const parts = (Buffer.isBuffer(bytes) ? [bytes] : bytes).map((part) => Buffer.from(part));
    try {
      await answered((done) => {
        this.pool.write(ref, offset, parts, flags, done);
      });
    } finally {
      for (const part of parts) part.fill(POISON);
    }
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags = 0): Promise<void> {
    return answered((done) => {
      this.pool.zero(ref, offset, bytes, flags, done);
    });
  }

  extents(ref: ObjectRef, offset: number, bytes: number): Promise<Extent[]> {
    return answeredWith((done) => {
      this.pool.extents(ref, offset, bytes, done);
    });
  }

  flush(): Promise<void> {
    return answered((done) => {
      this.pool.flush(done);
    });
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number): Promise<void> {
    return answered((done) => {
      this.pool.prefetch(ref, offset, bytes, done);
    });
  }

  async compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    const passed = Buffer.from(bytes);
    try {
      return await this.pool.compareAndSwap(ref, expectedVersion, passed);
    } finally {
      passed.fill(POISON);
    }
  }
}

/** The code an operation failed with; null if it succeeded. Anything but a `StoreError` is thrown on. */
export async function codeOf(operation: Promise<unknown>): Promise<ErrorCode | null> {
  try {
    await operation;
    return null;
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

function answered(operation: (done: Done) => void): Promise<void> {
  return answeredWith((done) => {
    operation((error) => {
      done(error, undefined);
    });
  });
}

function answeredWith<T>(operation: (done: DoneWith<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    let answers = 0;
    operation((error, result) => {
      answers += 1;
      invariant(answers === 1, 'an operation is answered once');
      if (error === null)
        resolve(result as T); // an answer without an error carries its result
      else reject(error);
    });
  });
}
