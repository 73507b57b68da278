/**
 * What one user of a pool has changed and not flushed, by group: it tells which daemons a flush of his must ask, and
 * whether something of his was lost. What was there before he came is unknown, so his first flush is about all groups.
 */
import { WriteTally } from '../client/write-tally.js';
import type { PoolLane } from './pool-lane.js';

/** Changes of one group. */
export interface GroupChange {
  /** To the daemon that answered the last one. */
  readonly lane: PoolLane;
  /** `lostAt` of the group when the first one was answered: if it has grown since, that one is lost. */
  readonly lostAt: number;
}

/** A flush under way. */
export interface ChangeTicket {
  readonly changes: Map<number, GroupChange>;
  /** It is about all groups. */
  readonly coversAll: boolean;
}

export class ChangeTally {
  #changes = new Map<number, GroupChange>();
  /** The next flush is about all groups. */
  #coversAll = true;
  readonly #underWay = new Set<ChangeTicket>();
  readonly #byLane = new Map<PoolLane, WriteTally>();

  /** A change was answered, and is not durable. */
  changed(group: number, lane: PoolLane, lostAt: number): void {
    this.ofLane(lane).answered();
    const before = this.#changes.get(group);
    if (before?.lane === lane) return;
    this.#changes.set(group, { lane, lostAt: before?.lostAt ?? lostAt });
  }

  /** What he has to lose with one start of a daemon. */
  ofLane(lane: PoolLane): WriteTally {
    let tally = this.#byLane.get(lane);
    if (tally === undefined) {
      tally = new WriteTally(lane.losses);
      this.#byLane.set(lane, tally);
    }
    return tally;
  }

  /** It covers what those that are not over cover, too: they may yet fail. */
  flushCalled(): ChangeTicket {
    let coversAll = this.#coversAll;
    const changes = this.#changes;
    for (const other of this.#underWay) {
      coversAll ||= other.coversAll;
      for (const [group, change] of other.changes) merge(changes, group, change);
    }
    const ticket = { changes, coversAll };
    this.#underWay.add(ticket);
    this.#changes = new Map();
    this.#coversAll = false;
    return ticket;
  }

  /** @param left - Groups that it could not make durable: the next one covers them */
  flushed(ticket: ChangeTicket, left: ReadonlySet<number>): void {
    this.#underWay.delete(ticket);
    for (const [group, change] of ticket.changes)
      if (left.has(group)) merge(this.#changes, group, change);
    if (left.size > 0 && ticket.coversAll) this.#coversAll = true;
  }
}

/** Adds older changes of a group. */
function merge(changes: Map<number, GroupChange>, group: number, older: GroupChange): void {
  const { lane } = changes.get(group) ?? older;
  changes.set(group, { lane, lostAt: older.lostAt });
}
