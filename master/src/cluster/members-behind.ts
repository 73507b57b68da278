/**
 * Since when members of groups are not in sync: an operator wants to know that before a group goes on with the copy of one.
 * It follows from each change of the map, whoever decides it, and is of no use to daemons and clients: it is not in the map.
 */
import type { MapGroup, MapPool } from '@store/core';
import type { ClusterState, MemberBehind } from './cluster-state.js';
import { memberOf } from './group-changes.js';

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
  const now = byId(next.map.pools);
  const stayed = next.behind.filter(({ pool, group, daemon }) =>
    isBehind(now.get(pool)?.groups[group], daemon),
  );
  const left = before.map.pools.flatMap((pool) => leftIn(pool, now.get(pool.id), time));
  if (left.length === 0 && stayed.length === next.behind.length) return next;
  return { ...next, behind: [...stayed, ...left].slice(0, BEHIND_MAX) };
}

/** Seconds since 1970; null: it is in sync, never was, or nobody knows. */
export function behindSince(
  { behind }: ClusterState,
  member: Pick<MemberBehind, 'pool' | 'group' | 'daemon'>,
): number | null {
  const found = behind.find(
    ({ pool, group, daemon }) =>
      pool === member.pool && group === member.group && daemon === member.daemon,
  );
  return found?.since ?? null;
}

/** Members that were in sync and are not any more. */
function leftIn(old: MapPool, pool: MapPool | undefined, time: number): MemberBehind[] {
  if (pool === undefined || pool.groups === old.groups) return [];
  return old.groups.flatMap((group, index) => {
    const next = pool.groups[index];
    if (next === group) return [];
    return group.members
      .filter(({ daemon, inSync }) => inSync !== null && isBehind(next, daemon))
      .map(({ daemon }) => ({ pool: old.id, group: index, daemon, since: time }));
  });
}

/** A member that is not in sync. */
function isBehind(group: MapGroup | undefined, daemon: number): boolean {
  return group !== undefined && memberOf(group, daemon)?.inSync === null;
}

function byId(pools: readonly MapPool[]): ReadonlyMap<number, MapPool> {
  return new Map(pools.map((pool) => [pool.id, pool]));
}
