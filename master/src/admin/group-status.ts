/** What people are told about the groups of a pool. Pure. */
import type { GroupMemberStatus, GroupState, GroupStatus, MapGroup, MapPool } from '@store/core';
import { inSyncOf, primaryOf } from '../cluster/group-changes.js';
import { behindSince } from '../cluster/members-behind.js';
import { isoTime, isUp, type StatusSources } from './cluster-status.js';

export function groupStatus(pool: MapPool, index: number, sources: StatusSources): GroupStatus {
  const group = pool.groups[index];
  const { epoch = 0, lostAt = 0, members = [] } = group ?? {};
  const primary = group === undefined ? null : primaryOf(group);
  return {
    pool: pool.name,
    group: index,
    epoch,
    state: group === undefined ? 'down' : groupState(pool, group, sources),
    lostAt,
    members: members.map((member): GroupMemberStatus => {
      const { daemon, inSync } = member;
      const role = inSync === null ? 'joining' : member === primary ? 'primary' : 'copy';
      const runs = inSync === null || isRunning(sources, daemon, inSync);
      const state = !isUp(sources, daemon) ? 'down' : runs ? 'up' : 'restarted';
      const since =
        inSync === null
          ? behindSince(sources.state, { pool: pool.id, group: index, daemon })
          : null;
      return { daemon, role, state, behindSince: since === null ? null : isoTime(since) };
    }),
    wanted: sources.targetOf(pool.id, index),
  };
}

export function groupState(pool: MapPool, group: MapGroup, sources: StatusSources): GroupState {
  const running = copiesRunning(group, sources);
  if (running === 0) return 'down';
  if (running < pool.minReplicas) return 'read-only';
  if (running < pool.replicas) return 'degraded';
  return group.members.some(({ inSync }) => inSync === null) ? 'joining' : 'ok';
}

/** Copies in sync whose start is there. */
export function copiesRunning(group: MapGroup, sources: StatusSources): number {
  return inSyncOf(group).filter(
    ({ daemon, inSync }) => inSync !== null && isRunning(sources, daemon, inSync),
  ).length;
}

/** Whether it lies where placement wants it, as far as that is known. */
export function isMisplaced({ members }: MapGroup, wanted: readonly number[] | null): boolean {
  if (wanted === null || members.length === 0) return false;
  const held = members.filter(({ inSync }) => inSync !== null).map(({ daemon }) => daemon);
  return held.some((daemon) => !wanted.includes(daemon));
}

/** A leader that has only just begun takes a start for running that may be on its way. */
function isRunning(sources: StatusSources, daemon: number, startId: string): boolean {
  const { connection } = sources.presenceOf(daemon);
  if (connection !== null) return connection.startId === startId;
  return isUp(sources, daemon);
}
