/**
 * A folder of a real file system: the data file through `pread`/`pwrite`, metadata in LMDB, small files
 * replaced by rename. Every error the system reports reaches the caller.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { AppendFile, Disk, DiskSpace } from './disk.js';
import { DiskError } from './disk.js';
import type { Log } from './log.js';
import { bootToken } from './real-boot-token.js';
import { RealDataFile } from './real-data-file.js';
import { makeFolder } from './real-make-folder.js';
import { RealMetaStore } from './real-meta-store.js';
import { StoreError, errnoOf, messageOf } from '../util/errors.js';
import { invariant } from '../util/invariant.js';

const LOCK_FILE = 'lock';
/**
 * Number of the lock file in the child that locks it. A low one may be that of a file which another thread is just opening,
 * and Linux answers EBUSY to who wants it (dup2(2)).
 */
const CHILD_FD = 99;
/** What a fresh file system or our own lock put there. */
const NOT_CONTENT: ReadonlySet<string> = new Set([LOCK_FILE, 'lost+found']);
/** Left by a replacement of a small file that did not come to its end. */
const REPLACEMENT = '.new';

/**
 * Opens a folder.
 * @param create - make the folder if it is missing
 * @throws StoreError `E_NOT_FOUND`, `E_SYSTEM`
 */
export function openRealDisk(folder: string, options: { create: boolean }, log: Log): Disk {
  try {
    if (options.create) makeFolder(folder, 0o700);
    if (!fs.statSync(folder).isDirectory())
      throw new StoreError('E_SYSTEM', `'${folder}' is not a folder; choose another --dir`);
    fs.accessSync(folder, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK);
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw folderError(folder, error);
  }
  return new RealDisk(folder, log);
}

function folderError(folder: string, error: unknown): StoreError {
  switch (errnoOf(error)) {
    case 'ENOENT':
      return new StoreError('E_NOT_FOUND', `There is no folder '${folder}'; check --dir`, {
        cause: error,
      });
    case 'EEXIST':
    case 'ENOTDIR':
      return new StoreError('E_SYSTEM', `'${folder}' is not a folder; choose another --dir`, {
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
      return new StoreError(
        'E_SYSTEM',
        `No permission to use '${folder}'; run as its owner or choose another --dir`,
        { cause: error },
      );
    case 'EROFS':
      return new StoreError('E_SYSTEM', `'${folder}' is on a read-only file system`, {
        cause: error,
      });
    default:
      return new StoreError('E_SYSTEM', `Cannot use '${folder}': ${messageOf(error)}`, {
        cause: error,
      });
  }
}

class RealDisk implements Disk {
  readonly path: string;
  readonly #log: Log;
  #lockFd: number | null = null;

  constructor(folder: string, log: Log) {
    this.path = folder;
    this.#log = log;
  }

  isEmpty(): boolean {
    return fs
      .readdirSync(this.path)
      .every((name) => NOT_CONTENT.has(name) || name.endsWith(`format.making${REPLACEMENT}`));
  }

  lock(): void {
    invariant(this.#lockFd === null, 'the folder is locked once');
    let fd: number;
    try {
      fd = fs.openSync(this.#file(LOCK_FILE), fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    } catch (error) {
      throw folderError(this.path, error);
    }
    // The lock belongs to the open file, which we share with the child: it outlives `flock` and dies with us,
    // whatever kills us. A pid file alone would need guessing.
    const result = spawnSync('flock', ['--exclusive', '--nonblock', `${CHILD_FD}`], {
      stdio: [...Array.from({ length: CHILD_FD }, () => 'ignore' as const), fd],
    });
    if (result.error !== undefined) {
      fs.closeSync(fd);
      throw new StoreError(
        'E_SYSTEM',
        `Cannot lock '${this.path}': the program 'flock' does not run (${messageOf(result.error)}); install the package util-linux`,
        { cause: result.error },
      );
    }
    if (result.status !== 0) {
      const owner = fs.readFileSync(fd, 'utf8').trim();
      fs.closeSync(fd);
      throw new StoreError(
        'E_IN_USE',
        `'${this.path}' is in use by ${owner === '' ? 'another process' : owner}; stop that process first (of store-nbd another one can take over: --replace), or choose another folder (--dir, or --state-dir)`,
      );
    }
    this.#lockFd = fd;
    try {
      fs.ftruncateSync(fd);
      fs.writeSync(fd, `process ${process.pid}\n`, 0);
    } catch (error) {
      // Others will not learn who we are; the lock holds all the same, and a full disk must not stop a check.
      this.#log.warn({ path: this.path }, `The pid could not be noted: ${messageOf(error)}`);
    }
  }

  bootToken(): string {
    return bootToken(this.path, this.#file('data'));
  }

  space(): DiskSpace {
    const stats = fs.statfsSync(this.path);
    return { totalBytes: stats.blocks * stats.bsize, freeBytes: stats.bavail * stats.bsize };
  }

  readSmallFile(name: string): Buffer | null {
    try {
      return fs.readFileSync(this.#file(name));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      throw diskError(`read of ${name}`, error);
    }
  }

  writeSmallFile(name: string, bytes: Buffer): void {
    const temporary = this.#file(name + REPLACEMENT);
    try {
      const fd = fs.openSync(temporary, 'w', 0o600);
      try {
        fs.writeSync(fd, bytes);
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
      fs.renameSync(temporary, this.#file(name));
      this.#syncFolder();
    } catch (error) {
      throw diskError(`write of ${name}`, error);
    }
  }

  removeSmallFile(name: string): void {
    try {
      fs.rmSync(this.#file(name), { force: true });
      this.#syncFolder();
    } catch (error) {
      throw diskError(`removal of ${name}`, error);
    }
  }

  openDataFile(name: string): RealDataFile {
    const file = RealDataFile.open(this.#file(name));
    this.#syncFolder();
    return file;
  }

  openMetaStore(name: string): RealMetaStore {
    const store = RealMetaStore.open(this.#file(name), () => this.space().freeBytes, this.#log);
    this.#syncFolder();
    return store;
  }

  openAppendFile(name: string): AppendFile {
    return new RealAppendFile(this.#file(name));
  }

  close(): void {
    if (this.#lockFd === null) return;
    fs.ftruncateSync(this.#lockFd);
    fs.closeSync(this.#lockFd);
    this.#lockFd = null;
  }

  #file(name: string): string {
    return path.join(this.path, name);
  }

  /** New names in the folder are durable only when the folder is. */
  #syncFolder(): void {
    const fd = fs.openSync(this.path, 'r');
    try {
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }
}

class RealAppendFile implements AppendFile {
  readonly #fd: number;
  readonly #name: string;
  bytes: number;

  constructor(name: string) {
    this.#name = path.basename(name);
    this.#fd = fs.openSync(name, 'a+', 0o600);
    this.bytes = fs.fstatSync(this.#fd).size;
  }

  append(parts: readonly Buffer[]): void {
    let expected = 0;
    for (const part of parts) expected += part.length;
    let written = 0;
    let cause: unknown = null;
    try {
      written = fs.writevSync(this.#fd, parts);
    } catch (error) {
      cause = error;
    }
    if (written === expected) {
      this.bytes += written;
      return;
    }
    // What was appended in part must not stand before what comes next.
    if (written > 0) this.#cut();
    throw cause === null
      ? new DiskError('ENOSPC', `append to ${this.#name}: ${written} of ${expected} bytes written`)
      : diskError(`append to ${this.#name}`, cause);
  }

  #cut(): void {
    try {
      fs.ftruncateSync(this.#fd, this.bytes);
    } catch (error) {
      throw new DiskError('EIO', `append to ${this.#name} stays torn: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  readAll(): Buffer {
    const bytes = Buffer.alloc(fs.fstatSync(this.#fd).size);
    let at = 0;
    while (at < bytes.length) {
      const count = fs.readSync(this.#fd, bytes, at, bytes.length - at, at);
      if (count === 0) break;
      at += count;
    }
    return bytes.subarray(0, at);
  }

  truncate(): void {
    try {
      fs.ftruncateSync(this.#fd, 0);
    } catch (error) {
      throw diskError(`truncation of ${this.#name}`, error);
    }
    this.bytes = 0;
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}

function diskError(what: string, error: unknown): DiskError {
  return new DiskError(errnoOf(error) ?? 'EIO', `${what}: ${messageOf(error)}`, { cause: error });
}
