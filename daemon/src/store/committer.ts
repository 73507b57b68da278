/**
 * Group commit: one transaction of the metadata store at a time; whoever asks while it runs shares the next one.
 * A job builds its changes when its transaction begins, on top of what the jobs before it staged, so that a head
 * built early can never overwrite a newer one.
 */
import type { DiskError, MetaChange, MetaStore, StoreError } from '@store/core';
import { encodeStoreRecord, seal, STORE_KEY, type StoreRecord } from './format.js';
import type { StoredObject } from './stored-object.js';

export interface CommitJob {
  /** Adds changes to the transaction; runs right before it. */
  build(transaction: Transaction): void;
  /**
   * The transaction is durable (null), or none of it was applied (`ENOSPC`). Any other error stops the engine
   * before this is called.
   */
  committed(error: DiskError | null): void;
}

/** More jobs than this in one transaction would make all of them wait too long. */
const JOBS_PER_COMMIT_MAX = 1024;

/** The changes of one commit. Heads go through `stage`, so that jobs see each other's. */
export class Transaction {
  readonly changes: MetaChange[] = [];
  readonly staged: StoredObject[] = [];

  /** The head as this transaction will leave it so far. */
  head(object: StoredObject): Buffer | null {
    return object.staged === undefined ? object.durable : object.staged;
  }

  stage(object: StoredObject, head: Buffer | null): void {
    if (object.staged === undefined) this.staged.push(object);
    object.staged = head;
  }

  /** Any record but a head; `value` is sealed. */
  change(key: Buffer, value: Buffer | null): void {
    this.changes.push({ key, value });
  }
}

export class Committer {
  readonly #meta: MetaStore;
  readonly #record: () => StoreRecord;
  readonly #failed: (error: DiskError) => StoreError;
  #queue: CommitJob[] = [];
  #running = false;
  /** After this nothing is committed any more. */
  #failure: DiskError | null = null;

  constructor(
    meta: MetaStore,
    record: () => StoreRecord,
    failed: (error: DiskError) => StoreError,
  ) {
    this.#meta = meta;
    this.#record = record;
    this.#failed = failed;
  }

  /** The engine has failed for another reason. */
  stop(error: DiskError): void {
    this.#failure ??= error;
  }

  get idle(): boolean {
    return !this.#running && this.#queue.length === 0;
  }

  add(job: CommitJob): void {
    this.#queue.push(job);
    if (!this.#running) {
      this.#running = true;
      // Jobs of the same turn share the first transaction.
      queueMicrotask(() => this.#commit());
    }
  }

  #commit(): void {
    const jobs = this.#queue.splice(0, JOBS_PER_COMMIT_MAX);
    if (jobs.length === 0) {
      this.#running = false;
      return;
    }
    const transaction = new Transaction();
    if (this.#isRefused(jobs, transaction)) return;
    for (const job of jobs) job.build(transaction);
    // What they have read may have shown that the disk failed.
    if (this.#isRefused(jobs, transaction)) return;
    for (const object of transaction.staged) {
      const head = object.staged ?? null;
      if (head !== null) seal(object.headKey, head);
      transaction.changes.push({ key: object.headKey, value: head });
    }
    transaction.changes.push({ key: STORE_KEY, value: encodeStoreRecord(this.#record()) });
    this.#meta.commit(transaction.changes, (error) => {
      if (error !== null && error.errno !== 'ENOSPC') {
        this.#failure = error;
        this.#failed(error);
      }
      for (const object of transaction.staged) {
        if (error === null) object.durable = object.staged ?? null;
        object.staged = undefined;
      }
      for (const job of jobs) job.committed(error);
      this.#commit();
    });
  }

  /** Nothing is committed any more: the jobs are told, and those after them. */
  #isRefused(jobs: readonly CommitJob[], { staged }: Transaction): boolean {
    if (this.#failure === null) return false;
    for (const object of staged) object.staged = undefined;
    for (const job of jobs) job.committed(this.#failure);
    this.#commit();
    return true;
  }
}
