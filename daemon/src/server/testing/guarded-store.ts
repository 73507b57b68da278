/** A store in memory whose pools keep guards of images, as if each were one group: for tests of what carries claims. */
import {
  MemStore,
  type CheckedPool,
  type Done,
  type DoneWith,
  type GroupAtEpoch,
  type GuardChange,
  type GuardedPool,
  type LayerClaim,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type PieceChecks,
} from '@store/core';
import { PoolWrapper } from '@store/core/testing';
import { GuardTable } from '../../replication/guard-table.js';
import type { ServedStore } from '../open-pools.js';

export class GuardedStore implements ServedStore {
  readonly guards = new GuardTable();
  /** Writes that were made. */
  writeCount = 0;
  readonly #below = new MemStore();
  #pool: GuardedMemory | null = null;

  async openPool(name: string): Promise<CheckedPool> {
    const below = await this.#below.openPool(name, { create: true });
    this.#pool ??= new GuardedMemory(below, this, null);
    return this.#pool;
  }

  listPools(): Promise<string[]> {
    return this.#below.listPools();
  }

  close(): Promise<void> {
    return this.#below.close();
  }
}

class GuardedMemory extends PoolWrapper implements GuardedPool {
  readonly #checked: CheckedPool;
  readonly #store: GuardedStore;
  readonly #claim: LayerClaim | null;

  constructor(below: CheckedPool, store: GuardedStore, claim: LayerClaim | null) {
    super(below);
    this.#checked = below;
    this.#store = store;
    this.#claim = claim;
  }

  at(): this {
    return this;
  }

  claimed(claim: LayerClaim): GuardedMemory {
    return new GuardedMemory(this.#checked, this.#store, claim);
  }

  changeGuards(_groups: readonly GroupAtEpoch[], change: GuardChange, done: Done): void {
    done(this.#store.guards.change(change));
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.#checked.readChecked(ref, offset, target, done);
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    const refusal = this.#store.guards.refusal(this.#claim, ref);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    this.#store.writeCount += 1;
    this.#checked.writeChecked(ref, offset, parts, checks, flags, done);
  }

  override zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#store.guards.refusal(this.#claim, ref);
    if (refusal === null) super.zero(ref, offset, bytes, flags, done);
    else done(refusal);
  }

  flushGroups(_groups: readonly GroupAtEpoch[], done: Done): void {
    this.flush(done);
  }

  listGroups(_groups: readonly GroupAtEpoch[], options: ListOptions): Promise<ListPage> {
    return this.list(options);
  }
}
