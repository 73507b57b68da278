/**
 * Recognises a client that flushes after each write and waits for that, as databases and journals do. Its writes are made
 * durable by themselves, as if they carried FUA, so that the flush that follows finds nothing left to do: where copies are on
 * other machines, two rounds become one. A guess that was wrong costs one durable write; nothing is ever less durable than
 * was asked for.
 */

/** So often in a row a single write must have been followed by a flush. */
const ROUNDS_MIN = 4;

export class FlushHabit {
  /** Changes since the last flush. */
  #changes = 0;
  /** Flushes in a row that came after a single change. */
  #rounds = 0;

  /** Something is changed. @returns Whether a flush is expected right after it */
  changed(): boolean {
    this.#changes += 1;
    if (this.#changes > 1) this.#rounds = 0;
    return this.#rounds >= ROUNDS_MIN;
  }

  flushed(): void {
    if (this.#changes === 1) this.#rounds += 1;
    this.#changes = 0;
  }
}
