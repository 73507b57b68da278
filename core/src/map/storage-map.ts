/**
 * The storage map: which daemons there are, which pools, and for each group of a pool who holds it. Masters make it,
 * daemons and clients get it and look up; nobody else decides anything in it. What it says is facts, not rules: where a
 * group lies is stated, not computed again by who reads it.
 *
 * Times and addresses that change all the time (who answers just now, how full a disk is) are not in it.
 */

/** Where two copies of a group must not lie together. Each contains the ones before it. */
export const FAILURE_DOMAINS = ['disk', 'host', 'rack'] as const;
export type FailureDomain = (typeof FAILURE_DOMAINS)[number];

/** When a write is answered: by all in-sync members in memory, and durable with the next flush; or durable at once. */
export type Durability = 'flush' | 'write';

/**
 * - `in`: holds what placement gives it.
 * - `draining`: goes on serving what it has, and gets nothing new; what it has moves away.
 * - `out`: holds nothing; what it had is recovered from others.
 */
export type Membership = 'in' | 'draining' | 'out';

/** One daemon, which is one disk. */
export interface MapDaemon {
  /** Of this cluster, from 1 on, never used again. Groups name daemons by it. */
  readonly id: number;
  /** Of its folder: 16 bytes as 32 hexadecimal digits. An empty folder is another daemon. */
  readonly diskId: string;
  /** Of its present start, as `diskId`; members and leases belong to it. Null: it has not come up yet. */
  readonly startId: string | null;
  /** Where clients connect, `host:port`. */
  readonly address: string;
  /** Where daemons and masters connect, `host:port`; null: nowhere. */
  readonly peerAddress: string | null;
  /** Labels of where it stands. */
  readonly host: string;
  readonly rack: string;
  /** How much it should hold in proportion to others: MiB of its disk unless somebody said otherwise. */
  readonly weight: number;
  readonly membership: Membership;
}

/** One member of a group: a start of a daemon. */
export interface MapMember {
  readonly daemon: number;
  /** Of the start that is in sync, as `MapDaemon.startId`; null: this member is not, and is to join. */
  readonly inSync: string | null;
}

/** Who holds one group. */
export interface MapGroup {
  /** Grows with each change of this group, and never comes again. */
  readonly epoch: number;
  /** The primary first, if there is one. */
  readonly members: readonly MapMember[];
  /** True if the first member is the primary; false while nobody may serve. */
  readonly hasPrimary: boolean;
  /** Epoch at which answered writes that were not flushed were lost; 0: never. */
  readonly lostAt: number;
  /** Epoch at which flushed ones were lost as well, as an operator had the group go on with an older copy; 0: never. */
  readonly givenUpAt: number;
}

export interface MapPool {
  /** Of this cluster, from 1 on, never used again. */
  readonly id: number;
  readonly name: string;
  readonly replicas: number;
  /** Below so many in-sync members nothing is written. */
  readonly minReplicas: number;
  readonly objectBytes: number;
  readonly failureDomain: FailureDomain;
  readonly durability: Durability;
  /** By number; how many there are is a power of two. */
  readonly groups: readonly MapGroup[];
}

export interface StorageMap {
  /** Of the cluster: 16 bytes as 32 hexadecimal digits. */
  readonly clusterId: string;
  /** Grows with each change. */
  readonly version: number;
  readonly daemons: readonly MapDaemon[];
  readonly pools: readonly MapPool[];
  /** Who is let in no more, though the ticket is good: names of clients, and ids of tickets. */
  readonly blockedClients: readonly string[];
  readonly blockedTickets: readonly string[];
}
