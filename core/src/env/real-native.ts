/**
 * Linux system calls that Node does not offer, through `koffi` (optional: without it reads go through the
 * thread pool and freed space is not given back before its slot is reused).
 */
import { addressOf, errno, loadLibrary, pageBytes } from '../util/native-library.js';

const RWF_NOWAIT = 8;
const FALLOC_FL_KEEP_SIZE_PUNCH_HOLE = 1 | 2;
const POSIX_FADV_DONTNEED = 4;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SYS_CACHESTAT = 451;
const IOVEC_BYTES = 16;
// struct msghdr: name and its length (8 bytes each with padding), then these, then control data and flags.
const AT_IOV = 4; //     16, in units of 4 bytes
const AT_IOVLEN = 6; //  24
const MSGHDR_BYTES = 56;
/** More slices than this in one write go through Node, which has no such limit. */
const IOVEC_COUNT_MAX = 256;

export interface Native {
  /**
   * preadv2(RWF_NOWAIT) of a whole buffer.
   * @returns bytes read from the page cache, or -errno (`-EAGAIN`: not there).
   */
  readCached(fd: number, position: number, target: Buffer): number;
  /**
   * cachestat(2) of a range (Linux 6.5): starts no reading, which `readCached` may.
   * @returns bytes in whole pages that the page cache has or is about to have, or -errno
   */
  cachedBytes(fd: number, position: number, bytes: number): number;
  /** pwritev of all parts. @returns bytes written, or -errno. Null if there are too many parts. */
  write(fd: number, position: number, parts: readonly Buffer[]): number | null;
  /** recv(MSG_DONTWAIT). @returns bytes received, 0 at the end, or -errno (`-EAGAIN`: nothing there). */
  receive(fd: number, target: Buffer): number;
  /** sendmsg(MSG_DONTWAIT) of the parts, or of the first of very many. @returns bytes taken, or -errno. */
  send(fd: number, parts: readonly Buffer[]): number;
  /**
   * Asks for a send buffer of `bytes` (SO_SNDBUF): beyond the system's limit if we may, else up to it. Only how fast we
   * are depends on it.
   */
  sendBuffer(fd: number, bytes: number): void;
  /** sched_yield(2): whoever else wants this processor has it first. */
  yieldProcessor(): void;
  /** posix_fadvise(DONTNEED) of the whole file; advice only. */
  dropCache(fd: number): void;
  /** _exit(2): ends the process at once, without running anybody's cleanup. */
  exitNow(code: number): void;
  /** fallocate(PUNCH_HOLE | KEEP_SIZE) in a worker thread; 0 or -errno. */
  punch(fd: number, position: number, bytes: number, done: (result: number) => void): void;
}

export const EINTR = 4;
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
  const libc = loadLibrary('libc.so.6');
  if (libc === null) return null; // the program says so when it starts
  // koffi has no types for functions made from a declaration; these are theirs
  type VectorCall = (
    fd: number,
    vectors: number,
    count: number,
    position: number,
    flags?: number,
  ) => number;
  type FallocateCall = {
    async(
      ...parameters: [number, number, number, number, (error: Error | null, result: number) => void]
    ): void;
  };
  type SocketCall = (fd: number, memory: number, bytes: number, flags: number) => number;
  type MessageCall = (fd: number, message: number, flags: number) => number;
  const preadv2 = libc.func(
    'int64_t preadv2(int, uint64_t, int, int64_t, int)',
  ) as unknown as VectorCall;
  const pwritev = libc.func(
    'int64_t pwritev(int, uint64_t, int, int64_t)',
  ) as unknown as VectorCall;
  const recv = libc.func('int64_t recv(int, uint64_t, uint64_t, int)') as unknown as SocketCall;
  const send = libc.func('int64_t send(int, uint64_t, uint64_t, int)') as unknown as SocketCall;
  const sendmsg = libc.func('int64_t sendmsg(int, uint64_t, int)') as unknown as MessageCall;
  const setsockopt = libc.func('int setsockopt(int, int, int, uint64_t, uint32_t)') as unknown as (
    ...parameters: [number, number, number, number, number]
  ) => number;
  const fallocate = libc.func(
    'int fallocate(int, int, int64_t, int64_t)',
  ) as unknown as FallocateCall;
  const posixFadvise = libc.func('int posix_fadvise(int, int64_t, int64_t, int)') as unknown as (
    ...parameters: [number, number, number, number]
  ) => number;
  const syscall = libc.func(
    'int64_t syscall(int64_t, uint64_t, uint64_t, uint64_t, uint64_t)',
  ) as unknown as (...parameters: [number, number, number, number, number]) => number;
  const yieldNow = libc.func('int sched_yield()') as unknown as () => number;
  const exit = libc.func('void _exit(int)') as unknown as (code: number) => void;
  // One array of iovecs, filled before each call: these calls are synchronous.
  const vectors = new Uint32Array((IOVEC_COUNT_MAX * IOVEC_BYTES) / 4);
  const vectorsAddress = addressOf(new Uint8Array(vectors.buffer));
  const setVector = (index: number, part: Uint8Array): void => {
    const address = addressOf(part);
    const at = index * 4;
    vectors[at] = address; // its low 32 bits
    vectors[at + 1] = Math.floor(address / 2 ** 32);
    vectors[at + 2] = part.length; // the high half stays zero
  };
  const setVectors = (parts: readonly Buffer[]): void => {
    for (let index = 0; index < parts.length; index += 1) setVector(index, parts[index] as Buffer); // in bounds
  };
  const message = messageFor(vectorsAddress);
  const messageAddress = addressOf(new Uint8Array(message.buffer));

  // struct cachestat_range: offset, length. struct cachestat: nr_cache, four more.
  const range = new Uint32Array(4);
  const cachePageBytes = pageBytes() ?? 0; // 0: nothing is known to be there
  const statistics = new Uint32Array(10);
  const rangeAddress = addressOf(new Uint8Array(range.buffer));
  const statisticsAddress = addressOf(new Uint8Array(statistics.buffer));

  return {
    cachedBytes(fd, position, bytes) {
      range[0] = position; // its low 32 bits
      range[1] = Math.floor(position / 2 ** 32);
      range[2] = bytes;
      const result = syscall(SYS_CACHESTAT, fd, rangeAddress, statisticsAddress, 0);
      return result < 0 ? -errno() : (statistics[0] ?? 0) * cachePageBytes;
    },
    readCached(fd, position, target) {
      setVector(0, target);
      const count = preadv2(fd, vectorsAddress, 1, position, RWF_NOWAIT);
      return count < 0 ? -errno() : count;
    },
    write(fd, position, parts) {
      if (parts.length > IOVEC_COUNT_MAX) return null;
      setVectors(parts);
      const count = pwritev(fd, vectorsAddress, parts.length, position);
      return count < 0 ? -errno() : count;
    },
    receive(fd, target) {
      const count = recv(fd, addressOf(target), target.length, MSG_DONTWAIT);
      return count < 0 ? -errno() : count;
    },
    send(fd, parts) {
      const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
      let count: number;
      if (parts.length === 1) {
        const part = parts[0] as Buffer; // there is one
        count = send(fd, addressOf(part), part.length, flags);
      } else {
        const many = parts.length > IOVEC_COUNT_MAX ? parts.slice(0, IOVEC_COUNT_MAX) : parts;
        setVectors(many);
        message[AT_IOVLEN] = many.length;
        count = sendmsg(fd, messageAddress, flags);
      }
      return count < 0 ? -errno() : count;
    },
    sendBuffer(fd, bytes) {
      const value = new Int32Array([bytes]);
      const address = addressOf(new Uint8Array(value.buffer));
      if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, address, 4) !== 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, address, 4);
    },
    dropCache(fd) {
      posixFadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    },
    yieldProcessor() {
      yieldNow();
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

/** A `struct msghdr` (64-bit Linux) of the iovecs at an address, in units of 4 bytes; their count is set later. */
function messageFor(vectorsAddress: number): Uint32Array {
  const message = new Uint32Array(MSGHDR_BYTES / 4);
  message[AT_IOV] = vectorsAddress; // its low 32 bits
  message[AT_IOV + 1] = Math.floor(vectorsAddress / 2 ** 32);
  return message;
}

/**
 * Ends the process without cleanup: for when what is in memory cannot be trusted. (lmdb's own cleanup has been seen to
 * abort after a failed write, which would hide the exit code.)
 */
export function exitNow(code: number): never {
  native()?.exitNow(code);
  process.exit(code);
}
