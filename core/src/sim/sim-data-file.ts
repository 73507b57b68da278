/**
 * A data file that loses, tears and reorders what was not synced. What a process sees (`cache`) and what is on the
 * medium (`durable`) differ by the writes since the last sync that covered them.
 */
import type { DataFile, DiskDone } from '../env/disk.js';
import { DiskError } from '../env/disk.js';
import type { SimRandom } from './sim-random.js';

const PAGE_BYTES = 4096;
export const SECTOR_BYTES = 512;

interface PendingWrite {
  readonly position: number;
  readonly bytes: Buffer;
}

/** What goes wrong; changed at any time by a test. */
export interface SimDataFaults {
  /** Probability that a write or a sync fails with EIO. */
  writeError: number;
  syncError: number;
  /** Probability that a write is reported as done and never happens. */
  lostWrite: number;
  /** Probability that a write lands a few blocks away. */
  misdirectedWrite: number;
  /** Probability that a hole is made: a favour, not a promise. */
  punch: number;
}

/** The part of a `SimDisk` that its data file needs: time, and whether its process still lives. */
export interface SimDataHost {
  readonly random: SimRandom;
  readonly dataFaults: SimDataFaults;
  /** Runs `run` later, unless the process that asked is dead by then; then `orphan`, if the system would go on. */
  later(run: () => void, orphan?: () => void): void;
  /** Counts pages against the capacity. @returns false if the disk is full */
  admitPages(pages: number): boolean;
}

export class SimMedium {
  readonly cache = new Map<number, Buffer>();
  readonly durable = new Map<number, Buffer>();
  pending: PendingWrite[] = [];
  size = 0;

  /** Takes effect for readers at once, for the medium some time. */
  write(position: number, bytes: Buffer): void {
    const copy = Buffer.from(bytes);
    writePages(this.cache, position, copy);
    this.pending.push({ position, bytes: copy });
    this.size = Math.max(this.size, position + bytes.length);
  }

  read(position: number, target: Buffer): void {
    readPages(this.cache, position, target);
  }

  /** These writes are on the medium now. */
  settle(writes: readonly PendingWrite[]): void {
    for (const { position, bytes } of writes) writePages(this.durable, position, bytes);
    const settled = new Set(writes);
    this.pending = this.pending.filter((write) => !settled.has(write));
  }

  /** Of each sector, one of the versions since the last sync survives, whichever the medium liked. */
  powerCut(random: SimRandom): void {
    const mode = random.pick(['none', 'all', 'sectors', 'sectors'] as const);
    for (const { position, bytes } of shuffle(this.pending, random)) {
      if (mode === 'none') break;
      for (let at = 0; at < bytes.length; at += SECTOR_BYTES)
        if (mode === 'all' || random.chance(0.5))
          writePages(this.durable, position + at, bytes.subarray(at, at + SECTOR_BYTES));
    }
    this.pending = [];
    this.cache.clear();
    for (const [page, bytes] of this.durable) this.cache.set(page, Buffer.from(bytes));
  }

  /** Bit rot, of what is on the medium and in memory. */
  flip(position: number, mask: number): void {
    for (const pages of [this.cache, this.durable]) {
      const page = pages.get(Math.floor(position / PAGE_BYTES));
      if (page !== undefined)
        page[position % PAGE_BYTES] = (page[position % PAGE_BYTES] ?? 0) ^ mask;
    }
  }
}

export class SimDataFile implements DataFile {
  readonly bytesMax = Infinity;
  readonly #medium: SimMedium;
  readonly #host: SimDataHost;

  constructor(medium: SimMedium, host: SimDataHost) {
    this.#medium = medium;
    this.#host = host;
  }

  size(): number {
    return this.#medium.size;
  }

  tryRead(position: number, target: Buffer): boolean {
    if (this.#host.random.chance(0.4)) return false;
    this.#medium.read(position, target);
    return true;
  }

  read(position: number, target: Buffer, done: DiskDone): void {
    this.#host.later(() => {
      this.#medium.read(position, target);
      done(null);
    });
  }

  tryWrite(position: number, parts: readonly Buffer[]): boolean {
    if (this.#host.random.chance(0.6)) return false;
    this.#write(position, Buffer.concat(parts));
    return true;
  }

  write(position: number, parts: readonly Buffer[], done: DiskDone): void {
    // The caller's buffers are read when the write happens, as a thread would: lent is lent.
    const happen = (): void => this.#write(position, Buffer.concat(parts));
    this.#host.later(
      () => {
        let error: DiskError | null = null;
        try {
          happen();
        } catch (thrown) {
          error = thrown as DiskError; // `#write` throws nothing else
        }
        done(error);
      },
      () => {
        if (!this.#host.random.chance(0.5)) return;
        try {
          happen();
        } catch (error) {
          if (!(error instanceof DiskError)) throw error; // it failed, and nobody is left to hear of it
        }
      },
    );
  }

  sync(done: DiskDone): void {
    const covered = [...this.#medium.pending];
    this.#host.later(() => {
      if (this.#host.random.chance(this.#host.dataFaults.syncError)) {
        // As Linux does: the pages are marked clean, and what they held is gone with the next eviction.
        this.#medium.pending = this.#medium.pending.filter((write) => !covered.includes(write));
        done(new DiskError('EIO', 'simulated sync error'));
        return;
      }
      this.#medium.settle(covered);
      done(null);
    });
  }

  dropCache(): void {
    for (const page of this.#medium.cache.keys()) {
      const isPending = this.#medium.pending.some(
        ({ position, bytes }) =>
          position < (page + 1) * PAGE_BYTES && position + bytes.length > page * PAGE_BYTES,
      );
      if (isPending) continue;
      const bytes = this.#medium.durable.get(page);
      if (bytes === undefined) this.#medium.cache.delete(page);
      else this.#medium.cache.set(page, Buffer.from(bytes));
    }
  }

  punch(position: number, bytes: number, done: DiskDone): void {
    const isDone = this.#host.random.chance(this.#host.dataFaults.punch);
    this.#host.later(() => {
      const end = isDone ? position + bytes : position;
      for (const page of [...this.#medium.cache.keys()])
        if (page * PAGE_BYTES >= position && (page + 1) * PAGE_BYTES <= end) {
          this.#medium.write(page * PAGE_BYTES, Buffer.alloc(PAGE_BYTES));
          this.#medium.cache.delete(page);
        }
      done(null);
    });
  }

  close(): void {
    // nothing is held
  }

  #write(position: number, bytes: Buffer): void {
    const { random, dataFaults } = this.#host;
    if (random.chance(dataFaults.writeError)) throw new DiskError('EIO', 'simulated write error');
    let fresh = 0;
    for (
      let page = Math.floor(position / PAGE_BYTES);
      page * PAGE_BYTES < position + bytes.length;
      page += 1
    )
      if (!this.#medium.cache.has(page)) fresh += 1;
    if (!this.#host.admitPages(fresh)) {
      // What fits is written, in whole pages.
      const writtenBytes = PAGE_BYTES * random.below(Math.floor(bytes.length / PAGE_BYTES) + 1);
      if (writtenBytes > 0) this.#medium.write(position, bytes.subarray(0, writtenBytes));
      throw new DiskError('ENOSPC', 'simulated disk is full', { writtenBytes });
    }
    if (random.chance(dataFaults.lostWrite)) return;
    const shift = random.chance(dataFaults.misdirectedWrite)
      ? (1 + random.below(3)) * PAGE_BYTES
      : 0;
    this.#medium.write(position + shift, bytes);
  }
}

function writePages(pages: Map<number, Buffer>, position: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) {
    const page = Math.floor((position + at) / PAGE_BYTES);
    const inPage = (position + at) % PAGE_BYTES;
    let target = pages.get(page);
    if (target === undefined) {
      target = Buffer.alloc(PAGE_BYTES);
      pages.set(page, target);
    }
    at += bytes.copy(target, inPage, at);
  }
}

function readPages(pages: Map<number, Buffer>, position: number, target: Buffer): void {
  for (let at = 0; at < target.length;) {
    const inPage = (position + at) % PAGE_BYTES;
    const count = Math.min(target.length - at, PAGE_BYTES - inPage);
    const page = pages.get(Math.floor((position + at) / PAGE_BYTES));
    if (page === undefined) target.fill(0, at, at + count);
    else page.copy(target, at, inPage, inPage + count);
    at += count;
  }
}

function shuffle<T>(items: readonly T[], random: SimRandom): T[] {
  const out = [...items];
  for (let index = out.length - 1; index > 0; index -= 1) {
    const other = random.below(index + 1);
    [out[index], out[other]] = [out[other] as T, out[index] as T]; // in bounds
  }
  return out;
}
