/**
 * Since when members of groups are not in sync: an operator wants to know that before a group goes on with the copy of one.
 * It follows from each change of the map, whoever decides it, and is of no use to daemons and clients: it is not in the map.
 */
import type { MapGroup, MapPool } from '@store/core';
import type { ClusterState, MemberBehind } from './cluster-state.js';
import { inSyncOf, memberOf } from './group-changes.js';

/**
 * As many are remembered, those that were first: no change of the map may ever be too long to be written down because of
 * something that is only good to know.
 */
export const BEHIND_MAX = 4096;

/**
 * `next` with what its map says of members that left the in-sync set, or came back.
 * @param before - The state that `next` was made from.
 * @param time - Seconds since 1970.
 */
export function noteBehind(before: ClusterState, next: ClusterState, time: number): ClusterState {
  if (next.map.pools === before.map.pools) return next;
  const now = new Map(next.map.pools.map((pool) => [pool.id, pool]));
  const stayed = next.behind.filter(({ pool, group, daemon }) =>
    isBehind(now.get(pool)?.groups[group], daemon),
  );
  const changed = before.map.pools.flatMap((pool) => changedGroups(pool, now.get(pool.id)));
  const left = changed.flatMap((change) => leftBy(change, time));
  const noted = changed
    .filter(isGivenUp)
    .reduce((behind, change) => asOldAs(behind, change, before), [...stayed, ...left]);
  if (left.length === 0 && noted.length === next.behind.length) return next;
  return { ...next, behind: noted.slice(0, BEHIND_MAX) };
}

const byMember = new WeakMap<readonly MemberBehind[], ReadonlyMap<string, number>>();

/** Seconds since 1970; null: it is in sync, or nobody has noted since when it is not. Found at once. */
export function behindSince(
  { behind }: ClusterState,
  { pool, group, daemon }: Pick<MemberBehind, 'pool' | 'group' | 'daemon'>,
): number | null {
  let known = byMember.get(behind);
  if (known === undefined) {
    known = new Map(
      behind.map((one) => [`${one.pool}/${one.group}/${one.daemon}`, one.since] as const),
    );
    byMember.set(behind, known);
  }
  return known.get(`${pool}/${group}/${daemon}`) ?? null;
}

interface GroupChange {
  readonly pool: number;
  readonly group: number;
  readonly old: MapGroup;
  readonly next: MapGroup;
}

function changedGroups(old: MapPool, pool: MapPool | undefined): GroupChange[] {
  if (pool === undefined || pool.groups === old.groups) return [];
  return old.groups.flatMap((group, index): GroupChange[] => {
    const next = pool.groups[index];
    if (next === undefined || next === group) return [];
    return [{ pool: old.id, group: index, old: group, next }];
  });
}

/** Members that were in sync and are not any more. */
function leftBy({ pool, group, old, next }: GroupChange, time: number): MemberBehind[] {
  return inSyncOf(old)
    .filter(({ daemon }) => isBehind(next, daemon))
    .map(({ daemon }) => ({ pool, group, daemon, since: time }));
}

/** An operator had the group go on with a copy that was not in sync. */
function isGivenUp({ old, next }: GroupChange): boolean {
  return next.givenUpAt > old.givenUpAt;
}

/**
 * What the new copy lacks is overwritten on the others as they join it: they lack it then as well. What it lacks since
 * nobody knows when, they do.
 */
function asOldAs(
  behind: readonly MemberBehind[],
  { pool, group, next }: GroupChange,
  before: ClusterState,
): MemberBehind[] {
  const [goesOn] = inSyncOf(next);
  const since = behindSince(before, { pool, group, daemon: goesOn?.daemon ?? 0 });
  return behind.flatMap((one) => {
    if (one.pool !== pool || one.group !== group) return [one];
    return since === null ? [] : [{ ...one, since: Math.min(one.since, since) }];
  });
}

/** A member that is not in sync. */
function isBehind(group: MapGroup | undefined, daemon: number): boolean {
  return group !== undefined && memberOf(group, daemon)?.inSync === null;
}
