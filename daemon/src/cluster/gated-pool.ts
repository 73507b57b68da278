/**
 * A pool of the cluster on one of its daemons: what belongs to groups that this daemon is the primary of, by the newest
 * map it has, goes to the engine; the rest is refused, so that a client with an old map finds out before anything
 * happens. So is what is meant for another epoch of the group: an older one is over, and of a newer one this daemon has
 * not heard yet, so it asks.
 */
import {
  groupOf,
  StoreError,
  type CheckedPool,
  type Done,
  type DoneWith,
  type EpochedPool,
  type Extent,
  type GroupAtEpoch,
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

/** Views for so many epochs are kept: few of them are of now. */
const VIEWS_MAX = 1024;

export class GatedPool implements EpochedPool {
  readonly name: string;
  readonly objectBytes: number;
  readonly #below: CheckedPool;
  readonly #gate: Gate;
  /** 0: any. */
  readonly #epoch: number;

  constructor(below: CheckedPool, gate: Gate, epoch = 0) {
    this.#below = below;
    this.#gate = gate;
    this.#epoch = epoch;
    this.name = below.name;
    this.objectBytes = below.objectBytes;
  }

  at(epoch: number): CheckedPool {
    const { views } = this.#gate;
    const known = views.get(epoch);
    if (known !== undefined) return known;
    if (views.size >= VIEWS_MAX) views.clear();
    const view = new GatedPool(this.#below, this.#gate, epoch);
    views.set(epoch, view);
    return view;
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

  flushGroups(groups: readonly GroupAtEpoch[], done: Done): void {
    const refusal = this.#gate.groupsRefusal(groups);
    if (refusal === null) this.#below.flush(done);
    else done(refusal);
  }

  /** All that is here: nothing here belongs to groups that others have. */
  listGroups(groups: readonly GroupAtEpoch[], options: ListOptions): Promise<ListPage> {
    const refusal = this.#gate.groupsRefusal(groups);
    return refusal === null ? this.#below.list(options) : Promise.reject(refusal);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    const refusal = this.#refusal(ref);
    return refusal === null ? this.#below.stat(ref) : Promise.reject(refusal);
  }

  list(options: ListOptions): Promise<ListPage> {
    const refusal = this.#gate.poolRefusal();
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
    return this.#gate.refusalOf(ref, this.#epoch);
  }
}

/** What the map says of one pool: shared by its views. */
export class Gate {
  /** By epoch. */
  readonly views = new Map<number, GatedPool>();
  readonly #poolId: number;
  readonly #source: MapSource;
  /** Found in that map. */
  #view: MapView | null = null;
  #pool: MapPool | undefined;

  constructor(poolId: number, source: MapSource) {
    this.#poolId = poolId;
    this.#source = source;
  }

  /** Why nothing is done for an object here; null: it is. */
  refusalOf(ref: ObjectRef, epoch: number): StoreError | null {
    const refusal = this.poolRefusal();
    if (refusal !== null || this.#pool === undefined) return refusal;
    return this.#groupRefusal(this.#pool, groupOf(this.#pool, ref.hash), epoch);
  }

  /** As `refusalOf`, for all of some groups. */
  groupsRefusal(groups: readonly GroupAtEpoch[]): StoreError | null {
    const refusal = this.poolRefusal();
    if (refusal !== null || this.#pool === undefined) return refusal;
    for (const { group, epoch } of groups) {
      const one = this.#groupRefusal(this.#pool, group, epoch);
      if (one !== null) return one;
    }
    return null;
  }

  /** Why nobody gets anything of the pool here. */
  poolRefusal(): StoreError | null {
    const { view } = this.#source;
    if (view !== this.#view) {
      this.#view = view;
      this.#pool = view?.poolById(this.#poolId);
    }
    if (this.#pool !== undefined) return null;
    return new StoreError('E_NOT_FOUND', `Pool ${this.#poolId} was removed from the cluster`);
  }

  #groupRefusal({ groups }: MapPool, number: number, epoch: number): StoreError | null {
    const { daemonId } = this.#source;
    const group = groups[number];
    const present = group?.epoch ?? 0;
    const isOurs = group?.hasPrimary === true && group.members[0]?.daemon === daemonId;
    if (isOurs && (epoch === 0 || epoch === present)) return null;
    if (epoch > present) this.#source.wantMap(epoch);
    const version = this.#view?.map.version ?? 0;
    return new StoreError(
      'E_STALE_MAP',
      isOurs
        ? `Group ${number} of the pool is in epoch ${present}, not ${epoch}, by map ${version} of daemon ${daemonId}`
        : `Group ${number} of the pool is not served by daemon ${daemonId}, by map ${version}`,
    );
  }
}
