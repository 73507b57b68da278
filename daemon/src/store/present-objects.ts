/**
 * Which image data objects may exist, one bit each: 32 KiB for a full TiB, next to nothing for an empty one. A large
 * image is mostly made of objects that do not exist, and to look for each of 262,144 names in the metadata store, which
 * orders them by hash, takes seconds.
 *
 * A bit may be set for what is not there, which costs a lookup; a bit that is missing hides data. So whoever adds an
 * object sets it before, and only who has seen the object leave both memory and metadata store clears it. Keys that no
 * image has are not counted.
 *
 * Two objects of a pool may have one key and two locators. No image makes such, but then the bit stays for good.
 */
import { splitDataKey } from '@store/core';

/** Objects of 8 GiB of image; a page without any takes no memory. */
const PAGE_OBJECTS = 2048;
const WORD_BITS = 32;

/** Kept by the `ObjectTable`. */
export class PresentObjects {
  /** By pool id, then by what the keys begin with. */
  readonly #pools = new Map<number, Map<string, PresentIndexes>>();

  /** An object of that key, one character a byte, is or will be there. */
  add(poolId: number, key: string): void {
    const parts = splitDataKey(key);
    if (parts === null) return;
    let pool = this.#pools.get(poolId);
    if (pool === undefined) this.#pools.set(poolId, (pool = new Map<string, PresentIndexes>()));
    let indexes = pool.get(parts.prefix);
    if (indexes === undefined) pool.set(parts.prefix, (indexes = new PresentIndexes()));
    indexes.add(parts.index);
  }

  /** One object of that key, which was added, is neither in memory nor in the metadata store. */
  remove(poolId: number, key: string): void {
    const parts = splitDataKey(key);
    if (parts === null) return;
    const pool = this.#pools.get(poolId);
    const indexes = pool?.get(parts.prefix);
    if (indexes === undefined) return;
    indexes.remove(parts.index);
    if (indexes.isEmpty) pool?.delete(parts.prefix);
  }

  /** See `ObjectPool.absentRun`. */
  absentRun(poolId: number, prefix: string, first: number, count: number): number | null {
    const indexes = this.#pools.get(poolId)?.get(prefix);
    if (indexes !== undefined) return indexes.absentRun(first, count);
    return splitDataKey(`${prefix}0`)?.prefix === prefix ? count : null;
  }
}

class PresentIndexes {
  readonly #pages = new Map<number, Uint32Array>();
  /** Indexes of which there is more than one object. */
  readonly #doubled = new Set<number>();

  get isEmpty(): boolean {
    return this.#pages.size === 0;
  }

  add(index: number): void {
    const number = Math.floor(index / PAGE_OBJECTS);
    let page = this.#pages.get(number);
    if (page === undefined)
      this.#pages.set(number, (page = new Uint32Array(PAGE_OBJECTS / WORD_BITS)));
    const { word, bit } = placeInPage(index);
    const bits = page[word] ?? 0;
    if ((bits & bit) !== 0) this.#doubled.add(index);
    page[word] = bits | bit;
  }

  remove(index: number): void {
    const number = Math.floor(index / PAGE_OBJECTS);
    const page = this.#pages.get(number);
    if (page === undefined || this.#doubled.has(index)) return;
    const { word, bit } = placeInPage(index);
    page[word] = (page[word] ?? 0) & ~bit;
    if (page.every((bits) => bits === 0)) this.#pages.delete(number);
  }

  absentRun(first: number, count: number): number {
    const end = first + count;
    let index = first;
    while (index < end) {
      const within = index % PAGE_OBJECTS;
      const page = this.#pages.get((index - within) / PAGE_OBJECTS);
      if (page === undefined) {
        index += PAGE_OBJECTS - within;
        continue;
      }
      const bits = (page[Math.floor(within / WORD_BITS)] ?? 0) >>> (within % WORD_BITS);
      if (bits !== 0) {
        const lowest = bits & -bits;
        return Math.min(count, index + WORD_BITS - 1 - Math.clz32(lowest) - first);
      }
      index += WORD_BITS - (within % WORD_BITS);
    }
    return count;
  }
}

function placeInPage(index: number): { word: number; bit: number } {
  const within = index % PAGE_OBJECTS;
  return { word: Math.floor(within / WORD_BITS), bit: 1 << (within % WORD_BITS) };
}
