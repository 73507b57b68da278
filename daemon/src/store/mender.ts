/** Looks for blocks that have rotted, and puts good bytes of another copy in their place. */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  crc32c,
  type Done,
  type DoneWith,
  type StoreError,
} from '@store/core';
import type { Engine } from './engine.js';
import { chunkOf } from './format.js';
import { UNREADABLE_CHECKSUM, type ObjectTable } from './object-table.js';
import { plainCheck, type Reader } from './reader.js';
import { slotPosition } from './slot-map.js';
import type { StoredObject } from './stored-object.js';
import type { WholeObjects } from './whole-objects.js';

/** Read and verified at a time: others wait no longer for these blocks. */
const PIECE_BLOCKS = 64;

export interface MenderParts {
  readonly engine: Engine;
  readonly table: ObjectTable;
  readonly reader: Reader;
  readonly whole: WholeObjects;
}

export class Mender {
  readonly #parts: MenderParts;

  constructor(parts: MenderParts) {
    this.#parts = parts;
  }

  /** See `ReplicaPool.verify`. Of an inline object block 0 stands for the content. */
  verify(object: StoredObject, done: DoneWith<readonly number[] | null>): void {
    const bad: number[] = [];
    const next = (first: number): void => {
      if (first >= BLOCKS_PER_OBJECT) {
        done(null, bad);
        return;
      }
      this.#verifyPiece(object, first, bad, (error, isThere) => {
        if (error !== null) done(error);
        else if (!isThere) done(null, null);
        else if (object.inline) done(null, bad);
        else next(first + PIECE_BLOCKS);
      });
    };
    next(0);
  }

  #verifyPiece(
    object: StoredObject,
    first: number,
    bad: number[],
    done: (error: StoreError | null, isThere: boolean) => void,
  ): void {
    const { engine, reader, whole } = this.#parts;
    const last = first + PIECE_BLOCKS - 1;
    object.locks.acquire(first, last, false, (lock) => {
      const finish = (error: StoreError | null): void => {
        const isThere = object.exists;
        object.locks.release(lock);
        done(error ?? engine.failure, isThere);
      };
      const refusal = engine.failure ?? object.broken;
      if (refusal !== null || !object.exists) finish(refusal);
      else if (object.inline) {
        object.content = null; // what counts is what is stored
        if (!Buffer.isBuffer(whole.content(object)) && engine.failure === null) bad.push(0);
        finish(null);
      } else if (!hasData(object, first, last)) finish(null);
      else {
        const bytes = Buffer.allocUnsafe(PIECE_BLOCKS * BLOCK_BYTES);
        reader.readBlocks(object, first, last, bytes, (error) => {
          if (error?.code === 'E_CHECKSUM') this.#verifyBlocks(object, first, last, bad, finish);
          else finish(error);
        });
      }
    });
  }

  /** Something is wrong with one of them. */
  #verifyBlocks(
    object: StoredObject,
    block: number,
    last: number,
    bad: number[],
    done: Done,
  ): void {
    if (block > last) {
      done(null);
      return;
    }
    this.#parts.reader.readBlocks(object, block, block, Buffer.alloc(BLOCK_BYTES), (error) => {
      if (error !== null && error.code !== 'E_CHECKSUM') done(error);
      else {
        if (error !== null) bad.push(block);
        this.#verifyBlocks(object, block + 1, last, bad, done);
      }
    });
  }

  /**
   * See `ReplicaPool.mend`. The block stays what its checksum says, so nothing has to be opened or recorded; a crash
   * leaves it good or as bad as it was.
   */
  mend(object: StoredObject, block: number, bytes: Buffer, done: DoneWith<boolean>): void {
    const { engine, reader } = this.#parts;
    object.locks.acquire(block, block, true, (lock) => {
      const finish = (error: StoreError | null, isGood: boolean): void => {
        object.locks.release(lock);
        if (error === null) done(null, isGood);
        else done(error);
      };
      const refusal = engine.failure ?? object.broken;
      const isData = !object.inline && object.states[block] === BLOCK_STATE.data;
      if (refusal !== null || !isData) {
        finish(refusal, false);
        return;
      }
      reader.readBlocks(object, block, block, Buffer.alloc(BLOCK_BYTES), (error) => {
        if (error?.code !== 'E_CHECKSUM') finish(error, error === null);
        else if (!this.#isOf(object, block, bytes)) finish(null, false);
        else this.#overwrite(object, block, bytes, finish);
      });
    });
  }

  /** Are these the bytes that the recorded checksum is of? */
  #isOf(object: StoredObject, block: number, bytes: Buffer): boolean {
    this.#parts.table.loadChecks(object, chunkOf(block));
    const isKnown = object.checks.get(block) !== UNREADABLE_CHECKSUM;
    return isKnown && bytes.length === BLOCK_BYTES && crc32c(bytes) === plainCheck(object, block);
  }

  #overwrite(
    object: StoredObject,
    block: number,
    bytes: Buffer,
    done: (error: StoreError | null, isGood: boolean) => void,
  ): void {
    const { engine } = this.#parts;
    const position = slotPosition(object.slot) + block * BLOCK_BYTES;
    engine.data.write(position, [bytes], (error) => {
      if (error !== null) done(engine.refusalFrom(error), false);
      else {
        engine.sync.wrote(BLOCK_BYTES);
        done(null, true);
      }
    });
  }
}

function hasData(object: StoredObject, first: number, last: number): boolean {
  for (let block = first; block <= last; block += 1)
    if (object.states[block] === BLOCK_STATE.data) return true;
  return false;
}
