/**
 * All that the masters of one cluster know, as one immutable value. A decision is a function from one to the next
 * (`decide-*.ts`); what it changed is found by comparing the two (`state-keys.ts`), and stored in one step.
 */
import type { PoolSecret, StorageMap } from '@store/core';

/** What is not in the map of a daemon that is. */
export interface DaemonRecord {
  readonly capacityBytes: number;
  /** The weight was set by somebody, and does not follow the capacity. */
  readonly isWeightFixed: boolean;
  /** Seconds since 1970. */
  readonly created: number;
  /** Starts of it that groups still list as in sync, and after which it has lost writes that were not flushed. */
  readonly lostSince: readonly string[];
}

/** A member of a group that was in sync and is not. */
export interface MemberBehind {
  /** Its id. */
  readonly pool: number;
  readonly group: number;
  readonly daemon: number;
  /** When it ceased to be: seconds since 1970, by the clock of the master that led. */
  readonly since: number;
}

/** What an operator gave up. */
export interface IncidentRecord {
  /** Seconds since 1970. */
  readonly time: number;
  readonly pool: string;
  readonly group: number;
  /** Of the group, from which on it is gone. */
  readonly epoch: number;
  /** The daemon that the group goes on with. */
  readonly daemon: number;
  /** Some sentences. */
  readonly what: string;
}

export interface ClientRecord {
  readonly name: string;
  /** 32 bytes. */
  readonly key: Buffer;
  /** Of the key: it is in the name that tickets are made out to, so that those of an old key can be blocked. */
  readonly generation: number;
  readonly isAdmin: boolean;
  /** By pool, `*` for all: `r`, `rw`, `rwa`. */
  readonly rights: Readonly<Record<string, string>>;
  /** Seconds since 1970; 0: never. */
  readonly created: number;
  readonly rotated: number;
}

/** A pool that is no more, until all daemons have removed what they hold of it. */
export interface RemovedPool {
  readonly name: string;
  /** Daemons that may still hold something. */
  readonly daemons: readonly number[];
}

export interface ClusterState {
  /** Grows with each decision. */
  readonly serial: number;
  /** Seconds since 1970. */
  readonly created: number;
  /** Version of the newest map that was found when the state was last recovered; 0: it never was. */
  readonly recoveredFrom: number;
  readonly nextDaemonId: number;
  readonly nextPoolId: number;
  readonly map: StorageMap;
  /** By daemon id. */
  readonly daemons: ReadonlyMap<number, DaemonRecord>;
  /** By pool id, the newest first. */
  readonly secrets: ReadonlyMap<number, readonly PoolSecret[]>;
  readonly clients: ReadonlyMap<string, ClientRecord>;
  /** By pool id. */
  readonly removedPools: ReadonlyMap<number, RemovedPool>;
  /** Names on tickets that are worth nothing any more, until when they would have been: seconds since 1970. */
  readonly blocked: ReadonlyMap<string, number>;
  /** As far as it is remembered, see `noteBehind`; the first to leave first. */
  readonly behind: readonly MemberBehind[];
  /** By number, the oldest first; the last hundred. */
  readonly incidents: ReadonlyMap<number, IncidentRecord>;
  /** Bytes that each daemon may send in a second to make copies equal; 0: by what clients feel. */
  readonly recoveryRate: number;
}

/** @param clusterId - 32 hexadecimal digits. */
export function newCluster(clusterId: string, created: number): ClusterState {
  return {
    serial: 0,
    created,
    recoveredFrom: 0,
    nextDaemonId: 1,
    nextPoolId: 1,
    map: { clusterId, version: 1, daemons: [], pools: [], blockedClients: [], blockedTickets: [] },
    daemons: new Map(),
    secrets: new Map(),
    clients: new Map(),
    removedPools: new Map(),
    blocked: new Map(),
    behind: [],
    incidents: new Map(),
    recoveryRate: 0,
  };
}

/** The same map with one entry set, or removed (undefined). */
export function withEntry<K, V>(
  entries: ReadonlyMap<K, V>,
  key: K,
  value: V | undefined,
): ReadonlyMap<K, V> {
  const next = new Map(entries);
  if (value === undefined) next.delete(key);
  else next.set(key, value);
  return next;
}

/** The name that tickets of a client are made out to. */
export function ticketNameOf({
  name,
  generation,
}: Pick<ClientRecord, 'name' | 'generation'>): string {
  return `${name}#${generation}`;
}
