/** What the replication of a daemon says of itself: to masters in its reports, and as metrics. */
import {
  REPORTED_GROUPS_MAX,
  type DaemonReport,
  type ReportedGroups,
  type ScrubCounts,
} from '@store/core';
import type { Group } from './group.js';
import type { JoinProgress } from './join.js';
import type { Joins } from './joins.js';
import type { Scrub } from './scrub.js';

export interface ReplicationState {
  /** Groups this daemon is a member of, and those of them that it is primary of. */
  readonly groups: number;
  readonly primaries: number;
  /** Members that are being brought in sync just now. */
  readonly joins: number;
  /** Since the start. */
  readonly joined: Readonly<JoinProgress>;
  /** Bytes a second that members are sent at most, and what an operator wants; 0: by what clients feel. */
  readonly rate: number;
  readonly rateWanted: number;
  readonly scrubbed: ScrubCounts;
  /** Groups that somebody wants to be looked through, and that are not done. */
  readonly scrubsWanted: number;
}

export type ReplicationReport = Pick<DaemonReport, 'groups' | 'isFull'>;

/** The parts of a `ReplicaNode` that are told of. */
export interface Told {
  readonly joins: Joins;
  readonly scrub: Scrub;
  groups(): Iterable<Group>;
}

export function replicationState(node: Told): ReplicationState {
  const { joins, scrub } = node;
  let [members, primaries] = [0, 0];
  for (const { isMember, primary } of node.groups()) {
    if (isMember) members += 1;
    if (primary !== null) primaries += 1;
  }
  return {
    groups: members,
    primaries,
    joins: joins.activeCount,
    joined: joins.progress,
    rate: joins.pace.rate,
    rateWanted: joins.pace.wanted,
    scrubbed: scrub.found,
    scrubsWanted: scrub.wantedCount,
  };
}

/** Of the pools that this daemon leads groups of; those with joins first. @param wallSeconds - Now. */
export function reportedGroups(node: Told, wallSeconds: number): ReportedGroups[] {
  const led = new Map<number, Group[]>();
  for (const group of node.groups()) {
    if (group.primary === null) continue;
    const others = led.get(group.pool);
    if (others === undefined) led.set(group.pool, [group]);
    else others.push(group);
  }
  const { scrub, joins } = node;
  const since = (seconds: number): number | null =>
    seconds === 0 ? null : Math.max(0, Math.round(wallSeconds - seconds));
  return [...led]
    .map(([pool, groups]) => {
      const joining = groups.reduce((sum, group) => sum + joiningOf(group), 0);
      const { light, deep } = scrub.oldest(groups);
      const { errors = 0, repaired = 0 } = scrub.foundIn.get(pool) ?? {};
      return {
        ...{ pool, joining, objectsLeft: 0, bytesLeft: 0 },
        bytesPerSecond: joining === 0 ? 0 : joins.pace.pushedPerSecond,
        ...{ lastLightSeconds: since(light), lastDeepSeconds: since(deep) },
        ...{ errorsFound: errors, errorsRepaired: repaired },
      };
    })
    .sort((a, b) => b.joining - a.joining)
    .slice(0, REPORTED_GROUPS_MAX);
}

function joiningOf({ primary }: Group): number {
  let count = 0;
  for (const { isInSync } of primary?.streams ?? []) if (!isInSync) count += 1;
  return count;
}
