import type { BlockState, Extent } from './object-pool.js';

/** Joins neighbours of equal state. */
export function mergeExtents(extents: readonly Extent[]): Extent[] {
  const merged: { bytes: number; state: BlockState }[] = [];
  for (const { bytes, state } of extents) {
    const last = merged.at(-1);
    if (last?.state === state) last.bytes += bytes;
    else merged.push({ bytes, state });
  }
  return merged;
}
