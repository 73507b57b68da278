import type { Random } from '@store/core';

/** A server that is started again at once is found at once. */
const FIRST_MS = 50;
/** Far below any sensible dead-connection timeout. */
const LAST_MS = 2000;

/** Waits that double from one failure to the next, each shortened by chance so that many clients spread out. */
export class RedialDelay {
  readonly #random: Random;
  #failures = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** @returns How long to wait after one more failure */
  failed(): number {
    const fullMs = Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    const share = 0.5 + this.#random.bytes(1).readUInt8() / 512;
    return Math.round(fullMs * share);
  }

  succeeded(): void {
    this.#failures = 0;
  }
}
