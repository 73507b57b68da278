/**
 * Keeps the history of a state store short: each change of the map is a new value of it, and etcd keeps all of them until
 * it is told not to. The leader has one of these; that two have one for a moment does no harm, since only what was is
 * forgotten, and a watch that comes too late for it reads anew.
 */
import { messageOf, StoreError, type Env, type Timer } from '@store/core';
import { LEADER_KEY } from './election.js';
import type { StateStore } from './state-store.js';

const MINUTE_MS: number = 60 * 1000;

export interface CompactorOptions {
  readonly intervalMs: number;
  /** What is older is forgotten, */
  readonly keepMs: number;
  /** and what so many revisions came after. */
  readonly keepRevisions: number;
}

export const COMPACTOR_DEFAULTS: CompactorOptions = {
  intervalMs: 5 * MINUTE_MS,
  keepMs: 60 * MINUTE_MS,
  keepRevisions: 1000,
};

interface Mark {
  readonly ms: number;
  readonly revision: number;
}

export class Compactor {
  readonly #env: Env;
  readonly #store: StateStore;
  readonly #options: CompactorOptions;
  /** Where the store was when, oldest first: at most one more than there are intervals in `keepMs`. */
  #marks: Mark[] = [];
  #compactedTo = 0;
  #timer: Timer | null = null;
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;

  /** Begins at once. The store stays the caller's. */
  constructor(env: Env, store: StateStore, options: CompactorOptions = COMPACTOR_DEFAULTS) {
    this.#env = env;
    this.#store = store;
    this.#options = options;
    this.#run();
  }

  /** Ends when nothing is under way any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#work;
  }

  #run(): void {
    this.#work = this.#compact().catch((error: unknown) => {
      if (!(error instanceof StoreError)) throw error;
      const { log } = this.#env;
      log.warn({ error }, `The history of the state was not compacted: ${messageOf(error)}`);
    });
    void this.#work.then(() => {
      if (!this.#isClosed)
        this.#timer = this.#env.timers.after(this.#options.intervalMs, () => this.#run());
    });
  }

  async #compact(): Promise<void> {
    const { revision } = await this.#store.read(LEADER_KEY);
    const target = this.#targetAt({ ms: this.#env.clock.now(), revision });
    if (target <= this.#compactedTo || this.#isClosed) return;
    await this.#store.compact(target);
    this.#compactedTo = target;
  }

  /** Up to where nobody needs it; notes where the store is now. */
  #targetAt(now: Mark): number {
    const { keepMs, keepRevisions } = this.#options;
    this.#marks.push(now);
    const old = this.#marks.filter(({ ms }) => ms <= now.ms - keepMs).at(-1);
    if (old !== undefined) this.#marks = this.#marks.slice(this.#marks.indexOf(old));
    return Math.max(old?.revision ?? 0, now.revision - keepRevisions);
  }
}
