/**
 * What the leader does for groups by itself, about once a second and when daemons come or go. A pure function from one
 * state to the next, a step for each group at a time:
 *
 * 1. Starts that are over leave the set if another one of it is alive. If none is, somebody of the set that is back is
 *    promoted: who lost nothing as soon as it is certain that nobody else serves, and after a while whoever there is, with the
 *    loss noted.
 * 2. A group whose primary is there gets the members that placement wants for it, to join; a few at a time for each
 *    daemon and pool. A daemon that has been away for ten minutes counts as out, one that is full gets nothing new.
 * 3. When all that are wanted are in sync and there, the others leave: never before.
 * 4. The primary moves to where placement wants it when nothing else is to be done, a few at a time. The old one stays in
 *    sync for a while: the new one hears from it before it serves.
 *
 * All of it is in the map, so whoever leads next goes on with it. What placement wants comes from `GroupTargets`: it
 * stays the same while daemons and pools do, so that each step leads towards it and the last one has nothing to follow.
 */
import { MEMBERS_MAX, type MapGroup, type MapMember, type MapPool } from '@store/core';
import type { ClusterState } from './cluster-state.js';
import { hasLostSince, isStale, promoted, withoutStale } from './decide-groups.js';
import {
  changeGroups,
  daemonIn,
  inSyncOf,
  memberOf,
  nextGroup,
  primaryFirst,
  primaryOf,
} from './group-changes.js';
import { stand, type GroupTargets } from './group-targets.js';
import { aliveIn, type RosterView } from './roster-view.js';

export interface TendLimits {
  /** Rule 7: so long a member that lost nothing is waited for. */
  readonly waitForMemberMs: number;
  /** Whoever has a lease of a start that is over has it no more after so long. */
  readonly leaseOverMs: number;
  /** Who has been away for so long is replaced. */
  readonly downOutMs: number;
  /** Groups of one pool that one daemon is given to join at a time. */
  readonly joinsMax: number;
  /** Primaries that move in one round. */
  readonly primaryMovesMax: number;
  /** After a primary moved its group is left alone for so long: the old one is needed until the new one serves. */
  readonly settleMs: number;
}

export const TEND_LIMITS: TendLimits = {
  waitForMemberMs: 30_000,
  leaseOverMs: 5000,
  downOutMs: 600_000,
  joinsMax: 2,
  primaryMovesMax: 4,
  settleMs: 5000,
};

/** What the one who tends remembers between two rounds. Forgetting it costs time, and nothing else. */
export interface TendMemory {
  /** When this began: primaries may have moved just before. */
  readonly since: number;
  /** What placement wants. */
  readonly targets: GroupTargets;
  /** When primaries were moved, by `pool/group`. */
  readonly movedAt: Map<string, number>;
}

interface Round {
  readonly state: ClusterState;
  readonly view: RosterView;
  readonly now: number;
  readonly limits: TendLimits;
  readonly memory: TendMemory;
  /** Groups that join, by `daemon/pool`. */
  readonly joins: Map<string, number>;
  primaryMoves: number;
}

/**
 * One round.
 * @param now - Monotonic milliseconds, as those of the view.
 * @returns the same state if nothing is to be done
 */
export function tendGroups(
  state: ClusterState,
  view: RosterView,
  now: number,
  memory: TendMemory,
  limits: TendLimits = TEND_LIMITS,
): ClusterState {
  const joins = joinsIn(state, view);
  const round = { state, view, now, limits, memory, joins, primaryMoves: 0 };
  const poolOf = new Map(state.map.pools.map((pool) => [pool.id, pool]));
  return changeGroups(state, (group, place) => {
    const settled = settle(group, round);
    if (settled !== group) return settled;
    const pool = poolOf.get(place.pool);
    const target = memory.targets.of(place.pool)?.[place.group];
    if (pool === undefined || target === undefined) return group;
    return towards(group, target, { pool, key: `${place.pool}/${place.group}`, round });
  });
}

/** Rule 7, and what goes before it. */
function settle(group: MapGroup, { state, view, now, limits }: Round): MapGroup {
  const inSync = inSyncOf(group);
  const over = inSync.filter((member) => isStale(state, member));
  if (over.length === 0) return group;
  const isAlive = aliveIn(view);
  const without = withoutStale(state, group, isAlive);
  if (without !== group) return without;
  if (inSync.some((member) => member.inSync !== null && isAlive(member.daemon, member.inSync)))
    return group;
  const back = over.filter(
    ({ daemon }) =>
      view.startOf(daemon) !== null && view.startOf(daemon) === daemonIn(state, daemon)?.startId,
  );
  const [first] = back;
  if (first === undefined) return group;
  // Those that are not certainly over may still serve by leases of the others, until these have run out.
  const areAllOver = over.length === inSync.length;
  const backForMs = ({ daemon }: MapMember): number => now - view.sinceOf(daemon);
  const clean = back.find(
    (member) =>
      !hasLostSince(state, member) && (areAllOver || backForMs(member) >= limits.leaseOverMs),
  );
  if (clean !== undefined) return promoted(state, group, clean);
  if (back.some((member) => !hasLostSince(state, member))) return group; // in a moment
  const waitedMs = Math.max(...back.map(backForMs));
  const waitMs = Math.max(limits.waitForMemberMs, areAllOver ? 0 : limits.leaseOverMs);
  if (back.length < inSync.length && waitedMs < waitMs) return group;
  return promoted(state, group, first);
}

/** The next step of a group to where placement wants it. */
function towards(
  group: MapGroup,
  target: readonly number[],
  { pool, key, round }: { pool: MapPool; key: string; round: Round },
): MapGroup {
  const { view, now, limits, memory } = round;
  const isAlive = aliveIn(view);
  const isThere = ({ daemon, inSync }: MapMember): boolean =>
    inSync !== null && isAlive(daemon, inSync);
  const primary = primaryOf(group);
  if (primary === null || !isThere(primary)) return group;
  const wanted = stand(group, target, { pool, state: round.state, view });
  const missing = wanted.filter((daemon) => memberOf(group, daemon) === undefined);
  const room = MEMBERS_MAX - group.members.length;
  const coming = missing.slice(0, room).filter((daemon) => mayJoin(daemon, pool.id, round));
  if (coming.length > 0)
    return nextGroup(group, [
      ...group.members,
      ...coming.map((daemon) => ({ daemon, inSync: null })),
    ]);
  if (now - (memory.movedAt.get(key) ?? memory.since) < limits.settleMs) return group;
  memory.movedAt.delete(key);
  // With fewer places than replicas whoever is not wanted may be so only because others are away: it stays, unless
  // somebody has said otherwise.
  const surplus = group.members.filter(
    ({ daemon }) =>
      !wanted.includes(daemon) &&
      (wanted.length >= pool.replicas || !isInside(round.state, daemon)),
  );
  const areWantedThere =
    wanted.length > 0 &&
    wanted.every((daemon) => {
      const member = memberOf(group, daemon);
      return member !== undefined && isThere(member);
    });
  if (!areWantedThere) {
    // Who only joins and is not wanted goes at once: it adds nothing to what is safe.
    const idle = surplus.filter(({ inSync }) => inSync === null);
    return idle.length === 0 ? group : nextGroup(group, without(group.members, idle));
  }
  if (surplus.some(({ daemon }) => daemon !== primary.daemon)) {
    const leaving = surplus.filter(({ daemon }) => daemon !== primary.daemon);
    return nextGroup(group, without(group.members, leaving));
  }
  const [first] = wanted;
  if (first === undefined || first === primary.daemon) return group;
  if (round.primaryMoves >= limits.primaryMovesMax) return group;
  round.primaryMoves += 1;
  memory.movedAt.set(key, now);
  return nextGroup(group, primaryFirst(group.members, first));
}

function isInside(state: ClusterState, id: number): boolean {
  const daemon = daemonIn(state, id);
  return daemon !== undefined && daemon.membership === 'in' && daemon.weight > 0;
}

/** Whether a daemon can be given one more group of a pool to join; if so it is counted. */
function mayJoin(daemon: number, pool: number, { state, view, limits, joins }: Round): boolean {
  const start = view.startOf(daemon);
  if (start === null || start !== daemonIn(state, daemon)?.startId || view.isFull(daemon))
    return false;
  const key = `${daemon}/${pool}`;
  const count = joins.get(key) ?? 0;
  if (count >= limits.joinsMax) return false;
  joins.set(key, count + 1);
  return true;
}

/** What daemons that are there have to join already. */
function joinsIn({ map }: ClusterState, view: RosterView): Map<string, number> {
  const joins = new Map<string, number>();
  for (const { id, groups } of map.pools)
    for (const { members } of groups)
      for (const { daemon, inSync } of members) {
        if (inSync !== null || view.startOf(daemon) === null) continue;
        const key = `${daemon}/${id}`;
        joins.set(key, (joins.get(key) ?? 0) + 1);
      }
  return joins;
}

function without(members: readonly MapMember[], leaving: readonly MapMember[]): MapMember[] {
  return members.filter((member) => !leaving.includes(member));
}
