/**
 * What all changes of a group have in common. Each makes one new epoch, and whatever it does: the in-sync set is never
 * empty once it was not, the primary is one of it and stands first, and then come the others in sync.
 */
import {
  EPOCH_MAX,
  invariant,
  StoreError,
  type MapDaemon,
  type MapGroup,
  type MapMember,
} from '@store/core';
import type { ClusterState } from './cluster-state.js';

/** Numbers of changes are epoch * 2^32 + n, and stay below 2^53. */
const GROUP_EPOCH_MAX: number = Math.min(EPOCH_MAX, 2 ** 21 - 1);

/** Those in sync, in their order: the primary first. */
export function inSyncOf({ members }: MapGroup): MapMember[] {
  return members.filter(({ inSync }) => inSync !== null);
}

/** Null: nobody serves the group. */
export function primaryOf({ members: [first], hasPrimary }: MapGroup): MapMember | null {
  return hasPrimary && first !== undefined ? first : null;
}

export function memberOf({ members }: MapGroup, daemon: number): MapMember | undefined {
  return members.find((member) => member.daemon === daemon);
}

const daemonsById = new WeakMap<readonly MapDaemon[], ReadonlyMap<number, MapDaemon>>();

/** Found at once: this is asked for each member of each group. */
export function daemonIn({ map: { daemons } }: ClusterState, id: number): MapDaemon | undefined {
  let byId = daemonsById.get(daemons);
  if (byId === undefined) {
    byId = new Map(daemons.map((daemon) => [daemon.id, daemon]));
    daemonsById.set(daemons, byId);
  }
  return byId.get(id);
}

/** Whether that start of a daemon is in sync by the map. */
export function isInSync(group: MapGroup, daemon: number, startId: string): boolean {
  return memberOf(group, daemon)?.inSync === startId;
}

/**
 * The group in its next epoch. Members keep their order, but that those in sync come first.
 * @param members - At least one in sync: the first of those is the primary.
 * @param lost - What is lost with this change of what was answered: `unflushed` writes, or `all` that an older copy lacks.
 */
export function nextGroup(
  group: MapGroup,
  members: readonly MapMember[],
  { lost = 'nothing' }: { lost?: 'nothing' | 'unflushed' | 'all' } = {},
): MapGroup {
  const epoch = group.epoch + 1;
  if (epoch > GROUP_EPOCH_MAX)
    throw new StoreError(
      'E_INVALID',
      `A group has changed ${GROUP_EPOCH_MAX} times, which is all that can be numbered; copy its pool into a new one`,
    );
  const inSync = members.filter((member) => member.inSync !== null);
  invariant(inSync.length > 0, 'somebody stays in sync');
  const ordered = [...inSync, ...members.filter((member) => member.inSync === null)];
  return {
    epoch,
    members: ordered,
    hasPrimary: true,
    lostAt: lost === 'nothing' ? group.lostAt : epoch,
    givenUpAt: lost === 'all' ? epoch : group.givenUpAt,
  };
}

/** Another order: that member in sync is the primary. */
export function primaryFirst(members: readonly MapMember[], daemon: number): MapMember[] {
  const first = members.find((member) => member.daemon === daemon);
  invariant(first !== undefined && first.inSync !== null, 'only who is in sync becomes primary');
  return [first, ...members.filter((member) => member !== first)];
}

/** The same members; that one is not in sync, and the last. */
export function withoutSync(members: readonly MapMember[], daemon: number): MapMember[] {
  return [...members.filter((member) => member.daemon !== daemon), { daemon, inSync: null }];
}

/** Of a group: which pool, which number in it. */
export interface GroupPlace {
  readonly pool: number;
  readonly group: number;
}

/** The same state, if nothing is another one. @param change - Answers with the same group to leave it as it is. */
export function changeGroups(
  state: ClusterState,
  change: (group: MapGroup, place: GroupPlace) => MapGroup,
): ClusterState {
  const pools = state.map.pools.map((pool) => {
    const groups = pool.groups.map((group, index) =>
      change(group, { pool: pool.id, group: index }),
    );
    if (groups.every((group, index) => group === pool.groups[index])) return pool;
    return { ...pool, groups };
  });
  if (pools.every((pool, index) => pool === state.map.pools[index])) return state;
  return { ...state, map: { ...state.map, pools } };
}

/** The state with one group of one pool set. */
export function withGroup(
  state: ClusterState,
  { pool: poolId, group: index }: GroupPlace,
  next: MapGroup,
): ClusterState {
  const pools = state.map.pools.map((pool) =>
    pool.id === poolId
      ? { ...pool, groups: pool.groups.map((group, at) => (at === index ? next : group)) }
      : pool,
  );
  return { ...state, map: { ...state.map, pools } };
}
