/**
 * A folder that can be killed under its process, and have its power cut. It outlives the processes that open it:
 * `open` gives each of them its own view, and `kill` or `powerCut` make every later answer to an old one stay away.
 */
import {
  DiskError,
  type AppendFile,
  type DataFile,
  type Disk,
  type DiskSpace,
  type MetaChange,
  type MetaStore,
} from '../env/disk.js';
import { StoreError } from '../util/errors.js';
import { SimDataFile, SimMedium, type SimDataFaults, type SimDataHost } from './sim-data-file.js';
import {
  SimMetaMedium,
  SimMetaStore,
  type SimMetaFaults,
  type SimMetaHost,
} from './sim-meta-store.js';
import type { SimRandom } from './sim-random.js';
import type { SimScheduler } from './sim-scheduler.js';

const PAGE_BYTES = 4096;

export class SimDisk {
  readonly dataFaults: SimDataFaults = {
    writeError: 0,
    syncError: 0,
    lostWrite: 0,
    misdirectedWrite: 0,
    punch: 0.5,
  };
  readonly metaFaults: SimMetaFaults = { commitError: 0, swallowCommitError: false };
  /** Room for data and metadata together. */
  capacityBytes = 1024 * 1024 * 1024;
  readonly data = new SimMedium();
  readonly meta = new SimMetaMedium();
  readonly smallFiles = new Map<string, Buffer>();
  readonly appendFiles = new Map<string, Buffer>();
  readonly #scheduler: SimScheduler;
  readonly #random: SimRandom;
  /** Operations of the living process that have not happened; some may happen although it dies. */
  readonly #inFlight = new Set<{ orphan: (() => void) | undefined }>();
  #boot = 1;
  #process = 0;
  #locked = false;

  constructor(scheduler: SimScheduler, random: SimRandom) {
    this.#scheduler = scheduler;
    this.#random = random;
  }

  /** Nothing goes wrong until `resume`. */
  suspendFaults(): { resume: () => void } {
    const [data, meta] = [{ ...this.dataFaults }, { ...this.metaFaults }];
    Object.assign(this.dataFaults, {
      writeError: 0,
      syncError: 0,
      lostWrite: 0,
      misdirectedWrite: 0,
    });
    Object.assign(this.metaFaults, { commitError: 0, swallowCommitError: false });
    return {
      resume: () => {
        Object.assign(this.dataFaults, data);
        Object.assign(this.metaFaults, meta);
      },
    };
  }

  /** The folder as a new process sees it. */
  open(): Disk {
    this.#process += 1;
    return new SimFolder(this, this.#process);
  }

  /** The process is gone; the kernel goes on. */
  kill(): void {
    for (const { orphan } of this.#inFlight) orphan?.();
    this.#inFlight.clear();
    this.#process += 1;
    this.#locked = false;
  }

  /** The machine is gone, and with it what was not synced. */
  powerCut(): void {
    this.kill();
    this.#boot += 1;
    this.data.powerCut(this.#random);
    this.meta.powerCut();
    for (const [name, bytes] of this.appendFiles)
      this.appendFiles.set(name, bytes.subarray(0, this.#random.below(bytes.length + 1)));
  }

  /** Number of the living process. */
  get process(): number {
    return this.#process;
  }

  get boot(): number {
    return this.#boot;
  }

  /** Bytes in use. */
  usedBytes(): number {
    let metaBytes = 0;
    for (const value of this.meta.visible.values()) metaBytes += value.length + 64;
    return this.data.cache.size * PAGE_BYTES + metaBytes;
  }

  /** What one process uses. */
  host(process: number): SimDataHost & SimMetaHost {
    return {
      random: this.#random,
      dataFaults: this.dataFaults,
      metaFaults: this.metaFaults,
      later: (run, orphan) => {
        const operation = { orphan };
        this.#inFlight.add(operation);
        this.#scheduler.at(0.01 + this.#random.below(1000) / 500, () => {
          this.#inFlight.delete(operation);
          if (this.#process === process) run();
        });
      },
      admitPages: (pages) => this.usedBytes() + pages * PAGE_BYTES <= this.capacityBytes,
      admitCommit: (changes: readonly MetaChange[]) => {
        let bytes = 0;
        for (const { value } of changes) bytes += value === null ? 0 : 512;
        return this.usedBytes() + bytes <= this.capacityBytes;
      },
    };
  }

  lock(process: number): void {
    if (this.#locked) throw new StoreError('E_IN_USE', 'The simulated folder is in use');
    if (process !== this.#process) throw new StoreError('E_CLOSED', 'A dead process');
    this.#locked = true;
  }

  unlock(): void {
    this.#locked = false;
  }
}

class SimFolder implements Disk {
  readonly path = 'simulated';
  readonly #disk: SimDisk;
  readonly #process: number;

  constructor(disk: SimDisk, process: number) {
    this.#disk = disk;
    this.#process = process;
  }

  isEmpty(): boolean {
    return this.#disk.smallFiles.size === 0 && this.#disk.data.size === 0;
  }

  lock(): void {
    this.#disk.lock(this.#process);
  }

  bootToken(): string {
    return `boot ${this.#disk.boot}`;
  }

  space(): DiskSpace {
    const totalBytes = this.#disk.capacityBytes;
    return { totalBytes, freeBytes: Math.max(0, totalBytes - this.#disk.usedBytes()) };
  }

  readSmallFile(name: string): Buffer | null {
    return this.#disk.smallFiles.get(name) ?? null;
  }

  writeSmallFile(name: string, bytes: Buffer): void {
    this.#disk.smallFiles.set(name, Buffer.from(bytes));
  }

  removeSmallFile(name: string): void {
    this.#disk.smallFiles.delete(name);
  }

  openDataFile(): DataFile {
    return new SimDataFile(this.#disk.data, this.#disk.host(this.#process));
  }

  openMetaStore(): MetaStore {
    return new SimMetaStore(this.#disk.meta, this.#disk.host(this.#process));
  }

  openAppendFile(name: string): AppendFile {
    const files = this.#disk.appendFiles;
    const isFull = (): boolean => this.#disk.usedBytes() >= this.#disk.capacityBytes;
    const bytesOf = (): Buffer => files.get(name) ?? Buffer.alloc(0);
    return {
      get bytes() {
        return bytesOf().length;
      },
      append(parts) {
        if (isFull()) throw new DiskError('ENOSPC', 'simulated disk is full');
        files.set(name, Buffer.concat([bytesOf(), ...parts]));
      },
      readAll: () => Buffer.from(bytesOf()),
      truncate: () => {
        files.set(name, Buffer.alloc(0));
      },
      close: () => undefined,
    };
  }

  close(): void {
    this.#disk.unlock();
  }
}
