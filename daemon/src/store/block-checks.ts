/** Checksums of an object's blocks, in chunks of 256 as they are stored; only the chunks that are used take memory. */
import { BLOCK_BYTES, crc32c, crc32cOf, invariant, type ByteParts } from '@store/core';
import { BLOCKS_PER_CHUNK, CHUNKS_PER_OBJECT } from './format.js';

export class BlockChecks {
  readonly #chunks: (Uint32Array | null)[] = Array.from({ length: CHUNKS_PER_OBJECT }, () => null);

  isLoaded(chunk: number): boolean {
    return this.#chunks[chunk] !== null;
  }

  /** Takes over the checksums of a chunk. */
  load(chunk: number, checks: Uint32Array): void {
    this.#chunks[chunk] = checks;
  }

  /** Undefined if the chunk is not in memory. */
  get(block: number): number | undefined {
    return this.#chunks[(block / BLOCKS_PER_CHUNK) | 0]?.[block % BLOCKS_PER_CHUNK];
  }

  set(block: number, check: number): void {
    const chunk = this.#chunks[Math.floor(block / BLOCKS_PER_CHUNK)] ?? null;
    invariant(chunk !== null, 'checksums are in memory before one of them changes');
    chunk[block % BLOCKS_PER_CHUNK] = check;
  }

  clear(): void {
    this.#chunks.fill(null);
  }
}

/** Stored checksums of blocks `first..last`, whose bytes are `blocks` one after the other. */
export function checksOf(
  object: { blockTweak(block: number): number },
  first: number,
  last: number,
  blocks: ByteParts,
): Uint32Array {
  const checks = new Uint32Array(last - first + 1);
  let block = 0;
  let filled = 0;
  let sum = 0;
  for (const part of blocks) {
    for (let at = 0; at < part.length;) {
      const take = Math.min(part.length - at, BLOCK_BYTES - filled);
      if (take === BLOCK_BYTES) sum = crc32cOf(part, at, at + take);
      else sum = crc32c(take === part.length ? part : part.subarray(at, at + take), sum);
      at += take;
      filled += take;
      if (filled === BLOCK_BYTES) {
        checks[block] = (sum ^ object.blockTweak(first + block)) >>> 0;
        block += 1;
        filled = 0;
        sum = 0;
      }
    }
  }
  return checks;
}
