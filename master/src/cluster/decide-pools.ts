/** Decisions about pools: pure functions from one state of the cluster to the next. */
import {
  checkPoolName,
  OBJECT_BYTES,
  PoolSecret,
  REPLICAS_MAX,
  StoreError,
  type FailureDomain,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type Random,
  type StorageMap,
} from '@store/core';
import type { PoolSettings } from '../admin/admin-service.js';
import { withEntry, type ClusterState } from './cluster-state.js';
import { isBearer, placeUnplaced } from './decide-daemons.js';
import type { IsAlive } from './roster-view.js';

const GROUPS_DEFAULT = 128;
const GROUPS_MAX = 65_536;
/** As many copies as a pool has if nobody says how many, and there are daemons for them. */
export const REPLICAS_DEFAULT = 3;
const MIN_REPLICAS_DEFAULT = 2;

const NEW_GROUP: MapGroup = {
  epoch: 1,
  members: [],
  hasPrimary: false,
  lostAt: 0,
  givenUpAt: 0,
};

/**
 * How many copies a pool has if nobody says how many: three, or as many as there are failure domains with a daemon that
 * is there, but one at least.
 */
export function defaultReplicas(
  map: StorageMap,
  failureDomain: FailureDomain,
  isAlive: IsAlive = () => true,
): number {
  const domains = new Set(
    map.daemons
      .filter((one) => isBearer(one) && one.startId !== null && isAlive(one.id, one.startId))
      .map((one) => labelOf(one, failureDomain)),
  );
  return Math.max(1, Math.min(REPLICAS_DEFAULT, domains.size));
}

function labelOf(daemon: MapDaemon, failureDomain: FailureDomain): string {
  return failureDomain === 'disk' ? String(daemon.id) : daemon[failureDomain];
}

/**
 * @param isAlive - Copies are laid on daemons that are there.
 * @throws StoreError `E_EXISTS`, `E_INVALID`
 */
export function createPool(
  state: ClusterState,
  name: string,
  settings: PoolSettings & { readonly groups?: number },
  { random, isAlive = () => true }: { random: Random; isAlive?: IsAlive },
): ClusterState {
  checkPoolName(name);
  if (state.map.pools.some((pool) => pool.name === name))
    throw new StoreError('E_EXISTS', `There is a pool '${name}' already`);
  const { groups = GROUPS_DEFAULT } = settings;
  if (!Number.isInteger(Math.log2(groups)) || groups > GROUPS_MAX)
    throw new StoreError(
      'E_INVALID',
      `A pool has a power of two of groups, up to ${GROUPS_MAX}, not ${groups}`,
    );
  const id = state.nextPoolId;
  const { failureDomain = 'disk' } = settings;
  const replicas = settings.replicas ?? defaultReplicas(state.map, failureDomain, isAlive);
  const pool: MapPool = withSettings(
    {
      id,
      name,
      replicas,
      minReplicas: Math.min(MIN_REPLICAS_DEFAULT, replicas),
      objectBytes: OBJECT_BYTES,
      failureDomain,
      durability: 'flush',
      groups: Array.from({ length: groups }, () => NEW_GROUP),
    },
    settings,
  );
  const next = {
    ...state,
    nextPoolId: id + 1,
    map: { ...state.map, pools: [...state.map.pools, pool] },
    secrets: withEntry(state.secrets, id, [PoolSecret.create(name, 1, random)]),
  };
  return placeUnplaced(next, isAlive);
}

/**
 * More copies are filled one group after the other, and those that are too many go when as many as shall be are in sync
 * (`tendGroups`). With fewer than `minReplicas` the minimum follows, unless it is said as well.
 * @throws StoreError `E_NOT_FOUND`, `E_INVALID`
 */
export function setPool(state: ClusterState, name: string, settings: PoolSettings): ClusterState {
  const pool = poolOf(state.map, name);
  const changed = withSettings(pool, settings);
  const pools = state.map.pools.map((one) => (one === pool ? changed : one));
  return { ...state, map: { ...state.map, pools } };
}

/** Its daemons hear that it is no more, and remove what they hold of it. @throws StoreError `E_NOT_FOUND` */
export function removePool(state: ClusterState, name: string): ClusterState {
  const pool = poolOf(state.map, name);
  const holders = new Set(pool.groups.flatMap(({ members }) => members.map((one) => one.daemon)));
  const removed = { name, daemons: [...holders].sort((a, b) => a - b) };
  return {
    ...state,
    map: { ...state.map, pools: state.map.pools.filter((one) => one !== pool) },
    secrets: withEntry(state.secrets, pool.id, undefined),
    removedPools:
      holders.size === 0 ? state.removedPools : withEntry(state.removedPools, pool.id, removed),
  };
}

/** A daemon holds nothing of a removed pool any more. */
export function poolRemoved(state: ClusterState, poolId: number, daemon: number): ClusterState {
  const removed = state.removedPools.get(poolId);
  if (removed?.daemons.includes(daemon) !== true) return state;
  const daemons = removed.daemons.filter((id) => id !== daemon);
  const left = daemons.length === 0 ? undefined : { ...removed, daemons };
  return { ...state, removedPools: withEntry(state.removedPools, poolId, left) };
}

/** @throws StoreError `E_NOT_FOUND` */
export function poolOf(map: StorageMap, name: string): MapPool {
  const pool = map.pools.find((one) => one.name === name);
  if (pool !== undefined) return pool;
  throw new StoreError('E_NOT_FOUND', `There is no pool '${name}'; see store pool ls`);
}

function withSettings(pool: MapPool, settings: PoolSettings): MapPool {
  const { replicas = pool.replicas } = settings;
  const { minReplicas = Math.min(pool.minReplicas, replicas) } = settings;
  if (!Number.isInteger(replicas) || replicas < 1)
    throw new StoreError('E_INVALID', `A pool has at least one replica, not ${replicas}`);
  if (replicas > REPLICAS_MAX)
    throw new StoreError(
      'E_INVALID',
      `A pool has at most ${REPLICAS_MAX} replicas, not ${replicas}`,
    );
  if (!Number.isInteger(minReplicas) || minReplicas < 1 || minReplicas > replicas)
    throw new StoreError(
      'E_INVALID',
      `--min-replicas is a number from 1 to the replicas (${replicas}), not ${minReplicas}`,
    );
  const { failureDomain = pool.failureDomain, durability = pool.durability } = settings;
  return { ...pool, replicas, minReplicas, failureDomain, durability };
}
