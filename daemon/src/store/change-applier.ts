/**
 * Makes changes that another member of a group has announced: exactly those, with their versions and lengths, in the
 * order they come in for each block. They take the same way as those of clients (locks, opening, parking, `live`), so
 * what is answered survives the same.
 */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  OBJECT_KIND,
  OBJECT_BYTES,
  StoreError,
  WRITE_FLAGS,
  arrivedDamaged,
  firstDifference,
  partsBytes,
  pieceChecksOf,
  type Done,
  type ObjectKind,
} from '@store/core';
import {
  blocksOf,
  type Change,
  type StatesChange,
  type WriteChange,
} from '../replication/change.js';
import type { BlockLock } from './block-locks.js';
import type { Engine } from './engine.js';
import { isImageData, printable, type ObjectTable } from './object-table.js';
import type { ChangeStamp, StoredObject } from './stored-object.js';
import type { WholeObjects } from './whole-objects.js';
import type { Writer } from './writer.js';
import type { Zeroer } from './zeroer.js';

export interface ChangeApplierParts {
  readonly engine: Engine;
  readonly table: ObjectTable;
  readonly writer: Writer;
  readonly zeroer: Zeroer;
  readonly whole: WholeObjects;
}

export class ChangeApplier {
  readonly #parts: ChangeApplierParts;

  constructor(parts: ChangeApplierParts) {
    this.#parts = parts;
  }

  /**
   * See `ReplicaPool.apply`. Blocks of an object that is of another kind here, or broken, are refused: whoever finds such
   * a thing has `whole` or `delete` made first.
   */
  apply(poolId: number, change: Change, done: Done): void {
    const { engine, table, whole } = this.#parts;
    const refusal = engine.refusal ?? misshapen(change);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    let object: StoredObject;
    try {
      object = table.findPlace(poolId, change.object);
    } catch (error) {
      done(engine.failFrom(error));
      return;
    }
    const made: Done = (error) => {
      if (error !== null) object.isIncomplete = true;
      done(error);
    };
    const { version } = change;
    const { kind } = change.object;
    switch (change.op) {
      case 'write':
        this.#write(object, change, made);
        break;
      case 'states':
        this.#states(object, change, object.stamp(version, change.length, false), made);
        break;
      case 'whole': {
        const { content } = change;
        const stamp = object.stamp(version, content.length, false);
        whole.applyWhole(object, kind, content, stamp, made);
        break;
      }
      case 'delete':
        whole.delete(object, 0, (error) => made(error), object.stamp(version, 0, false));
    }
  }

  #write(object: StoredObject, change: WriteChange, done: Done): void {
    const { engine, writer, whole } = this.#parts;
    const { first, blocks } = change;
    const { kind } = change.object;
    // What is lost is to match nothing: its checksums are taken as they are.
    const sums = change.isLost === true ? change.checks.slice() : pieceChecksOf(0, blocks);
    const differing = change.isLost === true ? -1 : firstDifference(sums, change.checks);
    if (differing >= 0) {
      engine.counters.arrivedDamaged += 1;
      done(arrivedDamaged(printable(object.name), first * BLOCK_BYTES, differing));
      return;
    }
    const stamp = object.stamp(change.version, change.length, false);
    if (!isImageData(kind)) {
      whole.applyWrite(object, kind, first, blocks, sums, stamp, done);
      return;
    }
    const write = (lock: BlockLock | null): void => {
      const [offset, bytes] = [first * BLOCK_BYTES, sums.length * BLOCK_BYTES];
      const { none } = WRITE_FLAGS;
      writer.write(object, kind, offset, blocks, bytes, sums, none, done, lock, false, stamp);
    };
    if (misfit(object, kind) === null) write(null);
    else this.#whenFit(object, kind, done, write);
  }

  #states(object: StoredObject, change: StatesChange, stamp: ChangeStamp, done: Done): void {
    const { first, count, state } = change;
    const { kind } = change.object;
    const make = (lock: BlockLock): void => {
      const finish: Done = (error) => {
        object.locks.release(lock);
        done(error);
      };
      // What a difference ends with.
      if (count === 0) object.compared();
      const isNothing = count === 0 || state === BLOCK_STATE.absent;
      if (isNothing && object.version === 0) {
        object.pass(stamp);
        finish(this.#parts.engine.failure);
      } else if (object.inline) finish(new StoreError('E_INVALID', 'It has no blocks'));
      else this.#parts.zeroer.setStates(object, kind, first, count, state, stamp, finish);
    };
    const last = Math.max(first, first + count - 1);
    if (!isImageData(kind) || misfit(object, kind) !== null)
      this.#whenFit(object, kind, done, make);
    else object.locks.acquire(first, last, true, make);
  }

  /** What is in the way may be gone when those before are made. */
  #whenFit(
    object: StoredObject,
    kind: ObjectKind,
    done: Done,
    make: (lock: BlockLock) => void,
  ): void {
    object.locks.acquire(0, BLOCKS_PER_OBJECT - 1, true, (lock) => {
      const refusal = this.#parts.engine.failure ?? misfit(object, kind);
      if (refusal === null) make(lock);
      else {
        object.locks.release(lock);
        done(refusal);
      }
    });
  }
}

/** Why no blocks of an object of this kind can be changed here. */
export function misfit(object: StoredObject, kind: ObjectKind): StoreError | null {
  if (object.broken !== null) return object.broken;
  const isOther =
    isImageData(object.kind) !== isImageData(kind) || isGuard(object.kind) !== isGuard(kind);
  if (object.version > 0 && isOther)
    return new StoreError('E_INVALID', `Object '${printable(object.name)}' is of another kind`);
  return null;
}

function isGuard(kind: ObjectKind): boolean {
  return kind === OBJECT_KIND.guard;
}

/** Why a change cannot be made anywhere. */
function misshapen(change: Change): StoreError | null {
  const { first, last } = blocksOf(change);
  const isNumbered = Number.isSafeInteger(change.version) && change.version >= 0;
  let isShaped = true;
  if (change.op === 'write' || change.op === 'states') {
    const { length } = change;
    const isLength = Number.isInteger(length) && length >= 0 && length <= OBJECT_BYTES;
    const isRange = Number.isInteger(first) && first >= 0 && last < BLOCKS_PER_OBJECT;
    isShaped = isLength && isRange;
  }
  if (change.op === 'write')
    isShaped &&= last >= first && partsBytes(change.blocks) === change.checks.length * BLOCK_BYTES;
  if (change.op === 'states')
    isShaped &&=
      first < BLOCKS_PER_OBJECT &&
      change.count >= 0 &&
      (change.state === BLOCK_STATE.absent || change.state === BLOCK_STATE.zero);
  if (change.op === 'whole')
    isShaped = change.content.length <= OBJECT_BYTES && !isImageData(change.object.kind);
  if (isNumbered && isShaped) return null;
  return new StoreError('E_INVALID', `A change '${change.op}' that no object can have`);
}
