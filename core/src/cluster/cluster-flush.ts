/**
 * A flush of a pool that lies on many daemons. For each group that its user has changed, the primary of now is asked: it
 * has all that was answered in the group, and answers when all who must keep it have it durably. If the group moves to
 * another one before that, that one is asked. Who was the primary before is not: whatever became of him, the new one has
 * all that was answered, or the map says that it was lost.
 *
 * **What is lost.** With copies, the loss of a daemon loses nothing, and its restart is nobody's business. Answered writes
 * are lost when a group is given to a member that may not have them, and then the map says so in the very change that does
 * it: `lostAt` is the epoch that begins with the loss. So what was answered in an older epoch than `lostAt`, and was
 * not flushed, may be gone; what was answered in `lostAt` or later is not. Both numbers are exact. A write is answered in
 * the epoch that its request named, and no other (`ClientRequest.epoch`). A flush names each group with its epoch, and the
 * daemon refuses it in any other: so the `lostAt` that is compared is the one by which the group is flushed, whichever of
 * the two maps is newer. A primary that lags behind could leave copies out that it does not know of yet; a client that
 * does would miss a loss. What is lost after the primary has answered was flushed before.
 *
 * A flush answers once for a loss: the groups that it flushed have no older writes any more.
 *
 * When an operator has a group go on with an older copy, flushed writes are lost as well (`MapGroup.givenUpAt`): each user
 * of the pool hears of it with his next flush, whatever he has written (`ClusterPool`).
 *
 * **One copy.** A daemon that is the only one to hold a group may serve it again after a crash before the masters know of
 * it, in the same epoch. There its lineage says what its restart has lost, at once and to the right ones: who was answered
 * by it before. `lostAt`, which comes later for the same loss, counts only for what another daemon has answered.
 */
import { flushRequest, lostWrites } from '../client/request-pool.js';
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import type { StoreError } from '../util/errors.js';
import { NAMED_GROUPS_MAX } from '../wire/wire-limits.js';
import type { ChangeTally, ChangeTicket, GroupChange } from './change-tally.js';
import type { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

/** A group as a daemon is asked about it. */
interface AskedGroup extends GroupAtEpoch {
  /** In this epoch of it. */
  readonly lostAt: number;
}

/**
 * @param only - These groups, whatever the tally says
 * @returns Why not all of it is durable; null: it is
 */
export async function flushPool(
  router: PoolRouter,
  tally: ChangeTally,
  only: ReadonlySet<number> | null = null,
): Promise<StoreError | null> {
  if (only?.size === 0) return null;
  if (router.refusal !== null) return router.refusal;
  return new PoolFlush(router, tally, only).run();
}

class PoolFlush {
  readonly #router: PoolRouter;
  readonly #tally: ChangeTally;
  readonly #ticket: ChangeTicket;
  /** Groups that are not durable yet. */
  readonly #left: Set<number>;
  readonly #lateAt: number;
  #isLost = false;
  #failure: StoreError | null = null;
  /** What the last daemon said that was asked in vain. */
  #refusal: StoreError | null = null;

  constructor(router: PoolRouter, tally: ChangeTally, only: ReadonlySet<number> | null) {
    const { env, deadlineMs } = router.options;
    this.#router = router;
    this.#tally = tally;
    this.#ticket = tally.flushCalled();
    const { coversAll, changes } = this.#ticket;
    this.#left = new Set(only ?? (coversAll ? router.pool.groups.keys() : changes.keys()));
    this.#lateAt = env.clock.now() + deadlineMs;
  }

  async run(): Promise<StoreError | null> {
    while (this.#isUnderWay()) {
      const { mapVersion } = this.#router;
      const asking = [...this.#byPrimary()].map(([lane, groups]) => this.#askPrimary(lane, groups));
      await Promise.all(asking);
      if (this.#isUnderWay()) await this.#waitForMap(mapVersion);
    }
    this.#tally.flushed(this.#ticket, this.#left);
    // Said once, so it goes before what the next flush will say again.
    return this.#isLost ? lostWrites(this.#router.pool.name) : this.#failure;
  }

  #byPrimary(): Map<PoolLane, AskedGroup[]> {
    const found = new Map<PoolLane, AskedGroup[]>();
    for (const group of this.#left) {
      const lane = this.#router.laneOf(group);
      if (lane === null) continue;
      const epoch = this.#router.epochOf(group);
      const asked = { group, epoch, lostAt: this.#router.lostAt(group) };
      const others = found.get(lane);
      if (others === undefined) found.set(lane, [asked]);
      else others.push(asked);
    }
    return found;
  }

  async #askPrimary(lane: PoolLane, groups: readonly AskedGroup[]): Promise<void> {
    for (let from = 0; from < groups.length; from += NAMED_GROUPS_MAX) {
      const asked = groups.slice(from, from + NAMED_GROUPS_MAX);
      const error = await this.#ask(lane, asked);
      if (error === null) this.#flushed(lane, asked);
      else this.#failed(lane, asked, error);
    }
  }

  #flushed(lane: PoolLane, groups: readonly AskedGroup[]): void {
    const isSole = this.#router.pool.replicas === 1;
    for (const { group, lostAt } of groups) {
      this.#left.delete(group);
      const change = this.#ticket.changes.get(group);
      if (change !== undefined && wasLost(change, lane, lostAt, isSole)) this.#isLost = true;
    }
  }

  #failed(lane: PoolLane, groups: readonly AskedGroup[], error: StoreError): void {
    const router = this.#router;
    const isStill = groups.some(({ group }) => router.laneOf(group) === lane);
    const isOthers = error.code === 'E_STALE_MAP' || (error.retry === 'later' && !isStill);
    if (!isOthers || router.refusal !== null) this.#failure ??= error;
    this.#refusal = error;
  }

  #ask(lane: PoolLane, groups: readonly AskedGroup[]): Promise<StoreError | null> {
    const router = this.#router;
    return new Promise((resolve) => {
      const request = flushRequest(lane, groups, resolve);
      request.lateAt = this.#lateAt;
      request.isElsewhere = () => groups.some(({ group }) => router.laneOf(group) !== lane);
      router.submitTo(lane, request);
    });
  }

  #isUnderWay(): boolean {
    return this.#left.size > 0 && this.#failure === null;
  }

  /** Groups are left that nobody serves, or somebody else than was asked, or in another epoch. */
  async #waitForMap(asked: number): Promise<void> {
    const [group = 0] = this.#left;
    const router = this.#router;
    if (router.options.env.clock.now() >= this.#lateAt)
      this.#failure = router.lateError(group, this.#refusal);
    else if (router.mapVersion === asked) await router.newerMap();
  }
}

/** @param lane - Of the daemon that has flushed the group */
function wasLost(
  { lane: last, hasMoved, epoch, losses }: GroupChange,
  lane: PoolLane,
  lostAt: number,
  isSole: boolean,
): boolean {
  if (!isSole || last !== lane) return lostAt > epoch;
  return lane.losses.count > losses || (hasMoved && lostAt > epoch);
}
