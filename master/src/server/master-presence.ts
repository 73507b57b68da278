/**
 * Which masters there are: each keeps a key of its own in the store, bound to a lease, and the leader looks at them all.
 * For people only: nothing is decided by it.
 */
import { messageOf, StoreError, type Env, type MasterStatus, type Timer } from '@store/core';
import type { StateLease, StateStore } from '../state/state-store.js';

const PREFIX = 'master/';
const TTL_MS = 15_000;
const LOOK_MS = 4000;

export class MasterPresence {
  readonly #env: Env;
  readonly #store: StateStore;
  readonly #key: string;
  readonly #address: string;
  #lease: StateLease | null = null;
  #others: readonly string[] = [];
  #timer: Timer | null = null;
  #work: Promise<void> = Promise.resolve();
  #isClosed = false;

  /** @param address - Where clients connect to this master. */
  constructor(env: Env, store: StateStore, masterId: string, address: string) {
    this.#env = env;
    this.#store = store;
    this.#key = `${PREFIX}${masterId}`;
    this.#address = address;
    this.#run();
  }

  /** All masters that were there a moment ago; this one leads. */
  statuses(): MasterStatus[] {
    return [
      { address: this.#address, isLeader: true },
      ...this.#others.map((address) => ({ address, isLeader: false })),
    ];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#work;
    try {
      await this.#lease?.revoke();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error; // it ends by itself
    }
  }

  #run(): void {
    this.#work = this.#look().catch((error: unknown) => {
      if (!(error instanceof StoreError)) throw error;
      if (error.code === 'E_NOT_FOUND') this.#lease = null; // it ran out: a new one
      this.#env.log.debug({ code: error.code }, `Masters were not looked for: ${messageOf(error)}`);
    });
    void this.#work.then(() => {
      if (!this.#isClosed) this.#timer = this.#env.timers.after(LOOK_MS, () => this.#run());
    });
  }

  async #look(): Promise<void> {
    if (this.#lease === null) {
      const lease = await this.#store.lease(TTL_MS);
      const value = Buffer.from(this.#address);
      await this.#store.commit({ conditions: [], changes: [{ key: this.#key, value, lease }] });
      this.#lease = lease;
    } else await this.#lease.keepAlive();
    const { entries } = await this.#store.read(PREFIX);
    this.#others = entries
      .filter(({ key }) => key !== this.#key)
      .map(({ value }) => value.toString())
      .sort();
  }
}
