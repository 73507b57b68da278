/**
 * Which of several masters decides. Whoever makes the key `leader` while it is absent, bound to a lease, leads until that
 * lease is over; the others hear through a watch that the key is gone and try in their turn.
 *
 * The lease alone protects nothing: a leader that was stopped for a minute (SIGSTOP, a virtual machine moved, a long
 * collection of garbage) wakes up in the middle of a decision and does not know. So each commit that decides carries
 * `guard()`, the revision at which the key was made: the store itself refuses a deposed leader. `isLeader()` looks at
 * the clock each time it is called, which keeps a leader that knows from even trying.
 *
 * @see Gray & Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism", SOSP 1989.
 */
import { BackOff, invariant, messageOf, StoreError, type Env, type Timer } from '@store/core';
import type {
  CommitResult,
  StateBatch,
  StateCondition,
  StateLease,
  StateStore,
  StateWatch,
} from './state-store.js';

/** Bound to the lease of whoever leads. */
export const LEADER_KEY = 'leader';
/** Of the lease: how often it is kept alive, so that one lost answer costs nothing. */
const KEEP_ALIVE_SHARE = 1 / 4;
const ADDRESS_BYTES_MAX = 1024;

/** Who leads, as it said itself. */
export interface LeaderInfo {
  /** Of this one term: the same master has another one next time. */
  readonly id: string;
  /** Where it listens, for those who look for it. */
  readonly address: string;
}

/** One term of ours. Once lost it never comes back. */
export interface Leadership {
  readonly id: string;
  /** By the clock: false as soon as the lease may be over, whether or not anybody noticed yet. */
  isLeader(): boolean;
  /** What every commit that decides has to carry among its conditions. */
  guard(): StateCondition;
  /** A commit was refused because of the guard: another one leads, whatever the clock says. The term is over. */
  refused(): void;
}

export interface ElectionEvents {
  won(leadership: Leadership): void;
  /** That term is over: stop deciding. Never called without `won` before. */
  lost(leadership: Leadership, reason: string): void;
  /** Somebody else leads, or nobody (null) that we know of. */
  follows(leader: LeaderInfo | null): void;
}

export interface ElectionOptions {
  /** Told to those who look for the leader. */
  readonly address: string;
  /** How long the others wait for a leader that died. */
  readonly ttlMs: number;
  readonly events: ElectionEvents;
}

export class Election {
  readonly #env: Env;
  readonly #store: StateStore;
  readonly #options: ElectionOptions;
  readonly #backOff: BackOff;
  #term: Term | null = null;
  #leader: LeaderInfo | null = null;
  #watch: StateWatch | null = null;
  #timer: Timer | null = null;
  /** The campaign under way, or the last one; it never rejects. */
  #campaign: Promise<void> = Promise.resolve();
  #isRunning = false;
  /** Something happened while a campaign was under way that it may have missed. */
  #isStale = false;
  #isClosed = false;

  /** Begins to campaign at once. The store stays the caller's. */
  constructor(env: Env, store: StateStore, options: ElectionOptions) {
    invariant(Buffer.byteLength(options.address) <= ADDRESS_BYTES_MAX, 'an address is short');
    this.#env = env;
    this.#store = store;
    this.#options = options;
    this.#backOff = new BackOff(env.random, options.ttlMs);
    this.#run();
  }

  /** The term under way, if it is ours. */
  leadership(): Leadership | null {
    return this.#term?.isLeader() === true ? this.#term : null;
  }

  /** The leader as far as this master heard; itself while it leads. Null: nobody, or nobody knows. */
  whoLeads(): LeaderInfo | null {
    if (this.#term !== null) return this.#term.isLeader() ? this.#leader : null;
    return this.#leader;
  }

  /** Resigns, so that another can lead at once. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopWaiting();
    await this.#campaign;
    const term = this.#term;
    if (term === null) return;
    this.#term = null;
    term.end();
    this.#options.events.lost(term, 'This master resigned');
    await this.#release(term.lease);
  }

  #run(): void {
    if (this.#isClosed) return;
    if (this.#isRunning) {
      this.#isStale = true;
      return;
    }
    this.#isRunning = true;
    this.#isStale = false;
    this.#stopWaiting();
    this.#campaign = this.#tryToLead().then(
      (isSettled) => {
        this.#isRunning = false;
        if (isSettled) this.#backOff.reset();
        if (this.#isStale && this.#term === null) this.#run();
        else if (!isSettled) this.#runLater(this.#backOff.next());
      },
      (error: unknown) => {
        this.#isRunning = false;
        if (!(error instanceof StoreError)) throw error;
        this.#env.log.warn({ error }, `No election: ${error.message}`);
        this.#follow(null);
        this.#runLater(this.#backOff.next());
      },
    );
  }

  /** @returns false if it has to be tried again soon */
  async #tryToLead(): Promise<boolean> {
    const { revision, entries } = await this.#store.read(LEADER_KEY);
    if (this.#isClosed) return true;
    const holder = entries.find(({ key }) => key === LEADER_KEY);
    if (holder !== undefined) {
      this.#follow(parseLeader(holder.value));
      this.#watchLeader(revision);
      // A watch that hangs would keep us waiting for ever.
      this.#runLater(this.#options.ttlMs);
      return true;
    }
    const info = { id: this.#env.random.bytes(8).toString('hex'), address: this.#options.address };
    const lease = await this.#store.lease(this.#options.ttlMs);
    const value = Buffer.from(JSON.stringify(info));
    let result: CommitResult;
    try {
      result = await this.#store.commit({
        conditions: [{ key: LEADER_KEY, revision: 0 }],
        changes: [{ key: LEADER_KEY, value, lease }],
      });
    } catch (error) {
      // If it was applied all the same, the key goes with its lease.
      await this.#release(lease);
      throw error;
    }
    if (!result.applied || this.#closed()) {
      await this.#release(lease);
      return this.#closed();
    }
    const term: Term = new Term(info.id, result.revision, lease, () =>
      this.#lose(term, 'A decision was refused: the key of the leader is another one'),
    );
    this.#win(term, info);
    return true;
  }

  /** For after a wait: the compiler believes that nothing changed meanwhile. */
  #closed(): boolean {
    return this.#isClosed;
  }

  #win(term: Term, info: LeaderInfo): void {
    this.#term = term;
    this.#leader = info;
    this.#watchLeader(term.guard().revision);
    this.#keepAliveSoon(term);
    this.#options.events.won(term);
  }

  #lose(term: Term, reason: string): void {
    if (this.#term !== term) return;
    this.#term = null;
    term.end();
    this.#stopWaiting();
    this.#leader = null;
    this.#options.events.lost(term, reason);
    // The lease may have life left in the store: without it the next leader need not wait for its end.
    this.#campaign = this.#release(term.lease).then(() => this.#run());
  }

  #follow(leader: LeaderInfo | null): void {
    if (this.#leader?.id === leader?.id) return;
    this.#leader = leader;
    this.#options.events.follows(leader);
  }

  #watchLeader(afterRevision: number): void {
    this.#watch?.stop();
    this.#watch = this.#store.watch(LEADER_KEY, afterRevision, {
      changed: (batch) => this.#leaderChanged(batch),
      lost: () => {
        this.#watch = null;
        // As leader we go on: the lease tells, and the guard. As follower we look again.
        if (this.#term === null) this.#run();
      },
    });
  }

  #leaderChanged({ changes }: StateBatch): void {
    if (!changes.some(({ key }) => key === LEADER_KEY)) return;
    if (this.#term === null) this.#run();
    else this.#lose(this.#term, 'The key of the leader was changed by somebody else');
  }

  /** Keeps the lease alive long before it ends, and says so when that did not succeed until then. */
  #keepAliveSoon(term: Term): void {
    this.#timer?.cancel();
    const pauseMs = this.#options.ttlMs * KEEP_ALIVE_SHARE;
    const leftMs = term.lease.remainingMs();
    this.#timer = this.#env.timers.after(Math.min(pauseMs, leftMs), () => {
      if (this.#term !== term) return;
      if (!term.isLeader()) {
        this.#lose(term, 'The lease was not kept alive in time');
        return;
      }
      this.#keepAlive(term);
      this.#keepAliveSoon(term);
    });
  }

  #keepAlive(term: Term): void {
    // Two may be under way: one that hangs must not keep the next from being sent.
    if (term.keepAlives >= 2) return;
    term.keepAlives += 1;
    term.lease.keepAlive().then(
      () => {
        term.keepAlives -= 1;
      },
      (error: unknown) => {
        term.keepAlives -= 1;
        if (error instanceof StoreError && error.code === 'E_NOT_FOUND')
          this.#lose(term, error.message);
        else this.#env.log.warn({ error }, `The lease was not kept alive: ${messageOf(error)}`);
      },
    );
  }

  #runLater(ms: number): void {
    if (this.#isClosed) return;
    this.#timer?.cancel();
    this.#timer = this.#env.timers.after(ms, () => this.#run());
  }

  #stopWaiting(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#watch?.stop();
    this.#watch = null;
  }

  async #release(lease: StateLease): Promise<void> {
    try {
      await lease.revoke();
    } catch (error) {
      this.#env.log.info({ error }, `A lease ends by itself: ${messageOf(error)}`);
    }
  }
}

class Term implements Leadership {
  readonly id: string;
  readonly lease: StateLease;
  readonly #revision: number;
  /** Under way. */
  keepAlives = 0;
  readonly #whenRefused: () => void;
  #isOver = false;

  constructor(id: string, revision: number, lease: StateLease, whenRefused: () => void) {
    this.id = id;
    this.#whenRefused = whenRefused;
    this.#revision = revision;
    this.lease = lease;
  }

  isLeader(): boolean {
    // A lease that was over may still be kept alive in the store; this term is over all the same, and stays so.
    if (this.lease.remainingMs() === 0) this.#isOver = true;
    return !this.#isOver;
  }

  guard(): StateCondition {
    return { key: LEADER_KEY, revision: this.#revision };
  }

  refused(): void {
    this.#whenRefused();
  }

  end(): void {
    this.#isOver = true;
  }
}

/** Null if it was not written by an election: somebody leads then, and does not say who. */
function parseLeader(value: Buffer): LeaderInfo | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value.toString());
  } catch {
    return null; // not JSON, so not ours
  }
  if (typeof parsed !== 'object' || parsed === null) return null;
  const { id, address } = parsed as Record<string, unknown>; // an object has fields of some kind
  return typeof id === 'string' && typeof address === 'string' ? { id, address } : null;
}
