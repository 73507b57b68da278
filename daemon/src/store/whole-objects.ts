/**
 * Plain objects and headers: they hold the whole object for each operation, because a small one lives inline in the
 * metadata store and may move to a slot or back. A change of an inline object, compare-and-swap and delete are one
 * transaction each, durable before they are answered.
 */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  DiskError,
  INLINE_BYTES_MAX,
  OBJECT_KIND,
  StoreError,
  copyParts,
  pieceChecksOf,
  WRITE_FLAGS,
  type ByteParts,
  type Done,
  type DoneWith,
  type MetaChange,
  type ObjectKind,
  type PieceChecks,
} from '@store/core';
import { bindChecks } from './block-checks.js';
import type { BlockLock } from './block-locks.js';
import type { Transaction } from './committer.js';
import { notLedHere, type Engine } from './engine.js';
import {
  CHUNKS_PER_OBJECT,
  NO_SLOT,
  checksKey,
  checksRecords,
  contentKey,
  encodeHead,
  sealed,
  unseal,
} from './format.js';
import type { HolePuncher } from './hole-puncher.js';
import { printable } from './object-table.js';
import { noSpaceForMetadata, type Persister } from './persister.js';
import type { Reader } from './reader.js';
import { slotPosition } from './slot-map.js';
import { PART, type ChangeStamp, type StoredObject } from './stored-object.js';
import type { Writer } from './writer.js';
import type { Zeroer } from './zeroer.js';

const NOTHING = new Uint8Array(BLOCKS_PER_OBJECT);
/** What the header of an image may gain when it is marked. */
const GROWTH_OF_A_MARK_BYTES = 256;

export interface WholeObjectsParts {
  readonly engine: Engine;
  readonly persister: Persister;
  readonly holes: HolePuncher;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly zeroer: Zeroer;
}

export class WholeObjects {
  readonly #engine: Engine;
  readonly #persister: Persister;
  readonly #holes: HolePuncher;
  readonly #reader: Reader;
  readonly #writer: Writer;
  readonly #zeroer: Zeroer;

  constructor(parts: WholeObjectsParts) {
    this.#engine = parts.engine;
    this.#persister = parts.persister;
    this.#holes = parts.holes;
    this.#reader = parts.reader;
    this.#writer = parts.writer;
    this.#zeroer = parts.zeroer;
  }

  /** What lies beyond the end of the object are zeros. */
  read(object: StoredObject, offset: number, target: Buffer, done: Done): void {
    object.locks.acquire(0, BLOCKS_PER_OBJECT - 1, false, (lock) => {
      const finish: Done = (error) => {
        object.locks.release(lock);
        done(error);
      };
      const content = this.content(object);
      if (content instanceof StoreError) finish(content);
      else if (!object.exists)
        finish(new StoreError('E_NOT_FOUND', `There is no object '${printable(object.name)}'`));
      else if (target.length === 0) finish(null);
      else if (!object.inline) this.#reader.readHeld(object, offset, target, finish);
      else {
        target.fill(0);
        content.copy(target, 0, Math.min(offset, content.length));
        finish(null);
      }
    });
  }

  /**
   * Past 64 KiB the object moves to a slot.
   * @param sums - checksums of the pieces, if the caller has computed them already
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
  ): void {
    this.#locked(object, (lock) => {
      const content = this.content(object);
      if (content instanceof StoreError) {
        this.#answer(object, lock, done, content);
        return;
      }
      const end = offset + bytes;
      if (!object.inline && (object.version > 0 || end > INLINE_BYTES_MAX)) {
        if (bytes === 0) this.#answer(object, lock, done, null);
        else this.#writer.write(object, kind, offset, parts, bytes, sums, flags, done, lock);
        return;
      }
      const whole = Buffer.alloc(Math.max(end, content.length));
      content.copy(whole);
      copyParts(parts, 0, bytes, whole, offset);
      if (whole.length <= INLINE_BYTES_MAX) {
        this.#replace(object, kind, whole, null, lock, (error) => done(error));
        return;
      }
      this.#moveToSlot(object, content, lock, done, (moved) => {
        this.#writer.write(object, kind, 0, [whole], whole.length, null, flags, moved, lock, true);
      });
    });
  }

  /** A write of whole blocks that another member has made. There the object was in a slot, at the latest by this. */
  applyWrite(
    object: StoredObject,
    kind: ObjectKind,
    first: number,
    blocks: ByteParts,
    sums: PieceChecks,
    stamp: ChangeStamp,
    done: Done,
  ): void {
    this.#locked(object, (lock) => {
      const refusal = this.#engine.failure ?? object.broken;
      if (refusal !== null) {
        this.#answer(object, lock, done, refusal);
        return;
      }
      const write = (finish: Done, isLockBorrowed: boolean): void => {
        const [offset, bytes] = [first * BLOCK_BYTES, sums.length * BLOCK_BYTES];
        const { none } = WRITE_FLAGS;
        this.#writer.write(
          object,
          kind,
          offset,
          blocks,
          bytes,
          sums,
          none,
          finish,
          lock,
          isLockBorrowed,
          stamp,
        );
      };
      // The first write after that brings the whole content.
      if (object.inline) this.#moveToSlot(object, null, lock, done, (moved) => write(moved, true));
      else write(done, false);
    });
  }

  /** Makes `content` the whole object, whatever it was, and however broken, as another member has done. */
  applyWhole(
    object: StoredObject,
    kind: ObjectKind,
    content: Buffer,
    stamp: ChangeStamp,
    done: Done,
  ): void {
    this.#locked(object, (lock) => {
      if (content.length <= INLINE_BYTES_MAX)
        this.#replace(object, kind, Buffer.from(content), stamp, lock, (error) => done(error));
      else this.#replaceBySlot(object, kind, content, stamp, lock, (error) => done(error));
    });
  }

  /**
   * It outgrew the metadata store. Until the next flush the old content is what a power cut leaves.
   * @param content - what it was; null: it is read again if needed
   * @param write - writes all of it into the slot
   */
  #moveToSlot(
    object: StoredObject,
    content: Buffer | null,
    lock: BlockLock,
    done: Done,
    write: (moved: Done) => void,
  ): void {
    const wasInline = object.inline;
    object.inline = false;
    object.content = null;
    object.hasStaleContent = wasInline;
    const finish: Done = (error) => {
      if (error !== null && wasInline && object.usedBlocks === 0 && this.#engine.failure === null) {
        // Refused: it stays what it was.
        this.#holes.freeSlot(object.slot);
        object.slot = NO_SLOT;
        object.parts.fill(PART.empty);
        object.hasStaleContent = false;
        object.inline = true;
        object.content = content;
      }
      object.locks.release(lock);
      done(error);
    };
    write(finish);
  }

  /** Zeroes a range; the length stays, and what does not exist is not made. */
  zero(object: StoredObject, offset: number, bytes: number, flags: number, done: Done): void {
    this.#locked(object, (lock) => {
      const content = this.content(object);
      if (content instanceof StoreError) this.#answer(object, lock, done, content);
      else if (!object.exists) this.#answer(object, lock, done, null);
      else if (!object.inline) {
        this.#zeroer.zeroHeld(object, object.kind, offset, bytes, flags, lock, done);
      } else {
        const whole = Buffer.from(content);
        whole.fill(0, Math.min(offset, whole.length), Math.min(offset + bytes, whole.length));
        this.#replace(object, object.kind, whole, null, lock, (error) => done(error));
      }
    });
  }

  compareAndSwap(
    object: StoredObject,
    kind: ObjectKind,
    expectedVersion: number,
    bytes: Buffer,
    done: DoneWith<number>,
  ): void {
    this.#lockedSettled(object, (lock, refusal) => {
      const version = object.exists ? object.version : 0;
      if (refusal !== null || object.broken !== null || this.#engine.failure !== null) {
        object.locks.release(lock);
        done(refusal ?? this.#engine.failure ?? object.broken);
      } else if (version !== expectedVersion) {
        object.locks.release(lock);
        const is = version === 0 ? 'does not exist' : `has version ${version}`;
        done(
          new StoreError(
            'E_VERSION',
            `Object '${printable(object.name)}' ${is}, not version ${expectedVersion} as expected`,
          ),
        );
      } else if (bytes.length <= INLINE_BYTES_MAX)
        this.#replace(object, kind, Buffer.from(bytes), null, lock, done);
      else this.#replaceBySlot(object, kind, bytes, null, lock, done);
    });
  }

  /**
   * Answers false if there was nothing.
   * @param version - removes only an object of this version; 0: any
   * @param given - of a change that another member has made; null: nobody is to hear of it; absent: it is ours
   */
  delete(
    object: StoredObject,
    version: number,
    done: DoneWith<boolean>,
    given?: ChangeStamp | null,
  ): void {
    const locked = version === 0 ? this.#locked.bind(this) : this.#lockedSettled.bind(this);
    locked(object, (lock, unsettled) => {
      const finish = (error: StoreError | null, existed: boolean): void => {
        object.locks.release(lock);
        if (error === null) done(null, existed);
        else done(error);
      };
      const refusal = unsettled ?? this.#engine.failure;
      if (refusal !== null) {
        finish(refusal, false);
        return;
      }
      if (
        version !== 0 &&
        (!object.exists || object.broken !== null || object.version !== version)
      ) {
        finish(null, false);
        return;
      }
      const existed = object.exists || object.broken !== null;
      if (!existed && object.durable === null && object.staged === undefined) {
        this.#passed(object, given ?? null);
        finish(null, false);
        return;
      }
      const { tap } = object;
      const place = object.placeAs(object.kind);
      const isOurs = given === undefined && existed && tap !== null;
      const number = isOurs ? tap.nextVersion(place, object.latestVersion) : 0;
      if (isOurs && number === 0) {
        finish(notLedHere(), existed);
        return;
      }
      const stamp = isOurs ? object.stamp(number, 0, true) : (given ?? null);
      const gone = (): void => {
        this.#forget(object);
        this.#passed(object, stamp);
        if (isOurs) tap.changed({ op: 'delete', object: place, version: number });
      };
      try {
        // What `live` says of the object so far, or of the one that it replaced, must not bring it back.
        this.#engine.live.appendRemoved(object);
      } catch (error) {
        const isFull = error instanceof DiskError && error.errno === 'ENOSPC';
        const { path } = this.#engine.disk;
        this.#notMade(object, object.kind, stamp, isOurs);
        finish(isFull ? noSpaceForMetadata(path) : this.#engine.failFrom(error), existed);
        return;
      }
      if (object.durable === null && object.staged === undefined && object.broken === null) {
        gone();
        finish(null, existed);
        return;
      }
      this.#engine.committer.add({
        build: (transaction) => {
          object.deleting = true;
          transaction.stage(object, null);
          removeRecords(transaction, object);
        },
        committed: (error) => {
          object.deleting = false;
          if (this.#engine.failure !== null) finish(this.#engine.failure, existed);
          else if (error !== null) {
            if (!object.inline && object.broken === null) this.#persister.markChanged(object);
            this.#notMade(object, object.kind, stamp, isOurs);
            finish(noSpaceForMetadata(this.#engine.disk.path), existed);
          } else {
            gone();
            finish(null, existed);
            this.#persister.keepLiveSmall();
          }
        },
      });
    });
  }

  /** Nothing durable is left, nobody holds a block: the slot is free. */
  #forget(object: StoredObject): void {
    const { slot } = object;
    this.#persister.forget(object);
    object.reset();
    this.#holes.freeSlot(slot);
  }

  /**
   * Makes `content` the whole object, in the metadata store; releases the lock and answers with the new version.
   * An object that leaves its slot begins a new life, so that nothing said of the old one is taken for it.
   * @param given - of a change that another member has made; null: it is ours
   */
  #replace(
    object: StoredObject,
    kind: ObjectKind,
    content: Buffer,
    given: ChangeStamp | null,
    lock: BlockLock,
    done: DoneWith<number>,
  ): void {
    const { failure, space } = this.#engine;
    // A header that stays about its size is always admitted: it is marked when its image is deleted. So is the guard of an
    // image, for somebody to write to it who overwrites what is there, or removes it.
    const isFree =
      kind === OBJECT_KIND.guard ||
      (kind === OBJECT_KIND.imageHeader &&
        object.version > 0 &&
        content.length <= object.length + GROWTH_OF_A_MARK_BYTES);
    if (failure !== null || (!isFree && !space.admit(content.length, given !== null))) {
      object.locks.release(lock);
      done(failure ?? noSpaceForMetadata(this.#engine.disk.path));
      return;
    }
    const stamp = given ?? this.#stamp(object, kind, content.length);
    if (stamp === 'refused') {
      object.locks.release(lock);
      done(notLedHere());
      return;
    }
    const objectId = object.inline ? object.objectId : this.#engine.newObjectId();
    const version = stamp?.version ?? this.#engine.newVersion(object.version);
    const fields = { kind, inline: true, slot: NO_SLOT, length: content.length, version, objectId };
    const key = contentKey(objectId);
    const records = [{ key, value: sealed(key, content) }];
    this.#beginLife(object, encodeHead(fields, NOTHING), records, (error) => {
      if (error === null) {
        object.content = content;
        this.#made(object, kind, content, stamp, given === null);
      } else this.#notMade(object, kind, stamp, given === null);
      object.locks.release(lock);
      if (error === null) done(null, version);
      else done(error);
    });
  }

  /**
   * As `#replace`, for what is too large for the metadata store: the bytes go to a slot of their own and are synced, then
   * one transaction makes it the object's. Until then the old object is untouched, and nobody knows of the new slot.
   */
  #replaceBySlot(
    object: StoredObject,
    kind: ObjectKind,
    content: Buffer,
    given: ChangeStamp | null,
    lock: BlockLock,
    done: DoneWith<number>,
  ): void {
    const engine = this.#engine;
    const blocks = Math.ceil(content.length / BLOCK_BYTES);
    const hasRoom =
      engine.failure === null && engine.space.admit(blocks * BLOCK_BYTES, given !== null);
    const slot = hasRoom ? engine.slots.allocate() : null;
    const finish = (error: StoreError | null, version: number): void => {
      if (error !== null && slot !== null && engine.failure === null) this.#holes.freeSlot(slot);
      object.locks.release(lock);
      if (error === null) done(null, version);
      else done(error);
    };
    if (slot === null) {
      finish(engine.failure ?? engine.noSpace(), 0);
      return;
    }
    const whole = Buffer.alloc(blocks * BLOCK_BYTES);
    content.copy(whole);
    engine.data.write(slotPosition(slot), [whole], (error) => {
      if (error !== null) {
        finish(engine.refusalFrom(error), 0);
        return;
      }
      engine.sync.wrote(whole.length);
      engine.sync.sync((failure) => {
        if (failure !== null) {
          finish(failure, 0);
          return;
        }
        const stamp = given ?? this.#stamp(object, kind, content.length);
        if (stamp === 'refused') {
          finish(notLedHere(), 0);
          return;
        }
        const objectId = engine.newObjectId();
        const version = stamp?.version ?? engine.newVersion(object.version);
        const fields = { kind, inline: false, slot, length: content.length, version, objectId };
        const states = new Uint8Array(BLOCKS_PER_OBJECT).fill(BLOCK_STATE.data, 0, blocks);
        const checks = bindChecks(object, 0, pieceChecksOf(0, [whole]));
        const records = checksRecords(objectId, checks);
        this.#beginLife(object, encodeHead(fields, states), records, (refusal) => {
          if (refusal === null) this.#made(object, kind, content, stamp, given === null);
          else this.#notMade(object, kind, stamp, given === null);
          finish(refusal, version);
        });
      });
    });
  }

  /**
   * One transaction that ends what the object was and makes it what `head` and `records` say. The caller holds all of
   * the object. If there is no space it stays what it was.
   */
  #beginLife(
    object: StoredObject,
    head: Buffer,
    records: readonly MetaChange[],
    done: (error: StoreError | null) => void,
  ): void {
    const wasInSlot = object.version > 0 && !object.inline;
    this.#engine.committer.add({
      build: (transaction) => {
        object.deleting = wasInSlot; // a flush that is under way says nothing of it any more
        if (object.version > 0) removeRecords(transaction, object);
        transaction.stage(object, head);
        for (const { key, value } of records) transaction.change(key, value);
      },
      committed: (error) => {
        object.deleting = false;
        const { failure } = this.#engine;
        if (failure === null && error === null) {
          this.#forget(object);
          object.load(head, this.#engine.startVersion);
          done(null);
          return;
        }
        if (failure === null && wasInSlot && object.broken === null)
          this.#persister.markChanged(object);
        done(failure ?? noSpaceForMetadata(this.#engine.disk.path));
      },
    });
  }

  /** A change of the whole object that others are to hear of; null: nobody is; `refused`: nothing may be changed here. */
  #stamp(object: StoredObject, kind: ObjectKind, length: number): ChangeStamp | 'refused' | null {
    if (object.tap === null) return null;
    const version = object.tap.nextVersion(object.placeAs(kind), object.latestVersion);
    return version === 0 ? 'refused' : object.stamp(version, length, true);
  }

  /** What has got a version was refused by the disk. */
  #notMade(
    object: StoredObject,
    kind: ObjectKind,
    stamp: ChangeStamp | null,
    isOurs: boolean,
  ): void {
    this.#passed(object, stamp);
    if (isOurs && this.#engine.failure === null) object.tap?.notMade(object.placeAs(kind), false);
  }

  /** The new content is durable, nobody has read it yet. */
  #made(
    object: StoredObject,
    kind: ObjectKind,
    content: Buffer,
    stamp: ChangeStamp | null,
    isOurs: boolean,
  ): void {
    if (stamp === null) return;
    object.take(stamp);
    const { version } = stamp;
    if (isOurs)
      object.tap?.changed({ op: 'whole', object: object.placeAs(kind), version, content });
  }

  #passed(object: StoredObject, stamp: ChangeStamp | null): void {
    if (stamp !== null) object.pass(stamp);
  }

  /** The bytes of an inline object, none if it is not inline. */
  content(object: StoredObject): Buffer | StoreError {
    if (this.#engine.failure !== null) return this.#engine.failure;
    if (object.broken !== null) return object.broken;
    if (!object.inline) return Buffer.alloc(0);
    if (object.content !== null) return object.content;
    const key = contentKey(object.objectId);
    let value: Buffer | null;
    try {
      value = this.#engine.meta.get(key);
    } catch (error) {
      return this.#engine.failFrom(error);
    }
    const body = value === null ? null : unseal(key, value);
    if (body === null) {
      this.#engine.counters.checksumErrors += 1;
      const error = new StoreError(
        'E_CHECKSUM',
        `The content of object '${printable(object.name)}' does not match its checksum`,
      );
      this.#engine.log.error({ object: printable(object.name) }, error.message);
      return error;
    }
    object.content = Buffer.from(body);
    return object.content;
  }

  #locked(object: StoredObject, work: (lock: BlockLock, refusal: StoreError | null) => void): void {
    object.locks.acquire(0, BLOCKS_PER_OBJECT - 1, true, (lock) => work(lock, null));
  }

  /** As `#locked`, for whoever compares versions: they say something about the bytes, unless it is refused. */
  #lockedSettled(
    object: StoredObject,
    work: (lock: BlockLock, refusal: StoreError | null) => void,
  ): void {
    this.#locked(object, (lock) => {
      this.#zeroer.settleVersion(object, (refusal) => work(lock, refusal));
    });
  }

  #answer(object: StoredObject, lock: BlockLock, done: Done, error: StoreError | null): void {
    object.locks.release(lock);
    done(error);
  }
}

/** Removes what belongs to an object beside its head. */
function removeRecords(transaction: Transaction, object: StoredObject): void {
  if (object.inline || object.hasStaleContent)
    transaction.change(contentKey(object.objectId), null);
  if (object.inline) return;
  for (let chunk = 0; chunk < CHUNKS_PER_OBJECT; chunk += 1)
    transaction.change(checksKey(object.objectId, chunk), null);
}
