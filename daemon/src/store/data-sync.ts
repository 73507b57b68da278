/**
 * Groups syncs of the data file: a caller may join a sync only if it has not started, because one that runs need
 * not cover what was written meanwhile.
 */
import type { DataFile, DiskError, Done, StoreError } from '@store/core';

/** So much unsynced data starts a sync, so that one bulk writer does not make everybody's flush take seconds. */
const DIRTY_BYTES_MAX = 64 * 1024 * 1024;

export class DataSync {
  readonly #file: DataFile;
  readonly #failed: (error: DiskError) => StoreError;
  #waiting: Done[] = [];
  #running = false;
  #failure: StoreError | null = null;
  /** At the start: what an earlier process wrote may be unsynced. */
  #dirty = true;
  #dirtyBytes = 0;

  constructor(file: DataFile, failed: (error: DiskError) => StoreError) {
    this.#file = file;
    this.#failed = failed;
  }

  /** Something was written since the last sync began. */
  get dirty(): boolean {
    return this.#dirty || this.#running;
  }

  /** Bytes written since the last sync began. */
  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  /** Call after a write returned. */
  wrote(bytes: number): void {
    this.#dirty = true;
    this.#dirtyBytes += bytes;
    if (this.#dirtyBytes >= DIRTY_BYTES_MAX && !this.#running) this.sync(() => undefined);
  }

  /** Calls `done` when everything written before this call is durable, or the disk has failed. */
  sync(done: Done): void {
    if (this.#failure !== null) {
      done(this.#failure);
      return;
    }
    this.#waiting.push(done);
    if (!this.#running) this.#start();
  }

  #start(): void {
    const callers = this.#waiting;
    this.#waiting = [];
    this.#running = true;
    this.#dirty = false;
    this.#dirtyBytes = 0;
    this.#file.sync((error) => {
      this.#running = false;
      // The kernel may have dropped what it could not write: never tried again.
      if (error !== null) this.#failure = this.#failed(error);
      if (this.#failure !== null) callers.push(...this.#waiting.splice(0));
      for (const done of callers) done(this.#failure);
      // one of them may have started the next one already
      if (this.#waiting.length > 0 && !this.#isRunning()) this.#start();
    });
  }

  #isRunning(): boolean {
    return this.#running;
  }
}
