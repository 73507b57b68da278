/** Pools that keep former writers of an image out (see `guard.ts`): as clients use them, and as daemons serve them. */
import { StoreError, type Done } from '../util/errors.js';
import type { Chain } from './chain.js';
import type { CheckedPool } from './checked-pool.js';
import type { EpochedPool, GroupAtEpoch } from './epoched-pool.js';
import type { Claim, Guard, LayerClaim } from './guard.js';
import type { ObjectPool } from './object-pool.js';

/** A pool for whoever opens images. */
export interface GuardingPool extends ObjectPool {
  /**
   * This pool as the newest layer of a chain, for the writer that `claim` says. From the moment a change is refused because
   * there is another writer, or the layer is sealed (`E_FENCED`, `E_SEALED`), every operation fails with that error.
   * @param fenced - Told once, when that happens
   * @throws StoreError `E_INVALID`
   */
  claimed(layers: Chain, claim: Claim, fenced: (why: StoreError) => void): ObjectPool;
  /**
   * Raises the guard of an image in every group: when it resolves, no change with a lower claim will ever be made, and all
   * that were answered are durable. The same again is harmless.
   * @throws StoreError `E_FENCED`, `E_SEALED` if it is higher somewhere
   */
  raiseGuard(guard: Guard): Promise<void>;
  /** Removes the guards of an image that is no more, as far as their token is not greater. @throws StoreError `E_FENCED` */
  removeGuard(image: string, token: number): Promise<void>;
}

export function isGuarding(pool: ObjectPool): pool is GuardingPool {
  return 'raiseGuard' in pool;
}

/** What RAISE_GUARD does: raises the guard of an image, or removes it. */
export type GuardChange =
  | { readonly kind: 'raise'; readonly guard: Guard }
  | { readonly kind: 'remove'; readonly image: string; readonly token: number };

/** A pool as a daemon serves it. */
export interface GuardedPool extends EpochedPool {
  /** This pool, for changes of one writer. */
  claimed(claim: LayerClaim): GuardedPool;
  /** In these groups; refused as `flushGroups` is. */
  changeGuards(groups: readonly GroupAtEpoch[], change: GuardChange, done: Done): void;
}

/** @throws StoreError `E_INVALID` if the pool keeps no guards */
export function asGuarded(pool: CheckedPool): GuardedPool {
  if ('changeGuards' in pool) return pool as GuardedPool; // nothing else has it
  throw new StoreError(
    'E_INVALID',
    `Pool '${pool.name}' is not one of a cluster and keeps no guards of images`,
  );
}

/** A pool, for changes of the writer of an image. @throws StoreError `E_INVALID` if the pool keeps no guards */
export function withClaim(pool: CheckedPool, claim: Claim, layerId: string): GuardedPool {
  return asGuarded(pool).claimed({ ...claim, keyPrefix: `${layerId}_` });
}
