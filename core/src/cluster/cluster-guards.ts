/**
 * Changes the guard of an image in all groups of a pool: each primary is asked about its groups, as for a flush, and asked
 * again, or another one, where the map was not the newest. What is asked twice does no harm; what comes late is lower by
 * then, and refused.
 */
import { ClientRequest } from '../client/client-request.js';
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import type { GuardChange } from '../pool/guarded-pool.js';
import type { StoreError } from '../util/errors.js';
import { encodeGuardRequest } from '../wire/guard-request.js';
import { OP } from '../wire/ops.js';
import { NAMED_GROUPS_MAX } from '../wire/wire-limits.js';
import type { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

/** @throws StoreError why it is not so in every group; it may be in some */
export async function changeGuards(router: PoolRouter, change: GuardChange): Promise<void> {
  if (router.refusal !== null) throw router.refusal;
  await new GuardWork(router, change).run();
}

class GuardWork {
  readonly #router: PoolRouter;
  readonly #change: GuardChange;
  /** Groups that have not answered. */
  readonly #left: Set<number>;
  readonly #lateAt: number;
  #failure: StoreError | null = null;
  /** What the last daemon said that was asked in vain. */
  #refusal: StoreError | null = null;

  constructor(router: PoolRouter, change: GuardChange) {
    const { env, deadlineMs } = router.options;
    this.#router = router;
    this.#change = change;
    this.#left = new Set(router.pool.groups.keys());
    this.#lateAt = env.clock.now() + deadlineMs;
  }

  async run(): Promise<void> {
    for (;;) {
      const { mapVersion } = this.#router;
      await Promise.all(
        [...this.#byPrimary()].map(([lane, groups]) => this.#askPrimary(lane, groups)),
      );
      if (this.#failure !== null) throw this.#failure;
      if (this.#left.size === 0) return;
      await this.#waitForMap(mapVersion);
    }
  }

  #byPrimary(): Map<PoolLane, GroupAtEpoch[]> {
    const found = new Map<PoolLane, GroupAtEpoch[]>();
    for (const group of this.#left) {
      const lane = this.#router.laneOf(group);
      if (lane === null) continue;
      const asked = { group, epoch: this.#router.epochOf(group) };
      const others = found.get(lane);
      if (others === undefined) found.set(lane, [asked]);
      else others.push(asked);
    }
    return found;
  }

  async #askPrimary(lane: PoolLane, groups: readonly GroupAtEpoch[]): Promise<void> {
    for (let from = 0; from < groups.length; from += NAMED_GROUPS_MAX) {
      const asked = groups.slice(from, from + NAMED_GROUPS_MAX);
      const error = await this.#ask(lane, asked);
      if (error === null) for (const { group } of asked) this.#left.delete(group);
      else this.#refused(lane, asked, error);
    }
  }

  #refused(lane: PoolLane, groups: readonly GroupAtEpoch[], error: StoreError): void {
    const router = this.#router;
    const isStill = groups.some(({ group }) => router.laneOf(group) === lane);
    // Whether it was done before the answer was lost does not matter.
    const isAskedAgain =
      error.code === 'E_STALE_MAP' ||
      error.code === 'E_IN_DOUBT' ||
      (error.retry === 'later' && !isStill);
    if (!isAskedAgain || router.refusal !== null) this.#failure ??= error;
    this.#refusal = error;
  }

  #ask(lane: PoolLane, groups: readonly GroupAtEpoch[]): Promise<StoreError | null> {
    const router = this.#router;
    return new Promise((resolve) => {
      const request = new ClientRequest(OP.raiseGuard, lane, null, 0, 0, resolve);
      request.body = (handle) => encodeGuardRequest(handle, this.#change, groups);
      request.lateAt = this.#lateAt;
      request.isElsewhere = () => groups.some(({ group }) => router.laneOf(group) !== lane);
      router.submitTo(lane, request);
    });
  }

  /** Groups are left that nobody serves, or somebody else than was asked, or in another epoch. */
  async #waitForMap(asked: number): Promise<void> {
    const [group = 0] = this.#left;
    const router = this.#router;
    if (router.refusal !== null) throw router.refusal;
    if (router.options.env.clock.now() >= this.#lateAt)
      throw router.lateError(group, this.#refusal);
    if (router.mapVersion === asked) await router.newerMap();
  }
}
