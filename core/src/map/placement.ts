/**
 * Which daemons should hold the groups of a pool. A pure function: the same input gives the same result on every
 * machine, in whatever order daemons are listed. It promises
 *
 * - never two copies of a group in one failure domain;
 * - each daemon near its share by weight, as far as failure domains allow it: within one copy in a new pool, within
 *   1/32 or one copy where data would have to move;
 * - whoever holds a group keeps it, unless it may not, or somebody is off its share by more than that. So a change of
 *   the cluster moves about what it must, and a second computation from the result of the first moves nothing.
 *
 * Weighted rendezvous hashing with bounded loads says who gets what nobody holds yet: the best scores that have room.
 * What is uneven then is evened out along shortest paths, first what costs nothing, then data.
 * @see Mirrokni, Thorup & Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018
 */
import type { Env } from '../env/env.js';
import { invariant } from '../util/invariant.js';
import { GROUPS_MAX, REPLICAS_MAX } from './map-limits.js';
import { Board, type BoardDaemon } from './placement-board.js';
import { level } from './placement-level.js';
import { orderMembers } from './placement-primaries.js';
import { groupSeed, placementScore } from './placement-score.js';
import { COPY, portion, sharesOf } from './placement-shares.js';
import { finish, finishInSlices, type Steps } from './placement-steps.js';
import type { FailureDomain, MapDaemon, MapPool } from './storage-map.js';

/** What placement wants to know of a daemon. */
export type Candidate = Pick<MapDaemon, 'id' | 'host' | 'rack' | 'weight' | 'membership'>;

/** A pool to be placed, and where it lies now. */
export interface PlacedPool extends Pick<MapPool, 'id' | 'replicas' | 'failureDomain'> {
  /**
   * For each group the ids of the daemons that hold it now: none in a new pool, more than `replicas` while some join
   * before others leave. Unknown ids are passed over.
   */
  readonly holders: readonly (readonly number[])[];
}

/** For each group the ids of the daemons that should hold it, the one preferred as primary first. */
export type Placement = readonly (readonly number[])[];

/** What daemons, by id, have beyond their shares in pools, in units of COPY. */
export interface Surplus {
  readonly copies: ReadonlyMap<number, number>;
  readonly primaries: ReadonlyMap<number, number>;
}

/** Off its share by this part of it, and data moves. */
const TOLERANCE_PART = 32;
/** What other pools did wrong is made good up to this part of a daemon's share, or one copy. */
const MAKE_GOOD_PART = 16;

/** For how long nothing else happens at a time. */
const SLICE_MS = 10;

const NONE: Surplus = { copies: new Map(), primaries: new Map() };

/**
 * Places one pool. Groups get fewer than `replicas` daemons if there are too few failure domains. A daemon that drains
 * keeps a group only then, because nobody else can have it; one that is out, or has weight 0, holds nothing.
 * @param surplus - Of other pools: what is too much there is too little here. See {@link placePools}.
 */
export function placePool(
  pool: PlacedPool,
  candidates: readonly Candidate[],
  surplus: Surplus = NONE,
): Placement {
  return finish(placeSteps(pool, new Bearers(candidates), surplus));
}

function* placeSteps(pool: PlacedPool, bearers: Bearers, surplus: Surplus): Steps<Placement> {
  const { id, replicas, failureDomain, holders } = pool;
  invariant(holders.length <= GROUPS_MAX, 'a pool has no more groups than there may be');
  invariant(replicas >= 1 && replicas <= REPLICAS_MAX, 'replicas are from 1 to 16');
  const { daemons, domains } = bearers.of(failureDomain);
  const shares = bearers.shares(pool, holders.length);
  const wanted = shares.map((share, at) => {
    const most = Math.max(COPY, Math.floor(share / MAKE_GOOD_PART));
    return share - clamp(surplus.copies.get(daemons[at]?.id ?? 0) ?? 0, most);
  });
  const numbers = new Map(daemons.map((daemon, at) => [daemon.id, at]));
  const kept: number[][] = [];
  for (const ids of holders) {
    const sorted = [...new Set(ids)].sort((a, b) => a - b);
    kept.push(sorted.flatMap((holder) => numbers.get(holder) ?? []));
    yield;
  }
  const board = new Board(id, daemons, wanted, kept);
  const count = Math.min(replicas, domains);
  for (const group of holders.keys()) {
    board.trim(group, count);
    yield;
  }
  for (const group of holders.keys()) {
    board.fill(group, count);
    yield;
  }
  yield* level(board.levelling(new Float64Array(daemons.length), { free: true }));
  const tolerance = shares.map((share) => Math.max(COPY, Math.floor(share / TOLERANCE_PART)));
  yield* level(board.levelling(tolerance, { free: false }));
  const lead = Float64Array.from(daemons, (daemon) => surplus.primaries.get(daemon.id) ?? 0);
  const ordered = yield* orderMembers(board, lead);
  const ids = ordered.map((members) => members.map((member) => daemons[member]?.id ?? 0));
  yield;
  const placement = keepDraining(pool, bearers.candidates, ids);
  yield;
  yield* checkDomains(placement, bearers.candidates, failureDomain);
  return placement;
}

/**
 * Places pools one after the other in the order of their ids, so that what cannot be even within each (1,000 daemons
 * have less than one copy each of a pool) is even over all of them.
 * @returns for each pool, in the order given
 */
export function placePools(
  pools: readonly PlacedPool[],
  candidates: readonly Candidate[],
): Placement[] {
  return finish(placeAllSteps(pools, candidates));
}

/**
 * As {@link placePools}, with the same result, and gives way: 100 new pools on 1,000 daemons take seconds, for which
 * leases and heartbeats do not wait. What it is given must not be changed meanwhile.
 * @param env - Of it the clock, and timers to wait.
 */
export async function placePoolsSliced(
  env: Pick<Env, 'clock' | 'timers'>,
  pools: readonly PlacedPool[],
  candidates: readonly Candidate[],
): Promise<Placement[]> {
  return finishInSlices(env, placeAllSteps(pools, candidates), SLICE_MS);
}

function* placeAllSteps(
  pools: readonly PlacedPool[],
  candidates: readonly Candidate[],
): Steps<Placement[]> {
  const bearers = new Bearers(candidates);
  const all = new SurplusSum(bearers);
  for (const pool of pools) {
    yield* all.add(pool, pool.holders, 1);
    yield;
  }
  const placements = new Map<PlacedPool, Placement>();
  for (const pool of pools.toSorted((a, b) => a.id - b.id)) {
    yield* all.add(pool, pool.holders, -1);
    const placement = yield* placeSteps(pool, bearers, all);
    yield* all.add(pool, placement, 1);
    placements.set(pool, placement);
  }
  return pools.map((pool) => placements.get(pool) ?? []);
}

/** The share of each daemon that may hold copies, by id, in units of COPY; for reports and tests. */
export function placementShares(
  pool: Pick<PlacedPool, 'replicas' | 'failureDomain'>,
  groups: number,
  candidates: readonly Candidate[],
): Map<number, number> {
  const bearers = new Bearers(candidates);
  const shares = bearers.shares(pool, groups);
  return new Map(bearers.of(pool.failureDomain).daemons.map(({ id }, at) => [id, shares[at] ?? 0]));
}

/** Who may hold copies and how many: the same for all pools of a kind. */
class Bearers {
  readonly candidates: readonly Candidate[];
  readonly #byDomain = new Map<FailureDomain, { daemons: BoardDaemon[]; domains: number }>();
  readonly #shares = new Map<string, Float64Array>();

  constructor(candidates: readonly Candidate[]) {
    this.candidates = candidates;
  }

  of(failureDomain: FailureDomain): { daemons: readonly BoardDaemon[]; domains: number } {
    const found = this.#byDomain.get(failureDomain) ?? bearersOf(this.candidates, failureDomain);
    this.#byDomain.set(failureDomain, found);
    return found;
  }

  /** Of the daemons of the same failure domain, in their order; not to be changed. */
  shares(
    { replicas, failureDomain }: Pick<PlacedPool, 'replicas' | 'failureDomain'>,
    groups: number,
  ): Float64Array {
    const key = `${groups} ${replicas} ${failureDomain}`;
    const { daemons, domains } = this.of(failureDomain);
    const shares = this.#shares.get(key) ?? sharesOf(groups, replicas, daemons, domains);
    this.#shares.set(key, shares);
    return shares;
  }
}

class SurplusSum implements Surplus {
  readonly copies = new Map<number, number>();
  readonly primaries = new Map<number, number>();
  readonly #bearers: Bearers;

  constructor(bearers: Bearers) {
    this.#bearers = bearers;
  }

  /** Adds what daemons have beyond their part of the copies that there are. */
  *add(pool: PlacedPool, placement: Placement, sign: 1 | -1): Steps<void> {
    if (placement.every((group) => group.length === 0)) return;
    const units = this.#bearers.shares(pool, placement.length);
    const { daemons } = this.#bearers.of(pool.failureDomain);
    const shares = new Map(daemons.map(({ id }, at) => [id, units[at] ?? 0]));
    let [copies, led] = [0, 0];
    for (const group of placement) {
      const members = group.filter((id) => shares.has(id));
      for (const [at, id] of members.entries()) {
        addTo(this.copies, id, sign * COPY);
        addTo(
          this.primaries,
          id,
          sign * ((at === 0 ? COPY : 0) - Math.floor(COPY / members.length)),
        );
      }
      copies += members.length;
      led += members.length === 0 ? 0 : 1;
      yield;
    }
    if (led === 0) return;
    let all = 0;
    for (const share of shares.values()) all += share;
    const allCopies = Math.max(1, Math.round(all / COPY));
    for (const [id, share] of shares)
      addTo(this.copies, id, -sign * portion(share, copies, allCopies));
  }
}

function addTo(sums: Map<number, number>, id: number, units: number): void {
  sums.set(id, (sums.get(id) ?? 0) + units);
}

function clamp(value: number, most: number): number {
  return Math.max(-most, Math.min(most, value));
}

function bearersOf(
  candidates: readonly Candidate[],
  failureDomain: FailureDomain,
): { daemons: BoardDaemon[]; domains: number } {
  const labels = new Map<string, number>();
  const daemons = candidates
    .filter(({ membership, weight }) => membership === 'in' && weight > 0)
    .sort((a, b) => a.id - b.id)
    .map((candidate) => {
      const label = labelOf(candidate, failureDomain);
      const domain = labels.get(label) ?? labels.size;
      labels.set(label, domain);
      return { id: candidate.id, weight: candidate.weight, domain };
    });
  return { daemons, domains: labels.size };
}

function labelOf(candidate: Candidate, failureDomain: FailureDomain): string {
  return failureDomain === 'disk' ? String(candidate.id) : candidate[failureDomain];
}

/** Adds those who drain to groups that have nobody else to go to. */
function keepDraining(
  { id, replicas, failureDomain, holders }: PlacedPool,
  candidates: readonly Candidate[],
  placement: Placement,
): Placement {
  const draining = new Map(
    candidates.filter(({ membership }) => membership === 'draining').map((one) => [one.id, one]),
  );
  if (draining.size === 0) return placement;
  const labels = new Map(candidates.map((one) => [one.id, labelOf(one, failureDomain)]));
  return placement.map((members, group) => {
    const leaving = (holders[group] ?? []).flatMap((holder) => draining.get(holder) ?? []);
    if (members.length >= replicas || leaving.length === 0) return members;
    const seed = groupSeed(id, group);
    const scoreOf = (one: Candidate): number =>
      placementScore(seed, one.id, Math.max(1, one.weight));
    const taken = new Set(members.map((member) => labels.get(member)));
    const all = [...members];
    for (const one of leaving.sort((a, b) => scoreOf(a) - scoreOf(b) || a.id - b.id)) {
      const label = labels.get(one.id);
      if (all.length >= replicas || taken.has(label)) continue;
      taken.add(label);
      all.push(one.id);
    }
    return all;
  });
}

function* checkDomains(
  placement: Placement,
  candidates: readonly Candidate[],
  failureDomain: FailureDomain,
): Steps<void> {
  const labels = new Map(candidates.map((one) => [one.id, labelOf(one, failureDomain)]));
  for (const members of placement) {
    const taken = new Set(members.map((member) => labels.get(member)));
    invariant(taken.size === members.length, 'no two copies of a group are in one failure domain');
    yield;
  }
}
