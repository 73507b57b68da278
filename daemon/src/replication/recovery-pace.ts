/**
 * How fast copies are made equal: below what clients do, by what clients feel. Each second the mean time of clients'
 * operations is compared with what it is while nothing is recovered; if it has grown the rate goes down by half, else up.
 * With no clients there is no limit. An operator may set a rate, which then is what it is.
 */
const STEP_MS = 500;
const RATE_MIN: number = 8 * 1024 * 1024;
const RATE_MAX: number = 2 * 1024 * 1024 * 1024;
const RATE_FIRST: number = 64 * 1024 * 1024;
/** Clients may wait so many times as long as in quiet times. */
const SLOWER_MAX = 2;
/** What is always allowed to them, milliseconds: below that nobody notices. */
const NOTICED_MS = 2;
/** Weight of a new mean in the one of quiet times. */
const QUIET_WEIGHT = 0.1;

export class RecoveryPace {
  /** Bytes a second that an operator wants; 0: by what clients feel. */
  wanted = 0;
  #rate: number = RATE_FIRST;
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

  /** A client's operation took so long here. */
  tookMs(ms: number): void {
    this.#sumMs += ms;
    this.#count += 1;
  }

  /** @param bytes - Are pushed; 0: may something be pushed? */
  mayPush(bytes: number, now: number): boolean {
    if (now > this.#filledAt) {
      const elapsedMs = Math.min(now - this.#filledAt, STEP_MS);
      this.#budget = Math.min(this.#budget + (this.rate * elapsedMs) / 1000, this.rate / 4);
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
      if (hadClients)
        this.#quietMs += (meanMs - this.#quietMs) * (this.#quietMs === 0 ? 1 : QUIET_WEIGHT);
      return;
    }
    const isSlow = hadClients && meanMs > Math.max(this.#quietMs * SLOWER_MAX, NOTICED_MS);
    this.#rate = isSlow
      ? Math.max(RATE_MIN, this.#rate / 2)
      : Math.min(RATE_MAX, this.#rate * (hadClients ? 1.25 : 2));
  }
}
