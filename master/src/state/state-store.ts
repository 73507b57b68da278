/**
 * Where a master keeps what it has decided. Small: a few thousand keys of up to a MiB. Every change is a transaction that
 * names what it was decided upon, so that two masters, or one that was paused and wakes up, cannot both be right.
 *
 * Two implementations pass one suite (`state-store.suite.ts`): an embedded one for a single master, and etcd.
 */

/** A key as it was found. */
export interface StateEntry {
  readonly key: string;
  readonly value: Buffer;
  /** Revision of the transaction that wrote it last. */
  readonly revision: number;
}

/** Holds if the key was last written by the transaction of this revision; 0: if there is no such key. */
export interface StateCondition {
  readonly key: string;
  readonly revision: number;
}

export interface StateChange {
  readonly key: string;
  /** Null: the key is removed. */
  readonly value: Buffer | null;
  /** Removed by itself when this lease ends. */
  readonly lease?: StateLease;
}

export type StateResult =
  | { readonly applied: true; readonly revision: number }
  /** A condition did not hold; nothing was changed. */
  | { readonly applied: false; readonly revision: number };

/** All changes of one transaction, or of several that came together, never a part of one. */
export interface StateNews {
  readonly revision: number;
  /** In order; of a key that was removed the value is null. */
  readonly changes: readonly {
    readonly key: string;
    readonly value: Buffer | null;
    readonly revision: number;
  }[];
}

export interface StateWatcher {
  /** Called with everything that changes after the revision that was named, in order, each once. */
  changed(news: StateNews): void;
  /**
   * The watch is over (what it would have to tell is not kept any more, or the store was closed): list again and watch from
   * there. Breaks of connections are not told; the watch goes on from where it was.
   */
  lost(error: Error): void;
}

/** Its keys go when nobody keeps it alive: `ttlMs` after the last `keepAlive` that came through. */
export interface StateLease {
  readonly ttlMs: number;
  /** @returns False: it has ended, its keys are gone. @throws StoreError `E_UNREACHABLE` if that is not known */
  keepAlive(): Promise<boolean>;
  /** Ends it at once. */
  revoke(): Promise<void>;
}

export interface StateStore {
  /** @throws StoreError `E_UNREACHABLE` if the state cannot be reached within the deadline */
  get(key: string): Promise<StateEntry | null>;
  /** All keys that begin with `prefix`, in order of their bytes, as they were at one moment: that of `revision`. */
  list(prefix: string): Promise<{ entries: StateEntry[]; revision: number }>;
  /**
   * Applies all changes if all conditions hold, else none. When it says so it is durable.
   * @throws StoreError `E_UNREACHABLE`: nothing was changed; `E_IN_DOUBT`: it is not known whether it was applied, and
   *   will never be by this call: read again
   */
  transact(
    conditions: readonly StateCondition[],
    changes: readonly StateChange[],
  ): Promise<StateResult>;
  /** Tells what changes after `afterRevision` (as `list` gave it) in keys that begin with `prefix`, until it is closed. */
  watch(prefix: string, afterRevision: number, watcher: StateWatcher): { close(): void };
  /** @param ttlMs - At least 1000 */
  lease(ttlMs: number): Promise<StateLease>;
  /** Watches end; leases are not revoked. */
  close(): Promise<void>;
}
