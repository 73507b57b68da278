/**
 * Reads, always verified: a block that does not match its checksum is an error, never data.
 */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  StoreError,
  ZERO_BLOCK_CHECK,
  appendBlock,
  crc32c,
  crc32cOf,
  type DiskError,
  type Done,
  type DoneWith,
  type PieceChecks,
} from '@store/core';
import type { BlockLock } from './block-locks.js';
import type { Engine } from './engine.js';
import { BLOCKS_PER_PART, NO_SLOT, PART_BYTES, chunkOf, partOf } from './format.js';
import { UNREADABLE_CHECKSUM, printable, type ObjectTable } from './object-table.js';
import { slotPosition } from './slot-map.js';
import { PART, type StoredObject } from './stored-object.js';

export class Reader {
  readonly #engine: Engine;
  readonly #table: ObjectTable;

  constructor(engine: Engine, table: ObjectTable) {
    this.#engine = engine;
    this.#table = table;
  }

  /** Fills `target` from byte `offset` of an object that is not inline; the range is inside the object. */
  read(object: StoredObject, offset: number, target: Buffer, done: Done): void {
    const first = firstBlock(offset);
    const last = lastBlock(offset, target.length);
    if (object.locks.conflicts(first, last, false)) {
      object.locks.acquire(first, last, false, (lock) =>
        this.#readHeld(object, offset, target, lock, done),
      );
      return;
    }
    if (isWhole(offset, target)) {
      const outcome = this.#readNow(object, first, last, target);
      if (outcome !== 'waits') {
        done(outcome);
        return;
      }
    }
    object.locks.acquire(first, last, false, (lock) =>
      this.#readHeld(object, offset, target, lock, done),
    );
  }

  /** As `read`, with the checksums of the pieces: stored ones where they are, for their blocks were verified. */
  readChecked(
    object: StoredObject,
    offset: number,
    target: Buffer,
    done: DoneWith<PieceChecks>,
  ): void {
    const first = firstBlock(offset);
    const last = lastBlock(offset, target.length);
    if (isWhole(offset, target) && !object.locks.conflicts(first, last, false)) {
      const outcome = this.#readNow(object, first, last, target);
      if (outcome !== 'waits') {
        if (outcome === null) done(null, blockChecksOfRead(object, first, last));
        else done(outcome);
        return;
      }
    }
    object.locks.acquire(first, last, false, (lock) =>
      this.readHeld(object, offset, target, (error) => {
        const checks = error === null ? pieceChecksOfRead(object, offset, target) : undefined;
        object.locks.release(lock);
        done(error, checks);
      }),
    );
  }

  /** Reads and verifies whole blocks `first..last` into `target`; the caller holds them. */
  readBlocks(object: StoredObject, first: number, last: number, target: Buffer, done: Done): void {
    if (this.#engine.failure !== null) {
      done(this.#engine.failure);
      return;
    }
    this.resolveSuspects(object, first, last, (error) => {
      const outcome = error ?? this.#readNow(object, first, last, target);
      if (outcome !== 'waits') done(outcome);
      else this.#readRuns(object, first, last, target, done);
    });
  }

  /**
   * Makes checksums of the parts that were open when the last process ended; the caller holds blocks in them.
   * Concurrent calls for one part come to the same result.
   */
  resolveSuspects(object: StoredObject, first: number, last: number, done: Done): void {
    for (let part = partOf(first); part <= partOf(last); part += 1) {
      if (object.parts[part] !== PART.suspect) continue;
      this.#resolve(object, part, (error) => {
        if (error !== null) done(error);
        else this.resolveSuspects(object, first, last, done);
      });
      return;
    }
    done(null);
  }

  #resolve(object: StoredObject, part: number, done: Done): void {
    this.#table.loadChecks(object, chunkOf(part * BLOCKS_PER_PART));
    const bytes = Buffer.allocUnsafe(PART_BYTES);
    const first = part * BLOCKS_PER_PART;
    this.#engine.data.read(slotPosition(object.slot) + first * BLOCK_BYTES, bytes, (error) => {
      if (error !== null) {
        this.#unreadable(object, first, error);
        this.#resolveBlocks(object, part, 0, done);
        return;
      }
      // Somebody else may have been quicker, and the part already written again.
      if (object.parts[part] === PART.suspect) {
        for (let index = 0; index < BLOCKS_PER_PART; index += 1) {
          const block = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
          const sum = (crc32c(block) ^ object.blockTweak(first + index)) >>> 0;
          object.checks.set(first + index, sum);
        }
        object.parts[part] = PART.open;
      }
      done(null);
    });
  }

  /** As `#resolve`, a block at a time: one that cannot be read answers errors until it is written again. */
  #resolveBlocks(object: StoredObject, part: number, index: number, done: Done): void {
    if (index === BLOCKS_PER_PART || object.parts[part] !== PART.suspect) {
      if (object.parts[part] === PART.suspect) object.parts[part] = PART.open;
      done(this.#engine.failure);
      return;
    }
    const block = part * BLOCKS_PER_PART + index;
    const bytes = Buffer.allocUnsafe(BLOCK_BYTES);
    this.#engine.data.read(slotPosition(object.slot) + block * BLOCK_BYTES, bytes, (error) => {
      if (object.parts[part] === PART.suspect) {
        const sum = (crc32c(bytes) ^ object.blockTweak(block)) >>> 0;
        object.checks.set(block, error === null ? sum : UNREADABLE_CHECKSUM);
      }
      this.#resolveBlocks(object, part, index + 1, done);
    });
  }

  /** The common case within one call: all blocks absent or in the page cache. @returns as `done` gets it, if it need not wait */
  #readNow(
    object: StoredObject,
    first: number,
    last: number,
    target: Buffer,
  ): StoreError | null | 'waits' {
    if (this.#engine.failure !== null) return this.#engine.failure;
    const base = slotPosition(object.slot);
    try {
      for (let block = first; block <= last;) {
        const end = runEnd(object, block, last);
        const piece =
          block === first && end === last
            ? target
            : target.subarray((block - first) * BLOCK_BYTES, (end - first + 1) * BLOCK_BYTES);
        if (object.states[block] !== BLOCK_STATE.data) piece.fill(0);
        else {
          if (object.slot === NO_SLOT || object.hasSuspect(block, end)) return 'waits';
          if (!this.#engine.data.tryRead(base + block * BLOCK_BYTES, piece)) return 'waits';
          const bad = this.verify(object, block, piece);
          if (bad !== null) return bad;
        }
        block = end + 1;
      }
    } catch (error) {
      if (!(error instanceof Error && 'errno' in error)) throw error;
      return 'waits'; // the thread pool reports it with the right words
    }
    return null;
  }

  #readHeld(
    object: StoredObject,
    offset: number,
    target: Buffer,
    lock: BlockLock,
    done: Done,
  ): void {
    this.readHeld(object, offset, target, (error) => {
      object.locks.release(lock);
      done(error);
    });
  }

  /** As `read`, of blocks that the caller holds. */
  readHeld(object: StoredObject, offset: number, target: Buffer, done: Done): void {
    const first = firstBlock(offset);
    const last = lastBlock(offset, target.length);
    const start = offset - first * BLOCK_BYTES;
    const blocksBytes = (last - first + 1) * BLOCK_BYTES;
    if (start === 0 && target.length === blocksBytes) {
      this.readBlocks(object, first, last, target, done);
      return;
    }
    const blocks = Buffer.allocUnsafe(blocksBytes);
    this.readBlocks(object, first, last, blocks, (error) => {
      if (error === null) blocks.copy(target, 0, start, start + target.length);
      done(error);
    });
  }

  #readRuns(object: StoredObject, first: number, last: number, target: Buffer, done: Done): void {
    let pending = 1;
    let failed: StoreError | null = null;
    const finish = (error: StoreError | null): void => {
      failed ??= error;
      pending -= 1;
      if (pending === 0) done(failed ?? this.#engine.failure);
    };
    for (let block = first; block <= last;) {
      const end = runEnd(object, block, last);
      const at = block;
      const piece = target.subarray((block - first) * BLOCK_BYTES, (end - first + 1) * BLOCK_BYTES);
      if (object.states[block] !== BLOCK_STATE.data) piece.fill(0);
      else {
        pending += 1;
        this.#engine.data.read(slotPosition(object.slot) + at * BLOCK_BYTES, piece, (error) => {
          finish(
            error === null ? this.verify(object, at, piece) : this.#unreadable(object, at, error),
          );
        });
      }
      block = end + 1;
    }
    finish(null);
  }

  /** @returns why not, if a block does not match its checksum */
  verify(object: StoredObject, first: number, bytes: Buffer): StoreError | null {
    const last = first + bytes.length / BLOCK_BYTES - 1;
    for (let chunk = chunkOf(first); chunk <= chunkOf(last); chunk += 1)
      this.#table.loadChecks(object, chunk);
    if (this.#engine.failure !== null) return this.#engine.failure;
    if (first < last && crc32cOf(bytes, 0, bytes.length) === runCheck(object, first, last))
      return null;
    for (let at = 0, block = first; block <= last; at += BLOCK_BYTES, block += 1)
      if (crc32cOf(bytes, at, at + BLOCK_BYTES) !== plainCheck(object, block))
        return this.#mismatch(object, block);
    return null;
  }

  #mismatch(object: StoredObject, block: number): StoreError {
    this.#engine.counters.checksumErrors += 1;
    const error = new StoreError(
      'E_CHECKSUM',
      `Block ${block} of object '${printable(object.name)}' does not match its checksum`,
    );
    this.#engine.log.error(
      {
        object: printable(object.name),
        block,
        position: slotPosition(object.slot) + block * BLOCK_BYTES,
      },
      error.message,
    );
    return error;
  }

  /** EIO on a read is one more way of not matching. */
  #unreadable(object: StoredObject, block: number, cause: DiskError): StoreError {
    this.#engine.counters.checksumErrors += 1;
    const error = new StoreError(
      'E_CHECKSUM',
      `Block ${block} of object '${printable(object.name)}' cannot be read: ${cause.message}`,
      { cause },
    );
    this.#engine.log.error({ object: printable(object.name), block }, error.message);
    return error;
  }
}

/** The checksum of a block's bytes as it should be, without what binds it to its place. */
export function plainCheck(object: StoredObject, block: number): number {
  return ((object.checks.get(block) ?? 0) ^ object.blockTweak(block)) >>> 0;
}

/** The same for all the bytes of several blocks. */
function runCheck(object: StoredObject, first: number, last: number): number {
  let check = plainCheck(object, first);
  for (let block = first + 1; block <= last; block += 1)
    check = appendBlock(check, plainCheck(object, block));
  return check;
}

/**
 * Checksums of what was just read, cut where blocks begin.
 * @param object - null if there is none, and all was zeros
 */
export function pieceChecksOfRead(
  object: StoredObject | null,
  offset: number,
  target: Buffer,
): PieceChecks {
  const first = firstBlock(offset);
  const count = target.length === 0 ? 0 : lastBlock(offset, target.length) - first + 1;
  const checks = new Uint32Array(count);
  for (let index = 0; index < count; index += 1) {
    const start = (first + index) * BLOCK_BYTES - offset;
    const from = Math.max(0, start);
    const to = Math.min(target.length, start + BLOCK_BYTES);
    const isBlock = to - from === BLOCK_BYTES;
    checks[index] = isBlock ? readCheck(object, first + index) : crc32cOf(target, from, to);
  }
  return checks;
}

/** The same of whole blocks. */
function blockChecksOfRead(object: StoredObject, first: number, last: number): PieceChecks {
  const checks = new Uint32Array(last - first + 1);
  for (let block = first; block <= last; block += 1)
    checks[block - first] = readCheck(object, block);
  return checks;
}

/** The checksum of a block that was just read. */
function readCheck(object: StoredObject | null, block: number): number {
  return object?.states[block] === BLOCK_STATE.data ? plainCheck(object, block) : ZERO_BLOCK_CHECK;
}

function isWhole(offset: number, target: Buffer): boolean {
  return offset % BLOCK_BYTES === 0 && target.length % BLOCK_BYTES === 0;
}

function firstBlock(offset: number): number {
  return Math.floor(offset / BLOCK_BYTES);
}

function lastBlock(offset: number, bytes: number): number {
  return Math.floor((offset + bytes - 1) / BLOCK_BYTES);
}

/** Last block of the run from `block` on that is all data or all not. */
function runEnd(object: StoredObject, block: number, last: number): number {
  const isData = object.states[block] === BLOCK_STATE.data;
  let end = block;
  while (end < last && (object.states[end + 1] === BLOCK_STATE.data) === isData) end += 1;
  return end;
}
