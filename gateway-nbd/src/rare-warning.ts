import type { Clock, Log } from '@store/core';

const LOG_INTERVAL_MS = 1000;

/** Warnings that strangers can cause, as many as they like: one line a second, with a count of those left out. */
export class RareWarning {
  readonly #clock: Clock;
  #loggedAt = -Infinity;
  #unlogged = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  warn(log: Log, fields: Readonly<Record<string, unknown>>, message: string): void {
    const now = this.#clock.now();
    if (now - this.#loggedAt < LOG_INTERVAL_MS) {
      this.#unlogged += 1;
      return;
    }
    log.warn({ ...fields, unlogged: this.#unlogged }, message);
    this.#loggedAt = now;
    this.#unlogged = 0;
  }
}
