/**
 * A flush of a pool that lies on many daemons. For each group that its user has changed, the primary of now is asked: it
 * has all that was answered in the group, and answers when all who must keep it have it durably. If the group moves to
 * another one before that, that one is asked.
 *
 * A daemon that a group has moved away from is asked as well, as long as it can be reached: what it fails to keep
 * is said. Its silence, and what its restart lost, is not: others have the group, and what they have lost the map says.
 */
import { flushRequest, lostWrites } from '../client/request-pool.js';
import type { StoreError } from '../util/errors.js';
import type { ChangeTally, ChangeTicket } from './change-tally.js';
import type { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

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
    const former = this.#askFormer();
    while (this.#isUnderWay()) {
      const asking = [...this.#byPrimary()].map(([lane, groups]) => this.#askPrimary(lane, groups));
      await Promise.all(asking);
      if (this.#isUnderWay()) await this.#waitForMap();
    }
    await former;
    this.#findLost();
    this.#tally.flushed(this.#ticket, this.#left);
    // Said once, so it goes before what the next flush will say again.
    return this.#isLost ? lostWrites(this.#router.pool.name) : this.#failure;
  }

  /** What the map says was lost. */
  #findLost(): void {
    const { changes } = this.#ticket;
    for (const [group, { lane, lostAt }] of changes) {
      const lostNow = this.#router.lostAt(group);
      if (lostNow === lostAt) continue;
      this.#isLost = true;
      changes.set(group, { lane, lostAt: lostNow });
    }
  }

  #byPrimary(): Map<PoolLane, number[]> {
    const found = new Map<PoolLane, number[]>();
    for (const group of this.#left) {
      const lane = this.#router.laneOf(group);
      if (lane === null) continue;
      const groups = found.get(lane);
      if (groups === undefined) found.set(lane, [group]);
      else groups.push(group);
    }
    return found;
  }

  async #askPrimary(lane: PoolLane, groups: readonly number[]): Promise<void> {
    const tally = this.#tally.ofLane(lane);
    const ticket = tally.flushCalled();
    const error = await this.#ask(lane);
    if (error === null) {
      if (!tally.flushed(ticket)) this.#isLost = true;
      for (const group of groups) this.#left.delete(group);
      return;
    }
    tally.flushFailed(ticket);
    const isStill = groups.some((group) => this.#router.laneOf(group) === lane);
    const isOthers = error.code === 'E_STALE_MAP' || (error.retry === 'later' && !isStill);
    if (!isOthers || this.#router.refusal !== null) this.#failure ??= error;
  }

  async #askFormer(): Promise<void> {
    const former = new Set<PoolLane>();
    for (const [group, { lane }] of this.#ticket.changes)
      if (this.#router.laneOf(group) !== lane) former.add(lane);
    const primaries = this.#byPrimary();
    const ask = async (lane: PoolLane): Promise<void> => {
      const tally = this.#tally.ofLane(lane);
      const ticket = tally.flushCalled();
      const error = lane.isConnected ? await this.#ask(lane) : null;
      tally.flushed(ticket);
      if (error !== null && error.code !== 'E_STALE_MAP' && error.retry !== 'later')
        this.#failure ??= error;
    };
    await Promise.all([...former].filter((lane) => !primaries.has(lane)).map(ask));
  }

  #ask(lane: PoolLane): Promise<StoreError | null> {
    return new Promise((resolve) => {
      const request = flushRequest(lane, [], resolve);
      request.lateAt = this.#lateAt;
      this.#router.submitTo(lane, request);
    });
  }

  #isUnderWay(): boolean {
    return this.#left.size > 0 && this.#failure === null;
  }

  /** Groups are left that nobody serves, or somebody else than was asked. */
  async #waitForMap(): Promise<void> {
    const [group = 0] = this.#left;
    if (this.#router.options.env.clock.now() < this.#lateAt) await this.#router.newerMap();
    else this.#failure = this.#router.lateError(group, null);
  }
}
