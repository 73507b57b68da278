/**
 * Order of operations on the blocks of one object: those that overlap run one after another in order of arrival
 * (readers may share), the others at the same time. Most operations finish within one call and never register;
 * they only ask `conflicts`.
 */
import { invariant } from '@store/core';

export interface BlockLock {
  readonly first: number;
  readonly last: number;
  readonly exclusive: boolean;
  readonly start: (lock: BlockLock) => void;
}

export class BlockLocks {
  #active: BlockLock[] = [];
  #waiting: BlockLock[] = [];
  #starting = false;

  get idle(): boolean {
    return this.#active.length === 0 && this.#waiting.length === 0;
  }

  /** Is something being changed? */
  get hasWriters(): boolean {
    return this.#active.some(({ exclusive }) => exclusive);
  }

  /** Would an operation on blocks `first..last` have to wait? */
  conflicts(first: number, last: number, exclusive: boolean): boolean {
    return (
      overlapsAny(this.#active, this.#active.length, first, last, exclusive) ||
      overlapsAny(this.#waiting, this.#waiting.length, first, last, exclusive)
    );
  }

  /** Calls `start` as soon as nothing earlier conflicts, possibly at once. It holds the blocks until `release`. */
  acquire(first: number, last: number, exclusive: boolean, start: (lock: BlockLock) => void): void {
    const lock: BlockLock = { first, last, exclusive, start };
    if (this.conflicts(first, last, exclusive)) {
      this.#waiting.push(lock);
      return;
    }
    this.#active.push(lock);
    start(lock);
  }

  release(lock: BlockLock): void {
    const index = this.#active.indexOf(lock);
    invariant(index >= 0, 'a lock is released once, while it is held');
    this.#active.splice(index, 1);
    if (!this.#starting) this.#startWaiting();
  }

  /** Starting one may release it again at once and free others: go round until nothing moves. */
  #startWaiting(): void {
    this.#starting = true;
    try {
      for (let index = 0; index < this.#waiting.length;) {
        const lock = this.#waiting[index] as BlockLock; // in bounds
        const { first, last, exclusive } = lock;
        if (
          overlapsAny(this.#active, this.#active.length, first, last, exclusive) ||
          overlapsAny(this.#waiting, index, first, last, exclusive)
        ) {
          index += 1;
          continue;
        }
        this.#waiting.splice(index, 1);
        this.#active.push(lock);
        lock.start(lock);
        index = 0;
      }
    } finally {
      this.#starting = false;
    }
  }
}

function overlapsAny(
  locks: readonly BlockLock[],
  count: number,
  first: number,
  last: number,
  exclusive: boolean,
): boolean {
  for (let index = 0; index < count; index += 1) {
    const other = locks[index] as BlockLock; // in bounds
    if (other.first <= last && first <= other.last && (exclusive || other.exclusive)) return true;
  }
  return false;
}
