/** What the replication of one daemon needs of the world. The real daemon and the simulator each bring their own. */
import type { Clock, GroupRequest, Log, MapView, Random, StoreError, Timers } from '@store/core';
import type { PeerMessage } from './peer-message.js';
import type { ReplicaPool } from './replica-pool.js';
import type { ScrubNotes } from './scrub.js';

/** The links to other daemons. */
export interface PeerPort {
  /**
   * Sends a message to a start of a daemon, if there is a link; else it is lost. In order on one link. What the message
   * holds is borrowed until the operation it belongs to is answered, and copied by nobody before that.
   */
  send(daemon: number, message: PeerMessage): void;
  /**
   * Nothing that was sent to a daemon and has not left leaves any more: what it borrows goes back to its owners, though the
   * daemon has not answered. If there is such a thing the link breaks.
   */
  recall(daemon: number): void;
  /** Daemons that links are wanted to; the port makes them, and makes them again when they break. */
  want(daemons: ReadonlySet<number>): void;
}

/** What the links to other daemons tell. Never from within a call of `PeerPort`. */
export interface PeerEvents {
  /** There is a link to this start of a daemon, which has proved to be it. */
  up(daemon: number, startId: string): void;
  /** It is broken: what was sent and not answered may have arrived or not. Always before the next `up`. */
  down(daemon: number): void;
  /**
   * A message, between `up` and `down`. Its bytes belong to the receiver. Those of a change may be used for another when it
   * was acknowledged; so many wait for that at most, then no more is read.
   */
  received(daemon: number, startId: string, message: PeerMessage): void;
}

/** The way to the masters. */
export interface MasterPort {
  /** There is a way to the one that leads. */
  readonly isUp: boolean;
  /**
   * Asks for a decision about a group. The map that comes of it arrives by itself, usually before the answer.
   * @param done - Null: it was decided, or was so already. `E_STALE_MAP`: the group has another epoch. Others: not known.
   */
  ask(request: GroupRequest, done: (error: StoreError | null) => void): void;
}

export interface ReplicationPorts {
  readonly clock: Clock;
  readonly timers: Pick<Timers, 'after'>;
  readonly random: Random;
  readonly log: Log;
  readonly peers: PeerPort;
  readonly masters: MasterPort;
  /** The engine's pool of a pool of the cluster; null: not opened yet, or of an older map. */
  poolOf(poolId: number): ReplicaPool | null;
  /** The newest map. */
  view(): MapView | null;
  /** When groups were scrubbed last. */
  readonly scrubNotes: ScrubNotes;
  /** Of this daemon; 0: it has not registered yet. */
  readonly daemonId: number;
  /** Of its present start, as `MapDaemon.startId`. */
  readonly startId: string;
  /** Asks the masters for a newer map: somebody has one. */
  wantMap(): void;
  /** The present map, as `encodeMap` makes it; null: there is none. */
  mapBytes(): Buffer | null;
  /** A map that another daemon has. Checked by whoever takes it, who tells `ReplicaNode.mapIs` of it. */
  takeMap(bytes: Buffer): void;
  /** Something was thrown, or found, that is a defect of ours. */
  defect(error: unknown): void;
}
