/**
 * What a daemon of a cluster serves, for tests: pools that are in its map, under their ids, and of those only the groups
 * that it is the primary of, in their epochs. Several may stand on one store in memory: then a group that moves has moved
 * its data. An operation is judged by the map of when it is its turn, not of when it came.
 */
import {
  groupOf,
  StoreError,
  type CheckedPool,
  type CheckedStore,
  type Done,
  type DoneWith,
  type GuardChange,
  type GuardedPool,
  type LayerClaim,
  type Extent,
  type GroupAtEpoch,
  type ListOptions,
  type ListPage,
  type LocatorHash,
  type MapView,
  type ObjectRef,
  type ObjectStat,
  type PieceChecks,
} from '@store/core';
import { PoolWrapper } from '@store/core/testing';
import { GuardTable } from '@store/daemon/testing';

/** Data that daemons share, and where the objects in it belong. */
export interface SharedData {
  readonly store: CheckedStore;
  readonly hashes: Map<string, LocatorHash>;
  /** Of each group, by its number: those of groups that move have moved. */
  readonly guards?: Map<number, GuardTable>;
}

export class MappedStore implements CheckedStore {
  readonly #daemon: number;
  readonly #data: SharedData;
  readonly #view: () => MapView;
  readonly #pools = new Map<number, MappedPool>();
  /** Operations on objects wait here while `isHolding`. */
  readonly waiting: (() => void)[] = [];
  isHolding = false;
  flushCount = 0;
  /** Groups that flushes were about, in order. */
  readonly flushed: number[] = [];
  /** Groups that each change of a guard was about. */
  readonly guardChanges: (readonly number[])[] = [];
  readonly #ownGuards = new Map<number, GuardTable>();
  /** Deletes are made, but their answer is that nobody knows. */
  isInDoubt = false;
  /** What flushes end with. */
  flushError: StoreError | null = null;

  /** @param view - The map that this daemon knows just now */
  constructor(daemon: number, data: SharedData, view: () => MapView) {
    this.#daemon = daemon;
    this.#data = data;
    this.#view = view;
  }

  async openPool(name: string): Promise<CheckedPool> {
    const found = this.#view().poolNamed(name);
    if (found === undefined) throw new StoreError('E_NOT_FOUND', `There is no pool '${name}'`);
    const below = await this.#data.store.openPool(`${found.id}`, { create: true });
    const known = this.#pools.get(found.id) ?? new MappedPool(below, this, found.id);
    this.#pools.set(found.id, known);
    return known;
  }

  listPools(): Promise<string[]> {
    return Promise.resolve(this.#view().map.pools.map(({ name }) => name));
  }

  /** The data live on for those who share them. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Runs `operation` now, or when it is let go. */
  when(operation: () => void): void {
    if (this.isHolding) this.waiting.push(operation);
    else operation();
  }

  /** Lets go of all that is held; what comes later is not held. */
  release(): void {
    this.isHolding = false;
    for (const operation of this.waiting.splice(0)) operation();
  }

  /** Remembers where an object belongs. @returns Why nothing is done for it here */
  objection(pool: number, ref: ObjectRef, epoch: number): StoreError | null {
    this.#data.hashes.set(ref.id, ref.hash);
    const found = this.#view().poolById(pool);
    return this.groupObjection(pool, found === undefined ? 0 : groupOf(found, ref.hash), epoch);
  }

  guardsOf(group: number): GuardTable {
    const tables = this.#data.guards ?? this.#ownGuards;
    const table = tables.get(group) ?? new GuardTable();
    tables.set(group, table);
    return table;
  }

  /** Why the writer that `claim` says may not change it. */
  guardRefusal(pool: number, ref: ObjectRef, claim: LayerClaim | null): StoreError | null {
    const found = this.#view().poolById(pool);
    if (found === undefined) return null;
    return this.guardsOf(groupOf(found, ref.hash)).refusal(claim, ref);
  }

  groupObjection(pool: number, number: number, epoch: number): StoreError | null {
    const group = this.#view().poolById(pool)?.groups[number];
    if (group?.hasPrimary !== true || group.members[0]?.daemon !== this.#daemon)
      return new StoreError(
        'E_STALE_MAP',
        `Daemon ${this.#daemon} is not the primary of this group`,
      );
    if (epoch === 0 || epoch === group.epoch) return null;
    return new StoreError('E_STALE_MAP', `The group is in epoch ${group.epoch}, not ${epoch}`);
  }

  /** -1: nobody knows. */
  groupOfKey(pool: number, key: Buffer): number {
    const hash = this.#data.hashes.get(key.toString('latin1'));
    const found = this.#view().poolById(pool);
    return hash === undefined || found === undefined ? -1 : groupOf(found, hash);
  }

  isListed(pool: number, key: Buffer): boolean {
    const hash = this.#data.hashes.get(key.toString('latin1'));
    return hash !== undefined && this.#serves(pool, hash);
  }

  #serves(id: number, hash: LocatorHash): boolean {
    const pool = this.#view().poolById(id);
    if (pool === undefined) return false;
    const group = pool.groups[groupOf(pool, hash)];
    return group?.hasPrimary === true && group.members[0]?.daemon === this.#daemon;
  }
}

class MappedPool extends PoolWrapper implements GuardedPool {
  readonly #checked: CheckedPool;
  readonly #store: MappedStore;
  readonly #id: number;
  readonly #epoch: number;
  readonly #claim: LayerClaim | null;

  constructor(
    below: CheckedPool,
    store: MappedStore,
    id: number,
    epoch = 0,
    claim: LayerClaim | null = null,
  ) {
    super(below);
    this.#epoch = epoch;
    this.#claim = claim;
    this.#checked = below;
    this.#store = store;
    this.#id = id;
  }

  at(epoch: number): CheckedPool {
    return new MappedPool(this.#checked, this.#store, this.#id, epoch, this.#claim);
  }

  claimed(claim: LayerClaim): MappedPool {
    return new MappedPool(this.#checked, this.#store, this.#id, this.#epoch, claim);
  }

  changeGuards(groups: readonly GroupAtEpoch[], change: GuardChange, done: Done): void {
    this.#store.guardChanges.push(groups.map(({ group }) => group));
    this.#store.when(() => {
      let error = this.#objection(groups);
      if (error === null)
        for (const { group } of groups) error ??= this.#store.guardsOf(group).change(change);
      done(error);
    });
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.#run(ref, done, () => this.#checked.readChecked(ref, offset, target, done));
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    this.#change(ref, done, () =>
      this.#checked.writeChecked(ref, offset, parts, checks, flags, done),
    );
  }

  override zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    this.#change(ref, done, () => super.zero(ref, offset, bytes, flags, done));
  }

  override extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    this.#run(ref, done, () => super.extents(ref, offset, bytes, done));
  }

  override async stat(ref: ObjectRef): Promise<ObjectStat | null> {
    await this.#turn(ref);
    return super.stat(ref);
  }

  override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
    await this.#turn(ref);
    return super.compareAndSwap(ref, version, bytes);
  }

  override async delete(ref: ObjectRef, version?: number): Promise<boolean> {
    await this.#turn(ref);
    const existed = await super.delete(ref, version);
    if (!this.#store.isInDoubt) return existed;
    throw new StoreError('E_IN_DOUBT', 'This daemon is not the primary any more');
  }

  override flush(done: Done): void {
    this.#store.flushCount += 1;
    if (this.#store.flushError !== null) done(this.#store.flushError);
    else super.flush(done);
  }

  flushGroups(groups: readonly GroupAtEpoch[], done: Done): void {
    this.#store.when(() => {
      const objection = this.#objection(groups);
      if (objection !== null) {
        done(objection);
        return;
      }
      this.#store.flushed.push(...groups.map(({ group }) => group));
      this.flush(done);
    });
  }

  override async list(options: ListOptions): Promise<ListPage> {
    const page = await super.list(options);
    return {
      ...page,
      entries: page.entries.filter(({ key }) => this.#store.isListed(this.#id, key)),
    };
  }

  async listGroups(groups: readonly GroupAtEpoch[], options: ListOptions): Promise<ListPage> {
    await new Promise<void>((resolve) => this.#store.when(resolve));
    const objection = this.#objection(groups);
    if (objection !== null) throw objection;
    const page = await super.list(options);
    const named = new Set(groups.map(({ group }) => group));
    return {
      ...page,
      entries: page.entries.filter(({ key }) => named.has(this.#store.groupOfKey(this.#id, key))),
    };
  }

  #objection(groups: readonly GroupAtEpoch[]): StoreError | null {
    for (const { group, epoch } of groups) {
      const objection = this.#store.groupObjection(this.#id, group, epoch);
      if (objection !== null) return objection;
    }
    return null;
  }

  #change(ref: ObjectRef, done: Done, change: () => void): void {
    this.#run(ref, done, () => {
      const refusal = this.#store.guardRefusal(this.#id, ref, this.#claim);
      if (refusal === null) change();
      else done(refusal);
    });
  }

  #run(ref: ObjectRef, refuse: (error: StoreError) => void, operation: () => void): void {
    this.#store.when(() => {
      const objection = this.#store.objection(this.#id, ref, this.#epoch);
      if (objection !== null) refuse(objection);
      else operation();
    });
  }

  #turn(ref: ObjectRef): Promise<void> {
    return new Promise((resolve, reject) => this.#run(ref, reject, resolve));
  }
}
