import type { Clock } from '@store/core';

/** The part of a lease's time that its holder does not use: clocks run at different rates. */
const MARGIN = 0.1;

/** For how long the holder of a lease may count on it. */
export class LeaseClock {
  readonly #clock: Clock;
  readonly #trustedMs: number;
  #endMs: number;

  /** @param sentMs - When the request that the store answered with the lease was sent. */
  constructor(clock: Clock, ttlMs: number, sentMs: number) {
    this.#clock = clock;
    this.#trustedMs = ttlMs * (1 - MARGIN);
    this.#endMs = sentMs + this.#trustedMs;
  }

  /** A keep-alive sent at `sentMs` was answered. Answers may come in another order than they were asked for. */
  renewed(sentMs: number): void {
    this.#endMs = Math.max(this.#endMs, sentMs + this.#trustedMs);
  }

  /** The store said that it is over. */
  end(): void {
    this.#endMs = -Infinity;
  }

  remainingMs(): number {
    return Math.max(0, this.#endMs - this.#clock.now());
  }
}
