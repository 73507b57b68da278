/**
 * The master that leads: holds the state of the cluster, and makes decisions one batch after the other. A decision is
 * answered when it is durable in the store. Each commit carries the leader's guard and the revision of the state it was
 * made from, so a leader that was deposed without noticing decides nothing.
 */
import { invariant, messageOf, StoreError, type Env } from '@store/core';
import type { Leadership } from '../state/election.js';
import type { StateStore } from '../state/state-store.js';
import type { ClusterState } from './cluster-state.js';
import { noteBehind } from './members-behind.js';
import { changesBetween, CLUSTER_KEY, decodeState, type StoredState } from './state-keys.js';

/** Each changes a few keys, and a commit takes a hundred. */
const BATCH_MAX = 24;
/** A state that changed under our hands is read anew so often before the decisions in hand are given up. */
const TRIES_MAX = 3;

/** @returns the next state (the same: nothing is to be done), and what to answer */
export type Decide<T> = (state: ClusterState) => { state: ClusterState; result: T };

interface Waiting {
  decide: Decide<unknown>;
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** A cluster that begins. */
export interface NewCluster {
  readonly state: ClusterState;
  /** It was not to be: another master was first, or the store said no. */
  undo(): void;
}

export interface ClusterLeaderOptions {
  readonly env: Env;
  readonly store: StateStore;
  readonly leadership: Leadership;
  /** What a cluster begins with, if there is none yet; null: refuse to make one. */
  readonly begin: (() => NewCluster) | null;
  /** The state is another one now, durably. */
  readonly changed: (state: ClusterState) => void;
}

export class ClusterLeader {
  readonly #options: ClusterLeaderOptions;
  readonly #waiting: Waiting[] = [];
  #stored: StoredState;
  #isWorking = false;
  /** What is stored may not be what we hold. */
  #isInDoubt = false;

  /**
   * Reads the state, or begins a new cluster.
   * @throws StoreError `E_FORMAT` if the state is damaged; `E_NOT_FOUND` if there is none and none shall be made;
   *   `E_NOT_LEADER`; what the store says
   */
  static async take(options: ClusterLeaderOptions): Promise<ClusterLeader> {
    const { store, leadership, begin } = options;
    const found = decodeState(await store.read(''));
    if (found !== null) return new ClusterLeader(options, found);
    if (begin === null) throw new StoreError('E_NOT_FOUND', 'There is no cluster in this state');
    const begun = begin();
    const { state } = begun;
    const { first, changes } = changesBetween(null, state, leadership.id);
    invariant(first.length === 0, 'a new cluster is small');
    const conditions = [leadership.guard(), { key: CLUSTER_KEY, revision: 0 }];
    try {
      const { applied, revision } = await store.commit({ conditions, changes });
      if (!applied) {
        leadership.refused();
        throw notLeader();
      }
      return new ClusterLeader(options, { state, revision });
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_IN_DOUBT') begun.undo();
      throw error;
    }
  }

  private constructor(options: ClusterLeaderOptions, stored: StoredState) {
    this.#options = options;
    this.#stored = stored;
  }

  get state(): ClusterState {
    return this.#stored.state;
  }

  /**
   * Makes a decision, and answers when it is durable.
   * @throws StoreError what `decide` throws; `E_NOT_LEADER`; `E_IN_DOUBT` if nobody can say whether it was stored; what
   *   else the store says: then nothing was changed
   */
  decide<T>(decide: Decide<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ decide, resolve, reject });
      if (!this.#isWorking) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#isWorking = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, BATCH_MAX);
      try {
        await this.#decideAll(batch);
      } catch (error) {
        if (batch.length === 1 || !isUnfit(error))
          for (const waiting of batch) waiting.reject(error);
        else await this.#decideEach(batch);
      }
    }
    this.#isWorking = false;
  }

  /** One that makes a state which cannot be written down shall not take the others with it. */
  async #decideEach(batch: readonly Waiting[]): Promise<void> {
    for (const waiting of batch)
      try {
        await this.#decideAll([waiting]);
      } catch (error) {
        waiting.reject(error);
      }
  }

  async #decideAll(batch: readonly Waiting[]): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      if (!this.#options.leadership.isLeader()) throw notLeader();
      if (this.#isInDoubt) await this.#readAgain();
      const before = this.#stored.state;
      const { state, answers } = applyAll(before, batch);
      if (state === before) {
        for (const answer of answers) answer();
        return;
      }
      const time = Math.floor(this.#options.env.clock.wallSeconds());
      const next = noteBehind(before, numbered(before, state), time);
      if (await this.#commit(next)) {
        for (const answer of answers) answer();
        this.#options.changed(next);
        return;
      }
      // Somebody else decided, or leads.
      this.#isInDoubt = true;
      if (tries === TRIES_MAX) {
        // Only a leader changes the state: it was our guard that did not hold.
        this.#options.leadership.refused();
        throw notLeader();
      }
    }
  }

  /** @returns false if the state or the leader is not what it was */
  async #commit(next: ClusterState): Promise<boolean> {
    const { store, leadership } = this.#options;
    const { state: before, revision } = this.#stored;
    const { first, changes } = changesBetween(before, next, leadership.id);
    try {
      for (const part of first)
        if (!(await store.commit({ conditions: [leadership.guard()], changes: [part] })).applied)
          return false;
      const guard = { key: CLUSTER_KEY, revision };
      const result = await store.commit({ conditions: [leadership.guard(), guard], changes });
      if (result.applied) this.#stored = { state: next, revision: result.revision };
      return result.applied;
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === 'E_IN_DOUBT') this.#isInDoubt = true;
      throw error;
    }
  }

  async #readAgain(): Promise<void> {
    const { env, store } = this.#options;
    let found: StoredState | null;
    try {
      found = decodeState(await store.read(''));
    } catch (error) {
      // What we hold stays what it is, and nothing is decided on it.
      env.log.error({}, `The state of the cluster cannot be read again: ${messageOf(error)}`);
      throw error;
    }
    if (found === null)
      throw new StoreError('E_FORMAT', 'The state of the cluster is gone from its store');
    this.#stored = found;
    this.#isInDoubt = false;
    this.#options.changed(found.state);
  }
}

/** One decision after the other; one that is refused changes nothing and hears so at once. */
function applyAll(
  before: ClusterState,
  batch: readonly Waiting[],
): { state: ClusterState; answers: (() => void)[] } {
  let state = before;
  const answers: (() => void)[] = [];
  for (const waiting of batch)
    try {
      const decided = waiting.decide(state);
      state = decided.state;
      answers.push(() => waiting.resolve(decided.result));
    } catch (error) {
      answers.push(() => waiting.reject(error));
    }
  return { state, answers };
}

function numbered(before: ClusterState, state: ClusterState): ClusterState {
  const serial = before.serial + 1;
  if (state.map === before.map) return { ...state, serial };
  return { ...state, serial, map: { ...state.map, version: before.map.version + 1 } };
}

function isUnfit(error: unknown): boolean {
  return error instanceof StoreError && ['E_FORMAT', 'E_INVALID'].includes(error.code);
}

function notLeader(): StoreError {
  return new StoreError('E_NOT_LEADER', 'This master does not lead any more; ask again');
}
