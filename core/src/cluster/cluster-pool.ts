/** A pool of a cluster: each object is with the primary of its group. See `PoolRouter` for how order is kept. */
import type { ClientRequest } from '../client/client-request.js';
import { RequestPool } from '../client/request-pool.js';
import { checkClaimedChain, type Chain } from '../pool/chain.js';
import type { Claim, Guard } from '../pool/guard.js';
import type { GuardingPool } from '../pool/guarded-pool.js';
import type { ListOptions, ListPage, ObjectPool } from '../pool/object-pool.js';
import { StoreError, type Done } from '../util/errors.js';
import { ChangeTally } from './change-tally.js';
import { flushPool } from './cluster-flush.js';
import { changeGuards } from './cluster-guards.js';
import { listPool } from './cluster-list.js';
import { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

const NOTHING = Buffer.alloc(0);

/** What the users of one claim share. */
interface Role {
  /** Somebody else has it, or the layer is sealed: nothing is done any more. */
  lost: StoreError | null;
  readonly fenced: (why: StoreError) => void;
}

export class ClusterPool extends RequestPool implements GuardingPool {
  readonly #router: PoolRouter;
  readonly #tally = new ChangeTally();
  /** Null: it makes no claim. */
  readonly #role: Role | null;
  /** Groups that were given up and that this user knows of. */
  #givenUpsSeen: number;

  /** @param chain - The chain that data is seen through; 0: none */
  constructor(router: PoolRouter, chain = 0, role: Role | null = null) {
    const { name, objectBytes } = router.pool;
    super({ name, objectBytes, chain, pool: null });
    this.#router = router;
    this.#role = role;
    this.#givenUpsSeen = router.givenUps;
  }

  /**
   * This pool as the newest layer of a chain: each daemon resolves the layers below by itself, as all data of one index
   * is in one group.
   * @throws StoreError `E_INVALID`
   */
  layered(layers: Chain): Promise<ObjectPool> {
    return new Promise((resolve) => {
      resolve(new ClusterPool(this.#router, this.#chainOf(layers, null)));
    });
  }

  claimed(layers: Chain, claim: Claim, fenced: (why: StoreError) => void): ObjectPool {
    return new ClusterPool(this.#router, this.#chainOf(layers, claim), { lost: null, fenced });
  }

  raiseGuard(guard: Guard): Promise<void> {
    return changeGuards(this.#router, { kind: 'raise', guard });
  }

  removeGuard(image: string, token: number): Promise<void> {
    return changeGuards(this.#router, { kind: 'remove', image, token });
  }

  forUser(): ObjectPool {
    return new ClusterPool(this.#router, this.chain, this.#role);
  }

  flush(done: Done): void {
    const lost = this.#role?.lost ?? null;
    if (lost !== null) done(lost);
    else void flushPool(this.#router, this.#tally).then((error) => done(this.#toTell(error)));
  }

  /** What a flush answers: once, that an operator gave up what may have been flushed long ago. */
  #toTell(error: StoreError | null): StoreError | null {
    const { givenUps, pool } = this.#router;
    if (givenUps === this.#givenUpsSeen) return error;
    if (error !== null && error.code !== 'E_LOST_WRITES') return error;
    this.#givenUpsSeen = givenUps;
    return new StoreError(
      'E_LOST_WRITES',
      `An operator accepted the loss of data in pool '${pool.name}': also what was flushed may be gone, or as it was before; see store status`,
    );
  }

  list(options: ListOptions): Promise<ListPage> {
    const refusal = this.pageRefusal(options) ?? this.#router.refusal;
    return refusal === null ? listPool(this.#router, options) : Promise.reject(refusal);
  }

  protected submit(request: ClientRequest): void {
    const lost = this.#role?.lost ?? null;
    if (lost !== null) request.done(lost, NOTHING);
    else this.#router.submit(request);
  }

  protected changed({ ref, pool: lane, epoch }: ClientRequest): void {
    const router = this.#router;
    const group = router.groupOf(ref);
    router.changedGroups.add(group);
    if (lane instanceof PoolLane) this.#tally.changed(group, lane, epoch);
  }

  protected override failed(error: StoreError): void {
    const role = this.#role;
    if (role === null || role.lost !== null) return;
    if (error.code !== 'E_FENCED' && error.code !== 'E_SEALED') return;
    role.lost = error;
    role.fenced(error);
  }

  #chainOf(layers: Chain, claim: Claim | null): number {
    checkClaimedChain({ layers, claim });
    return this.#router.addChain({ layers, claim });
  }
}
