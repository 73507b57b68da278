/**
 * What a member of a group tells the others of its objects: a change, complete, so that whoever applies it needs nothing
 * but the change. Whole 4 KiB blocks with their checksums; never a part of a block, never "the bytes after these".
 */
import type { BlockState, ByteParts, LocatorHash, ObjectKind } from '@store/core';

/** An object by what decides where it lies. An `ObjectRef` is one; unlike it this needs no locator. */
export interface ObjectPlace {
  readonly kind: ObjectKind;
  readonly key: Buffer;
  /** Of its locator. */
  readonly hash: LocatorHash;
  /** See `placeOf`: what tells two objects of a pool apart. */
  readonly place: string;
}

/** Bytes of whole blocks of an object in a slot. */
export interface WriteChange {
  readonly op: 'write';
  readonly object: ObjectPlace;
  /** The object's after this. */
  readonly version: number;
  /** Number of the first block. */
  readonly first: number;
  /** Whole blocks, one after the other. The receiver's until it is done with the change. */
  readonly blocks: ByteParts;
  /** CRC-32C of each block, bound to nothing: see `bindChecks`. */
  readonly checks: Uint32Array;
  /** The object's after this. */
  readonly length: number;
  /**
   * Nobody has these bytes any more: the blocks are to match nothing but their checksums, so that whoever reads them gets an
   * error and never something older.
   */
  readonly isLost?: boolean;
  /** Whoever makes it says so only once it is durable. */
  readonly isDurable?: boolean;
}

/** Whole blocks of an object in a slot that become *absent* or *zero*. */
export interface StatesChange {
  readonly op: 'states';
  readonly object: ObjectPlace;
  readonly version: number;
  readonly first: number;
  readonly count: number;
  readonly state: BlockState;
  readonly length: number;
}

/** The whole object, whatever it was before: of plain objects and headers. Durable before it is answered. */
export interface WholeChange {
  readonly op: 'whole';
  readonly object: ObjectPlace;
  readonly version: number;
  readonly content: Buffer;
}

/** The object is no more. Durable before it is answered. */
export interface DeleteChange {
  readonly op: 'delete';
  readonly object: ObjectPlace;
  readonly version: number;
}

export type Change = WriteChange | StatesChange | WholeChange | DeleteChange;

/** Blocks `first..last` that a change is about, the first one if it is about none; of a whole object: all there can be. */
export function blocksOf(change: Change): { readonly first: number; readonly last: number } {
  switch (change.op) {
    case 'write':
      return { first: change.first, last: change.first + change.checks.length - 1 };
    case 'states':
      return { first: change.first, last: change.first + Math.max(change.count, 1) - 1 };
    default:
      return EVERY_BLOCK;
  }
}

export const EVERY_BLOCK: { readonly first: number; readonly last: number } = {
  first: 0,
  last: 0xffff,
};
