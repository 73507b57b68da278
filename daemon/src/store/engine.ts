/**
 * What all operations of one folder share. The engine fails as a whole: after the first error of a write or a sync
 * nobody knows what is on the disk, so it answers everything with `E_DISK_FAILED` from then on.
 */
import {
  DiskError,
  StoreError,
  type DataFile,
  type Disk,
  type Env,
  type Log,
  type MetaStore,
} from '@store/core';
import { Committer } from './committer.js';
import { DataSync } from './data-sync.js';
import { FailStopMeta } from './fail-stop-meta.js';
import { recordAhead, type StoreRecord } from './format.js';
import type { LiveLog } from './live-log.js';
import { SlotMap } from './slot-map.js';
import { SpaceGuard } from './space-guard.js';

/** Marks a folder whose disk failed; only `store check` removes it. */
export const FAILED_FILE = 'failed';

/** Sizes at which the engine begins to do something; tests make them small to see it happen. */
export interface EngineLimits {
  /** At this size of `live` the other file takes over, as soon as it is empty. */
  readonly liveBytesSwitch: number;
  /** Objects that may be open or changed at a time. */
  readonly openObjectsMax: number;
  /** Objects kept in memory, about 6 KiB each when their checksums are there. */
  readonly cachedObjectsMax: number;
  /** Together, of writes that were answered from `live`. */
  readonly parkedBytesMax: number;
  /** An object that stays open is closed after so long. */
  readonly openMsMax: number;
}

export const ENGINE_LIMITS: EngineLimits = {
  liveBytesSwitch: 32 * 1024 * 1024,
  openObjectsMax: 4096,
  cachedObjectsMax: 8192,
  parkedBytesMax: 16 * 1024 * 1024,
  openMsMax: 10_000,
};

export interface EngineParts {
  readonly env: Env;
  readonly disk: Disk;
  readonly data: DataFile;
  readonly meta: MetaStore;
  readonly record: StoreRecord;
  readonly limits: EngineLimits;
  readonly onFailure: (error: StoreError) => void;
}

/** What happened since the start. */
export interface EngineCounters {
  /** Reads of what does not match its checksum, or cannot be read. */
  checksumErrors: number;
  /** Writes refused because their bytes were damaged on their way here. */
  arrivedDamaged: number;
  flushes: number;
  /** Transactions that opened parts before they were overwritten. */
  opens: number;
  /** Objects whose checksums were stored. */
  closes: number;
  /** Writes answered from `live` before they were in their place. */
  parkedWrites: number;
}

export class Engine {
  readonly env: Env;
  readonly disk: Disk;
  readonly data: DataFile;
  readonly meta: FailStopMeta;
  readonly log: Log;
  readonly limits: EngineLimits;
  readonly committer: Committer;
  readonly sync: DataSync;
  readonly slots: SlotMap;
  readonly space: SpaceGuard;
  readonly counters: EngineCounters = {
    checksumErrors: 0,
    arrivedDamaged: 0,
    flushes: 0,
    opens: 0,
    closes: 0,
    parkedWrites: 0,
  };
  /** Set before the first operation. */
  live!: LiveLog; // the recovery needs the engine, and the log needs the recovery
  /** The record of the folder; each transaction writes it, as `storedRecord`. */
  record: StoreRecord;
  /** Greater than any version that an earlier start gave out: that of objects whose last one may be forgotten. */
  readonly startVersion: number;
  /** The next number that was never an object id or a version. */
  #nextNumber: number;
  /** Why everything is refused: the disk failed, or the store was closed. */
  failure: StoreError | null = null;
  /** No new operations; those in flight come to their end. */
  isClosing = false;
  /** What still waits was waited for long enough: it is refused, since the last flush would not cover it. */
  isDrained = false;
  /** Nothing may reach the disk any more. */
  isClosed = false;
  /** Called when the disk fails: whoever waits for something else than the disk must learn of it. */
  readonly whenFailed: ((failure: StoreError) => void)[] = [];
  readonly #onFailure: (error: StoreError) => void;

  constructor(parts: EngineParts) {
    this.env = parts.env;
    this.disk = parts.disk;
    this.data = parts.data;
    this.record = parts.record;
    this.startVersion = parts.record.nextObjectId;
    this.#nextNumber = this.startVersion + 1;
    this.log = parts.env.log;
    this.limits = parts.limits;
    this.#onFailure = parts.onFailure;
    const failed = (error: DiskError): StoreError => this.fail(error);
    this.meta = new FailStopMeta(parts.meta, failed);
    this.committer = new Committer(this.meta, () => this.storedRecord, failed);
    this.sync = new DataSync(parts.data, failed);
    this.slots = new SlotMap(parts.data.bytesMax);
    this.space = new SpaceGuard(parts.disk, parts.env.clock);
  }

  /** Why a new operation is refused; null if it is not. */
  get refusal(): StoreError | null {
    return this.failure ?? (this.isClosing ? this.closedError() : null);
  }

  /** Why an operation that has begun cannot succeed any more; null if it can. */
  get lateRefusal(): StoreError | null {
    return this.failure ?? (this.isDrained ? this.closedError() : null);
  }

  /** @throws the refusal, if there is one */
  mustServe(): void {
    const { refusal } = this;
    if (refusal !== null) throw refusal;
  }

  closedError(): StoreError {
    return new StoreError('E_CLOSED', `The store under '${this.disk.path}' is closed`);
  }

  /** The record as it is stored. */
  get storedRecord(): StoreRecord {
    return recordAhead({ ...this.record, nextObjectId: this.#nextNumber });
  }

  newObjectId(): number {
    const objectId = this.#nextNumber;
    this.#nextNumber += 1;
    return objectId;
  }

  /** For a change of an object that has the version `before`: greater, and never given out in this folder. */
  newVersion(before: number): number {
    const version = Math.max(this.#nextNumber, before + 1);
    this.#nextNumber = version + 1;
    return version;
  }

  /** This id was given out, though the metadata does not say so yet. */
  skipObjectId(objectId: number): void {
    this.#nextNumber = Math.max(this.#nextNumber, objectId + 1);
  }

  /** Goes into the record with the next transaction. */
  setLiveSequence(sequence: number): void {
    this.record = { ...this.record, liveSequence: sequence };
  }

  /** Why the one operation is refused for which the disk reported `error`; anything but a full disk stops the engine. */
  refusalFrom(error: unknown): StoreError {
    if (error instanceof DiskError && (error.errno === 'ENOSPC' || error.errno === 'EDQUOT'))
      return this.noSpace();
    return this.failFrom(error);
  }

  noSpace(): StoreError {
    return new StoreError(
      'E_NO_SPACE',
      `No space left under '${this.disk.path}'; delete or discard something, or add space`,
    );
  }

  /** As `fail`, for what was caught: anything but an error of the disk is our own and thrown again. */
  failFrom(error: unknown): StoreError {
    if (error instanceof DiskError) return this.fail(error);
    if (error instanceof StoreError && error === this.failure) return error;
    throw error;
  }

  /** Stops everything; the first reason counts. */
  fail(cause: DiskError): StoreError {
    if (this.failure?.code === 'E_DISK_FAILED') return this.failure;
    if (this.isClosed) return this.closedError();
    const failure = new StoreError(
      'E_DISK_FAILED',
      `The disk under '${this.disk.path}' failed: ${cause.message}; what was not flushed may be lost. Mend the disk, then run: store check --dir ${this.disk.path}`,
      { cause },
    );
    this.failure = failure;
    this.log.fatal({ path: this.disk.path, errno: cause.errno }, failure.message);
    try {
      this.disk.writeSmallFile(FAILED_FILE, Buffer.from(`${cause.message}\n`));
    } catch (error) {
      this.log.error({ error: String(error) }, 'The failure could not be noted in the folder');
    }
    this.committer.stop(cause);
    for (const tell of this.whenFailed) tell(failure);
    this.#onFailure(failure);
    return failure;
  }
}

/** What an operation hears that began while this daemon led a group, and comes to its change when it does not any more. */
export function notLedHere(): StoreError {
  return new StoreError(
    'E_STALE_MAP',
    'This daemon does not lead the group of the object any more',
  );
}
