/**
 * Zero and discard of objects that live in slots. Whole blocks only change their state, so nothing has to be opened:
 * until the change is recorded, a power cut leaves the old bytes with their old checksums.
 */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  WRITE_FLAGS,
  type BlockState,
  type Done,
  type ObjectKind,
  type StoreError,
} from '@store/core';
import type { BlockLock } from './block-locks.js';
import type { ChangeTap } from '../replication/replica-pool.js';
import { notLedHere, type Engine } from './engine.js';
import { partOf } from './format.js';
import type { OpenSet } from './open-set.js';
import type { Persister } from './persister.js';
import { notMade, type ChangeStamp, type StoredObject } from './stored-object.js';
import type { Writer } from './writer.js';

export interface ZeroerParts {
  readonly engine: Engine;
  readonly writer: Writer;
  readonly openSet: OpenSet;
  readonly persister: Persister;
}

export class Zeroer {
  readonly #parts: ZeroerParts;
  readonly #engine: Engine;

  constructor(parts: ZeroerParts) {
    this.#parts = parts;
    this.#engine = parts.engine;
  }

  /**
   * Makes `[offset, offset + bytes)` zeros: whole blocks become *absent* (*zero* if `layered`), partial ones are
   * overwritten where they hold data. The object need not exist.
   */
  zero(
    object: StoredObject,
    kind: ObjectKind,
    offset: number,
    bytes: number,
    flags: number,
    done: Done,
  ): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + bytes - 1) / BLOCK_BYTES);
    object.locks.acquire(first, last, true, (lock) => {
      this.zeroHeld(object, kind, offset, bytes, flags, lock, done);
    });
  }

  /** As `zero`, of blocks that the caller holds; releases the lock at the end. */
  zeroHeld(
    object: StoredObject,
    kind: ObjectKind,
    offset: number,
    bytes: number,
    flags: number,
    lock: BlockLock,
    done: Done,
  ): void {
    const end = offset + bytes;
    const wholeFirst = Math.ceil(offset / BLOCK_BYTES);
    const wholeEnd = Math.floor(end / BLOCK_BYTES);
    let pending = 1;
    let failed: StoreError | null = null;
    const finish: Done = (error) => {
      failed ??= error;
      pending -= 1;
      if (pending > 0) return;
      object.locks.release(lock);
      if (failed === null && (flags & WRITE_FLAGS.durable) !== 0) this.#parts.persister.flush(done);
      else done(failed);
    };
    const zeroEdge = (from: number, to: number): void => {
      if (from >= to) return;
      pending += 1;
      this.#zeroEdge(object, kind, from, to, flags, lock, finish);
    };
    if (wholeFirst > wholeEnd) zeroEdge(offset, end);
    else {
      zeroEdge(offset, wholeFirst * BLOCK_BYTES);
      zeroEdge(wholeEnd * BLOCK_BYTES, end);
      if (wholeFirst < wholeEnd) {
        pending += 1;
        this.#zeroWhole(object, kind, wholeFirst, wholeEnd - 1, flags, finish);
      }
    }
    finish(null);
  }

  /** Zeroes a part of one block. */
  #zeroEdge(
    object: StoredObject,
    kind: ObjectKind,
    from: number,
    to: number,
    flags: number,
    lock: BlockLock,
    done: Done,
  ): void {
    const state = object.states[Math.floor(from / BLOCK_BYTES)];
    const hides = state === BLOCK_STATE.absent && (flags & WRITE_FLAGS.layered) !== 0;
    if (state !== BLOCK_STATE.data && !hides) {
      done(this.#engine.failure);
      return;
    }
    const zeros = Buffer.alloc(to - from);
    this.#parts.writer.write(
      object,
      kind,
      from,
      [zeros],
      zeros.length,
      null,
      WRITE_FLAGS.none,
      done,
      lock,
      true,
    );
  }

  #zeroWhole(
    object: StoredObject,
    kind: ObjectKind,
    first: number,
    last: number,
    flags: number,
    done: Done,
  ): void {
    const state: BlockState =
      (flags & WRITE_FLAGS.layered) !== 0 ? BLOCK_STATE.zero : BLOCK_STATE.absent;
    const { lateRefusal } = this.#engine;
    if (lateRefusal !== null) {
      done(lateRefusal);
      return;
    }
    let changes = false;
    for (let block = first; block <= last && !changes; block += 1)
      changes = object.states[block] !== state;
    if (!changes) {
      done(null);
      return;
    }
    this.setStates(object, kind, first, last - first + 1, state, null, done);
  }

  /**
   * Makes `count` blocks from `first` on *absent* or *zero*; the caller holds them. None: only the version changes.
   * @param given - of a change that another member has made; null: it is ours
   */
  setStates(
    object: StoredObject,
    kind: ObjectKind,
    first: number,
    count: number,
    state: BlockState,
    given: ChangeStamp | null,
    done: Done,
  ): void {
    const { lateRefusal } = this.#engine;
    if (lateRefusal !== null) {
      done(lateRefusal);
      return;
    }
    if (!this.#parts.openSet.hasRoom(object)) {
      this.#parts.openSet.whenRoom(() =>
        this.setStates(object, kind, first, count, state, given, done),
      );
      return;
    }
    const isNew = object.version === 0;
    if (isNew) object.create(kind, this.#engine.newObjectId());
    let stamp = given;
    if (stamp === null && object.tap !== null) {
      stamp = announceStates(object, object.tap, kind, first, count, state);
      if (stamp === null) {
        if (isNew) this.#parts.persister.releaseIfGone(object);
        done(notLedHere());
        return;
      }
    }
    const last = first + count - 1;
    for (let block = first; block <= last; block += 1) {
      if (object.states[block] === BLOCK_STATE.data) object.unpunched.add(block);
      object.setState(block, state);
    }
    for (let part = partOf(first); part <= partOf(last); part += 1) object.touched[part] = 1;
    if (stamp === null) object.version = this.#engine.newVersion(object.version);
    else object.take(stamp);
    this.#parts.persister.markChanged(object);
    try {
      this.#engine.live.appendState(object, first, count, state);
    } catch (error) {
      const refusal = this.#engine.refusalFrom(error);
      if (given === null && this.#engine.failure === null) notMade(object, kind);
      done(refusal);
      return;
    }
    done(null);
    this.#parts.persister.keepLiveSmall();
  }

  /** As `settleVersion`, for whoever holds nothing: when all that was called before is done. */
  settleFree(object: StoredObject, done: Done): void {
    object.locks.acquire(0, BLOCKS_PER_OBJECT - 1, object.isUnsure, (lock) => {
      this.settleVersion(object, (error) => {
        object.locks.release(lock);
        done(error ?? this.#engine.failure);
      });
    });
  }

  /**
   * Gives an object that was open at a crash a version that says something about its bytes; the caller holds a block of
   * it. Whoever answers a version to a client does this first.
   */
  settleVersion(object: StoredObject, done: Done): void {
    if (!object.isUnsure || object.tap === null || !object.exists || object.broken !== null)
      done(null);
    else this.setStates(object, object.kind, 0, 0, BLOCK_STATE.absent, null, done);
  }
}

/** @returns null if nothing may be changed here */
function announceStates(
  object: StoredObject,
  tap: ChangeTap,
  kind: ObjectKind,
  first: number,
  count: number,
  state: BlockState,
): ChangeStamp | null {
  const place = object.placeAs(kind);
  const length = object.latestLength;
  const version = tap.nextVersion(place, object.latestVersion);
  if (version === 0) return null;
  const stamp = object.stamp(version, length, true);
  tap.changed({ op: 'states', object: place, version, first, count, state, length });
  return stamp;
}
