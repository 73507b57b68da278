/**
 * What one writer of a pool stands to lose: writes that were answered and that no flush has covered. A flush that a loss
 * came between must fail, for each writer who had something to lose, and once: what was written after the loss is safe
 * again.
 */

/** How often a daemon has lost answered writes; shared by all writers of a pool. */
export interface Losses {
  count: number;
}

/** More losses than there will be. */
const NOTHING_TO_LOSE = Infinity;

/** A flush under way. */
export interface FlushTicket {
  /** How often writes had been lost when the oldest that it covers was answered; `Infinity`: it covers none. */
  readonly since: number;
}

export class WriteTally {
  readonly #losses: Losses;
  readonly #underWay = new Set<FlushTicket>();
  /** As in a ticket, of what was answered after the last flush was called. */
  #since = NOTHING_TO_LOSE;

  constructor(losses: Losses) {
    this.#losses = losses;
  }

  /** A write was answered, and is not durable. */
  answered(): void {
    if (this.#since === NOTHING_TO_LOSE) this.#since = this.#losses.count;
  }

  flushCalled(): FlushTicket {
    let since = this.#since;
    for (const other of this.#underWay) since = Math.min(since, other.since);
    const ticket = { since };
    this.#underWay.add(ticket);
    this.#since = NOTHING_TO_LOSE;
    return ticket;
  }

  /** The flush was answered. @returns false if writes it should have covered are lost */
  flushed(ticket: FlushTicket): boolean {
    this.#underWay.delete(ticket);
    return this.#losses.count <= ticket.since;
  }

  /** The flush failed: the next one covers its writes too. */
  flushFailed(ticket: FlushTicket): void {
    this.#underWay.delete(ticket);
    this.#since = Math.min(this.#since, ticket.since);
  }
}
