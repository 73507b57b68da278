/** A store whose pools can be told to hold operations back, and that remembers what it was asked: a slow disk for tests. */
import {
  type CheckedPool,
  type Done,
  type DoneWith,
  type ObjectRef,
  type PieceChecks,
} from '@store/core';
import { PoolWrapper } from '@store/core/testing';
import type { ServedStore } from '../open-pools.js';

export class HeldStore implements ServedStore {
  /** Operations wait here while `isHolding`. */
  readonly held: (() => void)[] = [];
  isHolding = false;
  /** Called before each operation that can be held. */
  before: () => void = () => undefined;
  /** Writes, zeros, compare-and-swaps and deletes, as they were begun: `write key`. */
  readonly log: string[] = [];
  readonly #below: ServedStore;
  readonly #pools = new Map<CheckedPool, HeldPool>();

  constructor(below: ServedStore) {
    this.#below = below;
  }

  async openPool(name: string, options: { create: boolean }): Promise<CheckedPool> {
    const below = await this.#below.openPool(name, options);
    const known = this.#pools.get(below) ?? new HeldPool(below, this);
    this.#pools.set(below, known);
    return known;
  }

  listPools(): Promise<string[]> {
    return this.#below.listPools();
  }

  close(): Promise<void> {
    return this.#below.close();
  }

  /** Runs `operation` now, or when it is let go. */
  when(operation: () => void): void {
    this.before();
    if (this.isHolding) this.held.push(operation);
    else operation();
  }

  /** Lets go of all that is held; what comes later is not held. */
  release(): void {
    this.isHolding = false;
    for (const operation of this.held.splice(0)) operation();
  }
}

class HeldPool extends PoolWrapper implements CheckedPool {
  readonly #checked: CheckedPool;
  readonly #store: HeldStore;

  constructor(below: CheckedPool, store: HeldStore) {
    super(below);
    this.#checked = below;
    this.#store = store;
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.#store.when(() => this.#checked.readChecked(ref, offset, target, done));
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    this.#store.log.push(`write ${ref.key.toString()}`);
    this.#store.when(() => this.#checked.writeChecked(ref, offset, parts, checks, flags, done));
  }

  override zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    this.#store.log.push(`zero ${ref.key.toString()}`);
    this.#store.when(() => super.zero(ref, offset, bytes, flags, done));
  }

  override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
    this.#store.log.push(`compareAndSwap ${ref.key.toString()}`);
    await new Promise<void>((resolve) => this.#store.when(resolve));
    return super.compareAndSwap(ref, version, bytes);
  }

  override async delete(ref: ObjectRef, version?: number): Promise<boolean> {
    this.#store.log.push(`delete ${ref.key.toString()}`);
    await new Promise<void>((resolve) => this.#store.when(resolve));
    return super.delete(ref, version);
  }
}
