/**
 * What one writer of a pool has been promised: which of his writes were answered and not flushed, and whether the daemon's
 * machine has lost writes since. A flush that a loss came between must fail, for each writer who had something to lose,
 * and once: what was written after the loss is safe again.
 */

/** How often a daemon has lost answered writes; shared by all writers of a pool. */
export interface Losses {
  count: number;
}

/** More losses than there will be. */
const NOTHING_TO_LOSE = Infinity;

/** A flush under way. */
export interface FlushTicket {
  /** Writes that were answered before it was called. */
  readonly covered: number;
  /** How often writes had been lost when the oldest of them was answered; `Infinity`: it covers none. */
  readonly since: number;
}

export class WriteTally {
  readonly #losses: Losses;
  readonly #underWay = new Set<FlushTicket>();
  #answered = 0;
  #flushed = 0;
  /** Something was answered after the last flush was called; the first of it when so many losses had been. */
  #hasNew = false;
  #newSince = 0;

  constructor(losses: Losses) {
    this.#losses = losses;
  }

  /** Something was answered that no flush has covered. */
  get isDirty(): boolean {
    return this.#answered > this.#flushed;
  }

  /** A write was answered. */
  answered(): void {
    this.#answered += 1;
    if (this.#hasNew) return;
    this.#hasNew = true;
    this.#newSince = this.#losses.count;
  }

  flushCalled(): FlushTicket {
    let since = this.#hasNew ? this.#newSince : NOTHING_TO_LOSE;
    for (const other of this.#underWay) since = Math.min(since, other.since);
    const ticket = { covered: this.#answered, since };
    this.#underWay.add(ticket);
    this.#hasNew = false;
    return ticket;
  }

  /** The flush was answered. @returns false if writes it should have covered are lost */
  flushed(ticket: FlushTicket): boolean {
    this.#underWay.delete(ticket);
    this.#flushed = Math.max(this.#flushed, ticket.covered);
    return this.#losses.count <= ticket.since;
  }

  /** The flush failed: the next one covers its writes too. */
  flushFailed(ticket: FlushTicket): void {
    this.#underWay.delete(ticket);
    if (ticket.since === NOTHING_TO_LOSE) return;
    this.#newSince = this.#hasNew ? Math.min(this.#newSince, ticket.since) : ticket.since;
    this.#hasNew = true;
  }
}
