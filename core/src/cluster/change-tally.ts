/**
 * What one user of a pool has changed and not flushed, by group: it tells which daemons a flush of his must ask, and
 * whether something of his was lost. What was there before he came is unknown, so his first flush is about all groups.
 */
import type { PoolLane } from './pool-lane.js';

/** Changes of one group. */
export interface GroupChange {
  /** To the daemon that answered the last one. */
  readonly lane: PoolLane;
  /** Some were answered by another one. */
  readonly hasMoved: boolean;
  /** Of the group, in which the oldest one was answered. */
  readonly epoch: number;
  /** How often that daemon had lost what it had answered, when it answered the oldest one of its own. */
  readonly losses: number;
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

  /** A change was answered, in an epoch of its group, and is not durable. */
  changed(group: number, lane: PoolLane, epoch: number): void {
    const before = this.#changes.get(group);
    if (before !== undefined && before.lane === lane && before.epoch <= epoch) return;
    const change = { lane, hasMoved: false, epoch, losses: lane.losses.count };
    this.#changes.set(group, before === undefined ? change : joined(before, change));
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
  const newer = changes.get(group);
  changes.set(group, newer === undefined ? older : joined(older, newer));
}

function joined(older: GroupChange, newer: GroupChange): GroupChange {
  const isSame = older.lane === newer.lane;
  return {
    lane: newer.lane,
    hasMoved: older.hasMoved || newer.hasMoved || !isSame,
    epoch: Math.min(older.epoch, newer.epoch),
    losses: isSame ? Math.min(older.losses, newer.losses) : newer.losses,
  };
}
