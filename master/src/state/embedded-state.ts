/**
 * The state of a single master in a folder of its own. The metadata store (LMDB) makes commits atomic and durable; the
 * whole state is small and stands in memory, where it is read, so a reader never waits for the disk and never sees a
 * commit that could still be lost. Commits go one after the other.
 *
 * A full disk refuses a commit and changes nothing. After any other error of the disk nobody knows what it holds: the
 * commit is in doubt, and the store has failed until the folder is opened again.
 *
 * Leases are of this process. Their keys are deleted when they expire, and all of them when the folder is opened.
 */
import { DiskError, StoreError, type Env, type MetaChange, type Timer } from '@store/core';
import { LeaseClock } from './lease-clock.js';
import { openStateFolder, stateDiskError, type StateFolder } from './state-folder.js';
import { StateHistory } from './state-history.js';
import {
  decodeRecord,
  encodeRecord,
  ENTRIES_END,
  ENTRIES_START,
  entryKey,
  HEAD_KEY,
  keyOfEntry,
} from './state-record.js';
import { checkCommit, checkCompaction, checkLeaseMs, checkPrefix } from './state-rules.js';
import type {
  CommitResult,
  StateChange,
  StateCommit,
  StateEntry,
  StateLease,
  StateListener,
  StateSnapshot,
  StateStore,
  StateWatch,
} from './state-store.js';

const COMMITS_WAITING_MAX = 1000;
const LEASES_MAX = 1000;
const LOAD_PAGE = 1000;
/** A full disk kept the keys of a lease from being deleted: when to try again. */
const EXPIRE_AGAIN_MS = 1000;
/** The lease of keys that an earlier process left behind. */
const OLD_LEASE = 'before this start';

interface HeldEntry extends StateEntry {
  /** Id of its lease. */
  readonly lease: string | null;
}

export class EmbeddedState implements StateStore {
  readonly #env: Env;
  readonly #folder: StateFolder;
  readonly #entries: Map<string, HeldEntry>;
  readonly #history: StateHistory;
  readonly #leases = new Map<string, EmbeddedLease>();
  readonly #retries = new Set<Timer>();
  /** Ends when every commit that was asked for is over. */
  #lastTurn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #leaseCount = 0;
  #failure: StoreError | null = null;
  #isClosed = false;

  /**
   * Opens the folder at `path`.
   * @param create - Make it if there is none.
   * @throws StoreError `E_IN_USE`, `E_FORMAT`, `E_NOT_FOUND`, `E_CHECKSUM` naming the key, `E_NO_SPACE`, `E_DISK_FAILED`
   */
  static async open(env: Env, path: string, options: { create: boolean }): Promise<EmbeddedState> {
    const folder = await openStateFolder(env, path, options);
    try {
      const state = new EmbeddedState(env, folder, load(folder));
      await state.#inTurn(() => state.#begin());
      return state;
    } catch (error) {
      await folder.meta.close();
      folder.disk.close();
      throw error;
    }
  }

  private constructor(
    env: Env,
    folder: StateFolder,
    loaded: { revision: number; entries: Map<string, HeldEntry> },
  ) {
    this.#env = env;
    this.#folder = folder;
    this.#entries = loaded.entries;
    this.#history = new StateHistory(loaded.revision);
  }

  async read(prefix: string): Promise<StateSnapshot> {
    checkPrefix(prefix);
    this.#checkUsable();
    const entries = [...this.#entries.values()]
      .filter(({ key }) => key.startsWith(prefix))
      .sort((left, right) => (left.key < right.key ? -1 : 1))
      .map(({ key, value, revision }) => ({ key, value, revision }));
    return Promise.resolve({ revision: this.#history.revision, entries });
  }

  async commit(commit: StateCommit): Promise<CommitResult> {
    checkCommit(commit);
    this.#checkUsable();
    if (this.#waiting >= COMMITS_WAITING_MAX)
      throw new StoreError('E_BUSY', `${this.#waiting} commits wait already; try again later`);
    return this.#inTurn(async () => {
      const isMet = commit.conditions.every(
        ({ key, revision }) => (this.#entries.get(key)?.revision ?? 0) === revision,
      );
      if (!isMet) return { applied: false, revision: this.#history.revision };
      return { applied: true, revision: await this.#apply(commit.changes) };
    });
  }

  watch(prefix: string, afterRevision: number, listener: StateListener): StateWatch {
    checkPrefix(prefix);
    this.#checkUsable();
    return this.#history.watch(prefix, afterRevision, listener);
  }

  async lease(ttlMs: number): Promise<StateLease> {
    checkLeaseMs(ttlMs);
    this.#checkUsable();
    if (this.#leases.size >= LEASES_MAX)
      throw new StoreError('E_BUSY', `There are ${LEASES_MAX} leases already`);
    this.#leaseCount += 1;
    const lease: EmbeddedLease = new EmbeddedLease(this.#env, `${this.#leaseCount}`, ttlMs, () =>
      this.#end(lease),
    );
    this.#leases.set(lease.id, lease);
    return Promise.resolve(lease);
  }

  /** Only memory has a history here, and it is bounded anyhow. */
  async compact(revision: number): Promise<void> {
    this.#checkUsable();
    checkCompaction(revision, this.#history.revision);
    this.#history.compact(revision);
    return Promise.resolve();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#history.stopWatches();
    for (const lease of this.#leases.values()) lease.stop();
    for (const timer of this.#retries) timer.cancel();
    await this.#lastTurn;
    await this.#folder.meta.close();
    this.#folder.disk.close();
  }

  /**
   * Deletes what was bound to leases of earlier starts, and makes the rest durable: a process that was killed may have
   * left a commit that we read and that a power cut would take back.
   */
  async #begin(): Promise<void> {
    await this.#deleteLeased(OLD_LEASE);
    await this.#store(this.#history.revision, []);
  }

  #checkUsable(): void {
    if (this.#isClosed) throw new StoreError('E_CLOSED', 'The state of the master is closed');
    if (this.#failure !== null) throw this.#failure;
  }

  /** Runs `work` when everything asked for before is over. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting += 1;
    const turn = this.#lastTurn.then(async () => {
      this.#waiting -= 1;
      if (this.#failure !== null) throw this.#failure;
      return work();
    });
    // Who asked hears of the error; the next turn does not depend on it.
    this.#lastTurn = turn.catch(() => undefined);
    return turn;
  }

  /** @returns the revision of these changes, or of the store if they change nothing */
  async #apply(changes: readonly StateChange[]): Promise<number> {
    for (const { lease } of changes) {
      if (lease === undefined) continue;
      const held = this.#leases.get(lease.id);
      if (held !== lease || held.isOver()) throw leaseIsOver();
    }
    const effective = changes.filter(({ key, value }) => value !== null || this.#entries.has(key));
    if (effective.length === 0) return this.#history.revision;
    const revision = this.#history.revision + 1;
    // The values belong to whoever commits: what is kept is ours.
    const entries = effective.map(({ key, value, lease }) => ({
      key,
      entry:
        value === null
          ? null
          : { key, value: Buffer.from(value), revision, lease: lease?.id ?? null },
    }));
    await this.#store(revision, entries);
    for (const { key, entry } of entries) {
      if (entry === null) this.#entries.delete(key);
      else this.#entries.set(key, entry);
    }
    this.#history.add({
      revision,
      changes: entries.map(({ key, entry }) => ({ key, value: entry?.value ?? null })),
    });
    return revision;
  }

  /** Makes it durable, with the new revision of the store. */
  async #store(
    revision: number,
    entries: readonly { key: string; entry: HeldEntry | null }[],
  ): Promise<void> {
    const changes: MetaChange[] = entries.map(({ key, entry }) => {
      const storedKey = entryKey(key);
      if (entry === null) return { key: storedKey, value: null };
      const record = { revision, isLeased: entry.lease !== null, value: entry.value };
      return { key: storedKey, value: encodeRecord(storedKey, record) };
    });
    const head = { revision, isLeased: false, value: Buffer.alloc(0) };
    changes.push({ key: HEAD_KEY, value: encodeRecord(HEAD_KEY, head) });
    const error = await new Promise<DiskError | null>((resolve) => {
      this.#folder.meta.commit(changes, resolve);
    });
    if (error === null) return;
    const failure = stateDiskError(this.#folder.disk.path, error);
    if (failure.code === 'E_NO_SPACE') throw failure;
    this.#failure = failure;
    this.#history.fail(failure.message);
    throw new StoreError('E_IN_DOUBT', `It is not known what was stored: ${failure.message}`, {
      cause: failure,
    });
  }

  /** Deletes the keys of a lease that is over. @throws StoreError as `commit`; then it is tried again if that may help */
  async #end(lease: EmbeddedLease): Promise<void> {
    this.#leases.delete(lease.id);
    await this.#inTurn(() => this.#deleteLeased(lease.id)).catch((error: unknown) => {
      if (!this.#isClosed && this.#failure === null) this.#endLater(lease);
      throw error;
    });
  }

  #endLater(lease: EmbeddedLease): void {
    const timer = this.#env.timers.after(EXPIRE_AGAIN_MS, () => {
      this.#retries.delete(timer);
      lease.deleteKeys();
    });
    this.#retries.add(timer);
  }

  async #deleteLeased(id: string): Promise<void> {
    const keys = [...this.#entries.values()].filter(({ lease }) => lease === id);
    await this.#apply(keys.map(({ key }) => ({ key, value: null })));
  }
}

class EmbeddedLease implements StateLease {
  readonly id: string;
  readonly #env: Env;
  readonly #ttlMs: number;
  readonly #trusted: LeaseClock;
  readonly #onEnd: () => Promise<void>;
  #endMs: number;
  #isOver = false;
  #timer: Timer;

  /** @param onEnd - Deletes the keys. */
  constructor(env: Env, id: string, ttlMs: number, onEnd: () => Promise<void>) {
    this.id = id;
    this.#env = env;
    this.#ttlMs = ttlMs;
    this.#onEnd = onEnd;
    const now = env.clock.now();
    this.#trusted = new LeaseClock(env.clock, ttlMs, now);
    this.#endMs = now + ttlMs;
    this.#timer = this.#expireAfter(ttlMs);
  }

  async keepAlive(): Promise<void> {
    if (this.isOver()) throw leaseIsOver();
    const now = this.#env.clock.now();
    this.#trusted.renewed(now);
    this.#endMs = now + this.#ttlMs;
    return Promise.resolve();
  }

  /** The timer may be late, after a stall of this process: what is over by the clock is over. */
  isOver(): boolean {
    return this.#isOver || this.#env.clock.now() >= this.#endMs;
  }

  remainingMs(): number {
    return this.#trusted.remainingMs();
  }

  async revoke(): Promise<void> {
    if (this.#isOver) return;
    this.stop();
    await this.#onEnd();
  }

  /** It is over, and nobody deletes its keys. */
  stop(): void {
    this.#isOver = true;
    this.#trusted.end();
    this.#timer.cancel();
  }

  deleteKeys(): void {
    this.#onEnd().catch((error: unknown) => {
      this.#env.log.warn({ error }, 'The keys of a lease that is over are still there');
    });
  }

  #expireAfter(ms: number): Timer {
    return this.#env.timers.after(ms, () => {
      const leftMs = this.#endMs - this.#env.clock.now();
      if (leftMs > 0) {
        this.#timer = this.#expireAfter(leftMs);
        return;
      }
      this.stop();
      this.deleteKeys();
    });
  }
}

/** As `readAll`, with errors that a person understands. */
function load(folder: StateFolder): ReturnType<typeof readAll> {
  try {
    return readAll(folder);
  } catch (error) {
    throw error instanceof DiskError ? stateDiskError(folder.disk.path, error) : error;
  }
}

/** What is damaged must not be decided upon, and not be taken for absent either. */
function readAll({ meta }: StateFolder): { revision: number; entries: Map<string, HeldEntry> } {
  const head = meta.get(HEAD_KEY);
  if (head === null)
    throw new StoreError(
      'E_FORMAT',
      "The masters' state has lost its revision; restore the folder from a copy",
    );
  const { revision } = decodeRecord(HEAD_KEY, Buffer.from(head));
  const entries = new Map<string, HeldEntry>();
  for (let start = ENTRIES_START; ;) {
    const page = meta.range(start, ENTRIES_END, LOAD_PAGE);
    for (const { key: storedKey, value: bytes } of page) {
      const record = decodeRecord(storedKey, bytes);
      const key = keyOfEntry(storedKey);
      if (record.revision > revision)
        throw new StoreError(
          'E_CHECKSUM',
          `The key '${key}' of the masters' state is newer than the state itself; restore the folder from a copy`,
        );
      const lease = record.isLeased ? OLD_LEASE : null;
      entries.set(key, { key, value: record.value, revision: record.revision, lease });
    }
    const last = page.at(-1);
    if (last === undefined || page.length < LOAD_PAGE) return { revision, entries };
    start = Buffer.concat([last.key, Buffer.from([0])]);
  }
}

function leaseIsOver(): StoreError {
  return new StoreError('E_NOT_FOUND', 'The lease is over, and its keys are gone');
}
