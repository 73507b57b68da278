/** What the state machines of one group need of the daemon they run in. */
import type { GroupRequestKind, Log, MapPool, StoreError } from '@store/core';
import type { Leases } from './leases.js';
import type { PeerMessage } from './peer-message.js';
import type { AskNowhere, Mend } from './read-repair.js';
import type { ReplicaPool } from './replica-pool.js';
import type { ReplicationTiming } from './timing.js';

/** A start of a daemon. */
export interface StartOf {
  readonly daemon: number;
  readonly startId: string;
}

export interface GroupHost {
  readonly now: number;
  readonly self: StartOf;
  readonly timing: ReplicationTiming;
  readonly leases: Leases;
  readonly log: Log;
  readonly mapVersion: number;
  /** This daemon stops soon. */
  readonly isLeaving: boolean;
  /** Settings of the pool by the present map. */
  poolOf(pool: number): MapPool | undefined;
  storeOf(pool: number): ReplicaPool | null;
  /** The present start of a daemon by the map; null: it has none. */
  startOf(daemon: number): string | null;
  /** There is a link to that start. */
  isUp(daemon: number, startId: string): boolean;
  /** It has said that it stops: it is done without, and joins nothing. */
  isStopping(daemon: number, startId: string): boolean;
  send(daemon: number, message: PeerMessage): void;
  /** See `PeerPort.recall`. */
  recall(daemon: number): void;
  /** The masters can be asked just now, as far as is known. */
  readonly canAsk: boolean;
  /** @param about - The member that a `remove` or `joined` is about */
  ask(
    kind: GroupRequestKind,
    group: { readonly pool: number; readonly number: number; readonly epoch: number },
    about: StartOf | null,
    done: (error: StoreError | null) => void,
  ): void;
  /** A map of at least that version is somewhere: get it. */
  wantMap(from: number | null): void;
  /** Sends our map to a daemon that is behind. */
  sendMap(daemon: number): void;
  readonly mend: Mend;
  readonly areGoodNowhere: AskNowhere;
  /** Runs it in a later turn, after so many milliseconds if that is said. */
  soon(run: () => void, ms?: number): void;
  /** Somebody became, or stopped being, a member to be waited for: flushes look again. */
  membersChanged(pool: number): void;
}
