/** What people are told about the cluster: from the state, and from what daemons said last. Pure. */
import type {
  ClusterStatus,
  DaemonStatus,
  Health,
  ImageStatus,
  Incident,
  MapGroup,
  MapPool,
  MasterStatus,
  PoolStatus,
  Problem,
  Recovery,
  ReportedGroups,
  ScrubStatus,
  Traffic,
} from '@store/core';
import type { ClusterState } from '../cluster/cluster-state.js';
import { inSyncOf } from '../cluster/group-changes.js';
import {
  FULL_PERCENT,
  fullPercent,
  NEARLY_FULL_PERCENT,
  type DaemonPresence,
} from '../server/roster.js';
import { copiesRunning, isMisplaced } from './group-status.js';

/** A new leader gives daemons so long to come before it calls them down. */
export const ARRIVAL_MS = 8000;
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
  /** Where placement wants a group; null: that is not known yet. */
  readonly targetOf: (pool: number, group: number) => readonly number[] | null;
}

export function clusterStatus(sources: StatusSources): ClusterStatus {
  const { state, masters, traffic, time } = sources;
  const { map } = state;
  const daemons = daemonStatuses(sources);
  const known = daemons.filter(({ hasReported }) => hasReported);
  const pools = map.pools.map((pool) => poolStatus(pool, sources));
  const problems = problemsOf(daemons, pools, sources);
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
    capacityBytes: sum(known, ({ capacityBytes }) => capacityBytes),
    freeBytes: sum(known, ({ freeBytes }) => freeBytes),
    usedBytes: sum(known, ({ usedBytes }) => usedBytes),
    traffic,
    recovery: recoveryOf(pools.map(({ recovery }) => recovery)),
    recoveryRate: state.recoveryRate,
    incidents: incidentsOf(state),
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
      hasReported: report !== null,
      freeBytes: report?.freeBytes ?? 0,
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
  let [usedBytes, storedBytes, objects] = [0, 0, 0];
  const reports: ReportedGroups[] = [];
  for (const { id } of sources.state.map.daemons) {
    const { report, connection } = sources.presenceOf(id);
    for (const reported of report?.pools ?? [])
      if (reported.id === pool.id) {
        usedBytes += reported.usedBytes;
        storedBytes += reported.ledBytes;
        objects += reported.ledObjects;
      }
    if (connection === null) continue;
    for (const reported of report?.groups ?? [])
      if (reported.pool === pool.id) reports.push(reported);
  }
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
    storedBytes,
    objects,
    ...groupCounts(pool, sources),
    recovery: recoveryOf(reports),
    scrub: scrubOf(reports),
  };
}

function groupCounts(
  pool: MapPool,
  sources: StatusSources,
): Pick<
  PoolStatus,
  | 'groupsDown'
  | 'groupsReadOnly'
  | 'groupsDegraded'
  | 'groupsJoining'
  | 'groupsMisplaced'
  | 'copiesMissing'
> {
  let [down, readOnly, degraded, joining, misplaced, missing] = [0, 0, 0, 0, 0, 0];
  for (const [index, group] of pool.groups.entries()) {
    const running = copiesRunning(group, sources);
    if (running === 0) down += 1;
    else if (running < pool.minReplicas) readOnly += 1;
    if (running < pool.replicas) degraded += 1;
    missing += Math.max(0, pool.replicas - running);
    const isJoining = group.members.some(
      ({ daemon, inSync }) => inSync === null && isUp(sources, daemon),
    );
    if (isJoining && running > 0) joining += 1; // else there is nobody to copy from
    if (isMisplaced(group, sources.targetOf(pool.id, index))) misplaced += 1;
  }
  return {
    groupsDown: down,
    groupsReadOnly: readOnly,
    groupsDegraded: degraded,
    groupsJoining: joining,
    groupsMisplaced: misplaced,
    copiesMissing: missing,
  };
}

/** Of several together. */
function recoveryOf(parts: readonly Pick<Recovery, 'bytesLeft' | 'bytesPerSecond'>[]): Recovery {
  const bytesLeft = sum(parts, (part) => part.bytesLeft);
  const bytesPerSecond = sum(parts, (part) => part.bytesPerSecond);
  const isKnown = bytesLeft > 0 && bytesPerSecond > 0;
  return { bytesLeft, bytesPerSecond, secondsLeft: isKnown ? bytesLeft / bytesPerSecond : null };
}

/** All is as old as the oldest part of it. */
function scrubOf(reports: readonly ReportedGroups[]): ScrubStatus {
  const oldest = (ages: readonly (number | null)[]): number | null =>
    ages.reduce((a, b) => (a === null || b === null ? null : Math.max(a, b)), ages[0] ?? null);
  return {
    lastLightSeconds: oldest(reports.map(({ lastLightSeconds }) => lastLightSeconds)),
    lastDeepSeconds: oldest(reports.map(({ lastDeepSeconds }) => lastDeepSeconds)),
    errorsFound: sum(reports, ({ errorsFound }) => errorsFound),
    errorsRepaired: sum(reports, ({ errorsRepaired }) => errorsRepaired),
  };
}

function incidentsOf({ incidents }: ClusterState): Incident[] {
  return [...incidents.values()].reverse().map(({ time, pool, group, daemon, what }) => ({
    time: isoTime(time),
    pool,
    group,
    daemon,
    what,
  }));
}

/** @param seconds - Since 1970. */
export function isoTime(seconds: number): string {
  // eslint-disable-next-line no-restricted-globals -- it writes down a given time and reads no clock
  return new Date(seconds * 1000).toISOString();
}

/** A leader that has only just begun calls nobody down who may be on its way. */
export function isUp({ presenceOf, lookedForMs }: StatusSources, daemonId: number): boolean {
  return presenceOf(daemonId).connection !== null || lookedForMs < ARRIVAL_MS;
}

function imagesOf({ state, presenceOf }: StatusSources): ImageStatus[] {
  const names = new Map(state.map.pools.map(({ id, name }) => [id, name]));
  // Whoever has a copy of an image's header tells of it.
  const images = new Map<string, ImageStatus>();
  for (const { id } of state.map.daemons)
    for (const { pool, name, sizeBytes } of presenceOf(id).report?.images ?? []) {
      const poolName = names.get(pool);
      if (poolName !== undefined)
        images.set(`${pool}/${name}`, { pool: poolName, name, sizeBytes });
    }
  return [...images.values()].sort((a, b) => compare(a.pool, b.pool) || compare(a.name, b.name));
}

function problemsOf(
  daemons: readonly DaemonStatus[],
  pools: readonly PoolStatus[],
  sources: StatusSources,
): Problem[] {
  const needed = daemonsNeeded(sources);
  const problems = [
    ...(daemons.length === 0 ? [noDaemons()] : []),
    ...daemons.flatMap((daemon) => daemonProblems(daemon, needed.get(daemon.id) ?? 0)),
    ...pools.flatMap((pool) => poolProblems(pool, sources)),
  ];
  const rank = ({ severity }: Problem): number => (severity === 'error' ? 0 : 1);
  return problems.sort((a, b) => rank(a) - rank(b));
}

/** By daemon: how many groups without a copy in sync that runs have one there. */
function daemonsNeeded(sources: StatusSources): Map<number, number> {
  const needed = new Map<number, number>();
  for (const { groups } of sources.state.map.pools)
    for (const group of groups)
      if (copiesRunning(group, sources) === 0)
        for (const { daemon } of inSyncOf(group)) needed.set(daemon, (needed.get(daemon) ?? 0) + 1);
  return needed;
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

function daemonProblems(daemon: DaemonStatus, needed: number): Problem[] {
  const { id, address, groups, membership, recentStarts, freeBytes } = daemon;
  const where = `daemon ${id}`;
  const problems: Problem[] = [];
  if (daemon.state === 'down' && membership !== 'out')
    problems.push({
      severity: needed > 0 ? 'error' : 'warning',
      where,
      what: `Daemon ${id} (${address}) is down${needed === 0 ? '' : needed === 1 ? ': 1 group is out of reach' : `: ${needed} groups are out of reach`}.`,
      advice:
        needed > 0
          ? 'Start it again: store file-store with its folder. Reads and writes wait until then.'
          : groups > 0
            ? 'Start it again: store file-store with its folder. Others serve its groups; if it stays away they get new copies elsewhere.'
            : `Start it again, or remove it: store daemon rm ${id}`,
    });
  if (recentStarts >= FLAPPING_STARTS)
    problems.push({
      severity: 'warning',
      where,
      what: `Daemon ${id} was started ${recentStarts} times within an hour.`,
      advice: `Look into its log; keep new data away from it meanwhile: store daemon drain ${id}`,
    });
  const percent = daemon.state === 'up' && daemon.hasReported ? fullPercent(daemon) : 0;
  if (percent >= NEARLY_FULL_PERCENT)
    problems.push({
      severity: percent >= FULL_PERCENT ? 'error' : 'warning',
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
        'They move to others by themselves. If they do not, too few others are up, or have room: store daemon ls.',
    });
  return problems;
}

/** As many are named one by one. */
const GROUPS_NAMED_MAX = 8;

function poolProblems(pool: PoolStatus, sources: StatusSources): Problem[] {
  const { name, groups, groupsDown, groupsReadOnly, groupsDegraded } = pool;
  const where = `pool ${name}`;
  const found = sources.state.map.pools.find(({ id }) => id === pool.id)?.groups ?? [];
  const unplaced = found.filter(({ members }) => members.length === 0).length;
  const problems: Problem[] = [];
  if (groupsDown > unplaced) problems.push(downProblem(pool, found, sources));
  if (groupsReadOnly > 0)
    problems.push({
      severity: 'error',
      where,
      what: `${groupsReadOnly} of ${groups} groups of pool ${name} have fewer copies in sync than the ${pool.minReplicas} that writing needs.`,
      advice: `Writes to them wait. Start the daemons that are down (store daemon ls), or allow less: store pool set ${name} --min-replicas 1`,
    });
  if (unplaced > 0)
    problems.push({
      severity: 'warning',
      where,
      what: `${unplaced} of ${groups} groups of pool ${name} lie on no daemon.`,
      advice: 'They get one as soon as a daemon that is in comes up: store daemon ls.',
    });
  const { errorsFound, errorsRepaired } = pool.scrub;
  const left = errorsFound - errorsRepaired;
  if (left > 0)
    problems.push({
      severity: 'error',
      where,
      what: `${left === 1 ? 'A damaged part' : `${left} damaged parts`} of pool ${name} could not be mended by a scrub.`,
      advice: `See which: store scrub status. Start the daemons that are down, which may have good copies, then: store repair --pool ${name}`,
    });
  const degraded = groupsDegraded - groupsReadOnly - groupsDown;
  if (degraded > 0)
    problems.push({
      severity: 'warning',
      where,
      what: `${degraded} of ${groups} groups of pool ${name} have fewer than ${pool.replicas} copies in sync.`,
      advice: copiesAdvice(pool, degraded),
    });
  return problems;
}

/** @param degraded - Groups that lack copies and serve */
function copiesAdvice({ groupsJoining, failureDomain }: PoolStatus, degraded: number): string {
  const made = `New copies are being made in ${groupsJoining} groups`;
  if (groupsJoining >= degraded) return `${made}; nothing has to be done.`;
  if (groupsJoining > 0) return `${made}; the others wait for daemons: store daemon ls.`;
  return `New copies are made when daemons are there for them, with --failure-domain ${failureDomain} no two on one: store daemon ls.`;
}

function downProblem(
  { name, groups, groupsDown }: PoolStatus,
  found: readonly MapGroup[],
  sources: StatusSources,
): Problem {
  const down = [...found.entries()].filter(
    ([, group]) => group.members.length > 0 && copiesRunning(group, sources) === 0,
  );
  const named = down.slice(0, GROUPS_NAMED_MAX).map(([index]) => index);
  const more = down.length > named.length ? ', ...' : '';
  const needed = new Set(down.flatMap(([, group]) => inSyncOf(group).map(({ daemon }) => daemon)));
  const who = [...needed].sort((a, b) => a - b).slice(0, GROUPS_NAMED_MAX);
  return {
    severity: 'error',
    where: `pool ${name}`,
    what:
      groupsDown === 1
        ? `Group ${named.join()} of pool ${name} has no in-sync copy that runs.`
        : `${groupsDown} of ${groups} groups of pool ${name} (${named.join(', ')}${more}) have no in-sync copy that runs.`,
    advice: `Start daemon ${who.join(' and ')}, or see store group accept-data-loss --help`,
  };
}

function sum<T>(list: readonly T[], of: (item: T) => number): number {
  return list.reduce((total, item) => total + of(item), 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
