/**
 * What daemons say to each other about the groups they share. A link carries messages both ways, in order while it
 * lasts; a message may be lost with its link, and whoever needs an answer asks again. Who is at the other end of a link
 * (daemon and start) was proved when it was made.
 *
 * Numbers of changes are `epoch * 2^32 + n`: they grow over the whole life of a group and are never given twice, whoever is
 * primary. A change made by a client's operation gives its number to the object as its version.
 */
import type { ByteParts } from '@store/core';
import type { Change, ObjectPlace } from './change.js';
import type { HashRange, InventoryEntry, ObjectDigest } from './replica-pool.js';

/** A group in an epoch. */
export interface GroupEpoch {
  readonly pool: number;
  readonly group: number;
  readonly epoch: number;
}

/** Of the primary of some groups to a member of them, all the time: grant me a lease. */
export interface Heartbeat {
  readonly type: 'heartbeat';
  /** When it was sent, by the clock of the sender; comes back in the grant. */
  readonly sentAt: number;
  /** Of the sender's map. */
  readonly mapVersion: number;
}

/**
 * The answer to a heartbeat: until `sentAt` + the lease nobody but you is primary of groups in which you are, by map
 * `mapVersion` at least.
 */
export interface Grant {
  readonly type: 'grant';
  readonly sentAt: number;
  readonly mapVersion: number;
  /** The disk of the sender is so full that nothing that allocates should be begun. */
  readonly isFull: boolean;
}

/** The change with the next index of the stream to this member in this epoch. */
export interface Prepare extends GroupEpoch {
  readonly type: 'prepare';
  /** From 0 on, without gaps, in each epoch and for each member. */
  readonly index: number;
  /** What tells the change from all others; 0: it is only for this member (a piece of its recovery). */
  readonly number: number;
  /** All changes up to this number are made by everybody who must have made them. */
  readonly committed: number;
  /**
   * The member's copy of this object is not complete yet: it makes the change, and keeps a version of its own that equals
   * nobody's.
   */
  readonly isPartial: boolean;
  readonly change: Change;
}

/** Changes of the stream that this member has made. */
export interface Ack extends GroupEpoch {
  readonly type: 'ack';
  readonly indexes: readonly number[];
}

/** A change of the stream that this member cannot make. It makes no other of this epoch. */
export interface Refusal extends GroupEpoch {
  readonly type: 'refusal';
  readonly index: number;
  /** `leaving`: it stops, and does not join before its next start. */
  readonly reason: 'full' | 'damaged' | 'leaving';
}

/**
 * The receiver of a `prepare` knows another epoch of the group, or waits for another index: `epoch` is the one it knows
 * (that of the message if it is the same), `index` the one it waits for.
 */
export interface Behind extends GroupEpoch {
  readonly type: 'behind';
  readonly index: number;
  readonly mapVersion: number;
}

/** Make durable all that you have of the pool. Answered by `synced` with the same id, after an fdatasync that began since. */
export interface Sync {
  readonly type: 'sync';
  readonly id: number;
  readonly pool: number;
}

export interface Synced {
  readonly type: 'synced';
  readonly id: number;
  /** False: it cannot; its disk has failed, or is too full for its metadata. */
  readonly isDone: boolean;
}

/** Of a new primary: which changes have you made that others may not have? */
export interface AskTail extends GroupEpoch {
  readonly type: 'askTail';
}

/** Objects and blocks of them that may differ between members. */
export interface TailEntry {
  readonly object: ObjectPlace;
  readonly first: number;
  readonly last: number;
}

export interface Tail extends GroupEpoch {
  readonly type: 'tail';
  readonly entries: readonly TailEntry[];
}

/** What do you have of these hashes, from `after` on? */
export interface AskInventory extends GroupEpoch {
  readonly type: 'askInventory';
  readonly id: number;
  readonly range: HashRange;
  readonly after: Buffer | null;
  readonly limit: number;
}

export interface Inventory extends GroupEpoch {
  readonly type: 'inventory';
  readonly id: number;
  readonly entries: readonly InventoryEntry[];
  readonly next: Buffer | null;
}

export interface AskDigest extends GroupEpoch {
  readonly type: 'askDigest';
  readonly id: number;
  readonly object: ObjectPlace;
}

export interface Digest extends GroupEpoch {
  readonly type: 'digest';
  readonly id: number;
  readonly digest: ObjectDigest | null;
}

/** Give me these blocks of an object if yours are good: mine are not. */
export interface AskBlocks extends GroupEpoch {
  readonly type: 'askBlocks';
  readonly id: number;
  readonly object: ObjectPlace;
  readonly first: number;
  readonly count: number;
}

export interface Blocks extends GroupEpoch {
  readonly type: 'blocks';
  readonly id: number;
  /** Null: they are not here, or not good. */
  readonly blocks: ByteParts | null;
  readonly checks: Uint32Array;
}

/** Verify all of an object and say which blocks are bad. */
export interface AskVerify extends GroupEpoch {
  readonly type: 'askVerify';
  readonly id: number;
  readonly object: ObjectPlace;
}

export interface Verified extends GroupEpoch {
  readonly type: 'verified';
  readonly id: number;
  /** Null: the object is not here. */
  readonly bad: readonly number[] | null;
}

/** This start stops: do without it from now on, wherever it is a member. Said until it is answered by `doneWithout`. */
export interface Leaving {
  readonly type: 'leaving';
}

/** To a start that stops: it counts in no group that is led here any more, and will not join one. */
export interface DoneWithout {
  readonly type: 'doneWithout';
  /** Of the sender's map: what was asked for before, and by whom, is decided in it. */
  readonly mapVersion: number;
}

/** Send me your map if it is newer than this version. */
export interface AskMap {
  readonly type: 'askMap';
  readonly version: number;
}

/** A storage map, as `encodeMap` makes it. */
export interface NewerMap {
  readonly type: 'newerMap';
  readonly bytes: Buffer;
}

export type PeerMessage =
  | Heartbeat
  | Grant
  | Prepare
  | Ack
  | Refusal
  | Behind
  | Sync
  | Synced
  | AskTail
  | Tail
  | AskInventory
  | Inventory
  | AskDigest
  | Digest
  | AskBlocks
  | Blocks
  | AskVerify
  | Verified
  | AskMap
  | NewerMap
  | Leaving
  | DoneWithout;

/** Number of the first change of an epoch, less one. */
export function firstNumber(epoch: number): number {
  return epoch * NUMBERS_PER_EPOCH;
}

export const NUMBERS_PER_EPOCH: number = 2 ** 32;
