/**
 * What the storage engine needs of a disk, small enough that a simulated disk can lose, tear and reorder
 * whatever was not synced. Three things with three promises:
 *
 * - a data file: writes are lost, torn or reordered by a power cut until a `sync` that began after them;
 * - a metadata store: a commit is atomic, and durable when it is answered;
 * - append files: kept as long as the kernel runs, promised nothing after a power cut.
 */

/** What failed below, with the operating system's name for it. */
export class DiskError extends Error {
  override name = 'DiskError';
  /** `EIO`, `ENOSPC`, … */
  readonly errno: string;
  /** Of a write that failed: how many bytes from its start did reach the file. */
  readonly writtenBytes: number;

  constructor(
    errno: string,
    message: string,
    options: { cause?: unknown; writtenBytes?: number } = {},
  ) {
    super(message, options);
    this.errno = errno;
    this.writtenBytes = options.writtenBytes ?? 0;
  }
}

export type DiskDone = (error: DiskError | null) => void;

/** Callbacks never run before the call returns. Buffers are borrowed until then. */
export interface DataFile {
  /** Fixed size of a block device; `Infinity` for a file that can grow. */
  readonly bytesMax: number;
  /** End of what was ever written. */
  size(): number;
  /**
   * Reads if that needs no waiting for the disk.
   * @returns false if it would (or cannot be known): use `read`.
   * @throws DiskError
   */
  tryRead(position: number, target: Buffer): boolean;
  /** Fills `target`; what lies beyond the end of the file reads as zeros. */
  read(position: number, target: Buffer, done: DiskDone): void;
  /**
   * Writes all parts one after the other if that is quick enough to do at once.
   * @returns false if it would wait: use `write`.
   * @throws DiskError with `writtenBytes`
   */
  tryWrite(position: number, parts: readonly Buffer[]): boolean;
  write(position: number, parts: readonly Buffer[], done: DiskDone): void;
  /** Makes every write that had returned before this call durable. An error is final: what was not durable may be gone. */
  sync(done: DiskDone): void;
  /** Makes later reads come from the disk itself, where the system can; unsynced data stays in memory. */
  dropCache(): void;
  /** Gives the space back; the range reads as zeros or as before. Does nothing where the system cannot. */
  punch(position: number, bytes: number, done: DiskDone): void;
  close(): void;
}

/** One change of a transaction: `value` null deletes. */
export interface MetaChange {
  readonly key: Buffer;
  readonly value: Buffer | null;
}

/** An ordered map with durable atomic transactions. Reads see committed transactions only. */
export interface MetaStore {
  /** The value, valid until the next call, or null. @throws DiskError */
  get(key: Buffer): Buffer | null;
  /** Entries with `start <= key < end`, in order of key bytes; buffers are the caller's. @throws DiskError */
  range(start: Buffer, end: Buffer, limit: number): { key: Buffer; value: Buffer }[];
  /**
   * Applies all changes or none; durable when answered without an error. `ENOSPC` means none were applied
   * and the store goes on; any other error means unknown. At most one commit is under way. Keys and values are
   * borrowed until the answer.
   */
  commit(changes: readonly MetaChange[], done: DiskDone): void;
  close(): Promise<void>;
}

export interface AppendFile {
  /** Bytes appended so far. */
  readonly bytes: number;
  /** Appends all of it now, or nothing. @throws DiskError */
  append(parts: readonly Buffer[]): void;
  readAll(): Buffer;
  /** Empties the file. */
  truncate(): void;
  close(): void;
}

export interface DiskSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

/** One folder, owned by one process. */
export interface Disk {
  /** For messages. */
  readonly path: string;
  /** True if nothing was ever stored here. */
  isEmpty(): boolean;
  /**
   * Takes the folder for this process until `close` or its death.
   * @throws StoreError `E_IN_USE` naming the owner's pid
   */
  lock(): void;
  /** Changes whenever unsynced writes may have been lost: a reboot, or the device unplugged. */
  bootToken(): string;
  space(): DiskSpace;
  /** The whole of a small file, or null. */
  readSmallFile(name: string): Buffer | null;
  /** Replaces a small file atomically and durably. @throws DiskError */
  writeSmallFile(name: string, bytes: Buffer): void;
  removeSmallFile(name: string): void;
  openDataFile(name: string): DataFile;
  openMetaStore(name: string): MetaStore;
  openAppendFile(name: string): AppendFile;
  close(): void;
}
