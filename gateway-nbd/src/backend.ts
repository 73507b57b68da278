import type { Done, DoneWith, Extent } from '@store/core';

/**
 * A block device as the NBD server sees it. `Image` of `@store/core` is one; so is anything else that keeps these
 * promises. The server has checked every range against `bytes` before it calls.
 *
 * Callbacks run exactly once, possibly before the call returns. Buffers belong to the backend until it answers.
 * Operations that overlap take effect in some order; those called after another one was answered, after it.
 */
export interface Backend {
  /** Size of the device in bytes; constant while it is open. */
  readonly bytes: number;
  /** Writes are refused before they reach the backend. */
  readonly readOnly: boolean;
  /** Fills `target` from `offset`. On an error nothing in `target` is sent to the client. */
  read(offset: number, target: Buffer, done: Done): void;
  /** Writes the parts one after the other. `flags`: `WRITE_FLAGS.durable`. */
  write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void;
  /** The range reads as zeros afterwards. `flags`: `durable`, `allocate` (NBD's NO_HOLE). */
  zero(offset: number, bytes: number, flags: number, done: Done): void;
  /** Everything answered before is durable afterwards, whichever connection it came through. */
  flush(done: Done): void;
  /**
   * For a request that becomes several calls, where a flush may say that something answered is lost: it says so of what
   * was called, not of what the request is. Called before the first of them. @returns What ends the request, in place of `done`
   */
  joined?(done: Done): Done;
  /** Reads ahead; may do nothing. */
  prefetch(offset: number, bytes: number, done: Done): void;
  /**
   * What the range is made of, from its start: runs of data, zeros and holes, at least one. They may end before the
   * range does, so that nobody has to describe a terabyte at once.
   */
  extents(offset: number, bytes: number, done: DoneWith<Extent[]>): void;
  /** Zeroing whole blocks of this size (without `allocate`) is faster than writing them; absent: no zeroing is. */
  readonly fastZeroBytes?: number;
  /** Metadata contexts beyond `base:allocation`, each `x-vendor:leaf`. */
  readonly contexts?: readonly string[];
  /** As `extents`, with the status that one of `contexts` gives to each run. Needed if there are any. */
  status?(context: string, offset: number, bytes: number, done: DoneWith<StatusRun[]>): void;
}

/** A run of bytes with one status of a metadata context. */
export interface StatusRun {
  readonly bytes: number;
  /** Unsigned, 32 bits. */
  readonly status: number;
}

/** One thing a client can ask for by name. */
export interface ExportInfo {
  readonly name: string;
  /** One line for people, shown by `nbdinfo --list`. */
  readonly description: string;
}

/** What can be known of an export without opening it: the same as its `Backend` says. */
export interface ExportFacts extends Pick<
  Backend,
  'bytes' | 'readOnly' | 'fastZeroBytes' | 'contexts'
> {
  readonly description: string;
}

/** The exports of a server. Nothing is opened before a client asks to use it. */
export interface ExportCatalog {
  list(): Promise<ExportInfo[]>;
  /** Facts of an export, without opening it for writing (NBD_OPT_INFO). Null if there is none of that name. */
  info(name: string): Promise<ExportFacts | null>;
  /** Opens it for one connection; connections to one name share what lies below. Null if there is none of that name. */
  open(name: string): Promise<OpenExport | null>;
}

/** An export that one connection uses. */
export interface OpenExport {
  readonly backend: Backend;
  /** The name people know it by, where it was opened by another one (the empty one). */
  readonly name?: string;
  close(): Promise<void>;
}
