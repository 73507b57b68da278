/** A pool of a cluster: each object is with the primary of its group. See `PoolRouter` for how order is kept. */
import type { ClientRequest } from '../client/client-request.js';
import { RequestPool } from '../client/request-pool.js';
import { checkChain, type Chain } from '../pool/chain.js';
import type { ListOptions, ListPage, ObjectPool } from '../pool/object-pool.js';
import type { Done } from '../util/errors.js';
import { ChangeTally } from './change-tally.js';
import { flushPool } from './cluster-flush.js';
import { listPool } from './cluster-list.js';
import { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

export class ClusterPool extends RequestPool implements ObjectPool {
  readonly #router: PoolRouter;
  readonly #tally = new ChangeTally();

  /** @param chain - The chain that data is seen through; 0: none */
  constructor(router: PoolRouter, chain = 0) {
    const { name, objectBytes } = router.pool;
    super({ name, objectBytes, chain, pool: null });
    this.#router = router;
  }

  /**
   * This pool as the newest layer of a chain: each daemon resolves the layers below by itself, as all data of one index
   * is in one group.
   * @throws StoreError `E_INVALID`
   */
  layered(chain: Chain): Promise<ObjectPool> {
    return new Promise((resolve) => {
      checkChain(chain);
      resolve(new ClusterPool(this.#router, this.#router.addChain(chain)));
    });
  }

  forUser(): ObjectPool {
    return new ClusterPool(this.#router, this.chain);
  }

  flush(done: Done): void {
    void flushPool(this.#router, this.#tally).then(done);
  }

  list(options: ListOptions): Promise<ListPage> {
    const refusal = this.pageRefusal(options) ?? this.#router.refusal;
    return refusal === null ? listPool(this.#router, options) : Promise.reject(refusal);
  }

  protected submit(request: ClientRequest): void {
    this.#router.submit(request);
  }

  protected changed({ ref, pool: lane, epoch }: ClientRequest): void {
    const router = this.#router;
    const group = router.groupOf(ref);
    router.changedGroups.add(group);
    if (lane instanceof PoolLane) this.#tally.changed(group, lane, epoch);
  }
}
