import type { Done, DoneWith } from '../util/errors.js';
import type {
  Extent,
  ListOptions,
  ListPage,
  ObjectPool,
  ObjectRef,
  ObjectStat,
} from './object-pool.js';

/** A pool that passes everything on; tests override what they want to watch or break. */
export class PoolWrapper implements ObjectPool {
  readonly name: string;
  readonly objectBytes: number;
  protected readonly below: ObjectPool;

  constructor(below: ObjectPool) {
    this.below = below;
    this.name = below.name;
    this.objectBytes = below.objectBytes;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    this.below.read(ref, offset, target, done);
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    this.below.write(ref, offset, parts, flags, done);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    this.below.zero(ref, offset, bytes, flags, done);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    this.below.extents(ref, offset, bytes, done);
  }

  /** Who watches this pool watches all of its users. */
  forUser(): ObjectPool {
    return this;
  }

  absentRun(prefix: string, first: number, count: number): number | null {
    return this.below.absentRun(prefix, first, count);
  }

  flush(done: Done): void {
    this.below.flush(done);
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    this.below.prefetch(ref, offset, bytes, done);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.below.stat(ref);
  }

  list(options: ListOptions): Promise<ListPage> {
    return this.below.list(options);
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    return this.below.compareAndSwap(ref, expectedVersion, bytes);
  }

  delete(ref: ObjectRef, version?: number): Promise<boolean> {
    return this.below.delete(ref, version);
  }
}
