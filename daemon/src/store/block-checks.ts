/** Checksums of an object's blocks, in chunks of 256 as they are stored; only the chunks that are used take memory. */
import { invariant } from '@store/core';
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

/** Turns checksums of the bytes of blocks, from `first` on, into those that are stored, in place. */
export function bindChecks(
  object: { blockTweak(block: number): number },
  first: number,
  checks: Uint32Array,
): Uint32Array {
  for (let index = 0; index < checks.length; index += 1)
    checks[index] = (checks[index] ?? 0) ^ object.blockTweak(first + index);
  return checks;
}
