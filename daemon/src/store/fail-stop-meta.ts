import {
  DiskError,
  type DiskDone,
  type MetaChange,
  type MetaStore,
  type StoreError,
} from '@store/core';

/**
 * The metadata as the engine reads it: what cannot be read stops the engine. A commit that fails may show first in a read
 * that comes before its answer. Before the folder is open it only cannot be opened; the next start may be luckier.
 */
export class FailStopMeta implements MetaStore {
  readonly #below: MetaStore;
  readonly #failed: (error: DiskError) => StoreError;
  #isOpen = false;

  /** @param failed - Stops the engine. @returns What is answered from then on */
  constructor(below: MetaStore, failed: (error: DiskError) => StoreError) {
    this.#below = below;
    this.#failed = failed;
  }

  /** The folder is open. */
  opened(): void {
    this.#isOpen = true;
  }

  /** @throws StoreError `E_DISK_FAILED`; DiskError before the folder is open */
  get(key: Buffer): Buffer | null {
    try {
      return this.#below.get(key);
    } catch (error) {
      throw this.#reasonOf(error);
    }
  }

  /** @throws As `get` */
  range(start: Buffer, end: Buffer, limit: number): { key: Buffer; value: Buffer }[] {
    try {
      return this.#below.range(start, end, limit);
    } catch (error) {
      throw this.#reasonOf(error);
    }
  }

  commit(changes: readonly MetaChange[], done: DiskDone): void {
    this.#below.commit(changes, done);
  }

  close(): Promise<void> {
    return this.#below.close();
  }

  #reasonOf(error: unknown): unknown {
    return error instanceof DiskError && this.#isOpen ? this.#failed(error) : error;
  }
}
