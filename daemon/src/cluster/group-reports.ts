/**
 * What a daemon reports of the groups it leads. Replication knows how much of a copy was gone through, by the hashes of its
 * objects; how many objects and bytes that is, is an estimate: hashes are spread evenly, so a group has its share of what
 * `PoolMeter` has counted in all groups led here. What turns out to be equal is not sent, so less may have to be copied.
 */
import {
  REPORTED_GROUPS_MAX,
  type Clock,
  type ReportedGroups,
  type ReportedPool,
} from '@store/core';
import type { PoolWork } from '../replication/pool-work.js';

export class GroupReports {
  readonly #clock: Clock;
  /** Of the last report, by pool. */
  #before = new Map<number, { readonly copiesDone: number; readonly at: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The speed is the mean since the last call. Pools with joins come first. */
  next(work: readonly PoolWork[], counted: readonly ReportedPool[]): ReportedGroups[] {
    const at = this.#clock.now();
    const reports = work.map((pool) => this.#reportOf(pool, counted, at));
    this.#before = new Map(work.map(({ pool, copiesDone }) => [pool, { copiesDone, at }]));
    return reports
      .sort((a, b) => Number(b.joining > 0) - Number(a.joining > 0))
      .slice(0, REPORTED_GROUPS_MAX);
  }

  #reportOf(work: PoolWork, counted: readonly ReportedPool[], at: number): ReportedGroups {
    const { pool, led, joining, copiesLeft, copiesDone, scrubbed } = work;
    const { ledObjects = 0, ledBytes = 0 } = counted.find(({ id }) => id === pool) ?? {};
    const before = this.#before.get(pool);
    const copies = before === undefined ? 0 : Math.max(0, copiesDone - before.copiesDone);
    const seconds = before === undefined ? 0 : (at - before.at) / 1000;
    const perCopy = ledBytes / led.size;
    return {
      pool,
      joining,
      objectsLeft: Math.round((copiesLeft * ledObjects) / led.size),
      bytesLeft: Math.round(copiesLeft * perCopy),
      bytesPerSecond: seconds > 0 ? Math.round((copies * perCopy) / seconds) : 0,
      lastLightSeconds: this.#secondsSince(scrubbed.light),
      lastDeepSeconds: this.#secondsSince(scrubbed.deep),
      errorsFound: work.errorsFound,
      errorsRepaired: work.errorsRepaired,
    };
  }

  #secondsSince(time: number): number | null {
    return time === 0 ? null : Math.max(0, Math.round(this.#clock.wallSeconds() - time));
  }
}
