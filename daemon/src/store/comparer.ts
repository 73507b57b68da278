/**
 * Compares this copy of an object with another member's, and says what makes the other one equal. Each piece is taken
 * while its blocks are held, so what is emitted has its place among the changes that are announced; those in between
 * reach the other one by themselves.
 */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  INLINE_BYTES_MAX,
  StoreError,
  crc32c,
  type BlockState,
  type Done,
  type DoneWith,
  type ObjectKind,
} from '@store/core';
import type { Change } from '../replication/change.js';
import { PRINT_NUMBERS, putPrint, samePrint } from '../replication/block-print.js';
import type { DifferenceOptions, ObjectDigest } from '../replication/replica-pool.js';
import { misfit } from './change-applier.js';
import type { Engine } from './engine.js';
import { CHUNKS_PER_OBJECT, BLOCKS_PER_CHUNK, chunkOf } from './format.js';
import { UNREADABLE_CHECKSUM, isImageData, printable, type ObjectTable } from './object-table.js';
import { plainCheck, type Reader } from './reader.js';
import type { StoredObject } from './stored-object.js';
import type { WholeObjects } from './whole-objects.js';
import type { Zeroer } from './zeroer.js';

const LAST_BLOCK = BLOCKS_PER_OBJECT - 1;
/** In the place of bytes that nobody has. */
const LOST = Buffer.alloc(BLOCK_BYTES);
const LOST_CHECK = 0x10570000;

type Between = NonNullable<DifferenceOptions['between']>;

export interface ComparerParts {
  readonly engine: Engine;
  readonly table: ObjectTable;
  readonly reader: Reader;
  readonly whole: WholeObjects;
  readonly zeroer: Zeroer;
}

/** Blocks of ours that could not be verified. */
export interface Unverified {
  readonly unverified: readonly number[];
}

/** Takes a change; `isLast`: with it the other copy is complete. */
export type Emit = (change: Change, isLast: boolean) => void;

/** What cannot be verified, and what becomes of it. */
interface LeftOut {
  readonly unverified: number[];
  readonly marksLost: boolean;
}

/** A run of blocks in one state. */
interface Run {
  readonly first: number;
  count: number;
  readonly state: BlockState;
}

const NO_DIGEST: ObjectDigest = {
  version: 0,
  length: 0,
  isInline: false,
  states: new Uint8Array(),
  checks: new Uint32Array(),
  prints: new Uint32Array(),
  unknown: [],
};

export class Comparer {
  readonly #parts: ComparerParts;

  constructor(parts: ComparerParts) {
    this.#parts = parts;
  }

  /**
   * Null as well for what is broken, or of another kind: `difference` then begins from nothing. A long object is read a
   * piece at a time; its version is that of the beginning, so what was changed meanwhile only looks older than it is.
   */
  digest(object: StoredObject, kind: ObjectKind, done: DoneWith<ObjectDigest | null>): void {
    const { engine } = this.#parts;
    object.locks.acquire(0, LAST_BLOCK, false, (lock) => {
      const refusal = engine.failure;
      const isThere = object.exists && misfit(object, kind) === null;
      const inline = isThere && object.inline ? this.#inlineDigest(object) : null;
      const { version, length } = object;
      object.locks.release(lock);
      if (refusal !== null) done(refusal);
      else if (!isThere || inline !== null) done(null, inline);
      else this.#slotDigest(object, kind, version, length, done);
    });
  }

  #inlineDigest(object: StoredObject): ObjectDigest {
    const content = this.#parts.whole.content(object);
    const isGood = Buffer.isBuffer(content);
    const prints = new Uint32Array(PRINT_NUMBERS);
    if (isGood) putPrint(prints, 0, content);
    return {
      version: object.version,
      length: object.length,
      isInline: true,
      states: new Uint8Array(),
      checks: Uint32Array.of(isGood ? crc32c(content) : 0),
      prints,
      unknown: isGood ? [] : [0],
    };
  }

  #slotDigest(
    object: StoredObject,
    kind: ObjectKind,
    version: number,
    length: number,
    done: DoneWith<ObjectDigest | null>,
  ): void {
    const states = new Uint8Array(BLOCKS_PER_OBJECT);
    const checks = new Uint32Array(BLOCKS_PER_OBJECT);
    const prints = new Uint32Array(BLOCKS_PER_OBJECT * PRINT_NUMBERS);
    const unknown: number[] = [];
    const next = (chunk: number): void => {
      if (chunk === CHUNKS_PER_OBJECT) {
        let count = BLOCKS_PER_OBJECT;
        while (count > 0 && states[count - 1] === BLOCK_STATE.absent) count -= 1;
        done(null, {
          ...{ version, length, isInline: false },
          ...{ states: states.slice(0, count), checks: checks.slice(0, count) },
          ...{ prints: prints.slice(0, count * PRINT_NUMBERS), unknown },
        });
        return;
      }
      const first = chunk * BLOCKS_PER_CHUNK;
      this.#holdPiece(object, kind, first, (error, isThere, release) => {
        const finish = (failure: StoreError | null): void => {
          release();
          if (failure !== null) done(failure);
          else next(chunk + 1);
        };
        if (error !== null) {
          finish(error);
          return;
        }
        if (!isThere) {
          // It became another object meanwhile: from the beginning.
          release();
          this.digest(object, kind, done);
          return;
        }
        states.set(object.states.subarray(first, first + BLOCKS_PER_CHUNK), first);
        const isData = (block: number): boolean => object.states[block] === BLOCK_STATE.data;
        this.#print(
          object,
          first,
          isData,
          prints.subarray(first * PRINT_NUMBERS),
          (failure, bad) => {
            for (let block = first; block < first + BLOCKS_PER_CHUNK; block += 1) {
              if (!isData(block)) continue;
              const check = bad.has(block) ? null : this.#check(object, block);
              if (check === null) unknown.push(block);
              else checks[block] = check;
            }
            finish(failure);
          },
        );
      });
    };
    next(0);
  }

  /** Holds a chunk's blocks for reading. @param work - Is told whether the object is in a slot (still) */
  #holdPiece(
    object: StoredObject,
    kind: ObjectKind,
    first: number,
    work: (error: StoreError | null, isThere: boolean, release: () => void) => void,
  ): void {
    const last = first + BLOCKS_PER_CHUNK - 1;
    object.locks.acquire(first, last, false, (lock) => {
      const release = (): void => object.locks.release(lock);
      if (!isInSlot(object, kind)) work(this.#parts.engine.failure, false, release);
      else
        this.#parts.reader.resolveSuspects(object, first, last, (error) =>
          work(error, isInSlot(object, kind), release),
        );
    });
  }

  /**
   * Prints those blocks of a chunk that are wanted, all of them data; the caller holds them.
   * @param prints - Of the chunk: where they go
   * @param done - Hears which of them do not match their checksums, and so have no print.
   */
  #print(
    object: StoredObject,
    first: number,
    isWanted: (block: number) => boolean,
    prints: Uint32Array,
    done: (error: StoreError | null, bad: ReadonlySet<number>) => void,
  ): void {
    const bad = new Set<number>();
    const end = first + BLOCKS_PER_CHUNK;
    const read = (from: number, to: number, goOn: (error: StoreError | null) => void): void => {
      const bytes = Buffer.allocUnsafeSlow((to - from) * BLOCK_BYTES);
      this.#parts.reader.readBlocks(object, from, to - 1, bytes, (error) => {
        if (error === null)
          for (let block = from; block < to; block += 1) {
            const at = (block - from) * BLOCK_BYTES;
            putPrint(prints, block - first, bytes.subarray(at, at + BLOCK_BYTES));
          }
        if (error?.code !== 'E_CHECKSUM') goOn(error);
        else if (to - from === 1) {
          bad.add(from);
          goOn(null);
        } else {
          const middle = from + Math.floor((to - from) / 2);
          read(from, middle, (failure) => {
            if (failure !== null) goOn(failure);
            else read(middle, to, goOn);
          });
        }
      });
    };
    const next = (at: number): void => {
      let from = at;
      while (from < end && !isWanted(from)) from += 1;
      if (from >= end) {
        done(null, bad);
        return;
      }
      let to = from + 1;
      while (to < end && isWanted(to)) to += 1;
      read(from, to, (error) => {
        if (error === null) next(to);
        else done(error, bad);
      });
    };
    next(first);
  }

  /** Recorded of a block of data, bound to nothing; null: that is lost. */
  #check(object: StoredObject, block: number): number | null {
    this.#parts.table.loadChecks(object, chunkOf(block));
    return object.checks.get(block) === UNREADABLE_CHECKSUM ? null : plainCheck(object, block);
  }

  /**
   * See `ReplicaPool.difference`. What is of another kind here than there is taken as it is here. Of an object in a slot the last change emitted is always `states` of no blocks: with
   * it the other one is complete, unless blocks could not be verified. Before that it may begin with `delete`, if nothing of what is there can be used.
   */
  difference(
    object: StoredObject,
    askedKind: ObjectKind,
    digest: ObjectDigest | null,
    emit: Emit,
    done: DoneWith<Unverified>,
    { between = atOnce, marksLost = false }: DifferenceOptions = {},
  ): void {
    const left: LeftOut = { unverified: [], marksLost };
    const { unverified } = left;
    const answer: Done = (error) => {
      if (error === null)
        done(null, { unverified: unverified.sort((left, right) => left - right) });
      else done(error);
    };
    this.#settled(object, (error, release) => {
      const finish: Done = (failure) => {
        release();
        answer(failure);
      };
      const { kind } = object;
      const theirs = isImageData(kind) === isImageData(askedKind) ? digest : null;
      if (error !== null) finish(error);
      else if (!object.exists) {
        if (digest !== null) emit(goneOf(object, askedKind, digest.version), true);
        finish(null);
      } else if (object.inline) {
        this.#inlineDifference(object, kind, theirs, emit, left);
        finish(null);
      } else if (theirs === null || theirs.isInline)
        this.#wholeOf(object, kind, emit, (isWhole) => {
          if (!isWhole) emit(goneOf(object, kind, object.latestVersion), false);
          release();
          const rest = isWhole ? null : NO_DIGEST;
          if (rest === null) answer(this.#parts.engine.failure);
          else this.#pieces(object, kind, rest, emit, left, between, answer);
        });
      else {
        release();
        this.#pieces(object, kind, theirs, emit, left, between, answer);
      }
    });
  }

  #inlineDifference(
    object: StoredObject,
    kind: ObjectKind,
    theirs: ObjectDigest | null,
    emit: Emit,
    left: LeftOut,
  ): void {
    const ours = this.#inlineDigest(object);
    const isEqual =
      theirs?.isInline === true &&
      theirs.unknown.length === 0 &&
      theirs.version === ours.version &&
      theirs.length === ours.length &&
      theirs.checks[0] === ours.checks[0] &&
      samePrint(theirs.prints, ours.prints, 0);
    if (ours.unknown.length === 0) {
      if (!isEqual) this.#emitContent(object, kind, emit);
    } else if (left.marksLost) this.#emitLost(object, kind, emit);
    else left.unverified.push(0);
  }

  /** An inline object whose content is good nowhere: there it has as many blocks, all of them lost. */
  #emitLost(object: StoredObject, kind: ObjectKind, emit: Emit): void {
    emit(goneOf(object, kind, object.latestVersion), false);
    const count = Math.ceil(object.length / BLOCK_BYTES);
    for (let block = 0; block < count; block += 1)
      emit(lostAt(object, kind, block, LOST_CHECK), false);
    emit(statesOf(object, kind, { first: 0, count: 0, state: BLOCK_STATE.absent }), true);
  }

  /** @returns why the content of an inline object cannot be emitted */
  #emitContent(object: StoredObject, kind: ObjectKind, emit: Emit): StoreError | null {
    const content = this.#parts.whole.content(object);
    if (!Buffer.isBuffer(content)) return content;
    const [place, version] = [object.placeAs(kind), object.latestVersion];
    emit({ op: 'whole', object: place, version, content: Buffer.from(content) }, true);
    return null;
  }

  /** The pieces of an object in a slot, and then its version. */
  #pieces(
    found: StoredObject,
    kind: ObjectKind,
    theirs: ObjectDigest,
    emit: Emit,
    left: LeftOut,
    between: Between,
    done: Done,
  ): void {
    let object = found;
    const unknown = new Set(theirs.unknown);
    const prints = new Uint32Array(BLOCKS_PER_CHUNK * PRINT_NUMBERS);
    /** As far as can be seen without reading. */
    const differsClearly = (block: number): boolean => {
      const state = object.states[block];
      if (state !== (theirs.states[block] ?? BLOCK_STATE.absent)) return true;
      if (state !== BLOCK_STATE.data) return false;
      return unknown.has(block) || this.#check(object, block) !== theirs.checks[block];
    };
    const isAlike = (block: number): boolean =>
      object.states[block] === BLOCK_STATE.data && !differsClearly(block);
    let count = 0;
    const counted: Emit = (change, isLast) => {
      count += 1;
      emit(change, isLast);
    };
    const next = (chunk: number): void => {
      // Between pieces nobody holds it: it may have left the memory, and be another one in it by now.
      if (object.table === null)
        object = this.#parts.table.findByHeadKey(object.headKey, object.kind);
      if (chunk === CHUNKS_PER_OBJECT) {
        const isComplete = left.unverified.length === 0;
        this.#end(object, kind, count > 0 ? NO_DIGEST : theirs, isComplete, emit, done);
        return;
      }
      const first = chunk * BLOCKS_PER_CHUNK;
      this.#holdPiece(object, kind, first, (error, isThere, release) => {
        const finish: Done = (failure) => {
          release();
          if (failure !== null || !isThere) done(failure ?? this.#parts.engine.failure);
          else if (chunk + 1 < CHUNKS_PER_OBJECT) between(() => next(chunk + 1));
          else next(chunk + 1);
        };
        if (error !== null || !isThere) {
          finish(error);
          return;
        }
        // Equal checksums are not yet equal bytes.
        this.#print(object, first, isAlike, prints, (failure, bad) => {
          if (failure !== null) {
            finish(failure);
            return;
          }
          const differs = (block: number): boolean =>
            differsClearly(block) ||
            (isAlike(block) &&
              (bad.has(block) || !samePrint(prints, theirs.prints, block - first, block)));
          const runs = runsOf(object, first, first + BLOCKS_PER_CHUNK - 1, differs);
          this.#emitRuns(object, kind, runs, counted, left, finish);
        });
      });
    };
    next(0);
  }

  /** Version and length, if they are not theirs already. */
  #end(
    object: StoredObject,
    kind: ObjectKind,
    theirs: ObjectDigest,
    isComplete: boolean,
    emit: Emit,
    done: Done,
  ): void {
    object.locks.acquire(0, 0, false, (lock) => {
      const [version, length] = [object.latestVersion, object.latestLength];
      const isEqual = theirs.version === version && theirs.length === length;
      if (!isEqual && object.exists && isInSlot(object, kind))
        emit(statesOf(object, kind, { first: 0, count: 0, state: BLOCK_STATE.absent }), isComplete);
      object.locks.release(lock);
      done(this.#parts.engine.failure);
    });
  }

  /**
   * Emits those of blocks `first..last` that differ, as they are now.
   * @param done - is told whether there still is such an object in a slot; if not, others have heard what became of it
   */
  #piece(
    object: StoredObject,
    kind: ObjectKind,
    first: number,
    last: number,
    differs: (block: number) => boolean,
    emit: Emit,
    left: LeftOut,
    done: (error: StoreError | null, isThere: boolean) => void,
  ): void {
    object.locks.acquire(first, last, false, (lock) => {
      const finish = (error: StoreError | null, isThere: boolean): void => {
        object.locks.release(lock);
        done(error ?? this.#parts.engine.failure, isThere);
      };
      if (!isInSlot(object, kind)) {
        finish(null, false);
        return;
      }
      this.#parts.reader.resolveSuspects(object, first, last, (error) => {
        if (error !== null) finish(error, true);
        else
          this.#emitRuns(
            object,
            kind,
            runsOf(object, first, last, differs),
            emit,
            left,
            (failure) => finish(failure, true),
          );
      });
    });
  }

  /** The caller holds the blocks. */
  #emitRuns(
    object: StoredObject,
    kind: ObjectKind,
    runs: readonly Run[],
    emit: Emit,
    left: LeftOut,
    done: Done,
  ): void {
    let pending = 1;
    let failed: StoreError | null = null;
    const finish: Done = (error) => {
      failed ??= error;
      pending -= 1;
      if (pending === 0) done(failed);
    };
    for (const run of runs) {
      pending += 1;
      if (run.state === BLOCK_STATE.data) this.#emitData(object, kind, run, emit, left, finish);
      else {
        emit(statesOf(object, kind, run), false);
        finish(null);
      }
    }
    finish(null);
  }

  /** A run of data; if not all of it can be verified, what can be, a block at a time. */
  #emitData(
    object: StoredObject,
    kind: ObjectKind,
    { first, count }: Run,
    emit: Emit,
    left: LeftOut,
    done: Done,
  ): void {
    const bytes = Buffer.allocUnsafeSlow(count * BLOCK_BYTES);
    const last = first + count - 1;
    this.#parts.reader.readBlocks(object, first, last, bytes, (error) => {
      if (error === null) {
        emit(this.#writeOf(object, kind, first, bytes), false);
        done(null);
      } else if (error.code !== 'E_CHECKSUM') done(error);
      else if (count === 1) {
        if (left.marksLost)
          emit(lostAt(object, kind, first, this.#check(object, first) ?? 0), false);
        else left.unverified.push(first);
        done(null);
      } else {
        const state = BLOCK_STATE.data;
        const singles = Array.from({ length: count }, (_, index) => ({
          first: first + index,
          count: 1,
          state,
        }));
        this.#emitRuns(object, kind, singles, emit, left, done);
      }
    });
  }

  #writeOf(object: StoredObject, kind: ObjectKind, first: number, bytes: Buffer): Change {
    const checks = new Uint32Array(bytes.length / BLOCK_BYTES);
    for (let index = 0; index < checks.length; index += 1)
      checks[index] = plainCheck(object, first + index);
    return {
      op: 'write',
      object: object.placeAs(kind),
      version: object.latestVersion,
      first,
      blocks: [bytes],
      checks,
      length: object.latestLength,
    };
  }

  /**
   * An object in a slot as one change, and its blocks that are not data; the caller holds all of it.
   * @param done - is told whether that can be: not of image data, nor if something cannot be verified
   */
  #wholeOf(
    object: StoredObject,
    kind: ObjectKind,
    emit: Emit,
    done: (isWhole: boolean) => void,
  ): void {
    const { length } = object;
    // So short it would be inline there, and have no blocks.
    const isShort = object.length <= INLINE_BYTES_MAX;
    if (isImageData(kind) || isShort) {
      done(false);
      return;
    }
    const content = Buffer.alloc(length);
    this.#parts.reader.readHeld(object, 0, content, (error) => {
      if (error !== null) {
        done(false);
        return;
      }
      const [place, version] = [object.placeAs(kind), object.latestVersion];
      const count = Math.ceil(length / BLOCK_BYTES);
      const differs = (block: number): boolean =>
        object.states[block] !== (block < count ? BLOCK_STATE.data : BLOCK_STATE.absent);
      const runs = runsOf(object, 0, LAST_BLOCK, differs);
      emit({ op: 'whole', object: place, version, content }, runs.length === 0);
      runs.forEach((run, index) => emit(statesOf(object, kind, run), index === runs.length - 1));
      done(true);
    });
  }

  /** See `ReplicaPool.present`. */
  present(
    object: StoredObject,
    askedKind: ObjectKind,
    first: number,
    last: number,
    emit: Emit,
    done: Done,
  ): void {
    this.#settled(object, (error, release) => {
      const finish: Done = (failure) => {
        release();
        done(failure);
      };
      const { kind } = object;
      if (error !== null) finish(error);
      else if (!object.exists) {
        emit(goneOf(object, askedKind, object.latestVersion), true);
        finish(null);
      } else if (object.inline) finish(this.#emitContent(object, kind, emit));
      else
        this.#wholeOf(object, kind, emit, (isWhole) => {
          release();
          if (isWhole) done(this.#parts.engine.failure);
          else if (isImageData(kind)) this.#presentBlocks(object, kind, first, last, emit, done);
          else this.#presentBlocks(object, kind, 0, LAST_BLOCK, emit, done);
        });
    });
  }

  #presentBlocks(
    object: StoredObject,
    kind: ObjectKind,
    first: number,
    last: number,
    emit: Emit,
    done: Done,
  ): void {
    const end = Math.min(last, LAST_BLOCK);
    const left: LeftOut = { unverified: [], marksLost: false };
    const { unverified } = left;
    const next = (at: number): void => {
      if (at > end) {
        unverified.sort((one, other) => one - other);
        done(unverified.length === 0 ? null : unverifiable(object, unverified));
        return;
      }
      const to = Math.min(end, at + BLOCKS_PER_CHUNK - 1);
      this.#piece(
        object,
        kind,
        at,
        to,
        () => true,
        emit,
        left,
        (error, isThere) => {
          if (error !== null || !isThere) done(error);
          else next(to + 1);
        },
      );
    };
    next(first);
  }

  /** Holds all of the object, once its version says something about its bytes. */
  #settled(
    object: StoredObject,
    work: (error: StoreError | null, release: () => void) => void,
  ): void {
    const { engine, zeroer } = this.#parts;
    object.locks.acquire(0, LAST_BLOCK, object.isUnsure, (lock) => {
      const release = (): void => object.locks.release(lock);
      const refusal = engine.failure ?? object.broken;
      if (refusal !== null) work(refusal, release);
      else zeroer.settleVersion(object, (error) => work(error, release));
    });
  }
}

function atOnce(next: () => void): void {
  next();
}

function isInSlot(object: StoredObject, kind: ObjectKind): boolean {
  return object.version > 0 && !object.inline && misfit(object, kind) === null;
}

/** Runs of equal state of those of blocks `first..last` that differ. */
function runsOf(
  object: StoredObject,
  first: number,
  last: number,
  differs: (block: number) => boolean,
): Run[] {
  const runs: Run[] = [];
  for (let block = first; block <= last; block += 1) {
    if (!differs(block)) continue;
    const state = object.states[block] as BlockState; // we wrote it
    const run = runs.at(-1);
    if (run?.state === state && run.first + run.count === block) run.count += 1;
    else runs.push({ first: block, count: 1, state });
  }
  return runs;
}

function statesOf(object: StoredObject, kind: ObjectKind, { first, count, state }: Run): Change {
  const [version, length] = [object.latestVersion, object.latestLength];
  return { op: 'states', object: object.placeAs(kind), version, first, count, state, length };
}

/**
 * Of a block that is good nowhere: whoever has a copy is to say so, and not what it once was.
 * @param check - Of a record that is lost there is none, 0: any that zeros do not have is taken
 */
function lostAt(object: StoredObject, kind: ObjectKind, block: number, check: number): Change {
  return {
    ...{ op: 'write', object: object.placeAs(kind), version: object.latestVersion },
    ...{ first: block, length: object.latestLength, isLost: true, blocks: [LOST] },
    checks: Uint32Array.of(check === 0 ? LOST_CHECK : check),
  };
}

function goneOf(object: StoredObject, kind: ObjectKind, version: number): Change {
  return { op: 'delete', object: object.placeAs(kind), version };
}

function unverifiable(object: StoredObject, blocks: readonly number[]): StoreError {
  return new StoreError(
    'E_CHECKSUM',
    `Blocks ${blocks.join(', ')} of object '${printable(object.name)}' do not match their checksums`,
  );
}
