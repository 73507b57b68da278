/**
 * The metadata store on LMDB. `overlappingSync` is off: in the default mode a failed sync is printed and
 * swallowed; off, a commit is answered after its own sync, or with the error.
 */
import { join } from 'node:path';
import type { Database, RootDatabase } from 'lmdb';
import { open } from 'lmdb';
import type { DiskDone, MetaChange, MetaStore } from './disk.js';
import { DiskError } from './disk.js';
import type { Log } from './log.js';
import { checkMetaFile } from './real-meta-file.js';
import { messageOf } from '../util/errors.js';

/** LMDB reports a full map by this number, and passes errno through. */
const MDB_MAP_FULL = -30792;
/** LMDB's name for it. */
const DATA_FILE = 'data.mdb';
const PAGE_BYTES = 4096;
const PAGES_PER_COMMIT = 32;
const PAGES_PER_CHANGE = 4;
/** How long to wait for the cause of a failed commit. */
const CAUSE_MS = 1000;

export class RealMetaStore implements MetaStore {
  readonly #db: RootDatabase<Buffer, Buffer>;
  readonly #freeBytes: () => number;
  readonly #log: Log;

  static open(folder: string, freeBytes: () => number, log: Log): RealMetaStore {
    checkMetaFile(join(folder, DATA_FILE));
    try {
      return new RealMetaStore(
        open<Buffer, Buffer>({
          path: folder,
          encoding: 'binary',
          keyEncoding: 'binary',
          overlappingSync: false,
          // Its transaction for each turn has a promise of its own, which nobody could await: a failed commit would be
          // an unhandled rejection.
          eventTurnBatching: false,
          // Freed pages are not zeroed in memory by default; what we write must not carry old heap contents.
          noMemInit: false,
        }),
        freeBytes,
        log,
      );
    } catch (error) {
      throw new DiskError('EIO', `cannot open the metadata in ${folder}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  private constructor(db: RootDatabase<Buffer, Buffer>, freeBytes: () => number, log: Log) {
    this.#db = db;
    this.#freeBytes = freeBytes;
    this.#log = log;
  }

  get(key: Buffer): Buffer | null {
    try {
      const bytes = this.#db.getBinaryFast(key);
      // lmdb's one buffer for all reads, with `length` set over it: a view of just this value
      return bytes === undefined ? null : bytes.subarray(0, bytes.length);
    } catch (error) {
      throw unreadable(error);
    }
  }

  range(start: Buffer, end: Buffer, limit: number): { key: Buffer; value: Buffer }[] {
    const entries: { key: Buffer; value: Buffer }[] = [];
    try {
      for (const { key, value } of this.#db.getRange({ start, end, limit }))
        entries.push({ key: Buffer.from(key), value: Buffer.from(value) });
    } catch (error) {
      throw unreadable(error);
    }
    return entries;
  }

  commit(changes: readonly MetaChange[], done: DiskDone): void {
    if (this.#freeBytes() < bytesMax(changes)) {
      setImmediate(() => done(new DiskError('ENOSPC', 'no space for a commit of metadata')));
      return;
    }
    const database: Database<Buffer, Buffer> = this.#db;
    const results: Promise<unknown>[] = [];
    // lmdb writes from these very buffers in a thread of its own: they stay as they are until it is done.
    results.push(
      database.batch(() => {
        for (const { key, value } of changes)
          results.push(value === null ? database.remove(key) : database.put(key, value));
      }),
    );
    // Each promise rejects by itself when the commit fails; the cause hangs on one of them, as a promise again.
    void Promise.allSettled(results).then(async (settled) => {
      this.#db.resetReadTxn(); // reads of this turn shall see what was committed
      const failed = settled.filter((result) => result.status === 'rejected');
      if (failed.length === 0) {
        done(null);
        return;
      }
      const causes = await Promise.allSettled(
        failed.map((result) => within(CAUSE_MS, commitErrorOf(result.reason as unknown))),
      );
      const cause = causes.find((result) => result.status === 'rejected')?.reason as unknown;
      const error = toDiskError(cause ?? failed[0]?.reason);
      this.#log.debug({ errno: error.errno }, error.message);
      done(error);
    });
  }

  async close(): Promise<void> {
    await this.#db.close();
  }
}

/**
 * An upper bound of what a commit may write: the pages on the way to each entry, and the values. LMDB must not meet the
 * end of the disk: it takes a short write for an I/O error, and has been seen to damage its memory after one.
 */
function bytesMax(changes: readonly MetaChange[]): number {
  let bytes = PAGE_BYTES * PAGES_PER_COMMIT;
  for (const { value } of changes) bytes += PAGE_BYTES * PAGES_PER_CHANGE + (value?.length ?? 0);
  return bytes;
}

/** lmdb may never tell the cause; the commit failed all the same. */
function within(ms: number, promise: unknown): Promise<unknown> {
  const late = new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error('the metadata store does not say why')), ms).unref();
  });
  return Promise.race([promise, late]);
}

/** lmdb hangs the reason of a failed commit on the error, as a promise that rejects with it. */
function commitErrorOf(reason: unknown): unknown {
  return typeof reason === 'object' && reason !== null && 'commitError' in reason
    ? reason.commitError
    : Promise.reject(reason instanceof Error ? reason : new Error(String(reason)));
}

/** After a commit has failed LMDB reads nothing more (`MDB_PANIC`), and reads come before the commit is answered. */
function unreadable(cause: unknown): unknown {
  const isOfLmdb = cause instanceof Error && 'code' in cause && typeof cause.code === 'number';
  if (!isOfLmdb) return cause; // a defect of ours
  return new DiskError('EIO', `read of metadata: ${messageOf(cause)}`, { cause });
}

function toDiskError(cause: unknown): DiskError {
  const code =
    typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
  const errno = code === 28 || code === 122 || code === MDB_MAP_FULL ? 'ENOSPC' : 'EIO';
  return new DiskError(errno, `commit of metadata: ${messageOf(cause)}`, { cause });
}
