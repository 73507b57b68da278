/**
 * Linux system calls that Node does not offer, through `koffi` (optional: without it reads go through the
 * thread pool and freed space is not given back before its slot is reused).
 */
import { createRequire } from 'node:module';
import type { LibraryHandle, default as Koffi } from 'koffi';

const RWF_NOWAIT = 8;
const FALLOC_FL_KEEP_SIZE_PUNCH_HOLE = 1 | 2;
const POSIX_FADV_DONTNEED = 4;
const IOVEC_BYTES = 16;
/** More slices than this in one write go through Node, which has no such limit. */
const IOVEC_COUNT_MAX = 256;

export interface Native {
  /**
   * preadv2(RWF_NOWAIT) of a whole buffer.
   * @returns bytes read from the page cache, or -errno (`-EAGAIN`: not there).
   */
  readCached(fd: number, position: number, target: Buffer): number;
  /** pwritev of all parts. @returns bytes written, or -errno. Null if there are too many parts. */
  write(fd: number, position: number, parts: readonly Buffer[]): number | null;
  /** posix_fadvise(DONTNEED) of the whole file; advice only. */
  dropCache(fd: number): void;
  /** _exit(2): ends the process at once, without running anybody's cleanup. */
  exitNow(code: number): void;
  /** fallocate(PUNCH_HOLE | KEEP_SIZE) in a worker thread; 0 or -errno. */
  punch(fd: number, position: number, bytes: number, done: (result: number) => void): void;
}

export const EAGAIN = 11;
export const ENOSPC = 28;
export const EDQUOT = 122;
export const EOPNOTSUPP = 95;
/** Names of the errors that decide something; others are shown by number. */
export const ERRNO_NAMES: Readonly<Record<number, string>> = {
  5: 'EIO',
  22: 'EINVAL',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  95: 'EOPNOTSUPP',
  122: 'EDQUOT',
};

let loaded: Native | null | undefined;

/** The system calls, or null where they cannot be had. */
export function native(): Native | null {
  if (loaded === undefined) loaded = process.platform === 'linux' ? load() : null;
  return loaded;
}

function load(): Native | null {
  const require = createRequire(import.meta.url);
  let koffi: typeof Koffi;
  let libc: LibraryHandle;
  try {
    koffi = require('koffi') as typeof Koffi;
    libc = koffi.load('libc.so.6');
  } catch {
    return null; // not built for this machine; the program says so when it starts
  }
  // koffi has no types for functions made from a declaration; these are theirs
  type VectorCall = (
    fd: number,
    vectors: Buffer,
    count: number,
    position: number,
    flags?: number,
  ) => number;
  type FallocateCall = {
    async(
      ...parameters: [number, number, number, number, (error: Error | null, result: number) => void]
    ): void;
  };
  const preadv2 = libc.func(
    'int64_t preadv2(int, void *, int, int64_t, int)',
  ) as unknown as VectorCall;
  const pwritev = libc.func('int64_t pwritev(int, void *, int, int64_t)') as unknown as VectorCall;
  const fallocate = libc.func(
    'int fallocate(int, int, int64_t, int64_t)',
  ) as unknown as FallocateCall;
  const posixFadvise = libc.func('int posix_fadvise(int, int64_t, int64_t, int)') as unknown as (
    ...parameters: [number, number, number, number]
  ) => number;
  const exit = libc.func('void _exit(int)') as unknown as (code: number) => void;
  // One array of iovecs, filled before each call: these calls are synchronous.
  const vectors = Buffer.alloc(IOVEC_COUNT_MAX * IOVEC_BYTES);
  const setVector = (index: number, part: Buffer): void => {
    vectors.writeBigUInt64LE(koffi.address(part), index * IOVEC_BYTES);
    vectors.writeUInt32LE(part.length, index * IOVEC_BYTES + 8); // the high half stays zero
  };

  return {
    readCached(fd, position, target) {
      setVector(0, target);
      const count = preadv2(fd, vectors, 1, position, RWF_NOWAIT);
      return count < 0 ? -koffi.errno() : count;
    },
    write(fd, position, parts) {
      if (parts.length > IOVEC_COUNT_MAX) return null;
      for (let index = 0; index < parts.length; index += 1)
        setVector(index, parts[index] as Buffer); // in bounds
      const count = pwritev(fd, vectors, parts.length, position);
      return count < 0 ? -koffi.errno() : count;
    },
    dropCache(fd) {
      posixFadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    },
    exitNow(code) {
      exit(code);
    },
    punch(fd, position, bytes, done) {
      fallocate.async(fd, FALLOC_FL_KEEP_SIZE_PUNCH_HOLE, position, bytes, (error, result) => {
        // errno belongs to the worker thread; a failed punch only wastes space, so its kind does not matter
        done(error !== null || result < 0 ? -EOPNOTSUPP : 0);
      });
    },
  };
}

/**
 * Ends the process without cleanup: for when what is in memory cannot be trusted. (lmdb's own cleanup has been seen to
 * abort after a failed write, which would hide the exit code.)
 */
export function exitNow(code: number): never {
  native()?.exitNow(code);
  process.exit(code);
}
