/**
 * The data file: a sparse file, or a block device behind a symbolic link.
 *
 * A block in the page cache costs 1.4 us with `preadv2(RWF_NOWAIT)` and 10-20 us through Node's thread pool, so
 * `tryRead` asks the kernel and never waits; a small write is a copy into the page cache and done at once. Misses go to
 * an io_uring, if there is one; what else may wait (big writes, much dirty data) goes to the thread pool.
 */
import fs from 'node:fs';
import { totalmem } from 'node:os';
import path from 'node:path';
import type { DataFile, DiskDone } from './disk.js';
import { DiskError } from './disk.js';
import { EAGAIN, EINTR, EOPNOTSUPP, ERRNO_NAMES, native, type Native } from './real-native.js';
import { readRing } from './real-read-ring.js';
import { partsBytes, sliceParts } from '../util/byte-parts.js';
import { errnoOf, messageOf } from '../util/errors.js';

/**
 * Written at once: 1 MiB is 120 us of copying, and 280 us of processor when four calls go through the thread pool (its
 * wake-ups cost more than the copy: 1.1-1.3 GB/s became 1.4-1.8 for 1 MiB writes, four at a time).
 */
const WRITE_NOW_BYTES_MAX = 1024 * 1024;
/**
 * One call; longer writes become several. The page cache keeps what one call writes in folios as large as the call, and ext4 walks all the buffers
 * of a folio for each small write into it: after calls of 1 MiB a random 4 KiB write costs 15.8 us, after calls of
 * 256 KiB 5.1, of 64 KiB 4.4, for 10-40 us more in a MiB (measured on Linux 6.18).
 */
const WRITE_CALL_BYTES_MAX = 64 * 1024;
/**
 * With more than this unsynced the kernel may hold a writer up (from about 15 % of memory on): then it shall not be the
 * event loop.
 */
const DIRTY_BYTES_MAX = Math.min(256 * 1024 * 1024, memoryBytes() / 16);

/**
 * A read this long that misses keeps the disk busy for a while already when it is only started, also with RWF_NOWAIT and
 * through an io_uring: up to 70 ms were seen on the event loop. Such reads go to threads, as long as they miss.
 */
const LONG_READ_BYTES_MIN = 64 * 1024;
/** After a long read has missed, the next ones are expected to. */
const MISSES_MS = 100;

/** koffi has room for few calls at a time, and the thread pool has other work. */
const PUNCHES_MAX = 2;

interface Hole {
  readonly position: number;
  readonly bytes: number;
  readonly done: DiskDone;
}

export class RealDataFile implements DataFile {
  readonly bytesMax: number;
  readonly #fd: number;
  readonly #name: string;
  readonly #native = native();
  readonly #ring = readRing();
  #readsWithoutWaiting: boolean;
  /** When a long read was not in the page cache. */
  #missedAt = -Infinity;
  #dirtyBytes = 0;
  readonly #holes: Hole[] = [];
  #punching = 0;
  /** Calls in other threads, holes among them. */
  #busyCount = 0;
  #isClosed = false;

  static open(file: string): RealDataFile {
    return new RealDataFile(openQuietly(file), path.basename(file));
  }

  private constructor(fd: number, name: string) {
    this.#fd = fd;
    this.#name = name;
    this.#readsWithoutWaiting = this.#native !== null;
    this.bytesMax = fs.fstatSync(fd).isBlockDevice() ? deviceBytes(fd) : Infinity;
  }

  size(): number {
    return this.bytesMax === Infinity ? fs.fstatSync(this.#fd).size : this.bytesMax;
  }

  tryRead(position: number, target: Buffer): boolean {
    if (!this.#readsWithoutWaiting || this.#native === null) return false;
    const isLong = target.length >= LONG_READ_BYTES_MIN;
    if (isLong && this.#isExpectedToMiss(this.#native, position, target.length)) return false;
    const count = this.#native.readCached(this.#fd, position, target);
    if (count === target.length) return true;
    if (isLong) this.#missedAt = performance.now();
    if (count === -EOPNOTSUPP)
      this.#readsWithoutWaiting = false; // this file system cannot tell
    else if (count < 0 && count !== -EAGAIN) throw this.#systemError('read', -count, 0);
    return false;
  }

  #isExpectedToMiss(system: Native, position: number, bytes: number): boolean {
    if (performance.now() - this.#missedAt < MISSES_MS) return true;
    const cached = system.cachedBytes(this.#fd, position, bytes);
    if (cached < 0 || cached >= bytes) return false; // an older kernel cannot tell
    this.#missedAt = performance.now();
    return true;
  }

  read(position: number, target: Buffer, done: DiskDone): void {
    if (this.#isClosed) {
      setImmediate(() => done(this.#closedError('read')));
      return;
    }
    if (target.length >= LONG_READ_BYTES_MIN) {
      this.#readInThread(position, target, done);
      return;
    }
    this.#begin();
    const started = this.#ring?.read(this.#fd, position, target, (result) => {
      this.#end();
      if (result >= 0) this.#wasRead(position, target, result, done);
      else if (result === -EINTR || result === -EAGAIN)
        this.#readInThread(position, target, done); // the ring could not
      else done(this.#systemError('read', -result, 0));
    });
    if (started === true) return;
    this.#end();
    this.#readInThread(position, target, done);
  }

  #readInThread(position: number, target: Buffer, done: DiskDone): void {
    if (this.#isClosed) {
      done(this.#closedError('read'));
      return;
    }
    this.#begin();
    fs.read(this.#fd, target, 0, target.length, position, (error, count) => {
      this.#end();
      if (error !== null) done(this.#error('read', error));
      else this.#wasRead(position, target, count, done);
    });
  }

  #wasRead(position: number, target: Buffer, count: number, done: DiskDone): void {
    if (count === target.length) done(null);
    else if (count === 0) {
      target.fill(0); // beyond the end of the file
      done(null);
    } else this.read(position + count, target.subarray(count), done);
  }

  tryWrite(position: number, parts: readonly Buffer[]): boolean {
    const bytes = partsBytes(parts);
    if (bytes > WRITE_NOW_BYTES_MAX || this.#dirtyBytes > DIRTY_BYTES_MAX) return false;
    for (let at = 0; at < bytes; at += WRITE_CALL_BYTES_MAX) {
      const count = Math.min(WRITE_CALL_BYTES_MAX, bytes - at);
      this.#writeNow(
        position + at,
        count === bytes ? parts : sliceParts(parts, at, count),
        count,
        at,
      );
    }
    return true;
  }

  /** One call. @throws DiskError with what was written, `writtenBefore` included */
  #writeNow(
    position: number,
    parts: readonly Buffer[],
    bytes: number,
    writtenBefore: number,
  ): void {
    const written =
      this.#native?.write(this.#fd, position, parts) ??
      this.#writeSync(position, parts, writtenBefore);
    // A signal came before anything was written: Node goes on after those.
    const taken = written === -EINTR ? 0 : written;
    if (taken < 0) throw this.#systemError('write', -taken, writtenBefore);
    this.#dirtyBytes += taken;
    if (taken < bytes) this.#writeRest(position, parts, taken, writtenBefore);
  }

  write(position: number, parts: readonly Buffer[], done: DiskDone): void {
    this.#writeFrom(position, parts, partsBytes(parts), 0, done);
  }

  /** In the thread pool, a call at a time. */
  #writeFrom(
    position: number,
    parts: readonly Buffer[],
    bytes: number,
    at: number,
    done: DiskDone,
  ): void {
    // By now the number may be another file's.
    if (this.#isClosed) {
      setImmediate(() => done(this.#closedError('write', at)));
      return;
    }
    const count = Math.min(WRITE_CALL_BYTES_MAX, bytes - at);
    const slices = sliceParts(parts, at, count);
    this.#begin();
    fs.writev(this.#fd, slices, position + at, (error, written) => {
      this.#end();
      if (error !== null) {
        done(this.#error('write', error, at));
        return;
      }
      this.#dirtyBytes += written;
      if (written < count) {
        try {
          this.#writeRest(position + at, slices, written, at);
        } catch (rest) {
          done(rest as DiskError); // `#writeRest` throws nothing else
          return;
        }
      }
      if (at + count === bytes) done(null);
      else this.#writeFrom(position, parts, bytes, at + count, done);
    });
  }

  sync(done: DiskDone): void {
    if (this.#isClosed) {
      setImmediate(() => done(this.#closedError('sync')));
      return;
    }
    this.#dirtyBytes = 0;
    this.#begin();
    fs.fdatasync(this.#fd, (error) => {
      this.#end();
      done(error === null ? null : this.#error('sync', error));
    });
  }

  dropCache(): void {
    this.#native?.dropCache(this.#fd);
  }

  punch(position: number, bytes: number, done: DiskDone): void {
    if (this.#native === null) {
      setImmediate(() => done(null));
      return;
    }
    this.#holes.push({ position, bytes, done });
    this.#punchNext(this.#native);
  }

  #punchNext(system: Native): void {
    while (this.#punching < PUNCHES_MAX) {
      const hole = this.#holes.shift();
      if (hole === undefined) return;
      this.#punching += 1;
      this.#begin();
      system.punch(this.#fd, hole.position, hole.bytes, () => {
        this.#punching -= 1;
        this.#end();
        hole.done(null);
        if (!this.#isClosed) this.#punchNext(system);
      });
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // A hole that waits is not made.
    for (const hole of this.#holes.splice(0)) hole.done(null);
    if (this.#busyCount === 0) fs.closeSync(this.#fd);
  }

  /** A call that needs the descriptor is on its way in another thread. */
  #begin(): void {
    this.#busyCount += 1;
  }

  #end(): void {
    this.#busyCount -= 1;
    if (this.#isClosed && this.#busyCount === 0) fs.closeSync(this.#fd);
  }

  #closedError(what: string, writtenBytes = 0): DiskError {
    return new DiskError('EBADF', `${what} of ${this.#name}: it was closed`, { writtenBytes });
  }

  #writeSync(position: number, parts: readonly Buffer[], writtenBefore: number): number {
    try {
      return fs.writevSync(this.#fd, parts, position);
    } catch (error) {
      throw this.#error('write', error, writtenBefore);
    }
  }

  /** The kernel took only the first `taken` bytes: it does so only if the rest fails, and writing on says why. */
  #writeRest(
    position: number,
    parts: readonly Buffer[],
    taken: number,
    writtenBefore: number,
  ): void {
    const all = Buffer.concat(parts);
    let at = taken;
    while (at < all.length) {
      try {
        at += fs.writeSync(this.#fd, all, at, all.length - at, position + at);
      } catch (error) {
        throw this.#error('write', error, writtenBefore + at);
      }
    }
  }

  #systemError(what: string, errno: number, writtenBytes: number): DiskError {
    const name = ERRNO_NAMES[errno] ?? `errno ${errno}`;
    return new DiskError(name, `${what} of ${this.#name}: ${name}`, { writtenBytes });
  }

  #error(what: string, error: unknown, writtenBytes = 0): DiskError {
    return new DiskError(errnoOf(error) ?? 'EIO', `${what} of ${this.#name}: ${messageOf(error)}`, {
      cause: error,
      writtenBytes,
    });
  }
}

/** Of the machine, or what the process may have of it. */
function memoryBytes(): number {
  const allowed = process.constrainedMemory();
  return allowed > 0 ? Math.min(allowed, totalmem()) : totalmem();
}

/** Opens or makes a file; that it is read is not noted in its inode, if we may ask for that (it is ours). */
function openQuietly(file: string): number {
  const flags = fs.constants.O_RDWR | fs.constants.O_CREAT;
  try {
    return fs.openSync(file, flags | fs.constants.O_NOATIME, 0o600);
  } catch (error) {
    if (errnoOf(error) !== 'EPERM') throw error;
    return fs.openSync(file, flags, 0o600);
  }
}

/** Linux reports no size for block devices in `stat`; the kernel's own table has it, in 512-byte sectors. */
function deviceBytes(fd: number): number {
  const { rdev } = fs.fstatSync(fd, { bigint: true });
  const major = (rdev >> 8n) & 0xfffn;
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
}
