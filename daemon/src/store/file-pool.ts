/** One pool of the local engine: checks arguments once, then trusts them. */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  BLOCKS_PER_OBJECT,
  OBJECT_BYTES,
  OBJECT_KIND,
  StoreError,
  WRITE_FLAGS,
  arrivedDamaged,
  firstDifference,
  ifAbsentRefusal,
  invariant,
  partsBytes,
  pieceChecksOf,
  pieceCount,
  promised,
  promisedWith,
  swapRefusal,
  wrongCheckCount,
  type BlockState,
  type ByteParts,
  type Done,
  type DoneWith,
  type Extent,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type ObjectStat,
  type PieceChecks,
} from '@store/core';
import type { Change, ObjectPlace } from '../replication/change.js';
import type {
  ChangeTap,
  DifferenceOptions,
  HashRange,
  InventoryPage,
  ObjectDigest,
  ReplicaPool,
} from '../replication/replica-pool.js';
import { misfit, type ChangeApplier } from './change-applier.js';
import type { Comparer, Emit, Unverified } from './comparer.js';
import type { Engine } from './engine.js';
import { poolHeadsStart } from './format.js';
import type { Mender } from './mender.js';
import { ALL_HASHES, ObjectList } from './object-list.js';
import { isImageData, printable, type ObjectTable } from './object-table.js';
import type { Persister } from './persister.js';
import { pieceChecksOfRead, type Reader } from './reader.js';
import type { StoredObject } from './stored-object.js';
import type { WholeObjects } from './whole-objects.js';
import type { Writer } from './writer.js';
import type { Zeroer } from './zeroer.js';

/** Read at once by a prefetch; more would push other things out of memory. */
const PREFETCH_BYTES_MAX: number = 1024 * 1024;
/** Objects that `clear` removes together. */
const CLEAR_PAGE = 64;
/** Shared by all writes of zeros; never written to. */
const ZEROS = Buffer.alloc(64 * 1024);

export interface FilePoolParts {
  readonly engine: Engine;
  readonly table: ObjectTable;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly zeroer: Zeroer;
  readonly whole: WholeObjects;
  readonly persister: Persister;
  readonly applier: ChangeApplier;
  readonly comparer: Comparer;
  readonly mender: Mender;
}

export class FilePool implements ReplicaPool {
  readonly name: string;
  readonly objectBytes: number = OBJECT_BYTES;
  readonly #id: number;
  readonly #parts: FilePoolParts;
  readonly #list: ObjectList;
  #isAnnounced = false;

  constructor(name: string, id: number, parts: FilePoolParts) {
    this.name = name;
    this.#id = id;
    this.#parts = parts;
    this.#list = new ObjectList(id, parts);
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const object = this.#findExisting(ref, offset, target.length);
    if (object instanceof StoreError) done(object);
    else if (object === null) {
      target.fill(0);
      done(null);
    } else if (!isImageData(ref.kind)) this.#parts.whole.read(object, offset, target, done);
    else if (target.length === 0) done(null);
    else this.#parts.reader.read(object, offset, target, done);
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    const object = this.#findExisting(ref, offset, target.length);
    if (object instanceof StoreError) done(object);
    else if (object === null) {
      target.fill(0);
      done(null, pieceChecksOfRead(null, offset, target));
    } else if (!isImageData(ref.kind))
      this.#parts.whole.read(object, offset, target, (error) => {
        if (error === null) done(null, pieceChecksOf(offset, [target]));
        else done(error);
      });
    else if (target.length === 0) done(null, new Uint32Array());
    else this.#parts.reader.readChecked(object, offset, target, done);
  }

  write(ref: ObjectRef, offset: number, parts: ByteParts, flags: number, done: Done): void {
    this.#write(ref, offset, parts, partsBytes(parts), null, flags, done);
  }

  /** The checksums are computed once, here, and stored: those that came are only compared with them. */
  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: ByteParts,
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    const bytes = partsBytes(parts);
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const needed = pieceCount(offset, bytes);
    if (checks.length !== needed) {
      done(wrongCheckCount(checks.length, needed));
      return;
    }
    const sums = pieceChecksOf(offset, parts);
    const piece = firstDifference(sums, checks);
    if (piece >= 0) {
      this.#parts.engine.counters.arrivedDamaged += 1;
      done(arrivedDamaged(printable(ref.id), offset, piece));
    } else this.#write(ref, offset, parts, bytes, sums, flags, done);
  }

  #write(
    ref: ObjectRef,
    offset: number,
    parts: ByteParts,
    bytes: number,
    sums: PieceChecks | null,
    flags: number,
    done: Done,
  ): void {
    const object = this.#find(ref, offset, bytes);
    const { writer, whole } = this.#parts;
    const { kind } = ref;
    if (object instanceof StoreError) done(object);
    else if ((flags & WRITE_FLAGS.ifAbsent) !== 0) {
      const refusal = ifAbsentRefusal(kind, offset, bytes);
      if (refusal !== null || bytes === 0) done(refusal);
      else writer.writeIfAbsent(object, kind, offset, parts, bytes, sums, flags, done);
    } else if (!isImageData(kind))
      whole.write(object, kind, offset, parts, bytes, sums, flags, done);
    else if (bytes === 0) done(null);
    else writer.write(object, kind, offset, parts, bytes, sums, flags, done);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const object = this.#find(ref, offset, bytes);
    if (object instanceof StoreError) done(object);
    else if (bytes === 0) done(null);
    else if ((flags & WRITE_FLAGS.allocate) !== 0)
      this.write(ref, offset, zeros(bytes), flags & WRITE_FLAGS.durable, done);
    else if (!isImageData(ref.kind)) this.#parts.whole.zero(object, offset, bytes, flags, done);
    else this.#parts.zeroer.zero(object, ref.kind, offset, bytes, flags, done);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const object = this.#findExisting(ref, offset, bytes);
    if (object === null) {
      done(null, bytes === 0 ? [] : [{ bytes, state: BLOCK_STATE.absent }]);
      return;
    }
    if (object instanceof StoreError) {
      done(object);
      return;
    }
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.min(BLOCKS_PER_OBJECT - 1, Math.floor((offset + bytes) / BLOCK_BYTES));
    const answer = (): void => {
      if (!object.exists && !isImageData(ref.kind))
        done(new StoreError('E_NOT_FOUND', `There is no object '${printable(ref.id)}'`));
      else done(null, extentsOf(object, offset, bytes));
    };
    // In order with what was called before.
    if (object.locks.conflicts(first, last, false))
      object.locks.acquire(first, last, false, (lock) => {
        answer();
        object.locks.release(lock);
      });
    else answer();
  }

  /** The engine fails as a whole when it has lost something. */
  forUser(): this {
    return this;
  }

  absentRun(prefix: string, first: number, count: number): number | null {
    const { engine, table } = this.#parts;
    // The objects, when asked, say why nothing can be done.
    return engine.refusal === null ? table.present.absentRun(this.#id, prefix, first, count) : null;
  }

  flush(done: Done): void {
    const { refusal } = this.#parts.engine;
    if (refusal !== null) done(refusal);
    else this.#parts.persister.flush(done);
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    const wanted = Math.min(bytes, PREFETCH_BYTES_MAX);
    const object = this.#findExisting(ref, offset, bytes);
    if (object instanceof StoreError) done(object);
    else if (object === null || !isImageData(ref.kind)) done(null);
    else if (wanted === 0 || object.usedBlocks === 0) done(null);
    else {
      // What comes of it shows when it is read for real.
      this.#parts.reader.read(object, offset, Buffer.allocUnsafe(wanted), () => {
        done(this.#parts.engine.failure);
      });
    }
  }

  async stat(ref: ObjectRef): Promise<ObjectStat | null> {
    const object = this.#find(ref, 0, 0);
    if (object instanceof StoreError) return Promise.reject(object);
    // In order with what was called before.
    await promised((done) => this.#parts.zeroer.settleFree(object, done));
    return object.exists ? object.stat() : null;
  }

  list(options: ListOptions): Promise<ListPage> {
    return this.#list.list([ALL_HASHES], options);
  }

  /**
   * Removes every object, durably, a page at a time so that others get their turn, and announces nothing. Nobody may
   * write to the pool any more.
   * @returns how many there were
   */
  async clear(): Promise<number> {
    const { engine, table, whole, persister } = this.#parts;
    engine.mustServe();
    await promised((done) => persister.flush(done));
    let count = 0;
    for (;;) {
      const [start, end] = [poolHeadsStart(this.#id), poolHeadsStart(this.#id + 1)];
      const heads = engine.meta.range(start, end, CLEAR_PAGE);
      if (heads.length === 0) return count;
      await Promise.all(
        heads.map(({ key }) => {
          const object = table.findByHeadKey(key, OBJECT_KIND.plain);
          return promisedWith<boolean>((done) => whole.delete(object, 0, done, null));
        }),
      );
      count += heads.length;
      engine.mustServe();
    }
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    const refusal = swapRefusal(ref.kind, bytes.length, this.objectBytes);
    if (refusal !== null) return Promise.reject(refusal);
    const object = this.#find(ref, 0, 0);
    if (object instanceof StoreError) return Promise.reject(object);
    return promisedWith((done) =>
      this.#parts.whole.compareAndSwap(object, ref.kind, expectedVersion, bytes, done),
    );
  }

  async delete(ref: ObjectRef, version = 0): Promise<boolean> {
    const { engine, table, whole } = this.#parts;
    engine.mustServe();
    const object = table.find(this.#id, ref);
    // An object of another kind is removed all the same, but none that clients do not see.
    const isHidden = object.exists && object.kind === OBJECT_KIND.guard && ref.kind !== object.kind;
    const refusal = isHidden ? misfit(object, ref.kind) : null;
    if (refusal !== null) throw refusal;
    return promisedWith((done) => whole.delete(object, version, done));
  }

  announceTo(tap: ChangeTap): void {
    invariant(!this.#isAnnounced, 'changes of a pool are announced to one tap');
    this.#isAnnounced = true;
    this.#parts.table.announce(this.#id, tap);
  }

  apply(change: Change, done: Done): void {
    this.#parts.applier.apply(this.#id, change, done);
  }

  listIn(ranges: readonly HashRange[], options: ListOptions): Promise<ListPage> {
    return this.#list.list(ranges, options);
  }

  inventory(
    range: HashRange,
    after: Buffer | null,
    limit: number,
    done: DoneWith<InventoryPage>,
  ): void {
    this.#list.inventory(range, after, limit, done);
  }

  digest(place: ObjectPlace, done: DoneWith<ObjectDigest | null>): void {
    const object = this.#findPlace(place);
    if (object instanceof StoreError) done(object);
    else if (object === null) done(null, null);
    else this.#parts.comparer.digest(object, place.kind, done);
  }

  difference(
    place: ObjectPlace,
    theirs: ObjectDigest | null,
    emit: Emit,
    done: DoneWith<Unverified>,
    options?: DifferenceOptions,
  ): void {
    const object = this.#findPlace(place);
    if (object instanceof StoreError) done(object);
    else if (object !== null)
      this.#parts.comparer.difference(object, place.kind, theirs, emit, done, options);
    else {
      if (theirs !== null) emit({ op: 'delete', object: place, version: theirs.version }, true);
      done(null, { unverified: [] });
    }
  }

  present(place: ObjectPlace, first: number, last: number, emit: Emit, done: Done): void {
    const object = this.#findPlace(place);
    if (object instanceof StoreError) done(object);
    else if (object !== null)
      this.#parts.comparer.present(object, place.kind, first, last, emit, done);
    else {
      emit({ op: 'delete', object: place, version: 0 }, true);
      done(null);
    }
  }

  verify(place: ObjectPlace, done: DoneWith<readonly number[] | null>): void {
    const object = this.#findPlace(place);
    if (object instanceof StoreError) done(object);
    else if (object === null) done(null, null);
    else this.#parts.mender.verify(object, done);
  }

  mend(place: ObjectPlace, block: number, bytes: Buffer, done: DoneWith<boolean>): void {
    const object = this.#findPlace(place);
    if (object instanceof StoreError) done(object);
    else if (object === null) done(null, false);
    else this.#parts.mender.mend(object, block, bytes, done);
  }

  erase(place: ObjectPlace, done: Done): void {
    const object = this.#findPlace(place);
    if (object instanceof StoreError) done(object);
    else if (object === null) done(null);
    else this.#parts.whole.delete(object, 0, (error) => done(error), null);
  }

  get isFull(): boolean {
    const { space, slots } = this.#parts.engine;
    return space.isFull || slots.isFull;
  }

  /** What is here of it, also if it is broken or of another kind; null: nothing, and nothing is on its way. */
  #findPlace(place: ObjectPlace): StoredObject | StoreError | null {
    const { engine, table } = this.#parts;
    try {
      return engine.refusal ?? table.findExistingPlace(this.#id, place);
    } catch (error) {
      return engine.failFrom(error);
    }
  }

  /** The object, which may not exist (yet), or why nothing can be done with it. */
  #find(ref: ObjectRef, offset: number, bytes: number): StoredObject | StoreError {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) return refusal;
    try {
      const object = this.#parts.table.find(this.#id, ref);
      return misfit(object, ref.kind) ?? object;
    } catch (error) {
      return this.#parts.engine.failFrom(error);
    }
  }

  /** As `#find`, for operations that change nothing; null: a piece of an image that is not there. */
  #findExisting(ref: ObjectRef, offset: number, bytes: number): StoredObject | StoreError | null {
    if (!isImageData(ref.kind)) return this.#find(ref, offset, bytes);
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) return refusal;
    try {
      const object = this.#parts.table.findExisting(this.#id, ref);
      return object === null ? null : (misfit(object, ref.kind) ?? object);
    } catch (error) {
      return this.#parts.engine.failFrom(error);
    }
  }

  /** Why nothing can be done in this range. */
  #refusal(offset: number, bytes: number): StoreError | null {
    const { refusal } = this.#parts.engine;
    if (refusal !== null) return refusal;
    const end = offset + bytes;
    const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(end);
    if (!isRange || offset < 0 || bytes < 0 || end > OBJECT_BYTES) return outside(offset, bytes);
    return null;
  }
}

function extentsOf(object: StoredObject, offset: number, bytes: number): Extent[] {
  if (bytes === 0) return [];
  if (object.usedBlocks === 0 && !object.inline) return [{ bytes, state: BLOCK_STATE.absent }];
  const runs: Extent[] = [];
  const end = offset + bytes;
  const inlineBlocks = object.inline ? Math.ceil(object.length / BLOCK_BYTES) : 0;
  const stateOf = (block: number): BlockState =>
    block < inlineBlocks ? BLOCK_STATE.data : (object.states[block] as BlockState); // we wrote it
  let block = Math.floor(offset / BLOCK_BYTES);
  for (let at = offset; at < end;) {
    const state = stateOf(block);
    do block += 1;
    while (block * BLOCK_BYTES < end && stateOf(block) === state);
    const next = Math.min(end, block * BLOCK_BYTES);
    runs.push({ bytes: next - at, state });
    at = next;
  }
  return runs;
}

function zeros(bytes: number): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes; at += ZEROS.length)
    parts.push(ZEROS.subarray(0, Math.min(ZEROS.length, bytes - at)));
  return parts;
}

function outside(offset: number, bytes: number): StoreError {
  return new StoreError(
    'E_INVALID',
    `Bytes ${offset} to ${offset + bytes} lie outside an object of ${OBJECT_BYTES} bytes`,
  );
}
