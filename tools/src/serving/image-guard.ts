/**
 * Keeps the images that this process serves from being removed, resized or written over by the user's other programs,
 * which come in through the owner's socket. All else they may do.
 *
 * An image counts as served from before its header is read until it is closed; whoever opens one waits for changes of
 * its header that were let through before.
 */
import {
  OBJECT_KIND,
  StoreError,
  type CheckedPool,
  type Done,
  type DoneWith,
  type Extent,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type ObjectStat,
  type PieceChecks,
} from '@store/core';
import type { ServedStore } from '@store/daemon';

export class ImageGuard {
  readonly #serves: (image: string) => boolean;
  readonly #changes = new Map<string, Set<Promise<unknown>>>();

  /** @param serves - Is this image being served? */
  constructor(serves: (image: string) => boolean) {
    this.#serves = serves;
  }

  /** Resolves when no change of the header of `image` is under way that began before. */
  async settled(image: string): Promise<void> {
    await Promise.allSettled([...(this.#changes.get(image) ?? [])]);
  }

  /** Why the object may not be changed; null if it may. */
  refusal({ kind, key }: ObjectRef): StoreError | null {
    if (kind === OBJECT_KIND.imageData) return null;
    const image = key.toString();
    if (!this.#serves(image)) return null;
    return new StoreError(
      'E_IN_USE',
      `Image '${image}' is served by store-nbd (pid ${process.pid}); stop it first`,
    );
  }

  /** Changes the object, unless that is refused. @throws StoreError `E_IN_USE` */
  change<T>(ref: ObjectRef, work: () => Promise<T>): Promise<T> {
    const refusal = this.refusal(ref);
    if (refusal !== null) return Promise.reject(refusal);
    if (ref.kind === OBJECT_KIND.imageData) return work();
    const image = ref.key.toString();
    const changes = this.#changes.get(image) ?? new Set();
    this.#changes.set(image, changes);
    const changing = work().finally(() => {
      changes.delete(changing);
      if (changes.size === 0) this.#changes.delete(image);
    });
    changes.add(changing);
    return changing;
  }
}

/** The store behind the owner's socket of a process that serves images of `pool`. */
export class GuardedStore implements ServedStore {
  readonly #below: ServedStore;
  readonly #pool: string;
  readonly #guard: ImageGuard;
  readonly #guarded = new WeakMap<CheckedPool, GuardedPool>();

  constructor(below: ServedStore, pool: string, guard: ImageGuard) {
    this.#below = below;
    this.#pool = pool;
    this.#guard = guard;
  }

  async openPool(name: string, options: { create: boolean }): Promise<CheckedPool> {
    const pool = await this.#below.openPool(name, options);
    if (name !== this.#pool) return pool;
    const guarded = this.#guarded.get(pool) ?? new GuardedPool(pool, this.#guard);
    this.#guarded.set(pool, guarded); // the same one each time: connections know pools by identity
    return guarded;
  }

  listPools(): Promise<string[]> {
    return this.#below.listPools();
  }

  close(): Promise<void> {
    return this.#below.close();
  }
}

class GuardedPool implements CheckedPool {
  readonly name: string;
  readonly objectBytes: number;
  readonly #below: CheckedPool;
  readonly #guard: ImageGuard;

  constructor(below: CheckedPool, guard: ImageGuard) {
    this.name = below.name;
    this.objectBytes = below.objectBytes;
    this.#below = below;
    this.#guard = guard;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    this.#below.read(ref, offset, target, done);
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.#below.readChecked(ref, offset, target, done);
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    this.#change(ref, done, (changed) => this.#below.write(ref, offset, parts, flags, changed));
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    this.#change(ref, done, (changed) =>
      this.#below.writeChecked(ref, offset, parts, checks, flags, changed),
    );
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    this.#change(ref, done, (changed) => this.#below.zero(ref, offset, bytes, flags, changed));
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    this.#below.extents(ref, offset, bytes, done);
  }

  forUser(): this {
    return this;
  }

  absentRun(prefix: string, first: number, count: number): number | null {
    return this.#below.absentRun(prefix, first, count);
  }

  flush(done: Done): void {
    this.#below.flush(done);
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    this.#below.prefetch(ref, offset, bytes, done);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#below.stat(ref);
  }

  list(options: ListOptions): Promise<ListPage> {
    return this.#below.list(options);
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    return this.#guard.change(ref, () => this.#below.compareAndSwap(ref, expectedVersion, bytes));
  }

  delete(ref: ObjectRef, version?: number): Promise<boolean> {
    return this.#guard.change(ref, () => this.#below.delete(ref, version));
  }

  /** Data goes straight through; of what could be a header somebody may wait for the end. */
  #change(ref: ObjectRef, done: Done, work: (done: Done) => void): void {
    if (ref.kind === OBJECT_KIND.imageData) {
      work(done);
      return;
    }
    const refusal = this.#guard.refusal(ref);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    void this.#guard.change(
      ref,
      () =>
        new Promise<void>((resolve) =>
          work((error) => {
            resolve();
            done(error);
          }),
        ),
    );
  }
}
