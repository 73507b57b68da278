/**
 * A pool that takes and gives the checksums of what it writes and reads, so that they can travel with the data from
 * one end to the other: what a client computed over its bytes is what is stored, and what is stored is what the next
 * client compares its bytes with.
 */
import { StoreError, type Done, type DoneWith } from '../util/errors.js';
import { BLOCK_BYTES } from '../util/limits.js';
import type { ObjectPool, ObjectRef } from './object-pool.js';

/**
 * CRC-32C of each piece of a range of an object, cut where blocks begin: one for each whole block of 4 KiB, and one for
 * the piece of a block at either end, if there is one.
 */
export type PieceChecks = Uint32Array;

export interface CheckedPool extends ObjectPool {
  /** As `read`; with the checksums of what it read. They belong to the caller. */
  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void;
  /**
   * As `write`, of bytes that must have these checksums. Those of whole blocks are stored as they are.
   * `E_CHECKSUM`, and nothing is changed, if a piece has not; `E_INVALID` if there are more or fewer than pieces. They
   * belong to the pool until it answers.
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

/**
 * What `writeChecked` answers to bytes that are not the ones whose checksums came with them.
 * @param name - Of the object, fit for a message.
 * @param piece - The first that differs.
 */
export function arrivedDamaged(name: string, offset: number, piece: number): StoreError {
  const block = Math.floor(offset / BLOCK_BYTES) + piece;
  return new StoreError(
    'E_CHECKSUM',
    `Block ${block} of object '${name}' was damaged on its way here: its bytes do not have the checksum that came with them; nothing was changed, send it again`,
  );
}

/** What `writeChecked` answers to a wrong number of checksums. */
export function wrongCheckCount(given: number, needed: number): StoreError {
  return new StoreError(
    'E_INVALID',
    `${given} checksums came with bytes that have ${needed} pieces; send one for each block they touch`,
  );
}
