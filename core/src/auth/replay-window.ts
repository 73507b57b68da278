/**
 * Which counters were met already: the newest 4096 are remembered, one bit each, in a ring of words that is cleared
 * as the window moves on (the way of RFC 6479). One word more than the window needs, so that the word being entered
 * never holds bits that still count.
 */
import { invariant } from '../util/invariant.js';

/** So much later than the newest a datagram may arrive. */
export const REPLAY_WINDOW = 4096;
const BITS = 32;
const WORDS = REPLAY_WINDOW / BITS + 1;

/** Takes each counter once, in any order within the window. */
export class ReplayWindow {
  readonly #words = new Uint32Array(WORDS);
  #highest = 0;

  /** The newest counter taken, 0 if there was none. */
  get highest(): number {
    return this.#highest;
  }

  /** Whether `take` would take it. Changes nothing. */
  isNew(counter: number): boolean {
    if (counter > this.#highest) return true;
    if (counter <= this.#highest - REPLAY_WINDOW || counter < 1) return false;
    return ((this.#words[wordOf(counter)] ?? 0) & bitOf(counter)) === 0;
  }

  /**
   * Takes a counter of a datagram that was found genuine.
   * @param counter - A safe integer.
   * @returns False if it was here before, or is older than the window
   */
  take(counter: number): boolean {
    invariant(Number.isSafeInteger(counter), 'a counter is a safe integer');
    if (!this.isNew(counter)) return false;
    if (counter > this.#highest) this.#advance(counter);
    const word = wordOf(counter);
    this.#words[word] = (this.#words[word] ?? 0) | bitOf(counter);
    return true;
  }

  #advance(counter: number): void {
    const from = Math.floor(this.#highest / BITS);
    const steps = Math.floor(counter / BITS) - from;
    if (steps >= WORDS) this.#words.fill(0);
    else for (let step = 1; step <= steps; step += 1) this.#words[(from + step) % WORDS] = 0;
    this.#highest = counter;
  }
}

function wordOf(counter: number): number {
  return Math.floor(counter / BITS) % WORDS;
}

function bitOf(counter: number): number {
  return 1 << (counter % BITS);
}
