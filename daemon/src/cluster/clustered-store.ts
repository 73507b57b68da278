/**
 * What a daemon of a cluster serves: the pools of the storage map, each kept in the engine under a name that is made of
 * its id, so that a pool that was removed and one made later under its name never meet. Which objects of them may be
 * touched here is decided by the map, for each operation (`GatedPool`). Pools that the folder had before it joined stay
 * what they were.
 */
import { StoreError, type CheckedPool, type MapPool, type MapView } from '@store/core';
import type { ServedStore } from '../server/open-pools.js';
import { Gate, GatedPool } from './gated-pool.js';

/** No name that a person can give begins like this: a control character is refused. */
const CLUSTER_PREFIX = '\u0001pool ';

/**
 * The name under which the engine keeps a pool of a cluster. The cluster is in it: a folder that comes to another one,
 * whatever way, brings nothing into pools that happen to have the same numbers.
 */
export function engineNameOf(clusterId: string, poolId: number): string {
  return `${CLUSTER_PREFIX}${clusterId} ${poolId}`;
}

/** Whether the engine keeps a pool of some cluster under this name. */
export function isClusterName(engineName: string): boolean {
  return engineName.startsWith(CLUSTER_PREFIX);
}

/** Who this daemon is in the cluster, and the newest map it has; null: it has none yet. */
export interface MapSource {
  readonly view: MapView | null;
  readonly daemonId: number;
  /**
   * Somebody has a newer map than this daemon, by which a group is in epoch `epochSeen`, or says so. Asks for it; called
   * for each request that says so.
   */
  wantMap(epochSeen: number): void;
  /** There is, or just was, a pool of that name in the cluster, whatever the map says already. */
  knowsPool(name: string): boolean;
}

/** A pool whose groups have copies on other daemons; null: this engine keeps one copy only. */
export type Replicate = (pool: MapPool, below: CheckedPool) => CheckedPool | null;

export class ClusteredStore implements ServedStore {
  readonly #engine: ServedStore;
  readonly #source: MapSource;
  readonly #replicate: Replicate;
  readonly #pools = new Map<number, CheckedPool>();

  constructor(engine: ServedStore, source: MapSource, replicate: Replicate = () => null) {
    this.#engine = engine;
    this.#source = source;
    this.#replicate = replicate;
  }

  async openPool(name: string, { create }: { create: boolean }): Promise<CheckedPool> {
    if (isClusterName(name)) throw noSuchPool(name);
    const { view } = this.#source;
    if (view === null)
      throw new StoreError(
        'E_BUSY',
        'This daemon has not heard from its master yet; try again in a moment',
      );
    const pool = view.poolNamed(name);
    if (pool !== undefined) return this.#served(view.map.clusterId, pool);
    // What the folder had by that name before it joined is another thing.
    if (this.#source.knowsPool(name))
      throw new StoreError(
        'E_STALE_MAP',
        `Map ${view.map.version} of this daemon does not have pool '${name}' yet, or any more`,
      );
    try {
      return await this.#engine.openPool(name, { create: false });
    } catch (error) {
      const isMissing = error instanceof StoreError && error.code === 'E_NOT_FOUND';
      if (!isMissing) throw error;
      if (!create) throw noSuchPool(name);
      throw new StoreError(
        'E_DENIED',
        `This daemon belongs to a cluster, whose pools are made by its master: store pool create ${name}`,
      );
    }
  }

  async listPools(): Promise<string[]> {
    const own = (await this.#engine.listPools()).filter((name) => !isClusterName(name));
    const names = this.#source.view?.map.pools.map(({ name }) => name) ?? [];
    return [...new Set([...names, ...own])].sort();
  }

  close(): Promise<void> {
    return this.#engine.close();
  }

  async #served(clusterId: string, { id }: MapPool): Promise<CheckedPool> {
    const known = this.#pools.get(id);
    if (known !== undefined) return known;
    const below = await this.#engine.openPool(engineNameOf(clusterId, id), { create: true });
    const opened = this.#pools.get(id);
    if (opened !== undefined) return opened;
    const pool = this.#source.view?.poolById(id);
    if (pool === undefined)
      throw new StoreError('E_NOT_FOUND', `Pool ${id} was removed from the cluster`);
    const served = this.#replicate(pool, below) ?? new GatedPool(below, new Gate(id, this.#source));
    this.#pools.set(id, served);
    return served;
  }
}

function noSuchPool(name: string): StoreError {
  return new StoreError(
    'E_NOT_FOUND',
    `There is no pool ${JSON.stringify(name)} in this cluster, as far as this daemon knows; see store pool ls`,
  );
}
