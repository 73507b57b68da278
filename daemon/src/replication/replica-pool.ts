/**
 * What replication needs of the engine, for one pool: to hear of each change before it is made, to make those of another
 * member, to compare, and to mend. The engine's `FilePool` is one; so is the model that the simulator runs thousands of.
 *
 * "In the order of its blocks" is the order in which operations on a 4 KiB block take effect (`BlockLocks`): whatever
 * announces, reads or applies a change does so while it holds the blocks.
 */
import type { CheckedPool, Done, DoneWith, ListOptions, ListPage } from '@store/core';
import type { Change, ObjectPlace } from './change.js';

/** Hears of the changes that operations of `CheckedPool` make. Those that `apply` makes are not announced. */
export interface ChangeTap {
  /**
   * The version an object gets by the change that is about to be announced; greater than `before`, and than every other
   * this tap has given out. 0: nothing may be changed here any more; the operation fails with `E_STALE_MAP`.
   */
  nextVersion(object: ObjectPlace, before: number): number;
  /**
   * A change has taken its place in the order of its blocks. Of an object in a slot it is announced before it is made, right
   * after `nextVersion`; of whole objects and deletes when it is made, before it is answered. Its bytes stay what they are
   * until the operation that makes it is answered.
   */
  changed(change: Change): void;
  /**
   * What has got a version could not be made here, for lack of space. The operation fails. Not called for a disk that
   * failed, which stops everything.
   * @param wasAnnounced - Others make it: this copy is behind.
   */
  notMade(object: ObjectPlace, wasAnnounced: boolean): void;
}

/** What is known of an object without reading it. */
export interface InventoryEntry {
  readonly object: ObjectPlace;
  readonly version: number;
  readonly length: number;
  /**
   * Nothing of it may differ from what is stored of it: equal versions of closed copies are equal bytes. False for what is
   * open, changed, or was open at the last crash.
   */
  readonly isClosed: boolean;
  /** The record is damaged: whether it exists, and with what, is unknown. `version` and `length` are 0. */
  readonly isBroken: boolean;
}

export interface InventoryPage {
  /** In the order of (hash, key). */
  readonly entries: readonly InventoryEntry[];
  /** Where the next page begins; null: this was the last one. */
  readonly next: Buffer | null;
}

/** How the copies of an object are compared. */
export interface DifferenceOptions {
  /** Called between two pieces, when nothing is held: the next is taken when it calls back. At once unless given. */
  readonly between?: (next: () => void) => void;
  /**
   * Of blocks that cannot be verified here the other copy is to have a mark that they are lost (`isLost`): nobody has them.
   * They are not reported then.
   */
  readonly marksLost?: boolean;
}

/** States and checksums of an object's blocks, to find those that differ. What is verified is read for it. */
export interface ObjectDigest {
  readonly version: number;
  readonly length: number;
  /** Its content lies in the metadata store as a whole: then there is one checksum, of the content, and no states. */
  readonly isInline: boolean;
  /** A byte for each block up to the last that is not absent. */
  readonly states: Uint8Array;
  /** CRC-32C of each block that is data, bound to nothing; 0 for others, and for those that cannot be verified. */
  readonly checks: Uint32Array;
  /**
   * A second print of each block that is data, made of the bytes themselves: two numbers each, 0 for others (`printOf`). Two
   * blocks that carry their own CRC-32C at their end have the same CRC-32C, whatever else is in them; file systems write
   * such blocks. Of an inline object: that of its content.
   */
  readonly prints: Uint32Array;
  /** Blocks that are data and cannot be verified: they match nothing. In order. */
  readonly unknown: readonly number[];
}

/** Which objects: those whose `hash.high` is in `[from, to]`, both 0..0xffffffff. A group is such a range. */
export interface HashRange {
  readonly from: number;
  readonly to: number;
}

export interface ReplicaPool extends CheckedPool {
  /** From now on changes are announced to `tap`, and get versions from it. Once, before anything else. */
  announceTo(tap: ChangeTap): void;

  /**
   * Makes a change of another member: exactly that, with its version and length. In the order of calls for each block.
   * Refused with `E_CHECKSUM` if blocks do not match their checksums, or belong to an object whose record is broken here;
   * with `E_INVALID` if they belong to one that is of another kind here (`whole` and `delete` replace both); with `E_NO_SPACE` only when the disk is so full that
   * commits are in danger: room that clients are refused is left for this.
   */
  apply(change: Change, done: Done): void;

  /** As `list`, of objects in these ranges only. */
  listIn(ranges: readonly HashRange[], options: ListOptions): Promise<ListPage>;

  /** Objects of a range, from `after` on (null: from the first). All that `apply` and operations have been called for. */
  inventory(
    range: HashRange,
    after: Buffer | null,
    limit: number,
    done: DoneWith<InventoryPage>,
  ): void;

  /** Null: it does not exist, or is of another kind, or its record is broken. What is open since a crash is read for it. In the order of all its blocks. */
  digest(object: ObjectPlace, done: DoneWith<ObjectDigest | null>): void;

  /**
   * Compares this copy with what another member said of its own, and announces to `emit` the changes that make the other
   * one equal, each in the order of its blocks and with the object's present version, and nothing if they are equal.
   *
   * If they are not equal, the last change of an object in a slot is `states` of no blocks: with it the other copy is
   * complete, and counts as such. Others are one `whole` or `delete`. If nothing there can be used (`theirs` is null, or
   * of another kind), it begins with `delete`, or `whole`.
   *
   * Long objects are taken in pieces, so that nobody waits for long. Blocks that cannot be verified here are left out, and
   * reported; then the other copy is not complete, and no change is said to be the last.
   * @param theirs - Null: the other one has no such object.
   * @param emit - Takes a change whose bytes are its own. Of the last one, when there is any, it hears that it is: it is
   *   announced while the whole object is held, has the newest version that was given out for the object, and comes also
   *   if nothing differs but that version.
   * @returns (to `done`) blocks of ours that could not be verified
   */
  difference(
    object: ObjectPlace,
    theirs: ObjectDigest | null,
    emit: (change: Change, isLast: boolean) => void,
    done: DoneWith<{ readonly unverified: readonly number[] }>,
    options?: DifferenceOptions,
  ): void;

  /**
   * Announces to `emit` blocks `first..last` of an object as they are here, or that it is not here: what every other copy
   * shall be, whatever it is. Of objects that are not image data: the whole object.
   */
  present(
    object: ObjectPlace,
    first: number,
    last: number,
    emit: (change: Change) => void,
    done: Done,
  ): void;

  /**
   * Reads all of an object and compares it with its checksums, a piece at a time.
   * @returns (to `done`) blocks that do not match; null: there is no such object
   */
  verify(object: ObjectPlace, done: DoneWith<readonly number[] | null>): void;

  /**
   * Puts good bytes in the place of a block that does not match its checksum: nothing happens unless the block is still
   * bad, and the bytes are exactly those that the checksum recorded here is of.
   * @returns (to `done`) whether the block is good now
   */
  mend(object: ObjectPlace, block: number, bytes: Buffer, done: DoneWith<boolean>): void;

  /** Removes an object, or what is unknown of one, without announcing it. For groups that have left this disk. */
  erase(object: ObjectPlace, done: Done): void;

  /** Little is free: nothing that allocates should be begun. */
  readonly isFull: boolean;
}
