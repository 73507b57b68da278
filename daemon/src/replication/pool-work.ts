/** What a daemon's replication has to do, and has found, in the groups that it leads: for reports and metrics. */
import type { Group } from './group.js';
import type { ReplicaNode } from './replica-node.js';
import type { ScrubTimes } from './scrub.js';

/** Of the groups of one pool. */
export interface PoolWork {
  readonly pool: number;
  /** Numbers of the groups. */
  readonly led: ReadonlySet<number>;
  /** Members that are being brought in sync. */
  readonly joining: number;
  /** How much of their copies was not gone through yet, in copies of groups. */
  readonly copiesLeft: number;
  /** As `copiesLeft`, what was gone through since the start. */
  readonly copiesDone: number;
  /** When the group was scrubbed that waits the longest, seconds since 1970; 0: it never was. */
  readonly scrubbed: ScrubTimes;
  readonly errorsFound: number;
  readonly errorsRepaired: number;
}

/** Numbers of all groups together. */
export interface ReplicationState {
  readonly groupsLed: number;
  /** Changes that not all who must make them have made yet. */
  readonly uncommitted: number;
  readonly joinsActive: number;
  /** Since the start, as all that follows. */
  readonly bytesPushed: number;
  readonly scrubErrors: number;
  readonly scrubRepaired: number;
  readonly scrubContradictions: number;
}

export function replicationState(
  node: Pick<ReplicaNode, 'groups' | 'joins' | 'scrub'>,
): ReplicationState {
  let [groupsLed, uncommitted] = [0, 0];
  for (const { primary } of node.groups()) {
    if (primary === null) continue;
    groupsLed += 1;
    uncommitted += primary.uncommitted.size;
  }
  const { errors, repaired, contradictions } = node.scrub.found;
  return {
    groupsLed,
    uncommitted,
    joinsActive: node.joins.activeCount,
    bytesPushed: node.joins.progress.bytesPushed,
    scrubErrors: errors,
    scrubRepaired: repaired,
    scrubContradictions: contradictions,
  };
}

/** By pool; those of which nothing is led here are left out. */
export function poolWork(node: Pick<ReplicaNode, 'groups' | 'joins' | 'scrub'>): PoolWork[] {
  const byPool = new Map<number, Group[]>();
  for (const group of node.groups()) {
    if (group.primary === null) continue;
    const groups = byPool.get(group.pool);
    if (groups === undefined) byPool.set(group.pool, [group]);
    else groups.push(group);
  }
  return [...byPool].map(([pool, groups]) => {
    const ahead = groups.map((group) => node.joins.ahead(group));
    const { errors, repaired } = node.scrub.foundIn(pool);
    return {
      pool,
      led: new Set(groups.map(({ number }) => number)),
      joining: ahead.reduce((sum, { joining }) => sum + joining, 0),
      copiesLeft: ahead.reduce((sum, { copiesLeft }) => sum + copiesLeft, 0),
      copiesDone: node.joins.copiesDone(pool),
      scrubbed: node.scrub.oldest(groups),
      errorsFound: errors,
      errorsRepaired: repaired,
    };
  });
}
