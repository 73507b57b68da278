/**
 * Changes that were let in and are not answered, in rounds: whoever must know when all that came before him are over begins
 * a new one. What comes later counts for that, so it holds nobody up.
 */
export class Round {
  /** Changes of this round that are not over. */
  count = 0;
}

interface Waiting {
  readonly rounds: readonly Round[];
  readonly done: () => void;
}

export class Rounds {
  #present = new Round();
  /** Earlier ones that are not over. */
  #before: Round[] = [];
  #waiting: Waiting[] = [];

  /** A change is let in; give it to `end` when it was answered. */
  begin(): Round {
    this.#present.count += 1;
    return this.#present;
  }

  end(round: Round): void {
    round.count -= 1;
    if (round.count > 0 || this.#waiting.length === 0) return;
    const over = this.#waiting.filter(isOver);
    this.#waiting = this.#waiting.filter((one) => !isOver(one));
    for (const { done } of over) done();
  }

  /** Calls `done` when all changes that were let in before are over. */
  whenOver(done: () => void): void {
    if (this.#present.count > 0) {
      this.#before.push(this.#present);
      this.#present = new Round();
    }
    this.#before = this.#before.filter(({ count }) => count > 0);
    if (this.#before.length === 0) done();
    else this.#waiting.push({ rounds: [...this.#before], done });
  }
}

function isOver({ rounds }: Waiting): boolean {
  return rounds.every(({ count }) => count === 0);
}
