/** Decisions about daemons: pure functions from one state of the cluster to the next. */
import {
  orderedMap,
  placePool,
  StoreError,
  WEIGHT_MAX,
  type DaemonRegistration,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type StorageMap,
} from '@store/core';
import type { DaemonChange } from '../admin/admin-service.js';
import { withEntry, type ClusterState } from './cluster-state.js';
import { daemonStarted } from './decide-groups.js';
import { inSyncOf } from './group-changes.js';
import type { IsAlive } from './roster-view.js';

const MIB: number = 1024 * 1024;

/**
 * The daemon becomes a part of the cluster, or what it was before with a new start.
 * @param isAlive - Of the others.
 * @throws StoreError `E_DENIED` if its folder belongs to another cluster
 */
export function registerDaemon(
  state: ClusterState,
  registration: DaemonRegistration,
  now: number,
  isAlive: IsAlive = () => true,
): { state: ClusterState; daemon: MapDaemon } {
  const { clusterId, diskId } = registration;
  if (clusterId !== '' && clusterId !== state.map.clusterId)
    throw new StoreError(
      'E_DENIED',
      `The folder of this daemon belongs to cluster ${clusterId}, and this master to ${state.map.clusterId}: give the daemon the right --master or another folder. If the state of the masters was lost, see store master recover --help`,
    );
  const known = state.map.daemons.find((daemon) => daemon.diskId === diskId);
  const record = known === undefined ? undefined : state.daemons.get(known.id);
  const id = known?.id ?? state.nextDaemonId;
  const { startId, address, peerAddress, host, rack, capacityBytes } = registration;
  const isWeightFixed = record?.isWeightFixed ?? false;
  const weight = isWeightFixed && known !== undefined ? known.weight : weightOf(capacityBytes);
  const daemon: MapDaemon = {
    id,
    diskId,
    startId,
    address,
    peerAddress: peerAddress === '' ? null : peerAddress,
    host,
    rack,
    weight,
    membership: known?.membership ?? 'in',
  };
  const isThere: IsAlive = (other, start) => other === id || isAlive(other, start);
  const isSame = known !== undefined && sameDaemon(known, daemon);
  // It has only lost its master: there is nothing to store, which must work on a disk that is full as well.
  if (isSame && record?.capacityBytes === capacityBytes)
    return { state: placeUnplaced(state, isThere), daemon };
  let next: ClusterState = {
    ...state,
    nextDaemonId: Math.max(state.nextDaemonId, id + 1),
    daemons:
      record?.capacityBytes === capacityBytes
        ? state.daemons
        : withEntry(state.daemons, id, {
            capacityBytes,
            isWeightFixed,
            created: record?.created ?? now,
            lostSince: record?.lostSince ?? [],
          }),
    map: isSame ? state.map : replaceDaemon(state.map, daemon),
  };
  if (known !== undefined && known.startId !== startId)
    next = daemonStarted(next, daemon, registration.lostUnflushed, isAlive);
  return { state: placeUnplaced(next, isThere), daemon };
}

/** @throws StoreError `E_NOT_FOUND`, `E_INVALID`, `E_IN_USE` */
export function changeDaemon(state: ClusterState, id: number, change: DaemonChange): ClusterState {
  const daemon = daemonOf(state.map, id);
  const record = state.daemons.get(id);
  let { weight, membership } = daemon;
  let { isWeightFixed = false } = record ?? {};
  if (change.weight !== undefined) {
    isWeightFixed = change.weight !== null;
    weight = change.weight ?? weightOf(record?.capacityBytes ?? 0);
    if (!Number.isInteger(weight) || weight < 0 || weight > WEIGHT_MAX)
      throw new StoreError(
        'E_INVALID',
        `A weight is a whole number from 0 to ${WEIGHT_MAX} (MiB, if it is to mean capacity), not ${weight}`,
      );
  }
  membership = change.membership ?? membership;
  const only = soleGroups(state.map, id);
  if (membership === 'out' && only > 0)
    throw new StoreError(
      'E_IN_USE',
      `Daemon ${id} has the only copy of ${only} groups: taken out, their data is out of reach. Drain it instead: store daemon drain ${id}`,
    );
  const map = replaceDaemon(state.map, { ...daemon, weight, membership });
  const daemons =
    record === undefined || record.isWeightFixed === isWeightFixed
      ? state.daemons
      : withEntry(state.daemons, id, { ...record, isWeightFixed });
  return placeUnplaced({ ...state, map, daemons });
}

/** @throws StoreError `E_NOT_FOUND`; `E_IN_USE` while groups lie on it */
export function removeDaemon(state: ClusterState, id: number): ClusterState {
  const daemon = daemonOf(state.map, id);
  const held = heldGroups(state.map, id);
  if (held > 0)
    throw new StoreError(
      'E_IN_USE',
      daemon.membership === 'draining'
        ? `Daemon ${id} is draining and still holds ${held} groups; remove it when it is empty: store daemon ls`
        : `Daemon ${id} holds ${held} groups; drain it first (store daemon drain ${id}), and remove it when it is empty`,
    );
  return {
    ...state,
    map: { ...state.map, daemons: state.map.daemons.filter((daemon) => daemon.id !== id) },
    daemons: withEntry(state.daemons, id, undefined),
  };
}

/**
 * Groups that nobody has ever held get their daemons, as far as there are any, all in sync at once: there is nothing to
 * be in sync with. What is held stays where it is.
 * @param isAlive - Whoever is not there is given none of them.
 */
export function placeUnplaced(state: ClusterState, isAlive: IsAlive = () => true): ClusterState {
  const { map } = state;
  const isOpen = ({ members }: MapGroup): boolean => members.length === 0;
  const open = map.pools.filter((pool) => pool.groups.some(isOpen));
  const bearers = map.daemons.filter(
    (one) => isBearer(one) && one.startId !== null && isAlive(one.id, one.startId),
  );
  if (open.length === 0 || bearers.length === 0) return state;
  const startOf = new Map(map.daemons.map(({ id, startId }) => [id, startId]));
  const place = (pool: MapPool): MapPool => {
    const holders = pool.groups.map(({ members }) => members.map(({ daemon }) => daemon));
    const placement = placePool({ ...pool, holders }, bearers);
    const groups = pool.groups.map((group, index) => {
      const ids = placement[index] ?? [];
      if (!isOpen(group) || ids.length === 0) return group;
      // All of them are in sync: none of them has anything.
      const members = ids.map((daemon) => ({ daemon, inSync: startOf.get(daemon) ?? null }));
      return { ...group, epoch: group.epoch + 1, members, hasPrimary: true };
    });
    return { ...pool, groups };
  };
  return {
    ...state,
    map: { ...map, pools: map.pools.map((pool) => (open.includes(pool) ? place(pool) : pool)) },
  };
}

/** Whether a daemon is given groups. */
export function isBearer({ startId, membership, weight }: MapDaemon): boolean {
  return startId !== null && membership === 'in' && weight > 0;
}

/** @throws StoreError `E_NOT_FOUND` */
export function daemonOf(map: StorageMap, id: number): MapDaemon {
  const daemon = map.daemons.find((one) => one.id === id);
  if (daemon !== undefined) return daemon;
  throw new StoreError('E_NOT_FOUND', `There is no daemon ${id}; see store daemon ls`);
}

/** Groups that have a copy on a daemon. */
export function heldGroups(map: StorageMap, id: number): number {
  return countGroups(map, ({ members }) => members.some(({ daemon }) => daemon === id));
}

/** Groups of which a daemon has the only copy in sync. */
export function soleGroups(map: StorageMap, id: number): number {
  return countGroups(map, (group) => {
    const inSync = inSyncOf(group);
    return inSync.length === 1 && inSync[0]?.daemon === id;
  });
}

function countGroups(map: StorageMap, counts: (group: MapGroup) => boolean): number {
  return map.pools.reduce((sum, { groups }) => sum + groups.filter(counts).length, 0);
}

function weightOf(capacityBytes: number): number {
  return Math.min(WEIGHT_MAX, Math.max(1, Math.floor(capacityBytes / MIB)));
}

function sameDaemon(a: MapDaemon, b: MapDaemon): boolean {
  return (Object.keys(b) as (keyof MapDaemon)[]).every((field) => a[field] === b[field]);
}

function replaceDaemon(map: StorageMap, daemon: MapDaemon): StorageMap {
  const others = map.daemons.filter(({ id }) => id !== daemon.id);
  return orderedMap({ ...map, daemons: [...others, daemon] });
}
