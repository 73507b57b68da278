/** What a member has made and others may not have: objects, and blocks of them. */
import { OBJECT_KIND } from '@store/core';
import { EVERY_BLOCK } from './change.js';
import type { TailEntry } from './peer-message.js';

/**
 * One entry for each object, with the smallest run that has all its blocks in it; all of it unless it is image data: whether
 * it exists is in question then. A change of no blocks, which is about version and length, stands for its first one.
 */
export function mergeTails(entries: readonly TailEntry[]): TailEntry[] {
  const merged = new Map<string, TailEntry>();
  for (const { object, first, last } of entries) {
    const known = merged.get(object.place);
    const isWhole = object.kind !== OBJECT_KIND.imageData;
    merged.set(object.place, {
      object,
      first: isWhole ? EVERY_BLOCK.first : Math.min(first, known?.first ?? first),
      last: isWhole ? EVERY_BLOCK.last : Math.max(first, last, known?.last ?? last),
    });
  }
  return [...merged.values()];
}
