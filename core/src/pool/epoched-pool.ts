/**
 * A pool whose objects lie in groups that change their members: each group counts its changes (its *epoch*), and whoever
 * asks says which epoch he means. What is meant for another one is refused before anything is done, with `E_STALE_MAP`, so
 * that a request that was late, or made by an old map, never takes effect.
 */
import type { Done } from '../util/errors.js';
import type { CheckedPool } from './checked-pool.js';
import type { ListOptions, ListPage } from './object-pool.js';

/** A group of a pool, and the epoch that somebody believes it to be in. */
export interface GroupAtEpoch {
  readonly group: number;
  readonly epoch: number;
}

export interface EpochedPool extends CheckedPool {
  /**
   * This pool, for operations on objects whose groups are in epoch `epoch`. Called for each request, so views are kept.
   * @param epoch - 0: not said; then any epoch will do
   */
  at(epoch: number): CheckedPool;
  /**
   * As `flush`, of these groups alone. `E_STALE_MAP`, and nothing is promised, unless this daemon is the primary of all of
   * them in these epochs.
   */
  flushGroups(groups: readonly GroupAtEpoch[], done: Done): void;
  /** As `list`, of what lies in these groups; refused as `flushGroups` is. A cursor is good on this daemon alone. */
  listGroups(groups: readonly GroupAtEpoch[], options: ListOptions): Promise<ListPage>;
}

export function isEpoched(pool: CheckedPool): pool is EpochedPool {
  return 'flushGroups' in pool;
}

/** The pool for operations in an epoch; pools without groups have none. */
export function atEpoch(pool: CheckedPool, epoch: number): CheckedPool {
  return epoch !== 0 && isEpoched(pool) ? pool.at(epoch) : pool;
}
