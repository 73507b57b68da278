/**
 * The changes on their way from a primary to one member of its group, in one order that lasts as long as the epoch. A
 * change is sent again until it is acknowledged, over whatever link there is; the member makes each once, as it takes the
 * next index only.
 *
 * In a new epoch what was not acknowledged is sent again, as a new stream; by its number the member knows what it has made
 * already. What a member did not acknowledge before it was left out of the stream counts as settled.
 */
import type { Entry } from './uncommitted.js';
import type { Prepare } from './peer-message.js';
import type { StoreError } from '@store/core';

/** A stream to a member begins anew within an epoch at a multiple of this. */
export const ATTEMPT_STRIDE: number = 2 ** 32;
/** So often what waits is sent again at most, whatever a member says. */
const RESEND_MS = 100;

/** A sync of a disk that has much to do takes long, and longer if its daemon is given even more to do. */
const SYNC_MS_MAX = 20_000;

interface Sent {
  readonly entry: Entry;
  readonly isPartial: boolean;
  readonly sentAt: number;
}

/** What a stream needs of its primary. */
export interface StreamOwner {
  readonly now: number;
  readonly pool: number;
  /** Of the group. */
  readonly number: number;
  readonly epoch: number;
  /** See `Prepare.committed`. */
  readonly committed: number;
  sendTo(stream: MemberStream, prepare: Prepare): void;
  /** The bytes of what was sent may be used again from now on. */
  recall(stream: MemberStream): void;
  /** The member has made a change, or is not waited for any more. */
  settled(entry: Entry): void;
}

export class MemberStream {
  readonly daemon: number;
  readonly startId: string;
  /** Listed as in sync. */
  isInSync: boolean;
  /** The masters were asked to list it: until a newer epoch says otherwise it counts as if they had. */
  isRequested = false;
  /** Why it cannot go on in this epoch. */
  failure: StoreError | null = null;
  readonly #owner: StreamOwner;
  /** Index of the first change of this stream. */
  #first: number;
  #next: number;
  #unacked = new Map<number, Sent>();
  #resentAt = -Infinity;

  constructor(
    owner: StreamOwner,
    daemon: number,
    startId: string,
    options: { isInSync: boolean; attempt: number },
  ) {
    this.#owner = owner;
    this.daemon = daemon;
    this.startId = startId;
    this.isInSync = options.isInSync;
    this.#first = options.attempt * ATTEMPT_STRIDE;
    this.#next = this.#first;
  }

  /** It must have made every change that is answered. */
  get isCounted(): boolean {
    return this.isInSync || this.isRequested;
  }

  /** Whether an index is of this stream, and not of one before it. */
  has(index: number): boolean {
    return index >= this.#first && index < this.#next;
  }

  /** Changes it has not acknowledged. */
  get owedCount(): number {
    return this.#unacked.size;
  }

  /** How long the oldest of them has been waiting, less what a sync may take if there must be one; 0: there is none. */
  owedMs(now: number): number {
    let owedMs = 0;
    for (const { entry, sentAt } of this.#unacked.values()) {
      const isDurable = entry.change.op === 'write' && entry.change.isDurable === true;
      owedMs = Math.max(owedMs, now - sentAt - (isDurable ? SYNC_MS_MAX : 0));
      if (!isDurable) break; // all others are younger
    }
    return owedMs;
  }

  send(entry: Entry, isPartial: boolean): void {
    const index = this.#next;
    this.#next += 1;
    this.#unacked.set(index, { entry, isPartial, sentAt: this.#owner.now });
    this.#transmit(index, entry, isPartial);
  }

  acknowledged(indexes: readonly number[]): void {
    for (const index of indexes) {
      const sent = this.#unacked.get(index);
      if (sent === undefined) continue;
      this.#unacked.delete(index);
      this.#owner.settled(sent.entry);
    }
  }

  /** Sends again what was not acknowledged: the link is new, or the member says that it has missed something. */
  resend({ isUrgent }: { isUrgent: boolean }): void {
    const { now } = this.#owner;
    if (!isUrgent && now - this.#resentAt < RESEND_MS) return;
    this.#resentAt = now;
    for (const [index, { entry, isPartial }] of this.#unacked)
      this.#transmit(index, entry, isPartial);
  }

  /** A new epoch has begun: the same changes, as a new stream. */
  restart(): void {
    const sent = [...this.#unacked.values()];
    this.#unacked = new Map();
    this.#first = 0;
    this.#next = 0;
    this.isRequested = false;
    if (this.isInSync) this.failure = null; // one that joins begins anew
    for (const one of sent) {
      this.#unacked.set(this.#next, one);
      this.#transmit(this.#next, one.entry, one.isPartial);
      this.#next += 1;
    }
  }

  /** It is not waited for any more. */
  end(): void {
    const sent = [...this.#unacked.values()];
    this.#unacked.clear();
    if (sent.length > 0) this.#owner.recall(this);
    for (const { entry } of sent) this.#owner.settled(entry);
  }

  #transmit(index: number, { number, change }: Entry, isPartial: boolean): void {
    const { pool, number: group, epoch, committed } = this.#owner;
    // Field by field: a spread would cost more than the rest of it.
    this.#owner.sendTo(this, {
      type: 'prepare',
      pool,
      group,
      epoch,
      index,
      number,
      committed,
      isPartial,
      change,
    });
  }
}
