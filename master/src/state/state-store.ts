/**
 * What the masters know, behind one interface: a small map from key to value in which every change has a revision,
 * changes are made all together or not at all, and whoever watches sees each of them once and in order. One master
 * keeps it in a folder of its own (`EmbeddedState`); several share an etcd (`EtcdState`).
 *
 * Nothing read here is ever trusted by itself: whoever decides puts the revisions it read into the conditions of its
 * commit, and the guard of its leadership with them (`Leadership`).
 */

/** One key. `revision` is of its last change; never 0. */
export interface StateEntry {
  readonly key: string;
  readonly value: Buffer;
  readonly revision: number;
}

/** All entries below a prefix at one moment, in order of their keys. */
export interface StateSnapshot {
  /** Of the whole store: what a watch of the same prefix goes on from. */
  readonly revision: number;
  readonly entries: readonly StateEntry[];
}

/** The key was last changed at this revision; 0: it is absent. */
export interface StateCondition {
  readonly key: string;
  readonly revision: number;
}

/** What becomes of a key; `value` null deletes it. */
export interface StateChange {
  readonly key: string;
  readonly value: Buffer | null;
  /** The key vanishes with this lease, unless it is changed without one. */
  readonly lease?: StateLease;
}

/** Changes that are made if all conditions hold, and not otherwise. No key is changed twice. */
export interface StateCommit {
  readonly conditions: readonly StateCondition[];
  readonly changes: readonly StateChange[];
}

export interface CommitResult {
  /** False: a condition did not hold, and nothing was changed. */
  readonly applied: boolean;
  /** If applied: of each changed key from now on. If not: some recent one of the store. */
  readonly revision: number;
}

/** Everything that one revision changed below a watched prefix. */
export interface StateBatch {
  readonly revision: number;
  /** `value` null: deleted. In no particular order. */
  readonly changes: readonly { readonly key: string; readonly value: Buffer | null }[];
}

export interface StateListener {
  /** Each revision that changed something, in order, once. */
  changed(batch: StateBatch): void;
  /** There is a gap that cannot be filled: the watch is over. Read anew, then watch from what was read. */
  lost(reason: string): void;
}

export interface StateWatch {
  /** The listener hears nothing more. */
  stop(): void;
}

/**
 * A promise of the store to delete the keys bound to it when it was not kept alive. Keeping it alive is the holder's
 * decision: a holder that hangs must lose it.
 */
export interface StateLease {
  readonly id: string;
  /**
   * Begins the time anew.
   * @throws StoreError `E_NOT_FOUND` if it is over; `E_UNREACHABLE` if the store did not answer: try again
   */
  keepAlive(): Promise<void>;
  /**
   * For how long the keys are certainly still there, by this process's clock and counted from when the last keep-alive
   * that was answered had been sent, less a tenth for clocks that differ. 0: nothing is certain any more.
   */
  remainingMs(): number;
  /** Ends it now, and deletes its keys. @throws StoreError if that is not certain: it ends by itself then */
  revoke(): Promise<void>;
}

export interface StateStore {
  /** All entries whose keys begin with `prefix`, as they are at some moment between call and answer. */
  read(prefix: string): Promise<StateSnapshot>;
  /**
   * Durable when it is answered.
   * @throws StoreError `E_IN_DOUBT` if it may have been applied and nobody can say; after any other nothing was changed:
   *   `E_NO_SPACE`, `E_NOT_FOUND` (a lease is over), `E_BUSY`, `E_INVALID`, `E_UNREACHABLE`, `E_DENIED`, `E_DISK_FAILED`
   */
  commit(commit: StateCommit): Promise<CommitResult>;
  /**
   * Every change below `prefix` after `afterRevision`, which is that of a snapshot or batch of this store. The listener
   * is never called before this returns.
   */
  watch(prefix: string, afterRevision: number, listener: StateListener): StateWatch;
  /** @param ttlMs - From `LEASE_MS_MIN` to `LEASE_MS_MAX`. */
  lease(ttlMs: number): Promise<StateLease>;
  /**
   * Forgets what was before `revision`: a watch that would begin there may be lost. What there is now stays.
   * @throws StoreError `E_INVALID` if the store has not got there yet; others as `read`
   */
  compact(revision: number): Promise<void>;
  /** Watches stop, and leases are not kept alive any more. Everything answers `E_CLOSED` from now on. */
  close(): Promise<void>;
}
