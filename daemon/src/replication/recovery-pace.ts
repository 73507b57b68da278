/**
 * How fast copies are made equal: below what clients do, by what clients feel. Twice a second the mean time of clients'
 * operations is compared with what it is while nothing is recovered; if it has grown the rate goes down, else up. With no
 * clients there is no limit. An operator may set a rate, which then is what it is.
 *
 * What is not used is not saved: clients would feel a burst, whatever the rate is.
 */
const STEP_MS = 500;
const RATE_MIN: number = 8 * 1024 * 1024;
const RATE_MAX: number = 2 * 1024 * 1024 * 1024;
const RATE_FIRST: number = 64 * 1024 * 1024;
/** What may be pushed at once: so much of the rate. */
const BURST_MS = 20;
/** Clients may wait so many times as long as in quiet times. The slowest of them wait longer than the mean. */
const SLOWER_MAX = 1.5;
/** What is always allowed to them, milliseconds: below that nobody notices. */
const NOTICED_MS = 0.5;
/** The same while nobody knows what quiet times are like. */
const UNKNOWN_MS = 2;
const SLOWER_STEP = 0.6;
const FASTER_STEP = 1.25;
const FASTER_STEP_ALONE = 2;
/**
 * Weights of a new mean in the one of quiet times, and how far above that it may be: clients who wait for a daemon that has just
 * died, or write much at a time, say nothing about quiet times.
 */
const QUIET_WEIGHT = { slower: 0.1, faster: 0.3 } as const;
const QUIET_GROWTH_MAX = 2;
const WAIT_MS_MIN = 2;

export class RecoveryPace {
  /** Bytes a second that an operator wants; 0: by what clients feel. */
  wanted = 0;
  #rate: number = RATE_FIRST;
  /** Bytes; below zero what was pushed has to be made up for. */
  #budget = 0;
  #filledAt = -Infinity;
  #stepAt = -Infinity;
  #quietMs = 0;
  #sumMs = 0;
  #count = 0;
  #pushedInStep = 0;

  /** Bytes a second just now. */
  get rate(): number {
    return this.wanted > 0 ? this.wanted : this.#rate;
  }

  /** When something may be pushed again. */
  get waitMs(): number {
    const owedMs = Math.ceil((-this.#budget * 1000) / this.rate);
    return Math.min(Math.max(WAIT_MS_MIN, owedMs), STEP_MS);
  }

  /** A client's operation took so long here. */
  tookMs(ms: number): void {
    this.#sumMs += ms;
    this.#count += 1;
  }

  /** @param bytes - Are pushed; 0: may something be pushed? */
  mayPush(bytes: number, now: number): boolean {
    if (now > this.#filledAt) {
      const elapsedMs = Math.min(now - this.#filledAt, STEP_MS);
      const most = (this.rate * BURST_MS) / 1000;
      this.#budget = Math.min(this.#budget + (this.rate * elapsedMs) / 1000, most);
      this.#filledAt = now;
    }
    this.#budget -= bytes;
    this.#pushedInStep += bytes;
    return this.#budget >= 0;
  }

  tick(now: number): void {
    if (now - this.#stepAt < STEP_MS) return;
    this.#stepAt = now;
    const meanMs = this.#count === 0 ? 0 : this.#sumMs / this.#count;
    const hadClients = this.#count > 0;
    const hasPushed = this.#pushedInStep > 0;
    this.#sumMs = 0;
    this.#count = 0;
    this.#pushedInStep = 0;
    if (!hasPushed) {
      if (hadClients) this.#learn(meanMs);
      return;
    }
    const limitMs =
      this.#quietMs === 0 ? UNKNOWN_MS : Math.max(this.#quietMs * SLOWER_MAX, NOTICED_MS);
    const isSlow = hadClients && meanMs > limitMs;
    this.#rate = isSlow
      ? Math.max(RATE_MIN, this.#rate * SLOWER_STEP)
      : Math.min(RATE_MAX, this.#rate * (hadClients ? FASTER_STEP : FASTER_STEP_ALONE));
  }

  /** @param meanMs - Of clients' operations while nothing was pushed */
  #learn(meanMs: number): void {
    const known = this.#quietMs;
    if (known === 0) this.#quietMs = meanMs;
    else if (meanMs < known) this.#quietMs -= (known - meanMs) * QUIET_WEIGHT.faster;
    else
      this.#quietMs += (Math.min(meanMs, known * QUIET_GROWTH_MAX) - known) * QUIET_WEIGHT.slower;
  }
}
