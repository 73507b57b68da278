/**
 * Every expected failure is a `StoreError` with a code from this table. `status` is the number on the
 * wire (never reused), `retry` says what helps; code that retries reads `retry`, never the message.
 */
export const ERRORS = {
  /** The object, image or pool does not exist. */
  E_NOT_FOUND: { status: 1, retry: 'never' },
  /** Something of that name is already there. */
  E_EXISTS: { status: 2, retry: 'never' },
  /** Compare-and-swap met another version than the caller expected. */
  E_VERSION: { status: 3, retry: 'reread' },
  /** An argument is out of range or malformed. */
  E_INVALID: { status: 4, retry: 'never' },
  /**
   * What is stored does not match its checksum, and was not returned; or what was to be written arrived damaged, and
   * nothing was changed.
   */
  E_CHECKSUM: { status: 5, retry: 'other-copy' },
  /** The disk (or the quota) is full. */
  E_NO_SPACE: { status: 6, retry: 'later' },
  /** The disk reported an error on a write or a sync; it serves nothing until it was checked. */
  E_DISK_FAILED: { status: 7, retry: 'other-copy' },
  /** The folder is in use by another process. */
  E_IN_USE: { status: 8, retry: 'later' },
  /** Written by a version of this program that we do not understand, or not written by us. */
  E_FORMAT: { status: 9, retry: 'never' },
  /** Opened for reading only. */
  E_READ_ONLY: { status: 10, retry: 'never' },
  /** Closed or shutting down. */
  E_CLOSED: { status: 11, retry: 'later' },
  /** The operating system refused: no permission, address in use, no such folder. */
  E_SYSTEM: { status: 12, retry: 'never' },
  /** A wait passed its deadline. */
  E_TIMEOUT: { status: 13, retry: 'later' },
  /** Nobody answers there, or the connection broke. */
  E_UNREACHABLE: { status: 14, retry: 'later' },
  /** What arrived is not our protocol, or breaks its rules. */
  E_BAD_FRAME: { status: 15, retry: 'never' },
  /** Client and daemon speak no common version of the protocol. */
  E_PROTOCOL_VERSION: { status: 16, retry: 'never' },
  /** Who asks may not: no ticket, a wrong, expired or revoked one, or one without that right. */
  E_DENIED: { status: 17, retry: 'never' },
  /** The answer was lost with the daemon that gave it: the change was made, or it was not. */
  E_IN_DOUBT: { status: 18, retry: 'reread' },
  /** Writes that were answered, but not flushed, are gone with the power of their machine. Said once, to a flush. */
  E_LOST_WRITES: { status: 19, retry: 'never' },
  /** The daemon does not know this chain of layers (any more): register it again. */
  E_UNKNOWN_CHAIN: { status: 20, retry: 'register' },
  /** So much is under way that no more is taken. */
  E_BUSY: { status: 21, retry: 'later' },
  /** Whoever asked said that the answer is not wanted any more. */
  E_CANCELLED: { status: 22, retry: 'never' },
  /** Decided by a storage map that is out of date: get a newer one. Nothing was changed. */
  E_STALE_MAP: { status: 23, retry: 'refresh-map' },
  /** This master does not lead: the message names the one that does. */
  E_NOT_LEADER: { status: 24, retry: 'later' },
  /** Somebody else is the writer of the image now, or nobody is. Nothing was changed. */
  E_FENCED: { status: 25, retry: 'never' },
  /** The layer is not written to any more: the image has a newer one. Nothing was changed. */
  E_SEALED: { status: 26, retry: 'reread' },
} as const;

export type ErrorCode = keyof typeof ERRORS;
export type RetryAdvice = (typeof ERRORS)[ErrorCode]['retry'];

/** An expected failure: of a disk, a peer, a user's input. The message is one line a person understands. */
export class StoreError extends Error {
  override name = 'StoreError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get retry(): RetryAdvice {
    return ERRORS[this.code].retry;
  }
}

const CODES: ReadonlyMap<number, ErrorCode> = new Map(
  Object.entries(ERRORS).map(([code, { status }]) => [status, code as ErrorCode]), // the table's own keys
);

/** The error that a status on the wire stands for. */
export function errorFromStatus(status: number, message: string): StoreError {
  const code = CODES.get(status);
  if (code !== undefined) return new StoreError(code, message);
  return new StoreError('E_SYSTEM', `Error ${status} of a newer release: ${message}`);
}

/** Completion of an operation: `null`, or why it failed. Runs exactly once, possibly before the call returns. */
export type Done = (error: StoreError | null) => void;

/** As {@link Done}, with a result that is `undefined` when there is an error. */
export type DoneWith<T> = (error: StoreError | null, result?: T) => void;

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `errno` name (`ENOENT`, …) of what Node's own calls throw, or `undefined`. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Runs a callback operation as a promise; for tools and tests, not for hot paths. */
export function promised(operation: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    operation((error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

/** As {@link promised}, for operations with a result. */
export function promisedWith<T>(operation: (done: DoneWith<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    operation((error, result) => {
      if (error === null)
        resolve(result as T); // a callback without an error carries its result
      else reject(error);
    });
  });
}
