/** What a copy of a group holds, whether it is in sync or not: for a person who has to decide whether to go on with it. */
import {
  LAYERS_TOLD_MAX,
  OBJECT_KIND,
  splitDataKey,
  type CopyContents,
  type Env,
} from '@store/core';
import type { HashRange, ReplicaPool } from '../replication/replica-pool.js';
import { pagesOf } from './list-pages.js';

/** Whoever asks does not wait for longer. */
const LOOK_MS = 2000;

/** @param range - Hashes of the group. */
export async function copyContents(
  pool: Pick<ReplicaPool, 'listIn'>,
  range: HashRange,
  { clock, timers }: Pick<Env, 'clock' | 'timers'>,
): Promise<CopyContents> {
  const deadline = clock.now() + LOOK_MS;
  let isAll = true;
  let [objects, usedBytes, otherObjects] = [0, 0, 0];
  const layers = new Map<string, number>();
  for await (const page of pagesOf((options) => pool.listIn([range], options), timers)) {
    isAll = clock.now() < deadline;
    if (!isAll) break;
    for (const { key, stat } of page) {
      objects += 1;
      usedBytes += stat.allocatedBytes;
      const layer = stat.kind === OBJECT_KIND.imageData ? layerOf(key) : null;
      if (layer === null) otherObjects += 1;
      else layers.set(layer, (layers.get(layer) ?? 0) + 1);
    }
  }
  const parts = [...layers]
    .map(([layer, count]) => ({ layer, objects: count }))
    .sort((a, b) => b.objects - a.objects);
  const told = parts.slice(0, LAYERS_TOLD_MAX);
  const moreLayers = parts.length - told.length;
  return { objects, usedBytes, isAll, otherObjects, layers: told, moreLayers };
}

function layerOf(key: Buffer): string | null {
  return splitDataKey(key.toString('latin1'))?.prefix.slice(0, -1) ?? null;
}
