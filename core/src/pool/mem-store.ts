/**
 * Pools in memory: the exact behaviour of `ObjectPool` with nothing behind it. Tests use it as the store and as
 * the model other stores are compared with, so it is written to be read: every operation takes effect when it
 * is called and is answered before the call returns, which is the plainest order the interface allows.
 * It is sparse (a block that holds no data takes no memory) and survives nothing.
 *
 * Versions come from one counter for the whole store: a key that is deleted and made again never shows an old
 * version, so a compare-and-swap prepared before the delete cannot hit the new object.
 */
import { partsBytes } from '../util/byte-parts.js';
import { StoreError, type Done, type DoneWith } from '../util/errors.js';
import { BLOCK_BYTES, LIST_PAGE_MAX, OBJECT_BYTES, OBJECT_BYTES_MIN } from '../util/limits.js';
import { invariant } from '../util/invariant.js';
import { firstDifference, pieceChecksOf } from '../util/piece-checks.js';
import {
  arrivedDamaged,
  wrongCheckCount,
  type CheckedPool,
  type PieceChecks,
} from './checked-pool.js';
import {
  BLOCK_STATE,
  OBJECT_KIND,
  WRITE_FLAGS,
  ifAbsentRefusal,
  swapRefusal,
  type BlockState,
  type Extent,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type ObjectStat,
} from './object-pool.js';
import { eachBlock, MemObject } from './mem-object.js';
import type { CheckedStore } from './object-store.js';

/** Objects looked for in one call of `absentRun`. */
const ABSENT_RUN_MAX = 4096;

/** A store that lives and dies with the process. */
export class MemStore implements CheckedStore {
  readonly #pools = new Map<string, MemPool>();
  readonly #shared = { closed: false, version: 0 };
  readonly #objectBytes: number;

  /** @param options.objectBytes - Of every pool; a power of two, 64 KiB or more. Default 4 MiB. */
  constructor(options: { objectBytes?: number } = {}) {
    this.#objectBytes = options.objectBytes ?? OBJECT_BYTES;
    invariant(
      this.#objectBytes >= OBJECT_BYTES_MIN && Number.isInteger(Math.log2(this.#objectBytes)),
      'objectBytes is a power of two of at least 64 KiB',
    );
  }

  openPool(name: string, options: { create: boolean }): Promise<CheckedPool> {
    return settle(() => {
      if (this.#shared.closed) throw closedError();
      let pool = this.#pools.get(name);
      if (pool === undefined) {
        if (!options.create) throw new StoreError('E_NOT_FOUND', `There is no pool '${name}'`);
        pool = new MemPool(name, this.#objectBytes, this.#shared);
        this.#pools.set(name, pool);
      }
      return pool;
    });
  }

  listPools(): Promise<string[]> {
    return settle(() => {
      if (this.#shared.closed) throw closedError();
      return [...this.#pools.keys()].sort();
    });
  }

  close(): Promise<void> {
    this.#shared.closed = true;
    return Promise.resolve();
  }
}

class MemPool implements CheckedPool {
  readonly name: string;
  readonly objectBytes: number;
  readonly #objects = new Map<string, MemObject>();
  readonly #shared: { closed: boolean; version: number };

  constructor(name: string, objectBytes: number, shared: { closed: boolean; version: number }) {
    this.name = name;
    this.objectBytes = objectBytes;
    this.#shared = shared;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const refusal = this.#refusal(ref, offset, target.length, true);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const object = this.#objects.get(ref.id);
    eachBlock(offset, target.length, (block, start, end, at) => {
      const bytes = object?.data.get(block);
      if (bytes === undefined) target.fill(0, at, at + end - start);
      else bytes.copy(target, at, start, end);
    });
    done(null);
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.read(ref, offset, target, (error) => {
      if (error === null) done(null, pieceChecksOf(offset, [target]));
      else done(error);
    });
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    const refusal = this.#refusal(ref, offset, partsBytes(parts), false);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const sums = pieceChecksOf(offset, parts);
    const piece = firstDifference(sums, checks);
    if (checks.length !== sums.length) done(wrongCheckCount(checks.length, sums.length));
    else if (piece >= 0) done(arrivedDamaged(ref.key.toString(), offset, piece));
    else this.write(ref, offset, parts, flags, done);
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const bytes = partsBytes(parts);
    const isIfAbsent = (flags & WRITE_FLAGS.ifAbsent) !== 0;
    const refusal =
      this.#refusal(ref, offset, bytes, false) ??
      (isIfAbsent ? ifAbsentRefusal(ref.kind, offset, bytes) : null);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    if (isIfAbsent) {
      this.#fillAbsent(ref, offset, Buffer.concat(parts));
      done(null);
      return;
    }
    const object = this.#change(ref);
    let position = offset;
    for (const part of parts) {
      eachBlock(position, part.length, (block, start, end, at) => {
        part.copy(object.writable(block), start, at, at + end - start);
      });
      position += part.length;
    }
    if (bytes > 0) object.length = Math.max(object.length, position);
    done(null);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(ref, offset, bytes, false);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const creates = bytes > 0 && (flags & (WRITE_FLAGS.layered | WRITE_FLAGS.allocate)) !== 0;
    if (bytes > 0 && (creates || this.#objects.has(ref.id))) {
      const object = this.#change(ref);
      eachBlock(offset, bytes, (block, start, end) => object.zero(block, start, end, flags));
      const empty = object.data.size === 0 && object.zeros.size === 0;
      if (empty && object.kind === OBJECT_KIND.imageData) this.#objects.delete(ref.id);
    }
    done(null);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(ref, offset, bytes, true);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const object = this.#objects.get(ref.id);
    const runs: { bytes: number; state: BlockState }[] = [];
    eachBlock(offset, bytes, (block, start, end) => {
      const state = object?.stateOf(block) ?? BLOCK_STATE.absent;
      const last = runs.at(-1);
      if (last?.state === state) last.bytes += end - start;
      else runs.push({ bytes: end - start, state });
    });
    done(null, runs);
  }

  forUser(): this {
    return this;
  }

  absentRun(prefix: string, first: number, count: number): number | null {
    if (this.#shared.closed) return null;
    const most = Math.min(count, ABSENT_RUN_MAX);
    let absent = 0;
    while (absent < most && !this.#objects.has(`${prefix}${first + absent}`)) absent += 1;
    return absent;
  }

  flush(done: Done): void {
    done(this.#shared.closed ? closedError() : null);
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    done(this.#refusal(ref, offset, bytes, true));
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return settle(() => {
      if (this.#shared.closed) throw closedError();
      return this.#objects.get(ref.id)?.stat() ?? null;
    });
  }

  list(options: ListOptions): Promise<ListPage> {
    return settle(() => {
      if (this.#shared.closed) throw closedError();
      const limit = options.limit ?? LIST_PAGE_MAX;
      if (!Number.isInteger(limit) || limit < 1 || limit > LIST_PAGE_MAX)
        throw new StoreError(
          'E_INVALID',
          `A page lists 1 to ${LIST_PAGE_MAX} objects, not ${limit}`,
        );
      const prefix = options.prefix?.toString('latin1') ?? '';
      const after = options.cursor?.toString('latin1') ?? '';
      const found: [string, MemObject][] = [];
      for (const [id, object] of this.#objects) {
        if (options.kind !== undefined && object.kind !== options.kind) continue;
        if (id > after && id.startsWith(prefix)) found.push([id, object]);
      }
      found.sort(([a], [b]) => (a < b ? -1 : 1));
      const entries = found
        .slice(0, limit)
        .map(([id, object]) => ({ key: Buffer.from(id, 'latin1'), stat: object.stat() }));
      const last = entries.at(-1);
      return last !== undefined && found.length > limit
        ? { entries, cursor: last.key }
        : { entries };
    });
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    return settle(() => {
      if (this.#shared.closed) throw closedError();
      const refusal = swapRefusal(ref.kind, bytes.length, this.objectBytes);
      if (refusal !== null) throw refusal;
      const version = this.#objects.get(ref.id)?.version ?? 0;
      if (version !== expectedVersion)
        throw new StoreError(
          'E_VERSION',
          `Expected version ${expectedVersion} of an object that has version ${version}`,
        );
      this.#objects.delete(ref.id);
      this.write(ref, 0, [bytes], WRITE_FLAGS.durable, (error) => {
        if (error !== null) throw error;
      });
      return this.#shared.version;
    });
  }

  delete(ref: ObjectRef, version = 0): Promise<boolean> {
    return settle(() => {
      if (this.#shared.closed) throw closedError();
      if (version !== 0 && this.#objects.get(ref.id)?.version !== version) return false;
      return this.#objects.delete(ref.id);
    });
  }

  /** Writes the blocks that are absent, and changes nothing if there is none. */
  #fillAbsent(ref: ObjectRef, offset: number, bytes: Buffer): void {
    const before = this.#objects.get(ref.id);
    const absent: { block: number; at: number }[] = [];
    eachBlock(offset, bytes.length, (block, _start, _end, at) => {
      if ((before?.stateOf(block) ?? BLOCK_STATE.absent) === BLOCK_STATE.absent)
        absent.push({ block, at });
    });
    if (absent.length === 0) return;
    const object = this.#change(ref);
    for (const { block, at } of absent) {
      bytes.copy(object.writable(block), 0, at, at + BLOCK_BYTES);
      object.length = Math.max(object.length, (block + 1) * BLOCK_BYTES);
    }
  }

  /** The object, created if need be, with a new version. */
  #change(ref: ObjectRef): MemObject {
    let object = this.#objects.get(ref.id);
    if (object === undefined) {
      object = new MemObject(ref.kind);
      this.#objects.set(ref.id, object);
    }
    this.#shared.version += 1;
    object.version = this.#shared.version;
    return object;
  }

  #refusal(ref: ObjectRef, offset: number, bytes: number, mustExist: boolean): StoreError | null {
    if (this.#shared.closed) return closedError();
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes);
    if (!valid || offset < 0 || bytes < 0 || offset + bytes > this.objectBytes)
      return new StoreError(
        'E_INVALID',
        `Bytes ${offset} to ${offset + bytes} lie outside an object of ${this.objectBytes} bytes`,
      );
    if (mustExist && ref.kind !== OBJECT_KIND.imageData && !this.#objects.has(ref.id))
      return new StoreError('E_NOT_FOUND', `There is no object '${ref.key.toString()}'`);
    return null;
  }
}

function closedError(): StoreError {
  return new StoreError('E_CLOSED', 'The store is closed');
}

/** Runs `work` now; what it throws becomes a rejection. */
function settle<T>(work: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(work());
  });
}
