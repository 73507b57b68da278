/**
 * A pool of the cluster on one of its daemons: what belongs to groups that this daemon is the primary of, by the newest
 * map it has, goes to the engine; the rest is refused, so that a client with an old map finds out before anything
 * happens.
 */
import {
  groupOf,
  StoreError,
  type CheckedPool,
  type Done,
  type DoneWith,
  type Extent,
  type ListOptions,
  type ListPage,
  type MapPool,
  type MapView,
  type ObjectPool,
  type ObjectRef,
  type ObjectStat,
  type PieceChecks,
} from '@store/core';
import type { MapSource } from './clustered-store.js';

export class GatedPool implements CheckedPool {
  readonly name: string;
  readonly objectBytes: number;
  readonly #below: CheckedPool;
  readonly #poolId: number;
  readonly #source: MapSource;
  /** Found in that map. */
  #view: MapView | null = null;
  #pool: MapPool | undefined;

  constructor(below: CheckedPool, poolId: number, source: MapSource) {
    this.#below = below;
    this.#poolId = poolId;
    this.#source = source;
    this.name = below.name;
    this.objectBytes = below.objectBytes;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.read(ref, offset, target, done);
    else done(refusal);
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.readChecked(ref, offset, target, done);
    else done(refusal);
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.write(ref, offset, parts, flags, done);
    else done(refusal);
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.writeChecked(ref, offset, parts, checks, flags, done);
    else done(refusal);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.zero(ref, offset, bytes, flags, done);
    else done(refusal);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.extents(ref, offset, bytes, done);
    else done(refusal);
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    const refusal = this.#refusal(ref);
    if (refusal === null) this.#below.prefetch(ref, offset, bytes, done);
    else done(refusal);
  }

  absentRun(): null {
    return null;
  }

  forUser(): ObjectPool {
    return this;
  }

  /** Also of groups that have moved away: what was answered here is made durable here. */
  flush(done: Done): void {
    this.#below.flush(done);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    const refusal = this.#refusal(ref);
    return refusal === null ? this.#below.stat(ref) : Promise.reject(refusal);
  }

  list(options: ListOptions): Promise<ListPage> {
    const refusal = this.#poolRefusal();
    return refusal === null ? this.#below.list(options) : Promise.reject(refusal);
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    const refusal = this.#refusal(ref);
    return refusal === null
      ? this.#below.compareAndSwap(ref, expectedVersion, bytes)
      : Promise.reject(refusal);
  }

  delete(ref: ObjectRef, version?: number): Promise<boolean> {
    const refusal = this.#refusal(ref);
    return refusal === null ? this.#below.delete(ref, version) : Promise.reject(refusal);
  }

  #refusal(ref: ObjectRef): StoreError | null {
    const refusal = this.#poolRefusal();
    if (refusal !== null || this.#pool === undefined) return refusal;
    const number = groupOf(this.#pool, ref.hash);
    const group = this.#pool.groups[number];
    if (group?.hasPrimary === true && group.members[0]?.daemon === this.#source.daemonId)
      return null;
    const version = this.#view?.map.version ?? 0;
    return new StoreError(
      'E_STALE_MAP',
      `Group ${number} of the pool is not served by daemon ${this.#source.daemonId}, by map ${version}`,
    );
  }

  /** Why nobody gets anything of the pool here. */
  #poolRefusal(): StoreError | null {
    const { view } = this.#source;
    if (view !== this.#view) {
      this.#view = view;
      this.#pool = view?.poolById(this.#poolId);
    }
    if (this.#pool !== undefined) return null;
    return new StoreError('E_NOT_FOUND', `Pool ${this.#poolId} was removed from the cluster`);
  }
}
