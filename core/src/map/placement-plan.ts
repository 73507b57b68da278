import { invariant } from '../util/invariant.js';
import type { Placement } from './placement.js';

/** What a change of placement brings to one daemon, or takes from it. */
export interface PlannedDaemon {
  readonly daemon: number;
  /** Copies that it has now, and that it should have. */
  readonly copiesBefore: number;
  readonly copiesAfter: number;
  /** Copies of groups that it does not have now. */
  readonly copiesIn: number;
  /** Copies of groups that it should have no more. */
  readonly copiesOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** What a change of placement moves. */
export interface PlacementPlan {
  /** Those that have or should have anything, in the order of their ids. */
  readonly daemons: readonly PlannedDaemon[];
  /** Copies that somebody must be sent. */
  readonly copiesMoved: number;
  /** Null: sizes were not given. */
  readonly bytesMoved: number | null;
  /** Groups that change who holds them; another order alone is no change. */
  readonly groupsChanged: number;
}

type Counts = { -readonly [field in keyof PlannedDaemon]: PlannedDaemon[field] };

/**
 * Compares two placements of one pool.
 * @param before - Who holds each group now.
 * @param after - Who should; as many groups.
 * @param groupBytes - Of each group, the bytes of one copy. Without it all bytes are 0.
 */
export function planPlacement(
  before: Placement,
  after: Placement,
  groupBytes?: readonly number[],
): PlacementPlan {
  invariant(before.length === after.length, 'the placements are of one pool');
  invariant(
    groupBytes?.length === undefined || groupBytes.length === after.length,
    'every group has a size',
  );
  const byId = new Map<number, Counts>();
  let [copiesMoved, bytesMoved, groupsChanged] = [0, 0, 0];
  for (const [group, target] of after.entries()) {
    const source = before[group] ?? [];
    const bytes = groupBytes?.[group] ?? 0;
    for (const daemon of source) countsOf(byId, daemon).copiesBefore += 1;
    for (const daemon of target) countsOf(byId, daemon).copiesAfter += 1;
    const [coming, going] = [without(target, source), without(source, target)];
    for (const daemon of coming) {
      const counts = countsOf(byId, daemon);
      counts.copiesIn += 1;
      counts.bytesIn += bytes;
    }
    for (const daemon of going) {
      const counts = countsOf(byId, daemon);
      counts.copiesOut += 1;
      counts.bytesOut += bytes;
    }
    copiesMoved += coming.length;
    bytesMoved += coming.length * bytes;
    if (coming.length + going.length > 0) groupsChanged += 1;
  }
  return {
    daemons: [...byId.values()].sort((a, b) => a.daemon - b.daemon),
    copiesMoved,
    bytesMoved: groupBytes === undefined ? null : bytesMoved,
    groupsChanged,
  };
}

function without(list: readonly number[], others: readonly number[]): number[] {
  return list.filter((daemon) => !others.includes(daemon));
}

function countsOf(byId: Map<number, Counts>, daemon: number): Counts {
  const found = byId.get(daemon);
  if (found !== undefined) return found;
  const [copiesBefore, copiesAfter, copiesIn, copiesOut] = [0, 0, 0, 0];
  const fresh = { daemon, copiesBefore, copiesAfter, copiesIn, copiesOut, bytesIn: 0, bytesOut: 0 };
  byId.set(daemon, fresh);
  return fresh;
}
