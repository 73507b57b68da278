/**
 * Leases between daemons, in both directions, one for each pair (not for each group).
 *
 * Held: a daemon that grants a heartbeat promises that, until the lease has passed since the heartbeat was *sent*, nobody
 * takes the place of the sender in a group that both are members of; and it says by which map. A grant by a newer map than
 * the holder's own does not count until the holder has that map: then it knows itself which groups it still leads.
 *
 * Granted: who has granted nothing for the grace period, which is longer than the lease by any clock, may ask for the place
 * of a primary. From that request on it grants nothing to that start until the group has another epoch, or the request was
 * refused for certain: the masters may decide at any time, whatever other maps come before that.
 *
 * Time is monotonic and is looked at when it matters, not when a timer fires: a process that was stopped for a minute finds
 * its leases expired however late its timers are.
 */
import type { ReplicationTiming } from './timing.js';

interface Peer {
  readonly startId: string;
  /** Lease from it: until when, and by which map. */
  heldUntil: number;
  heldByMap: number;
  /** The last heartbeat that it was granted; when it was first met before there was one. */
  grantedAt: number;
  /** Groups in which its place was asked for: while there are any nothing is granted. */
  readonly withheldFor: Set<string>;
  /** When it was heard of last, in whatever way. */
  heardAt: number;
  isFull: boolean;
}

export class Leases {
  readonly #timing: ReplicationTiming;
  readonly #peers = new Map<number, Peer>();

  constructor(timing: ReplicationTiming) {
    this.#timing = timing;
  }

  /** Something has come from a start of a daemon. */
  heard(daemon: number, startId: string, now: number): void {
    this.#peer(daemon, startId, now).heardAt = now;
  }

  /** How long nothing has come from that start. A start that nobody has heard of counts from now on. */
  silentMs(daemon: number, startId: string, now: number): number {
    return now - this.#peer(daemon, startId, now).heardAt;
  }

  /** A heartbeat of ours, sent at `sentAt`, was granted. */
  granted(
    daemon: number,
    startId: string,
    grant: { sentAt: number; mapVersion: number; isFull: boolean },
    now: number,
  ): void {
    const peer = this.#peer(daemon, startId, now);
    const until = grant.sentAt + this.#timing.leaseMs;
    // Never longer than what was ever asked for, whatever comes from outside.
    if (grant.sentAt > now || until < peer.heldUntil) return;
    peer.heldUntil = until;
    peer.heldByMap = grant.mapVersion;
    peer.isFull = grant.isFull;
  }

  /** Whether this start of a daemon has granted us a lease that lasts, by no newer map than ours. */
  holds(daemon: number, startId: string, mapVersion: number, now: number): boolean {
    const peer = this.#peers.get(daemon);
    return peer?.startId === startId && now < peer.heldUntil && peer.heldByMap <= mapVersion;
  }

  /** A map newer than ours by which we were granted a lease; 0: there is none. */
  newerMap(daemon: number, mapVersion: number): number {
    const { heldByMap = 0 } = this.#peers.get(daemon) ?? {};
    return heldByMap > mapVersion ? heldByMap : 0;
  }

  /** It has said that its disk is full. */
  isFull(daemon: number): boolean {
    return this.#peers.get(daemon)?.isFull === true;
  }

  /** A heartbeat has come. @returns whether to grant it; if so it counts as granted now */
  grant(daemon: number, startId: string, now: number): boolean {
    const peer = this.#peer(daemon, startId, now);
    if (peer.withheldFor.size > 0) return false;
    peer.grantedAt = now;
    return true;
  }

  /** How long that start has been granted nothing. */
  ungrantedMs(daemon: number, startId: string, now: number): number {
    return now - this.#peer(daemon, startId, now).grantedAt;
  }

  /** The place of that start in a group is asked for: it is granted nothing from now on. */
  withhold(daemon: number, startId: string, group: string, now: number): void {
    this.#peer(daemon, startId, now).withheldFor.add(group);
  }

  /** What was asked for in a group is decided, or never will be. */
  release(group: string): void {
    for (const { withheldFor } of this.#peers.values()) withheldFor.delete(group);
  }

  #peer(daemon: number, startId: string, now: number): Peer {
    const known = this.#peers.get(daemon);
    if (known?.startId === startId) return known;
    const peer: Peer = {
      startId,
      heldUntil: -Infinity,
      heldByMap: 0,
      grantedAt: now,
      withheldFor: new Set(),
      heardAt: now,
      isFull: false,
    };
    this.#peers.set(daemon, peer);
    return peer;
  }
}
