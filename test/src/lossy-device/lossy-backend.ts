/**
 * A disk with a volatile cache, as a backend of our NBD server; it lives in memory. Writes go to the cache,
 * and reads see them; a flush makes everything in the cache durable, FUA the one write. At a power cut each
 * cached write is, by chance, kept, lost or torn: every 512-byte sector for itself. So writes that no flush
 * separates reach the medium in any order, as on real disks.
 *
 * With `flushLies` a flush is answered and nothing else: the broken disk that a power-loss test must catch.
 */
import type { Done, DoneWith, Extent } from '@store/core';
import { BLOCK_STATE, WRITE_FLAGS } from '@store/core';
import type { Backend } from '@store/gateway-nbd';
import type { SeededRandom } from '../tagged-writer/seeded-random.js';

export interface LossyBackendOptions {
  readonly bytes: number;
  readonly flushLies?: boolean;
}

/** What a power cut did. */
export interface CutReport {
  /** Writes that were in the cache. */
  readonly cached: number;
  readonly lost: number;
  readonly torn: number;
}

/** A write in the cache; without `data` it zeroes. */
interface CachedWrite {
  readonly offset: number;
  readonly bytes: number;
  readonly data: Buffer | null;
  /** FUA: survives every cut. */
  readonly durable: boolean;
}

type Pages = Map<number, Buffer>;

const SECTOR_BYTES = 512;
const PAGE_BYTES = 4096;
const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);

export class LossyBackend implements Backend {
  readonly bytes: number;
  readonly readOnly = false;
  readonly #flushLies: boolean;
  /** What is on the medium. Pages in here are never changed, only replaced. */
  readonly #medium: Pages = new Map();
  /** What reads see where it differs from the medium. */
  readonly #cache: Pages = new Map();
  /** How it came to differ, in order. */
  #writes: CachedWrite[] = [];

  constructor({ bytes, flushLies = false }: LossyBackendOptions) {
    this.bytes = bytes;
    this.#flushLies = flushLies;
  }

  read(offset: number, target: Buffer, done: Done): void {
    forEachPage(offset, target.length, (page, at, from, count) => {
      const source = this.#cache.get(page) ?? this.#medium.get(page) ?? ZERO_PAGE;
      source.copy(target, at, from, from + count);
    });
    done(null);
  }

  write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const data = Buffer.concat(parts);
    this.#cacheWrite({ offset, bytes: data.length, data, durable: isDurable(flags) });
    done(null);
  }

  zero(offset: number, bytes: number, flags: number, done: Done): void {
    this.#cacheWrite({ offset, bytes, data: null, durable: isDurable(flags) });
    done(null);
  }

  flush(done: Done): void {
    if (!this.#flushLies) {
      for (const [page, content] of this.#cache) this.#store(page, content);
      this.#forgetCache();
    }
    done(null);
  }

  prefetch(_offset: number, _bytes: number, done: Done): void {
    done(null);
  }

  extents(_offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    done(null, [{ bytes, state: BLOCK_STATE.data }]);
  }

  /**
   * The power goes: afterwards reads see what is on the medium.
   * @param keepPercent - How likely a cached write is kept; half of the rest is torn, half lost.
   */
  cut(random: SeededRandom, keepPercent: number): CutReport {
    const report = { cached: this.#writes.length, lost: 0, torn: 0 };
    for (const write of this.#writes) {
      if ((write.durable && !this.#flushLies) || random.chance(keepPercent)) {
        this.#reachMedium(write, () => true);
      } else if (random.chance(50)) {
        report.torn += 1;
        this.#reachMedium(write, () => random.chance(50));
      } else {
        report.lost += 1;
      }
    }
    this.#forgetCache();
    return report;
  }

  #cacheWrite(write: CachedWrite): void {
    this.#writes.push(write);
    forEachPage(write.offset, write.bytes, (page, at, from, count) => {
      if (write.data === null && count === PAGE_BYTES) {
        this.#cache.set(page, ZERO_PAGE);
        return;
      }
      const content = Buffer.from(this.#cache.get(page) ?? this.#medium.get(page) ?? ZERO_PAGE);
      if (write.data === null) content.fill(0, from, from + count);
      else write.data.copy(content, from, at, at + count);
      this.#cache.set(page, content);
    });
  }

  /** Applies the sectors of a write that are chosen. */
  #reachMedium(write: CachedWrite, chosen: () => boolean): void {
    forEachPage(write.offset, write.bytes, (page, at, from, count) => {
      const content = Buffer.from(this.#medium.get(page) ?? ZERO_PAGE);
      let sectorFrom = from;
      while (sectorFrom < from + count) {
        const sectorEnd = Math.min(
          from + count,
          sectorFrom - (sectorFrom % SECTOR_BYTES) + SECTOR_BYTES,
        );
        if (chosen()) {
          if (write.data === null) content.fill(0, sectorFrom, sectorEnd);
          else write.data.copy(content, sectorFrom, at + sectorFrom - from, at + sectorEnd - from);
        }
        sectorFrom = sectorEnd;
      }
      this.#store(page, content);
    });
  }

  /** Zeros take no memory, so that discards of a whole disk stay cheap. */
  #store(page: number, content: Buffer): void {
    if (content.equals(ZERO_PAGE)) this.#medium.delete(page);
    else this.#medium.set(page, content);
  }

  #forgetCache(): void {
    this.#cache.clear();
    this.#writes = [];
  }
}

function isDurable(flags: number): boolean {
  return (flags & WRITE_FLAGS.durable) !== 0;
}

/** Visits the pages of a range: page number, offset in the range, offset in the page, bytes. */
function forEachPage(
  offset: number,
  bytes: number,
  visit: (page: number, at: number, from: number, count: number) => void,
): void {
  for (let at = 0; at < bytes;) {
    const from = (offset + at) % PAGE_BYTES;
    const count = Math.min(PAGE_BYTES - from, bytes - at);
    visit((offset + at - from) / PAGE_BYTES, at, from, count);
    at += count;
  }
}
