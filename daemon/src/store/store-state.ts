/** What the daemon tells of a store in its metrics. */
import { messageOf, type DiskSpace } from '@store/core';
import type { Engine, EngineCounters } from './engine.js';
import type { ObjectTable } from './object-table.js';
import type { OpenSet } from './open-set.js';
import type { ParkedWrites } from './parked-writes.js';

/** What a store does and holds at a moment. */
export interface StoreState {
  /** What happened since the start; a copy. */
  readonly counters: EngineCounters;
  /** Objects that are open or changed: after a crash what is open in them cannot be verified. */
  readonly openObjects: number;
  /** Objects kept in memory. */
  readonly cachedObjects: number;
  /** Writes that were answered and are not in their place yet. */
  readonly parkedWrites: number;
  readonly parkedBytes: number;
  /** Written, and not covered by a sync that has begun. */
  readonly dirtyBytes: number;
  /** Of the file system; null if it does not say, or the store is closed. */
  readonly space: DiskSpace | null;
  /** The disk failed: nothing is served. */
  readonly hasFailed: boolean;
}

/** The state of a store of these parts now. */
export function stateOf(parts: {
  readonly engine: Engine;
  readonly openSet: OpenSet;
  readonly parked: ParkedWrites;
  readonly table: ObjectTable;
}): StoreState {
  const { engine, openSet, parked, table } = parts;
  return {
    counters: { ...engine.counters },
    openObjects: openSet.count,
    cachedObjects: table.count,
    parkedWrites: parked.count,
    parkedBytes: parked.bytes,
    dirtyBytes: engine.sync.dirtyBytes,
    space: spaceOf(engine),
    hasFailed: engine.failure?.code === 'E_DISK_FAILED',
  };
}

/** A disk that has failed may not even tell its size. */
function spaceOf(engine: Engine): DiskSpace | null {
  if (engine.isClosed) return null;
  try {
    return engine.disk.space();
  } catch (error) {
    engine.log.debug({ path: engine.disk.path }, `The free space is unknown: ${messageOf(error)}`);
    return null;
  }
}
