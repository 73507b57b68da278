/**
 * Watches whether the other end of a connection keeps up: goes on sending what it has begun, and reads what it has asked
 * for. Both hold memory that others may need. Looked at in steady steps, so that it costs nothing for each request.
 */

export interface PaceLimits {
  /** A request whose rest does not come, at `payloadBytesPerSecondMin` at least, ends its connection after this. */
  readonly stallMs: number;
  readonly payloadBytesPerSecondMin: number;
  /** The same, and for answers that are not read, while others wait for memory that the connection holds. */
  readonly stallUnderPressureMs: number;
}

/** How a connection stands. */
export interface PeerState {
  /** Ever. */
  readonly receivedBytes: number;
  /** Requests that were received whole, ever. */
  readonly requestCount: number;
  /** A request has begun whose rest has not come, though nothing keeps us from reading. */
  readonly awaitsRest: boolean;
  /** Of answers that the peer has not read. */
  readonly unsentBytes: number;
  /** Others wait for memory, and the connection holds more than is its own. */
  readonly isInTheWay: boolean;
}

export class PeerPace {
  readonly #limits: PaceLimits;
  readonly #stepMs: number;
  #receivedBytes = 0;
  #requestCount = 0;
  #unsentBytes = 0;
  #stalledMs = 0;
  #unreadMs = 0;

  /** @param stepMs - `look` is called about so often. */
  constructor(limits: PaceLimits, stepMs: number) {
    this.#limits = limits;
    this.#stepMs = stepMs;
  }

  /** It has begun a request and does not go on, as far as was seen the last time. */
  get isStalled(): boolean {
    return this.#stalledMs > 0;
  }

  /** @returns Why the connection must go, for a log line; null if it may stay. */
  look(state: PeerState): string | null {
    const { stallMs, payloadBytesPerSecondMin, stallUnderPressureMs } = this.#limits;
    const received = state.receivedBytes - this.#receivedBytes;
    const isSlow =
      received < (payloadBytesPerSecondMin * this.#stepMs) / 1000 &&
      state.requestCount === this.#requestCount;
    this.#stalledMs = state.awaitsRest && isSlow ? this.#stalledMs + this.#stepMs : 0;
    const { unsentBytes } = state;
    const isUnread = unsentBytes > 0 && unsentBytes >= this.#unsentBytes;
    this.#unreadMs = isUnread ? this.#unreadMs + this.#stepMs : 0;
    this.#receivedBytes = state.receivedBytes;
    this.#requestCount = state.requestCount;
    this.#unsentBytes = unsentBytes;

    if (this.#stalledMs >= stallMs)
      return `it began a request and did not send the rest within ${stallMs / 1000} s`;
    if (state.isInTheWay && Math.max(this.#stalledMs, this.#unreadMs) >= stallUnderPressureMs)
      return 'it held memory that other clients needed, and did not send or read';
    return null;
  }
}
