import type { CheckedPool } from './checked-pool.js';
import type { ObjectPool } from './object-pool.js';

/** One disk, or one cluster: the pools in it. Opened by the tools, which alone know what stands behind. */
export interface ObjectStore {
  /** @throws StoreError `E_NOT_FOUND` unless `create` */
  openPool(name: string, options: { create: boolean }): Promise<ObjectPool>;
  listPools(): Promise<string[]>;
  /** Finishes what was answered, makes it durable and lets go of the disk. */
  close(): Promise<void>;
}

/** A store whose pools take and give checksums. */
export interface CheckedStore extends ObjectStore {
  openPool(name: string, options: { create: boolean }): Promise<CheckedPool>;
}
