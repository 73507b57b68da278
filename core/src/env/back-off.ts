/** How long to wait before trying again: longer each time, and never all at the same moment. */
import type { Random } from './env.js';

const FIRST_MS = 20;
const LAST_MS = 2000;

export class BackOff {
  readonly #random: Random;
  readonly #lastMs: number;
  #ms = FIRST_MS;

  /** @param patienceMs - Whoever waits gives up after this: several tries must fit in. */
  constructor(random: Random, patienceMs: number) {
    this.#random = random;
    this.#lastMs = Math.max(FIRST_MS, Math.min(LAST_MS, patienceMs / 4));
  }

  /** Between half and all of twice as long as the last time. */
  next(): number {
    const ms = this.#ms;
    this.#ms = Math.min(this.#lastMs, ms * 2);
    return ms * (0.5 + this.#random.bytes(1).readUInt8() / 510);
  }

  /** It went well. */
  reset(): void {
    this.#ms = FIRST_MS;
  }
}
