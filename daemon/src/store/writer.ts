/**
 * Writes of objects that live in slots.
 *
 * A write ends up as whole blocks with their checksums. If nothing durable is overwritten, or the parts are open, the
 * bytes go to their place at once. Else the parts are opened first; a small write does not wait for that: it is
 * appended to `live` with its data, answered, and holds its blocks until it is in place ("parked").
 */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  StoreError,
  WRITE_FLAGS,
  copyParts,
  crc32c,
  invariant,
  pieceChecksOf,
  sliceParts,
  type ByteParts,
  type Done,
  type ObjectKind,
  type PieceChecks,
} from '@store/core';
import type { ChangeTap } from '../replication/replica-pool.js';
import type { BlockLock } from './block-locks.js';
import { notLedHere, type Engine } from './engine.js';
import { bindChecks } from './block-checks.js';
import { NO_SLOT, chunkOf, partOf } from './format.js';
import { isImageData, type ObjectTable } from './object-table.js';
import type { Opener } from './opener.js';
import type { OpenSet } from './open-set.js';
import type { ParkedWrites } from './parked-writes.js';
import type { Persister } from './persister.js';
import type { Reader } from './reader.js';
import { slotPosition } from './slot-map.js';
import { PART, notMade, type ChangeStamp, type StoredObject } from './stored-object.js';

/** How long a parked write waits before it asks again for what was refused for lack of space. */
const RETRY_MS = 250;

export interface WriterParts {
  readonly engine: Engine;
  readonly table: ObjectTable;
  readonly reader: Reader;
  readonly opener: Opener;
  readonly openSet: OpenSet;
  readonly parked: ParkedWrites;
  readonly persister: Persister;
}

/** One write on its way. */
interface WriteOp {
  readonly object: StoredObject;
  readonly kind: ObjectKind;
  readonly offset: number;
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
  readonly flags: number;
  done: Done;
  lock: BlockLock | null;
  /** The lock is the caller's: it stays held at the end. */
  readonly isLockBorrowed: boolean;
  /** Whole blocks `first..last`; null until the partial ones at the edges are merged. */
  blocks: ByteParts | null;
  /** Checksums of the pieces if they were computed before, then those of the blocks as they are stored. */
  checks: Uint32Array | null;
  /** Number in `live` once it is parked, else 0. */
  parkedAs: number;
  /** What becomes of version and length, if that is settled before it is written. */
  stamp: ChangeStamp | null;
  /** Others make it too. */
  isAnnounced: boolean;
}

export class Writer {
  readonly #parts: WriterParts;
  readonly #engine: Engine;

  constructor(parts: WriterParts) {
    this.#parts = parts;
    this.#engine = parts.engine;
  }

  /**
   * Writes `parts` (together `bytes` long, at least 1) at `offset`; the range is inside the object.
   * @param sums - checksums of the pieces, if the caller has computed them already; they are the writer's from now on
   * @param lock - blocks that the caller holds already; released at the end unless borrowed
   * @param stamp - of a change that another member has made, of whole blocks
   */
  write(
    object: StoredObject,
    kind: ObjectKind,
    offset: number,
    parts: ByteParts,
    bytes: number,
    sums: PieceChecks | null,
    flags: number,
    done: Done,
    lock: BlockLock | null = null,
    isLockBorrowed = false,
    stamp: ChangeStamp | null = null,
  ): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + bytes - 1) / BLOCK_BYTES);
    const isWhole = offset % BLOCK_BYTES === 0 && bytes % BLOCK_BYTES === 0;
    const op: WriteOp = {
      object,
      kind,
      offset,
      bytes,
      first,
      last,
      flags,
      done,
      lock,
      isLockBorrowed,
      blocks: isWhole ? parts : null,
      checks: sums,
      parkedAs: 0,
      stamp,
      isAnnounced: false,
    };
    if (lock === null && (!isWhole || object.locks.conflicts(first, last, true)))
      object.locks.acquire(first, last, true, (held) => {
        op.lock = held;
        this.#begin(op, parts);
      });
    else this.#begin(op, parts);
  }

  /** As `write`, of whole blocks, but only those that are absent when their turn comes get their bytes. */
  writeIfAbsent(
    object: StoredObject,
    kind: ObjectKind,
    offset: number,
    parts: ByteParts,
    bytes: number,
    sums: PieceChecks | null,
    flags: number,
    done: Done,
  ): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = first + bytes / BLOCK_BYTES - 1;
    object.locks.acquire(first, last, true, (lock) => {
      const runs = absentRuns(object, first, last);
      if (runs.length === 1 && runs[0]?.count === last - first + 1) {
        this.write(object, kind, offset, parts, bytes, sums, flags, done, lock);
        return;
      }
      let pending = runs.length + 1;
      let failed: StoreError | null = null;
      const finish: Done = (error) => {
        failed ??= error;
        pending -= 1;
        if (pending > 0) return;
        object.locks.release(lock);
        const refusal = failed ?? this.#engine.lateRefusal;
        if (refusal === null && (flags & WRITE_FLAGS.durable) !== 0)
          this.#parts.persister.flush(done);
        else done(refusal);
      };
      for (const { block, count } of runs) {
        const [from, length] = [(block - first) * BLOCK_BYTES, count * BLOCK_BYTES];
        const run = sliceParts(parts, from, length);
        const runSums = sums?.subarray(block - first, block - first + count) ?? null;
        const { none } = WRITE_FLAGS;
        this.write(object, kind, offset + from, run, length, runSums, none, finish, lock, true);
      }
      finish(null);
    });
  }

  /** Makes whole blocks; from here on the op holds its blocks if it waits for anything. */
  #begin(op: WriteOp, parts: ByteParts): void {
    const { object, first, last } = op;
    const { lateRefusal } = this.#engine;
    if (lateRefusal !== null) this.#finish(op, lateRefusal);
    else if (!this.#parts.openSet.hasRoom(object)) {
      this.#hold(op);
      this.#parts.openSet.whenRoom(() => this.#begin(op, parts));
    } else {
      const suspects = object.hasSuspect(first, last);
      if (!suspects && op.blocks !== null) this.#place(op);
      else {
        this.#hold(op);
        this.#parts.reader.resolveSuspects(object, first, last, (error) => {
          if (error !== null) this.#finish(op, error);
          else if (op.blocks !== null) this.#place(op);
          else this.#merge(op, parts);
        });
      }
    }
  }

  /** Completes the blocks at the edges with what is there now, which must be verified first. */
  #merge(op: WriteOp, parts: ByteParts): void {
    const { object, offset, bytes, first, last } = op;
    const head = Buffer.alloc(BLOCK_BYTES);
    const tail = last === first ? head : Buffer.alloc(BLOCK_BYTES);
    const headPartial = offset % BLOCK_BYTES !== 0 || (first === last && bytes < BLOCK_BYTES);
    const tailPartial = last !== first && (offset + bytes) % BLOCK_BYTES !== 0;
    const merged = (error: StoreError | null): void => {
      if (error !== null) {
        this.#finish(op, error);
        return;
      }
      const blocks: Buffer[] = [];
      const inHead = offset - first * BLOCK_BYTES;
      const headBytes = headPartial ? Math.min(bytes, BLOCK_BYTES - inHead) : 0;
      const tailBytes = tailPartial ? (offset + bytes) % BLOCK_BYTES : 0;
      if (headPartial) {
        copyParts(parts, 0, headBytes, head, inHead);
        blocks.push(head);
        if (op.checks !== null) op.checks[0] = crc32c(head);
      }
      blocks.push(...sliceParts(parts, headBytes, bytes - headBytes - tailBytes));
      if (tailPartial) {
        copyParts(parts, bytes - tailBytes, tailBytes, tail, 0);
        blocks.push(tail);
        if (op.checks !== null) op.checks[last - first] = crc32c(tail);
      }
      op.blocks = blocks;
      this.#place(op);
    };
    const readTail = (error: StoreError | null): void => {
      if (error !== null || !tailPartial || object.states[last] !== BLOCK_STATE.data) merged(error);
      else this.#parts.reader.readBlocks(object, last, last, tail, merged);
    };
    if (headPartial && object.states[first] === BLOCK_STATE.data)
      this.#parts.reader.readBlocks(object, first, first, head, readTail);
    else readTail(null);
  }

  /** Finds room, opens what must be opened, and writes. */
  #place(op: WriteOp): void {
    const { object, first, last } = op;
    if (this.#engine.failure !== null) {
      this.#finish(op, this.#engine.failure);
      return;
    }
    const refused = this.#allocate(op);
    if (refused !== null) {
      this.#finish(op, refused);
      return;
    }
    for (let chunk = chunkOf(first); chunk <= chunkOf(last); chunk += 1)
      this.#parts.table.loadChecks(object, chunk);
    const late = this.#engine.lateRefusal;
    if (late !== null) {
      this.#finish(op, late);
      return;
    }
    const plain = op.checks ?? pieceChecksOf(0, op.blocks ?? []);
    if (object.tap === null || op.stamp !== null) op.checks = bindChecks(object, first, plain);
    else {
      op.checks = bindChecks(object, first, plain.slice());
      if (!this.#announce(op, object.tap, plain)) {
        this.#finish(op, notLedHere());
        return;
      }
    }
    if (!this.#parts.opener.isNeeded(object, partOf(first), partOf(last))) {
      this.#writeInPlace(op);
      return;
    }
    this.#hold(op);
    // A parked write keeps its blocks after the answer; blocks that are borrowed go back with it.
    const canPark = isImageData(op.kind) && !op.isLockBorrowed;
    if (canPark && this.#parts.parked.hasRoom((last - first + 1) * BLOCK_BYTES)) this.#park(op);
    this.#openThenWrite(op);
  }

  /** Gives the write its place in the order of changes, and tells of it. @returns false if nothing may be changed here */
  #announce(op: WriteOp, tap: ChangeTap, checks: PieceChecks): boolean {
    this.#hold(op);
    const { object, first } = op;
    const place = object.placeAs(op.kind);
    const length = Math.max(object.latestLength, op.offset + op.bytes);
    const version = tap.nextVersion(place, object.latestVersion);
    if (version === 0) return false;
    op.stamp = object.stamp(version, length, true);
    op.isAnnounced = true;
    const blocks = op.blocks ?? [];
    const isDurable = (op.flags & WRITE_FLAGS.durable) !== 0;
    tap.changed({ op: 'write', object: place, version, first, blocks, checks, length, isDurable });
    return true;
  }

  /** Makes the object and its slot if need be. @returns why there is no room */
  #allocate(op: WriteOp): StoreError | null {
    const { object, first, last } = op;
    let absent = 0;
    for (let block = first; block <= last; block += 1)
      if (object.states[block] !== BLOCK_STATE.data) absent += 1;
    if (absent > 0 && !this.#engine.space.admit(absent * BLOCK_BYTES, op.stamp !== null))
      return this.#engine.noSpace();
    if (object.version === 0) object.create(op.kind, this.#engine.newObjectId());
    if (object.slot === NO_SLOT) {
      const slot = this.#engine.slots.allocate();
      if (slot === null) return this.#engine.noSpace();
      object.slot = slot;
    }
    return null;
  }

  #park(op: WriteOp): void {
    // The caller's buffers are his again once he has his answer.
    const bytes = Buffer.concat(op.blocks ?? []);
    try {
      op.parkedAs = this.#engine.live.appendParked(op.object, op.first, bytes);
    } catch (error) {
      this.#engine.refusalFrom(error); // not parked: it waits for the open like a large one
      return;
    }
    op.blocks = [bytes];
    this.#parts.parked.park(op.parkedAs, bytes.length);
    const answer = op.done;
    op.done = () => undefined;
    if ((op.flags & WRITE_FLAGS.durable) !== 0) this.#parts.persister.flush(answer);
    else answer(null);
  }

  #openThenWrite(op: WriteOp): void {
    if (this.#engine.isClosed) return; // the next start takes it over from `live`
    this.#parts.opener.open(op.object, partOf(op.first), partOf(op.last), (error) => {
      if (this.#engine.failure !== null) this.#finish(op, this.#engine.failure);
      else if (error === null) this.#writeInPlace(op);
      else if (op.parkedAs === 0) this.#finish(op, this.#engine.noSpace());
      else {
        // It was answered: it must get there. Until then flushes fail.
        this.#parts.parked.stuck(this.#engine.noSpace());
        this.#later(() => this.#openThenWrite(op));
      }
    });
  }

  #writeInPlace(op: WriteOp): void {
    const { object, first, last } = op;
    for (let part = partOf(first); part <= partOf(last); part += 1) object.touched[part] = 1;
    const position = slotPosition(object.slot) + first * BLOCK_BYTES;
    const blocks = op.blocks ?? [];
    try {
      if (this.#engine.data.tryWrite(position, blocks)) {
        this.#written(op);
        return;
      }
    } catch (error) {
      this.#notWritten(op, error);
      return;
    }
    this.#hold(op);
    this.#engine.data.write(position, blocks, (error) => {
      if (error === null) this.#written(op);
      else this.#notWritten(op, error);
    });
  }

  /** The bytes are in the file: from now on they are what the object holds. */
  #written(op: WriteOp): void {
    const { object, first, last, checks } = op;
    invariant(object.version > 0, 'an object lives as long as something is written to it');
    const length = op.stamp?.length ?? Math.max(object.length, op.offset + op.bytes);
    let stateChanged = length !== object.length && !isImageData(object.kind);
    for (let block = first; block <= last; block += 1) {
      if (object.states[block] !== BLOCK_STATE.data) {
        stateChanged = true;
        object.setState(block, BLOCK_STATE.data);
      }
      object.checks.set(block, checks?.[block - first] ?? 0);
    }
    for (let part = partOf(first); part <= partOf(last); part += 1) object.touched[part] = 1;
    if (op.stamp === null) {
      object.length = length;
      object.version = this.#engine.newVersion(object.version);
    } else object.take(op.stamp);
    this.#engine.sync.wrote((last - first + 1) * BLOCK_BYTES);
    if (stateChanged) this.#parts.persister.markChanged(object);
    else this.#parts.openSet.add(object);
    if (op.parkedAs > 0) {
      this.#landed(op);
      return;
    }
    let failed: StoreError | null = null;
    try {
      if (stateChanged)
        this.#engine.live.appendState(object, first, last - first + 1, BLOCK_STATE.data);
    } catch (error) {
      failed = this.#engine.refusalFrom(error);
    }
    this.#finish(op, failed);
    this.#parts.persister.keepLiveSmall();
  }

  /** A parked write is in its place: noted in `live`, or else recorded, before anybody may write there again. */
  #landed(op: WriteOp): void {
    this.#parts.parked.landed(op.parkedAs);
    try {
      this.#engine.live.appendLanded(op.parkedAs);
      this.#finish(op, null);
      this.#parts.persister.keepLiveSmall();
    } catch (error) {
      this.#engine.refusalFrom(error);
      this.#recordLanded(op);
    }
  }

  #recordLanded(op: WriteOp): void {
    if (this.#engine.isClosed) return;
    // Without a record to commit the flush would leave `live` as it is, and the next start would write this again.
    this.#parts.persister.markChanged(op.object);
    this.#parts.persister.flush((error) => {
      if (error === null || this.#engine.failure !== null) this.#finish(op, error);
      else this.#later(() => this.#recordLanded(op));
    });
  }

  #notWritten(op: WriteOp, error: unknown): void {
    const failure = this.#engine.refusalFrom(error);
    const { object, first, last } = op;
    // Some blocks may be new and some old, none torn: what they hold is found out at the next touch.
    for (let block = first; block <= last; block += 1) {
      const state = object.parts[partOf(block)];
      const isUnrecorded = state === PART.empty && object.states[block] === BLOCK_STATE.data;
      if (state === PART.open || isUnrecorded) object.parts[partOf(block)] = PART.suspect;
    }
    if (op.parkedAs > 0 && this.#engine.failure === null) {
      this.#parts.parked.stuck(failure);
      this.#later(() => this.#openThenWrite(op));
    } else this.#finish(op, failure);
  }

  /** Tries again; the process must not end before. */
  #later(retry: () => void): void {
    void this.#engine.env.timers.sleep(RETRY_MS).then(retry);
  }

  #finish(op: WriteOp, error: StoreError | null): void {
    if (op.lock !== null) {
      const { lock } = op;
      op.lock = null;
      if (!op.isLockBorrowed) op.object.locks.release(lock);
    }
    if (error !== null && op.stamp !== null) op.object.pass(op.stamp);
    if (error?.code === 'E_NO_SPACE' && op.isAnnounced) notMade(op.object, op.kind);
    // Refused before it held anything: the slot it was given goes back.
    if (error !== null) this.#parts.persister.releaseIfGone(op.object);
    const refusal = error ?? this.#engine.lateRefusal;
    if (refusal === null && (op.flags & WRITE_FLAGS.durable) !== 0 && op.parkedAs === 0)
      this.#parts.persister.flush(op.done);
    else op.done(refusal);
  }

  /** Takes the blocks: nothing conflicts, or the op would not have begun. */
  #hold(op: WriteOp): void {
    if (op.lock === null)
      op.object.locks.acquire(op.first, op.last, true, (lock) => {
        op.lock = lock;
      });
  }
}

/** Runs of blocks of `first..last` that are absent. */
function absentRuns(
  object: StoredObject,
  first: number,
  last: number,
): { block: number; count: number }[] {
  const runs: { block: number; count: number }[] = [];
  for (let block = first; block <= last; block += 1) {
    if (object.states[block] !== BLOCK_STATE.absent) continue;
    const run = runs.at(-1);
    if (run !== undefined && run.block + run.count === block) run.count += 1;
    else runs.push({ block, count: 1 });
  }
  return runs;
}
