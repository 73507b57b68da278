/** What people are told about the cluster: from the state, and from what daemons said last. Pure. */
import type {
  ClusterStatus,
  DaemonStatus,
  Health,
  ImageStatus,
  MapGroup,
  MapPool,
  MasterStatus,
  PoolStatus,
  Problem,
  Traffic,
} from '@store/core';
import type { ClusterState } from '../cluster/cluster-state.js';
import type { DaemonPresence } from '../server/roster.js';

/** A new leader gives daemons so long to come before it calls them down. */
const ARRIVAL_MS = 8000;
const FULL_PERCENT = 85;
const VERY_FULL_PERCENT = 95;
const FLAPPING_STARTS = 5;
const MIB: number = 1024 * 1024;

export interface StatusSources {
  readonly state: ClusterState;
  readonly presenceOf: (daemonId: number) => DaemonPresence;
  /** How long this leader has been looking, milliseconds. */
  readonly lookedForMs: number;
  /** Monotonic milliseconds. */
  readonly now: number;
  /** ISO 8601. */
  readonly time: string;
  readonly masters: readonly MasterStatus[];
  readonly traffic: Traffic;
}

export function clusterStatus(sources: StatusSources): ClusterStatus {
  const { state, masters, traffic, time } = sources;
  const { map } = state;
  const daemons = daemonStatuses(sources);
  const pools = map.pools.map((pool) => poolStatus(pool, sources));
  const problems = problemsOf(daemons, pools);
  const health: Health = problems.some(({ severity }) => severity === 'error')
    ? 'error'
    : problems.length > 0
      ? 'warning'
      : 'ok';
  return {
    clusterId: map.clusterId,
    version: map.version,
    time,
    health,
    problems,
    masters,
    daemons,
    pools,
    images: imagesOf(sources),
    capacityBytes: sum(daemons, ({ capacityBytes }) => capacityBytes),
    freeBytes: sum(daemons, ({ freeBytes }) => freeBytes),
    usedBytes: sum(daemons, ({ usedBytes }) => usedBytes),
    traffic,
    recovery: { bytesLeft: 0, bytesPerSecond: 0 },
  };
}

export function daemonStatuses(sources: StatusSources): DaemonStatus[] {
  const { state, presenceOf, now } = sources;
  const held = new Map<number, { groups: number; primaries: number }>();
  for (const { groups } of state.map.pools)
    for (const { members, hasPrimary } of groups)
      for (const [place, { daemon }] of members.entries()) {
        const counts = held.get(daemon) ?? { groups: 0, primaries: 0 };
        counts.groups += 1;
        if (hasPrimary && place === 0) counts.primaries += 1;
        held.set(daemon, counts);
      }
  return state.map.daemons.map((daemon) => {
    const { report, since, starts, traffic } = presenceOf(daemon.id);
    const { groups, primaries } = held.get(daemon.id) ?? { groups: 0, primaries: 0 };
    const capacityBytes = report?.capacityBytes ?? state.daemons.get(daemon.id)?.capacityBytes ?? 0;
    return {
      id: daemon.id,
      diskId: daemon.diskId,
      address: daemon.address,
      peerAddress: daemon.peerAddress,
      host: daemon.host,
      rack: daemon.rack,
      state: isUp(sources, daemon.id) ? 'up' : 'down',
      stateSeconds: Math.max(0, Math.floor((now - since) / 1000)),
      membership: daemon.membership,
      weight: daemon.weight,
      capacityBytes,
      freeBytes: report?.freeBytes ?? capacityBytes, // nothing is known yet
      usedBytes: sum(report?.pools ?? [], ({ usedBytes }) => usedBytes),
      groups,
      primaries,
      mapVersion: report?.mapVersion ?? 0,
      recentStarts: starts.length,
      traffic,
    };
  });
}

export function poolStatus(pool: MapPool, sources: StatusSources): PoolStatus {
  let [usedBytes, objects] = [0, 0];
  for (const { id } of sources.state.map.daemons)
    for (const reported of sources.presenceOf(id).report?.pools ?? [])
      if (reported.id === pool.id) {
        usedBytes += reported.usedBytes;
        objects += reported.objects;
      }
  const isDown = ({ hasPrimary, members: [first] }: MapGroup): boolean =>
    !hasPrimary || first === undefined || !isUp(sources, first.daemon);
  return {
    id: pool.id,
    name: pool.name,
    replicas: pool.replicas,
    minReplicas: pool.minReplicas,
    groups: pool.groups.length,
    objectBytes: pool.objectBytes,
    failureDomain: pool.failureDomain,
    durability: pool.durability,
    usedBytes,
    objects,
    groupsDown: pool.groups.filter(isDown).length,
    groupsDegraded: pool.groups.filter(({ members }) => members.length < pool.replicas).length,
  };
}

/** A leader that has only just begun calls nobody down who may be on its way. */
export function isUp({ presenceOf, lookedForMs }: StatusSources, daemonId: number): boolean {
  return presenceOf(daemonId).connection !== null || lookedForMs < ARRIVAL_MS;
}

function imagesOf({ state, presenceOf }: StatusSources): ImageStatus[] {
  const names = new Map(state.map.pools.map(({ id, name }) => [id, name]));
  return state.map.daemons
    .flatMap(({ id }) => presenceOf(id).report?.images ?? [])
    .flatMap(({ pool, name, sizeBytes }) => {
      const poolName = names.get(pool);
      return poolName === undefined ? [] : [{ pool: poolName, name, sizeBytes }];
    })
    .sort((a, b) => compare(a.pool, b.pool) || compare(a.name, b.name));
}

function problemsOf(daemons: readonly DaemonStatus[], pools: readonly PoolStatus[]): Problem[] {
  const problems = [
    ...(daemons.length === 0 ? [noDaemons()] : []),
    ...daemons.flatMap(daemonProblems),
    ...pools.flatMap(poolProblems),
  ];
  const rank = ({ severity }: Problem): number => (severity === 'error' ? 0 : 1);
  return problems.sort((a, b) => rank(a) - rank(b));
}

function noDaemons(): Problem {
  return {
    severity: 'warning',
    where: 'cluster',
    what: 'No storage daemon has registered yet.',
    advice:
      'Start one: store file-store --dir DIR --master HOST:PORT (the peer address of a master).',
  };
}

function daemonProblems(daemon: DaemonStatus): Problem[] {
  const { id, address, groups, membership, recentStarts, capacityBytes, freeBytes } = daemon;
  const where = `daemon ${id}`;
  const problems: Problem[] = [];
  if (daemon.state === 'down' && membership !== 'out')
    problems.push({
      severity: groups > 0 ? 'error' : 'warning',
      where,
      what: `Daemon ${id} (${address}) is down${groups > 0 ? `: ${groups} groups are out of reach` : ''}.`,
      advice:
        groups > 0
          ? 'Start it again: store file-store with its folder. Reads and writes wait until then.'
          : `Start it again, or remove it: store daemon rm ${id}`,
    });
  if (recentStarts >= FLAPPING_STARTS)
    problems.push({
      severity: 'warning',
      where,
      what: `Daemon ${id} was started ${recentStarts} times within an hour.`,
      advice: `Look into its log; keep new data away from it meanwhile: store daemon drain ${id}`,
    });
  const percent =
    daemon.state === 'up' && capacityBytes > 0 ? fullPercent(capacityBytes, freeBytes) : 0;
  if (percent >= FULL_PERCENT)
    problems.push({
      severity: percent >= VERY_FULL_PERCENT ? 'error' : 'warning',
      where,
      what: `The disk of daemon ${id} is ${percent} % full (${Math.floor(freeBytes / MIB)} MiB left).`,
      advice: 'Add a daemon, or remove images that nobody needs: store-image rm.',
    });
  if (membership === 'draining' && groups > 0)
    problems.push({
      severity: 'warning',
      where,
      what: `Daemon ${id} is draining and still holds ${groups} groups.`,
      advice:
        'With one copy of everything groups stay where they are: remove or copy away what lies in them.',
    });
  return problems;
}

function poolProblems(pool: PoolStatus): Problem[] {
  const { name, groupsDown, groupsDegraded, groups } = pool;
  const where = `pool ${name}`;
  if (groupsDegraded > 0)
    return [
      {
        severity: 'warning',
        where,
        what: `${groupsDegraded} of ${groups} groups of pool ${name} lie on no daemon.`,
        advice: 'They get one as soon as a daemon that is in comes up: store daemon ls.',
      },
    ];
  if (groupsDown === 0) return [];
  return [
    {
      severity: 'error',
      where,
      what: `${groupsDown} of ${groups} groups of pool ${name} are out of reach.`,
      advice: 'Their daemon is down; see store daemon ls.',
    },
  ];
}

function fullPercent(capacityBytes: number, freeBytes: number): number {
  return Math.round((100 * (capacityBytes - freeBytes)) / capacityBytes);
}

function sum<T>(list: readonly T[], of: (item: T) => number): number {
  return list.reduce((total, item) => total + of(item), 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
