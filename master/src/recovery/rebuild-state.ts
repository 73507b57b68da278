/**
 * The state of a cluster made anew from what its daemons have kept: their maps say which daemons and pools there are and
 * where groups lie. Pure.
 *
 * Each daemon knows some map. The newest one stands for the cluster, and for each group the highest epoch that any of
 * them has: a group is never taken back behind what a daemon has acted on.
 */
import {
  orderedMap,
  PoolSecret,
  StoreError,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type Random,
  type StorageMap,
} from '@store/core';
import { newCluster, ticketNameOf, type ClusterState } from '../cluster/cluster-state.js';
import { TICKET_SECONDS } from '../cluster/decide-clients.js';

/** Numbers jump by so much: what was given out between the newest map that is left and the loss is not given out again. */
export const JUMP = 1000;
/** So long a ticket may be good that was handed out just before the loss. */
const BLOCKED_SECONDS: number = 2 * TICKET_SECONDS;

/** What one daemon has kept. */
export interface KeptByDaemon {
  readonly diskId: string;
  readonly capacityBytes: number;
  readonly map: StorageMap;
  readonly secrets: readonly PoolSecret[];
}

export interface RebuildOptions {
  /** What is left of the masters' state; null: nothing. */
  readonly old: ClusterState | null;
  readonly kept: readonly KeptByDaemon[];
  /** Seconds since 1970. */
  readonly now: number;
  readonly random: Random;
}

/** @throws StoreError `E_NOT_FOUND` if no daemon has a map; `E_INVALID` if they are of several clusters */
export function rebuildState({ old, kept, now, random }: RebuildOptions): ClusterState {
  const maps = [...kept.map(({ map }) => map), ...(old === null ? [] : [old.map])].sort(
    (a, b) => b.version - a.version,
  );
  const [newest] = maps;
  if (newest === undefined || kept.length === 0)
    throw new StoreError('E_NOT_FOUND', 'No daemon that has answered has kept a map');
  const other = maps.find(({ clusterId }) => clusterId !== newest.clusterId);
  if (other !== undefined)
    throw new StoreError(
      'E_INVALID',
      `What was found is of several clusters (${newest.clusterId} and ${other.clusterId}); stop the daemons that do not belong here, and leave state that is not this cluster's away`,
    );
  const daemons = newest.daemons;
  const pools = newest.pools.map((pool) => withNewestGroups(pool, maps, daemons));
  const blocked = new Map([
    ...newest.blockedClients.map((name) => [name, now + BLOCKED_SECONDS] as const),
    ...(old?.blocked ?? []),
  ]);
  const blockedClients = [...blocked.keys()];
  const version = newest.version + JUMP;
  const map = orderedMap({ ...newest, version, daemons, pools, blockedClients });
  const empty = newCluster(newest.clusterId, old?.created ?? now);
  const capacityOf = new Map(kept.map(({ diskId, capacityBytes }) => [diskId, capacityBytes]));
  return {
    ...empty,
    serial: (old?.serial ?? 0) + JUMP,
    nextDaemonId: JUMP + Math.max(old?.nextDaemonId ?? 1, ...maps.flatMap(daemonIds)),
    nextPoolId: JUMP + Math.max(old?.nextPoolId ?? 1, ...maps.flatMap(poolIds)),
    map,
    recoveryRate: old?.recoveryRate ?? 0,
    daemons: new Map(
      daemons.map((daemon) => {
        const capacityBytes = capacityOf.get(daemon.diskId) ?? daemon.weight * 1024 * 1024;
        const record = { capacityBytes, isWeightFixed: false, created: now };
        const lostSince = oldStartsOf(pools, daemon);
        return [daemon.id, { ...record, ...old?.daemons.get(daemon.id), lostSince }];
      }),
    ),
    secrets: new Map(pools.map((pool) => [pool.id, secretsOf(pool, kept, old, random)])),
    // Who was removed, or got a new key, after the old state was kept does not come back with it.
    clients: new Map(
      [...(old?.clients ?? [])].filter(([, client]) => !blocked.has(ticketNameOf(client))),
    ),
    blocked,
    behind: old?.behind ?? [],
    incidents: old?.incidents ?? new Map(),
    recoveredFrom: newest.version,
  };
}

/**
 * Starts of a daemon that groups list as in sync, and that are over. Who knew what was lost since is gone: it is taken
 * for lost.
 */
function oldStartsOf(pools: readonly MapPool[], { id, startId }: MapDaemon): string[] {
  const starts = new Set<string>();
  for (const { groups } of pools)
    for (const { members } of groups)
      for (const { daemon, inSync } of members)
        if (daemon === id && inSync !== null && inSync !== startId) starts.add(inSync);
  return [...starts];
}

function daemonIds({ daemons }: StorageMap): number[] {
  return daemons.map(({ id }) => id);
}

function poolIds({ pools }: StorageMap): number[] {
  return pools.map(({ id }) => id);
}

function withNewestGroups(
  pool: MapPool,
  maps: readonly StorageMap[],
  daemons: readonly MapDaemon[],
): MapPool {
  const known = new Set(daemons.map(({ id }) => id));
  const candidates = maps.flatMap(({ pools }) => pools.filter(({ id }) => id === pool.id));
  const groups = pool.groups.map((group, index) =>
    candidates.reduce<MapGroup>((best, { groups: others }) => {
      const other = others[index];
      const isKnown = other?.members.every(({ daemon }) => known.has(daemon)) === true;
      return isKnown && other.epoch > best.epoch ? other : best;
    }, group),
  );
  return { ...pool, groups };
}

/** Those that daemons know: tickets that are under way stay good. None left: a new one. */
function secretsOf(
  { name, id }: MapPool,
  kept: readonly KeptByDaemon[],
  old: ClusterState | null,
  random: Random,
): PoolSecret[] {
  const found = new Map<number, PoolSecret>();
  // The latest one to know a secret is right: another pool of that name may have had one before.
  const byAge = kept.toSorted((a, b) => a.map.version - b.map.version);
  const all = [...(old?.secrets.get(id) ?? []), ...byAge.flatMap(({ secrets }) => secrets)];
  for (const secret of all) if (secret.pool === name) found.set(secret.generation, secret);
  const secrets = [...found.values()].sort((a, b) => b.generation - a.generation);
  return secrets.length > 0 ? secrets : [PoolSecret.create(name, 1, random)];
}
