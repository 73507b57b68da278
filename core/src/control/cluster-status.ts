/** What masters tell people about the cluster: plain data, as it goes over the wire, into `--json` and to the dashboard. */
import type { Durability, FailureDomain, Membership } from '../map/storage-map.js';

export type Health = 'ok' | 'warning' | 'error';

/** Something is wrong, and what helps. */
export interface Problem {
  readonly severity: 'warning' | 'error';
  /** `daemon 3`, `pool vms`, `masters`. */
  readonly where: string;
  /** One sentence. */
  readonly what: string;
  /** One sentence, with the command to type if there is one. */
  readonly advice: string;
}

export interface MasterStatus {
  /** Where clients connect. */
  readonly address: string;
  readonly isLeader: boolean;
}

/** Work of one daemon, or of all, in one second on average over the last report. */
export interface Traffic {
  readonly readsPerSecond: number;
  readonly writesPerSecond: number;
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  /** Mean time in the daemon, milliseconds; 0: there was nothing. */
  readonly readMs: number;
  readonly writeMs: number;
}

export interface DaemonStatus {
  readonly id: number;
  readonly diskId: string;
  readonly address: string;
  readonly peerAddress: string | null;
  readonly host: string;
  readonly rack: string;
  readonly state: 'up' | 'down';
  /** How long it has been in that state, as far as this master knows. */
  readonly stateSeconds: number;
  readonly membership: Membership;
  readonly weight: number;
  readonly capacityBytes: number;
  /** It has told the master that leads how full its disk is; before, `freeBytes` and `usedBytes` are 0 and say nothing. */
  readonly hasReported: boolean;
  readonly freeBytes: number;
  /** Of objects. */
  readonly usedBytes: number;
  /** Copies of groups it holds, and those of them that it is primary of. */
  readonly groups: number;
  readonly primaries: number;
  /** Version of the map it has said to have; 0: none. */
  readonly mapVersion: number;
  /** Starts within the last hour. */
  readonly recentStarts: number;
  readonly traffic: Traffic;
}

export interface PoolStatus {
  readonly id: number;
  readonly name: string;
  readonly replicas: number;
  readonly minReplicas: number;
  readonly groups: number;
  readonly objectBytes: number;
  readonly failureDomain: FailureDomain;
  readonly durability: Durability;
  /** Of all copies together. */
  readonly usedBytes: number;
  /** Each object once. */
  readonly storedBytes: number;
  readonly objects: number;
  /** Groups without a copy in sync that runs; of them reads and writes wait. */
  readonly groupsDown: number;
  /** Groups with fewer copies in sync that run than `minReplicas`, but one at least: of them writes wait. */
  readonly groupsReadOnly: number;
  /** Groups with fewer copies in sync that run than `replicas`. */
  readonly groupsDegraded: number;
  /** Groups with a copy that is being made. */
  readonly groupsJoining: number;
  /** Groups that lie elsewhere than placement wants. */
  readonly groupsMisplaced: number;
  /** Of `groups * replicas`, how many are not in sync or do not run. */
  readonly copiesMissing: number;
  readonly recovery: Recovery;
  readonly scrub: ScrubStatus;
}

/** What is being copied to where it belongs, and how fast. */
export interface Recovery {
  readonly bytesLeft: number;
  readonly bytesPerSecond: number;
  /** Null: there is nothing to copy, or nobody can say. */
  readonly secondsLeft: number | null;
}

/** How old the last scrub of everything is, by its kind; null: there has been none of all. */
export interface ScrubStatus {
  readonly lastLightSeconds: number | null;
  readonly lastDeepSeconds: number | null;
  /** Since the daemons were started. */
  readonly errorsFound: number;
  readonly errorsRepaired: number;
}

export type GroupState = 'ok' | 'joining' | 'degraded' | 'read-only' | 'down';

/** One group of a pool. */
export interface GroupStatus {
  readonly pool: string;
  readonly group: number;
  readonly epoch: number;
  readonly state: GroupState;
  /** Epoch at which answered writes that were not flushed were lost; 0: never. */
  readonly lostAt: number;
  readonly members: readonly GroupMemberStatus[];
  /** Daemons where placement wants it; null: that is not known yet. */
  readonly wanted: readonly number[] | null;
}

export interface GroupMemberStatus {
  readonly daemon: number;
  readonly role: 'primary' | 'copy' | 'joining';
  /** `restarted`: the start that was in sync is over, and the daemon is up with another one. */
  readonly state: 'up' | 'down' | 'restarted';
  /** Of one that is joining: when it ceased to be in sync, ISO 8601; null: it never was, or nobody knows. */
  readonly behindSince: string | null;
}

/** Something that an operator gave up. */
export interface Incident {
  /** ISO 8601. */
  readonly time: string;
  readonly pool: string;
  readonly group: number;
  readonly daemon: number;
  /** Sentences. */
  readonly what: string;
}

export interface ImageStatus {
  readonly pool: string;
  readonly name: string;
  readonly sizeBytes: number;
}

export interface ClusterStatus {
  readonly clusterId: string;
  /** Of the map. */
  readonly version: number;
  /** Wall-clock time of this report, ISO 8601. */
  readonly time: string;
  readonly health: Health;
  /** The worst first. */
  readonly problems: readonly Problem[];
  readonly masters: readonly MasterStatus[];
  readonly daemons: readonly DaemonStatus[];
  readonly pools: readonly PoolStatus[];
  readonly images: readonly ImageStatus[];
  /** This and the two below: of the daemons that have reported. */
  readonly capacityBytes: number;
  readonly freeBytes: number;
  readonly usedBytes: number;
  readonly traffic: Traffic;
  readonly recovery: Recovery;
  /** Bytes that each daemon may send in a second to make copies equal; 0: by what clients feel. */
  readonly recoveryRate: number;
  /** The latest first. */
  readonly incidents: readonly Incident[];
}

/** Traffic of all daemons together over the last hour, the oldest first. */
export interface TrafficHistory {
  readonly stepSeconds: number;
  /** `time`: end of the step, seconds since 1970. */
  readonly samples: readonly ({ readonly time: number } & Traffic)[];
}

/** What a change of the cluster moves. */
export interface ChangePlan {
  /** One sentence: what the change is. */
  readonly change: string;
  /** Copies of groups that change their daemon. */
  readonly copiesMoved: number;
  /** Null: not known. */
  readonly bytesMoved: number | null;
  readonly groupsChanged: number;
  readonly daemons: readonly {
    readonly daemon: number;
    readonly copiesBefore: number;
    readonly copiesAfter: number;
    readonly copiesIn: number;
    readonly copiesOut: number;
  }[];
  /** What somebody should know before doing it. */
  readonly warnings: readonly string[];
}

/** Where a key lies, and why. */
export interface WhyAnswer {
  readonly pool: string;
  readonly key: string;
  /** 16 hexadecimal digits. */
  readonly hash: string;
  readonly group: number;
  readonly epoch: number;
  readonly members: readonly {
    readonly daemon: number;
    readonly address: string;
    readonly host: string;
    readonly rack: string;
    readonly role: 'primary' | 'copy' | 'joining';
    readonly state: 'up' | 'down';
  }[];
  /** Sentences, in the order of the argument. */
  readonly reasons: readonly string[];
}

/** A client as masters know it, without its key. */
export interface ClientStatus {
  readonly name: string;
  /** May change the cluster: daemons, pools, clients. */
  readonly isAdmin: boolean;
  /** By pool: `r`, `rw` or `rwa`. `*`: all pools. */
  readonly rights: Readonly<Record<string, string>>;
  /** ISO 8601. */
  readonly created: string;
  readonly rotated: string | null;
}
