/** The last changes of an embedded store, for those who watch. What is older is lost to them: they read anew. */
import { invariant } from '@store/core';
import type { StateBatch, StateListener, StateWatch } from './state-store.js';

const BATCHES_MAX = 1000;
const BYTES_MAX = 16 * 1024 * 1024;
/** A batch without values is not free either. */
const CHANGE_BYTES = 100;

export class StateHistory {
  /** Consecutive revisions up to the newest. */
  readonly #batches: StateBatch[] = [];
  readonly #watches = new Set<HistoryWatch>();
  #bytes = 0;
  #revision: number;

  /** @param revision - What was before is not known. */
  constructor(revision: number) {
    this.#revision = revision;
  }

  get revision(): number {
    return this.#revision;
  }

  add(batch: StateBatch): void {
    invariant(batch.revision === this.#revision + 1, 'revisions are consecutive');
    this.#revision = batch.revision;
    this.#batches.push(batch);
    this.#bytes += bytesOf(batch);
    while (this.#batches.length > BATCHES_MAX || this.#bytes > BYTES_MAX) this.#dropOldest();
    for (const watch of this.#watches) watch.wake();
  }

  /** Drops what was before `revision`. */
  compact(revision: number): void {
    while ((this.#batches[0]?.revision ?? Infinity) < revision) this.#dropOldest();
  }

  /** The batch after `revision`; null if there is none yet, or a sentence why it cannot be had. */
  after(revision: number): StateBatch | string | null {
    if (revision === this.#revision) return null;
    if (revision > this.#revision)
      return `Revision ${revision} has not been reached: the store is at ${this.#revision}`;
    const index = revision + 1 - (this.#revision - this.#batches.length + 1);
    return this.#batches[index] ?? `The changes after revision ${revision} are not kept any more`;
  }

  watch(prefix: string, afterRevision: number, listener: StateListener): StateWatch {
    const watch = new HistoryWatch(this, prefix, afterRevision, listener, () =>
      this.#watches.delete(watch),
    );
    this.#watches.add(watch);
    watch.wake();
    return watch;
  }

  stopWatches(): void {
    for (const watch of [...this.#watches]) watch.stop();
  }

  /** Nothing more will be known. */
  fail(reason: string): void {
    for (const watch of [...this.#watches]) watch.lose(reason);
  }

  #dropOldest(): void {
    const oldest = this.#batches.shift();
    if (oldest !== undefined) this.#bytes -= bytesOf(oldest);
  }
}

/** Reads the shared history at its own pace, so it needs no queue of its own. */
class HistoryWatch implements StateWatch {
  readonly #history: StateHistory;
  readonly #prefix: string;
  readonly #listener: StateListener;
  readonly #forget: () => void;
  #after: number;
  #isAwake = false;
  #isOver = false;

  constructor(
    history: StateHistory,
    prefix: string,
    afterRevision: number,
    listener: StateListener,
    forget: () => void,
  ) {
    this.#history = history;
    this.#prefix = prefix;
    this.#after = afterRevision;
    this.#listener = listener;
    this.#forget = forget;
  }

  /** Tells the listener in a turn of its own, so that it may call anything. */
  wake(): void {
    if (this.#isAwake || this.#isOver) return;
    this.#isAwake = true;
    queueMicrotask(() => {
      this.#isAwake = false;
      this.#run();
    });
  }

  stop(): void {
    this.#isOver = true;
    this.#forget();
  }

  lose(reason: string): void {
    this.stop();
    queueMicrotask(() => this.#listener.lost(reason));
  }

  #run(): void {
    while (!this.#isOver) {
      const batch = this.#history.after(this.#after);
      if (batch === null) return;
      if (typeof batch === 'string') {
        this.lose(batch);
        return;
      }
      this.#after = batch.revision;
      const changes = batch.changes.filter(({ key }) => key.startsWith(this.#prefix));
      if (changes.length > 0) this.#listener.changed({ revision: batch.revision, changes });
    }
  }
}

function bytesOf({ changes }: StateBatch): number {
  let bytes = 0;
  for (const { value } of changes) bytes += CHANGE_BYTES + (value?.length ?? 0);
  return bytes;
}
