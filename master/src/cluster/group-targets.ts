/**
 * Where placement wants the groups of each pool. Computed when daemons or pools have become others, from where the groups
 * lie then, and kept until they do again: what is half way there must not be weighed anew, or moves might follow moves
 * without end.
 */
import {
  placePools,
  placePoolsSliced,
  groupSeed,
  placementScore,
  type Env,
  type FailureDomain,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type PlacedPool,
  type Placement,
} from '@store/core';
import type { ClusterState } from './cluster-state.js';
import { daemonIn, memberOf } from './group-changes.js';
import type { RosterView } from './roster-view.js';

/**
 * Daemons as placement sees them now: one that is away for too long is out, and one that never came is none. If more than
 * half are away, it is rather this master who is, or the power: none of them is out then, and nothing is copied.
 */
export function presentDaemons(
  { map }: ClusterState,
  view: RosterView,
  { now, downOutMs }: { now: number; downOutMs: number },
): MapDaemon[] {
  const known = map.daemons.filter(({ startId }) => startId !== null);
  const inside = known.filter(({ membership }) => membership === 'in');
  const away = new Set(inside.filter(({ id }) => view.startOf(id) === null));
  if (away.size * 2 > inside.length) return known;
  return known.map((daemon) =>
    away.has(daemon) && now - view.sinceOf(daemon.id) >= downOutMs
      ? { ...daemon, membership: 'out' as const }
      : daemon,
  );
}

export class GroupTargets {
  #signature = '';
  #byPool: ReadonlyMap<number, Placement> = new Map();

  /** Undefined: it is not known yet. */
  of(pool: number): Placement | undefined {
    return this.#byPool.get(pool);
  }

  /** Computes anew if daemons or pools are others. */
  refresh(state: ClusterState, daemons: readonly MapDaemon[]): void {
    const signature = signatureOf(state, daemons);
    if (signature === this.#signature) return;
    const pools = placedPools(state);
    this.#set(signature, pools, placePools(pools, daemons));
  }

  /** As `refresh`, and gives way to others meanwhile. */
  async refreshSliced(
    env: Pick<Env, 'clock' | 'timers'>,
    state: ClusterState,
    daemons: readonly MapDaemon[],
  ): Promise<void> {
    const signature = signatureOf(state, daemons);
    if (signature === this.#signature) return;
    const pools = placedPools(state);
    this.#set(signature, pools, await placePoolsSliced(env, pools, daemons));
  }

  #set(signature: string, pools: readonly PlacedPool[], placements: readonly Placement[]): void {
    this.#signature = signature;
    this.#byPool = new Map(pools.map(({ id }, index) => [id, placements[index] ?? []]));
  }
}

/** What of a state decides where things belong. */
function signatureOf({ map }: ClusterState, daemons: readonly MapDaemon[]): string {
  return JSON.stringify([
    daemons.map(({ id, host, rack, weight, membership }) => [id, host, rack, weight, membership]),
    map.pools.map(({ id, replicas, failureDomain }) => [id, replicas, failureDomain]),
  ]);
}

function placedPools({ map }: ClusterState): PlacedPool[] {
  return map.pools.map(({ id, replicas, failureDomain, groups }) => ({
    id,
    replicas,
    failureDomain,
    holders: groups.map(({ members }) => members.map(({ daemon }) => daemon)),
  }));
}

/**
 * Who should hold a group as things stand: its target, but that a full disk is given nothing new. In its place comes
 * who holds the group already, or who would come next.
 */
export function stand(
  group: MapGroup,
  target: readonly number[],
  { pool, state, view }: { pool: MapPool; state: ClusterState; view: RosterView },
): readonly number[] {
  const isBlocked = (daemon: number): boolean =>
    view.isFull(daemon) && (memberOf(group, daemon)?.inSync ?? null) === null;
  // A removed daemon may be named by a target that is about to be computed anew.
  const known = target.filter((daemon) => daemonIn(state, daemon) !== undefined);
  if (!known.some(isBlocked)) return known;
  const chosen = known.filter((daemon) => !isBlocked(daemon));
  const taken = new Set(chosen.map((daemon) => domainOf(state, daemon, pool.failureDomain)));
  for (const daemon of [...holders(group, state), ...bearers(group, pool, { state, view })]) {
    if (chosen.length === known.length) break;
    const domain = domainOf(state, daemon, pool.failureDomain);
    if (known.includes(daemon) || taken.has(domain)) continue;
    taken.add(domain);
    chosen.push(daemon);
  }
  // Nobody else has room: it waits.
  return [...chosen, ...known.filter(isBlocked).slice(0, known.length - chosen.length)];
}

/** Members in sync that may keep what they have. */
function holders({ members }: MapGroup, state: ClusterState): number[] {
  return members
    .filter(({ inSync }) => inSync !== null)
    .map(({ daemon }) => daemon)
    .filter((daemon) => daemonIn(state, daemon)?.membership === 'in');
}

/** Daemons with room, those that join already first, and then as placement would take them. */
function bearers(
  group: MapGroup,
  pool: MapPool,
  { state, view }: { state: ClusterState; view: RosterView },
): number[] {
  const seed = groupSeed(pool.id, pool.groups.indexOf(group));
  return state.map.daemons
    .filter(
      ({ id, membership, weight }) =>
        membership === 'in' && weight > 0 && view.startOf(id) !== null && !view.isFull(id),
    )
    .map(({ id, weight }) => ({
      id,
      isMember: memberOf(group, id) !== undefined,
      score: placementScore(seed, id, weight),
    }))
    .sort((a, b) => Number(b.isMember) - Number(a.isMember) || a.score - b.score || a.id - b.id)
    .map(({ id }) => id);
}

function domainOf(state: ClusterState, id: number, failureDomain: FailureDomain): string {
  const daemon = daemonIn(state, id);
  return failureDomain === 'disk' || daemon === undefined ? String(id) : daemon[failureDomain];
}
