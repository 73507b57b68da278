/**
 * Decisions about single groups: what daemons ask for, and what follows when one comes back with another start. Pure
 * functions from one state of the cluster to the next.
 *
 * What they keep, in every history of them:
 *
 * - Nobody becomes in sync but by the word of the primary (`joined`), by a promotion after all of the set were gone (of
 *   one of the set), by an operator who accepts the loss, or in a group that nobody has held before.
 * - The primary is in sync. It is replaced only when it asks for that (`resign`), when a member that has granted it no lease for
 *   the grace period does (`take`), when its start is certainly over, or by one that is in sync as well while both are
 *   (`tendGroups`): then the new one hears from the old one before it serves.
 * - A decision is made about the epoch that whoever asks knows, or not at all: each is answered once, however often it is sent.
 *
 * @see Lin et al., "PacificA", MSR-TR-2008-25: the configuration manager.
 */
import {
  StoreError,
  type GroupRequest,
  type MapDaemon,
  type MapGroup,
  type MapMember,
} from '@store/core';
import { withEntry, type ClusterState } from './cluster-state.js';
import {
  changeGroups,
  daemonIn,
  inSyncOf,
  isInSync,
  memberOf,
  nextGroup,
  primaryFirst,
  primaryOf,
  withGroup,
  withoutSync,
} from './group-changes.js';
import type { IsAlive } from './roster-view.js';

/** Who asks: as its connection says, not as the request does. */
export interface Asker {
  readonly daemonId: number;
  readonly startId: string;
}

const ALL_ALIVE: IsAlive = () => true;

/**
 * What a daemon asks for about a group it is a member of, by the kind of the request:
 *
 * - `remove`, from the primary: the member is in sync no more, and stays listed to join again. Of one that is joining it
 *   makes a new epoch and nothing else: a `joined` of the old one that is still under way is refused then.
 * - `joined`, from the primary: the member is in sync with its present start.
 * - `take`, from a member in sync: it is the primary; the old one is in sync no more, and the last.
 * - `resign`, from the primary: another one in sync is, and this one is in sync no more. Refused if there is no other.
 * - `renew`, from the primary: a new epoch, and nothing else.
 *
 * The same state comes back if what is asked for already is so in a later epoch: the answer was lost, and it is asked again.
 * @param isAlive - `resign`: who is there is preferred.
 * @throws StoreError `E_STALE_MAP` for another epoch than the group's; `E_DENIED` from who may not ask that; `E_INVALID`
 */
export function decideGroupRequest(
  state: ClusterState,
  request: GroupRequest,
  from: Asker,
  isAlive: IsAlive = ALL_ALIVE,
): ClusterState {
  if (request.startId !== from.startId)
    throw new StoreError('E_DENIED', 'A start of a daemon asks about groups for itself alone');
  const pool = state.map.pools.find(({ id }) => id === request.pool);
  const group = pool?.groups[request.group];
  if (group === undefined) throw stale(request, 'there is no such group (any more)');
  if (request.epoch !== group.epoch) {
    if (request.epoch < group.epoch && isSoAlready(group, request, from)) return state;
    throw stale(request, `it has epoch ${group.epoch}`);
  }
  const next = decided(state, group, request, { from, isAlive });
  return next === group ? state : withGroup(state, request, next);
}

/** Whether a later epoch than the one that was asked about has what was asked for. */
function isSoAlready(group: MapGroup, request: GroupRequest, from: Asker): boolean {
  switch (request.kind) {
    case 'remove':
      return isPrimary(group, from) && !isInSync(group, request.member, request.memberStart);
    case 'joined':
      return isPrimary(group, from) && isInSync(group, request.member, request.memberStart);
    case 'take':
    case 'renew':
      return isPrimary(group, from);
    case 'resign':
      return !isInSync(group, from.daemonId, from.startId);
  }
}

function decided(
  state: ClusterState,
  group: MapGroup,
  request: GroupRequest,
  { from, isAlive }: { from: Asker; isAlive: IsAlive },
): MapGroup {
  if (request.kind === 'take') return taken(group, request, from);
  if (!isPrimary(group, from))
    throw new StoreError(
      'E_DENIED',
      `Only the primary of ${nameOf(request)} asks for '${request.kind}', and daemon ${from.daemonId} is not`,
    );
  switch (request.kind) {
    case 'remove':
      return removed(group, request);
    case 'joined':
      return joined(state, group, request);
    case 'resign':
      return resigned(group, request, { from, isAlive });
    case 'renew':
      return nextGroup(group, group.members);
  }
}

function removed(group: MapGroup, { member, memberStart, ...request }: GroupRequest): MapGroup {
  const found = memberOf(group, member);
  if (found === undefined) return group;
  if (primaryOf(group)?.daemon === member)
    throw new StoreError(
      'E_INVALID',
      `The primary of ${nameOf(request)} does not remove itself; it resigns`,
    );
  // Another start than the one that does not answer: the map is ahead of whoever asks.
  if (found.inSync !== null && found.inSync !== memberStart) return group;
  return nextGroup(group, withoutSync(group.members, member));
}

function joined(state: ClusterState, group: MapGroup, request: GroupRequest): MapGroup {
  const { member, memberStart } = request;
  const found = memberOf(group, member);
  if (found === undefined)
    throw new StoreError('E_INVALID', `Daemon ${member} is no member of ${nameOf(request)}`);
  if (found.inSync === memberStart) return group;
  const daemon = daemonIn(state, member);
  if (found.inSync !== null || daemon?.startId !== memberStart)
    throw stale(request, `daemon ${member} was started anew since it joined`);
  const others = group.members.filter((one) => one !== found);
  return nextGroup(group, [...others, { daemon: member, inSync: memberStart }]);
}

function taken(group: MapGroup, request: GroupRequest, from: Asker): MapGroup {
  const { daemonId, startId } = from;
  if (!isInSync(group, daemonId, startId))
    throw new StoreError(
      'E_DENIED',
      `Daemon ${daemonId} is not in sync in ${nameOf(request)}, so it cannot take it`,
    );
  const old = primaryOf(group);
  if (old?.daemon === daemonId) return group;
  const members = primaryFirst(group.members, daemonId);
  return nextGroup(group, old === null ? members : withoutSync(members, old.daemon));
}

function resigned(
  group: MapGroup,
  request: GroupRequest,
  { from, isAlive }: { from: Asker; isAlive: IsAlive },
): MapGroup {
  const others = inSyncOf(group).filter(({ daemon }) => daemon !== from.daemonId);
  const next = firstAlive(others, isAlive) ?? others[0];
  if (next === undefined)
    throw new StoreError(
      'E_INVALID',
      `Daemon ${from.daemonId} has the only copy of ${nameOf(request)} that is in sync: nobody can take over`,
    );
  return nextGroup(group, withoutSync(primaryFirst(group.members, next.daemon), from.daemonId));
}

/**
 * A known daemon has come with another start, which the map names already. Where its old start was in sync it is so no
 * more, if another start of the set is alive: that one may have gone on. If it was the primary, the next one alive in
 * the set is. The only one of a set is promoted at once, because nobody can have gone on without it. If no start of a
 * set is alive nothing is decided here, but what has happened is recorded: see `tendGroups`.
 * @param daemon - As it is in the map.
 * @param hasLost - Of the new start: answered writes that were not flushed may be gone since the last one.
 */
export function daemonStarted(
  state: ClusterState,
  daemon: MapDaemon,
  hasLost: boolean,
  isAlive: IsAlive,
): ClusterState {
  const noted = noteStart(state, daemon, hasLost);
  return changeGroups(noted, (group) => {
    const member = memberOf(group, daemon.id);
    if (member === undefined || member.inSync === null || member.inSync === daemon.startId)
      return group;
    if (inSyncOf(group).length === 1) return promoted(noted, group, member);
    return withoutStale(noted, group, isAlive);
  });
}

/**
 * Remembers of which starts that are still listed in sync this daemon has lost unflushed writes: a later start that
 * lost nothing does not bring them back.
 */
function noteStart(
  state: ClusterState,
  { id, startId }: MapDaemon,
  hasLost: boolean,
): ClusterState {
  const record = state.daemons.get(id);
  if (record === undefined) return state;
  const listed = new Set<string>();
  for (const { groups } of state.map.pools)
    for (const group of groups) {
      const start = memberOf(group, id)?.inSync ?? null;
      if (start !== null && start !== startId) listed.add(start);
    }
  const lostSince = hasLost ? [...listed] : record.lostSince.filter((start) => listed.has(start));
  if (!hasLost && lostSince.length === record.lostSince.length) return state;
  if (hasLost && lostSince.length === 0 && record.lostSince.length === 0) return state;
  return { ...state, daemons: withEntry(state.daemons, id, { ...record, lostSince }) };
}

/** Whether a daemon has lost unflushed writes since a start of it that is listed. */
export function hasLostSince(state: ClusterState, { daemon, inSync }: MapMember): boolean {
  return inSync !== null && state.daemons.get(daemon)?.lostSince.includes(inSync) === true;
}

/** Whether a start that is listed is certainly over: the daemon has come with another one since. */
export function isStale(state: ClusterState, { daemon, inSync }: MapMember): boolean {
  return inSync !== null && daemonIn(state, daemon)?.startId !== inSync;
}

/** Starts that are over leave the set, if one of it is alive. Else, or if there are none: the same group. */
export function withoutStale(state: ClusterState, group: MapGroup, isAlive: IsAlive): MapGroup {
  const inSync = inSyncOf(group);
  const over = inSync.filter((member) => isStale(state, member));
  if (over.length === 0) return group;
  const rest = inSync.filter((member) => !over.includes(member));
  const next = firstAlive(rest, isAlive);
  if (next === undefined) return group;
  const primary = primaryOf(group);
  const stays = primary !== null && rest.includes(primary);
  let members = stays ? group.members : primaryFirst(group.members, next.daemon);
  for (const { daemon } of over) members = withoutSync(members, daemon);
  return nextGroup(group, members);
}

/** The present start of a member of the set becomes the only one in sync, and the primary. */
export function promoted(state: ClusterState, group: MapGroup, member: MapMember): MapGroup {
  const start = daemonIn(state, member.daemon)?.startId ?? null;
  const others = group.members.filter((one) => one !== member);
  return nextGroup(
    group,
    [
      { daemon: member.daemon, inSync: start },
      ...others.map(({ daemon }) => ({ daemon, inSync: null })),
    ],
    { lost: hasLostSince(state, member) ? 'unflushed' : 'nothing' },
  );
}

function firstAlive(members: readonly MapMember[], isAlive: IsAlive): MapMember | undefined {
  return members.find(({ daemon, inSync }) => inSync !== null && isAlive(daemon, inSync));
}

function isPrimary(group: MapGroup, { daemonId, startId }: Asker): boolean {
  const primary = primaryOf(group);
  return primary !== null && primary.daemon === daemonId && primary.inSync === startId;
}

function nameOf({ pool, group }: Pick<GroupRequest, 'pool' | 'group'>): string {
  return `group ${group} of pool ${pool}`;
}

function stale(request: GroupRequest, why: string): StoreError {
  return new StoreError(
    'E_STALE_MAP',
    `'${request.kind}' was asked about epoch ${request.epoch} of ${nameOf(request)}: ${why}`,
  );
}
