/**
 * Requests that no daemon takes just now: their group has no primary, or who is said to be it says that it is not. They
 * are tried again with each newer map, and now and then without one, because a daemon may have been behind as well.
 */
import { BackOff } from '../env/back-off.js';
import type { ClientRequest } from '../client/client-request.js';
import type { Env } from '../env/env.js';
import type { StoreError } from '../util/errors.js';

/** When nothing was held for so long, the next one is tried again soon. */
const CALM_MS = 5000;

export interface HeldEvents {
  /** Somebody waits for a newer map. Called again and again. */
  seek(): void;
  /** The request may be taken by now. */
  again(request: ClientRequest): void;
  /** Its time is over. @param why - What the last daemon said that was asked; null: there was none to ask */
  late(request: ClientRequest, why: StoreError | null): void;
}

interface Held {
  readonly request: ClientRequest;
  readonly why: StoreError | null;
}

export class HeldRequests {
  readonly #env: Env;
  readonly #deadlineMs: number;
  readonly #events: HeldEvents;
  readonly #backOff: BackOff;
  #all: Held[] = [];
  #isTrying = false;
  #heldAt = 0;

  constructor(env: Env, deadlineMs: number, events: HeldEvents) {
    this.#env = env;
    this.#deadlineMs = deadlineMs;
    this.#events = events;
    this.#backOff = new BackOff(env.random, deadlineMs);
  }

  hold(request: ClientRequest, why: StoreError | null): void {
    const now = this.#env.clock.now();
    if (now - this.#heldAt > CALM_MS) this.#backOff.reset();
    this.#heldAt = now;
    if (request.lateAt === 0) request.lateAt = now + this.#deadlineMs;
    this.#all.push({ request, why });
    if (!this.#isTrying) void this.#keepTrying();
  }

  /** The map is another one. */
  mapIsNew(): void {
    this.#backOff.reset();
    this.#tryAll();
  }

  all(): ClientRequest[] {
    return this.#all.map(({ request }) => request);
  }

  /** Lets go of all of them. */
  takeAll(): ClientRequest[] {
    return this.#all.splice(0).map(({ request }) => request);
  }

  #tryAll(): void {
    const now = this.#env.clock.now();
    for (const { request, why } of this.#all.splice(0))
      if (now >= request.lateAt) this.#events.late(request, why);
      else this.#events.again(request);
  }

  async #keepTrying(): Promise<void> {
    const { clock, timers } = this.#env;
    this.#isTrying = true;
    while (this.#all.length > 0) {
      this.#events.seek();
      const first = this.#all.reduce((ms, { request }) => Math.min(ms, request.lateAt), Infinity);
      const leftMs = Math.max(1, first - clock.now());
      await timers.sleep(Math.min(leftMs, this.#backOff.next()));
      this.#tryAll();
    }
    this.#isTrying = false;
  }
}
