/**
 * A pool that takes and gives the checksums of what it writes and reads, so that they can travel with the data from
 * one end to the other: what a client computed over its bytes is what is stored, and what is stored is what the next
 * client compares its bytes with.
 */
import type { DoneWith, Done } from '../util/errors.js';
import type { ObjectPool, ObjectRef } from './object-pool.js';

/**
 * CRC-32C of each piece of a range of an object, cut where blocks begin: one for each whole block of 4 KiB, and one for
 * the piece of a block at either end, if there is one.
 */
export type PieceChecks = Uint32Array;

export interface CheckedPool extends ObjectPool {
  /** As `read`; with the checksums of what it read. */
  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void;
  /**
   * As `write`, of bytes that must have these checksums. Those of whole blocks are stored as they are.
   * `E_CHECKSUM`, and nothing is changed, if a piece has not.
   */
  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void;
}
