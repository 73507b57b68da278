/**
 * The pools of a cluster. Masters are asked through the guide, and only for what is new: everything that is open goes on
 * without them.
 */
import type { ClientCounters } from '../client/daemon-client.js';
import type { MapPool } from '../map/storage-map.js';
import type { ObjectStore } from '../pool/object-store.js';
import { StoreError } from '../util/errors.js';
import { checkPoolName } from '../util/pool-name.js';
import { ChangeTally } from './change-tally.js';
import { flushPool } from './cluster-flush.js';
import { ClusterPool } from './cluster-pool.js';
import type { ClusterStoreOptions } from './pool-lane.js';
import { PoolRouter } from './pool-router.js';

/** A pool that was made is in the map soon; so often it is looked for. */
const MADE_POLL_MS = 50;

interface OpenedPool {
  readonly router: PoolRouter;
  readonly pool: ClusterPool;
}

export class ClusterStore implements ObjectStore {
  readonly #options: ClusterStoreOptions;
  /** By id: a pool that was made again under the name of another is not that one. */
  readonly #pools = new Map<number, OpenedPool>();
  readonly #unwatch: () => void;
  #closed: Promise<void> | null = null;

  constructor(options: ClusterStoreOptions) {
    this.#options = options;
    this.#unwatch = options.guide.watch((view) => {
      // Whoever brings it may be in the middle of an answer of ours.
      queueMicrotask(() => {
        for (const { router } of this.#pools.values()) router.mapIs(view);
      });
    });
  }

  /** Of all daemons together. */
  get counters(): ClientCounters {
    const sum = {
      ...{ connects: 0, resent: 0, timeouts: 0, damaged: 0 },
      ...{ datagramsSent: 0, datagramsResent: 0 },
    };
    for (const { router } of this.#pools.values())
      for (const { counters } of router.lanes) {
        if (counters === null) continue;
        sum.connects += counters.connects;
        sum.resent += counters.resent;
        sum.timeouts += counters.timeouts;
        sum.damaged += counters.damaged;
        sum.datagramsSent += counters.datagramsSent;
        sum.datagramsResent += counters.datagramsResent;
      }
    return sum;
  }

  /** Requests that were not answered. */
  get openCount(): number {
    let sum = 0;
    for (const { router } of this.#pools.values()) sum += router.openCount;
    return sum;
  }

  /** @throws StoreError `E_NOT_FOUND` unless `create`; `E_DENIED`, `E_INVALID`; `E_UNREACHABLE` without masters */
  async openPool(name: string, { create }: { create: boolean }): Promise<ClusterPool> {
    this.#checkOpen();
    checkPoolName(name);
    const { guide } = this.#options;
    const found = (await this.#find(name)) ?? (create ? await this.#make(name) : null);
    if (found === null)
      throw new StoreError(
        'E_NOT_FOUND',
        `There is no pool '${name}' in this cluster; check the name, or make it: store pool create ${name}`,
      );
    // Says at once who may not use it, rather than with the first request.
    await guide.ticketFor(name);
    this.#checkOpen();
    let opened = this.#pools.get(found.id);
    if (opened === undefined) {
      const { view } = guide;
      const router = new PoolRouter(this.#options, view, view.poolById(found.id) ?? found);
      opened = { router, pool: new ClusterPool(router) };
      this.#pools.set(found.id, opened);
    }
    return opened.pool;
  }

  listPools(): Promise<string[]> {
    return new Promise((resolve) => {
      this.#checkOpen();
      resolve(this.#options.guide.view.map.pools.map(({ name }) => name).sort());
    });
  }

  /** @throws StoreError if what was written could not be made durable */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const failures = await Promise.all([...this.#pools.values()].map(closePool));
    this.#unwatch();
    await this.#options.guide.close();
    for (const failure of failures) if (failure !== null) throw failure;
  }

  /** The pool of that name, if the masters know of one. */
  async #find(name: string): Promise<MapPool | null> {
    const { guide } = this.#options;
    const known = guide.view.poolNamed(name);
    if (known !== undefined) return known;
    await guide.refresh(guide.view.map.version);
    return guide.view.poolNamed(name) ?? null;
  }

  async #make(name: string): Promise<MapPool> {
    const { guide, env, deadlineMs } = this.#options;
    const deadline = env.clock.now() + deadlineMs;
    try {
      await guide.createPool(name);
    } catch (error) {
      // Somebody else has just made it.
      if (!(error instanceof StoreError) || error.code !== 'E_EXISTS') throw error;
    }
    for (;;) {
      const made = await this.#find(name);
      if (made !== null) return made;
      if (env.clock.now() >= deadline)
        throw new StoreError(
          'E_TIMEOUT',
          `Pool '${name}' was made, but within ${deadlineMs / 1000} s came no map that has it; try again`,
        );
      await env.timers.sleep(MADE_POLL_MS);
    }
  }

  #checkOpen(): void {
    if (this.#closed !== null) throw new StoreError('E_CLOSED', 'The store is closed');
  }
}

/** @returns Why not all of what was written is durable; null: it is */
async function closePool({ router }: OpenedPool): Promise<StoreError | null> {
  // Of what anybody has changed, whether he has flushed it or not.
  const tally = new ChangeTally();
  const isGone = router.refusal !== null;
  const failure = isGone ? null : await flushPool(router, tally, router.changedGroups);
  await router.close();
  return failure;
}
