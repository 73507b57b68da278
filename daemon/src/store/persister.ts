/**
 * Brings memory and disk together: flush and close.
 *
 * Both take the changed records as they are now, then sync the data file, then commit exactly that. A record never
 * says *data* of a block whose bytes may still be lost, and a write that comes meanwhile belongs to the next flush.
 * Closing also stores checksums and clears the open mask of the parts that nobody touched since the record was taken.
 */
import { BLOCKS_PER_OBJECT, StoreError, type Done } from '@store/core';
import type { Transaction } from './committer.js';
import type { Engine } from './engine.js';
import {
  BLOCKS_PER_CHUNK,
  BLOCKS_PER_PART,
  CHUNKS_PER_OBJECT,
  PARTS_PER_OBJECT,
  checksKey,
  contentKey,
  copyHead,
  hasOpenParts,
  isEmptyHead,
  isOpenInHead,
  seal,
  setOpenInHead,
} from './format.js';
import type { HolePuncher } from './hole-puncher.js';
import { isImageData, type ObjectTable } from './object-table.js';
import type { OpenSet } from './open-set.js';
import type { ParkedWrites } from './parked-writes.js';
import { PART, partHasData, type StoredObject } from './stored-object.js';

/** Objects closed by one transaction: each may bring 4 KiB of checksums. */
const CLOSE_BATCH = 512;

/** A record as it was when a flush or close began. */
interface Snapshot {
  readonly object: StoredObject;
  readonly objectId: number;
  /** Nothing is open in it yet; that is decided when it is staged. */
  readonly head: Buffer;
  readonly closing: boolean;
}

export class Persister {
  readonly #engine: Engine;
  readonly #table: ObjectTable;
  readonly #openSet: OpenSet;
  readonly #parked: ParkedWrites;
  readonly #holes: HolePuncher;
  readonly #changed = new Set<StoredObject>();
  readonly #inClose = new Set<StoredObject>();
  #waiting: Done[] = [];
  #flushing = false;

  constructor(
    engine: Engine,
    table: ObjectTable,
    openSet: OpenSet,
    parked: ParkedWrites,
    holes: HolePuncher,
  ) {
    this.#engine = engine;
    this.#table = table;
    this.#openSet = openSet;
    this.#parked = parked;
    this.#holes = holes;
  }

  /** The object is gone: there is nothing to record. */
  forget(object: StoredObject): void {
    object.changed = false;
    this.#changed.delete(object);
    this.#openSet.remove(object);
  }

  /** The next flush must record this object. */
  markChanged(object: StoredObject): void {
    if (!object.changed) {
      object.changed = true;
      this.#changed.add(object);
    }
    this.#openSet.add(object);
  }

  /** Nothing is on its way to the disk. */
  get isIdle(): boolean {
    return !this.#flushing && this.#inClose.size === 0;
  }

  get hasChanges(): boolean {
    return this.#changed.size > 0 || this.#parked.count > 0;
  }

  /** Everything answered before this call is durable when `done` is called. */
  flush(done: Done): void {
    this.#waiting.push(done);
    if (!this.#flushing) this.#flush();
  }

  #flush(): void {
    const callers = this.#waiting;
    this.#waiting = [];
    this.#flushing = true;
    const finish = (error: StoreError | null): void => {
      this.#flushing = false;
      for (const done of callers) done(error);
      if (this.#waiting.length > 0 && !this.isFlushing) this.#flush();
    };
    if (this.#engine.failure !== null) {
      finish(this.#engine.failure);
      return;
    }
    this.#engine.counters.flushes += 1;
    this.#parked.whenLanded((stuck) => {
      if (stuck !== null) {
        finish(stuck);
        return;
      }
      // What is being closed is taken again: that transaction may still be refused.
      const objects = new Set([...this.#changed, ...this.#inClose]);
      const snapshots = Array.from(objects, (object) => this.#snapshot(object, false));
      const sequence = this.#parked.recordedSequence();
      const { sync, live } = this.#engine;
      if (snapshots.length === 0 && !sync.dirty && !live.wantsFlush) {
        finish(this.#engine.failure);
        return;
      }
      this.#persist(snapshots, sequence, finish);
    });
  }

  /** Starts a flush of its own when `live` has grown so that it should be emptied. */
  keepLiveSmall(): void {
    if (!this.#engine.live.wantsFlush || this.#flushing) return;
    this.flush((error) => {
      if (error !== null)
        this.#engine.log.warn({ code: error.code }, `Flush failed: ${error.message}`);
    });
  }

  get isFlushing(): boolean {
    return this.#flushing;
  }

  /**
   * Stores the checksums of these objects and clears their open masks, as far as nobody writes to them meanwhile.
   * Objects with operations in flight are left out.
   */
  close(objects: readonly StoredObject[], done: Done): void {
    const batch: Snapshot[] = [];
    for (const object of objects) {
      if (object.inline || object.broken !== null || object.version === 0) {
        if (!object.changed) this.#openSet.remove(object); // it has nothing to close
        continue;
      }
      if (!object.locks.idle) continue;
      object.touched.fill(0);
      batch.push(this.#snapshot(object, true));
      if (batch.length === CLOSE_BATCH) break;
    }
    if (batch.length === 0) {
      done(null);
      return;
    }
    for (const { object } of batch) this.#inClose.add(object);
    this.#persist(batch, null, (error) => {
      for (const { object } of batch) this.#inClose.delete(object);
      done(error);
    });
  }

  #snapshot(object: StoredObject, closing: boolean): Snapshot {
    object.changed = false;
    object.snapshots += 1;
    this.#changed.delete(object);
    return { object, objectId: object.objectId, head: object.encode(), closing };
  }

  /** @param sequence - what of `live` these snapshots cover, or null for only some objects */
  #persist(
    snapshots: readonly Snapshot[],
    sequence: number | null,
    done: (error: StoreError | null) => void,
  ): void {
    this.#engine.sync.sync((failure) => {
      if (failure !== null) {
        done(failure);
        return;
      }
      // Deletes alone leave nothing to record, but they fill `live` as well.
      if (snapshots.length === 0 && !this.#engine.live.wantsFlush) {
        done(null);
        return;
      }
      const sequenceBefore = this.#engine.record.liveSequence;
      this.#engine.committer.add({
        build: (transaction) => {
          if (sequence !== null) this.#engine.setLiveSequence(sequence);
          for (const snapshot of snapshots) this.#stage(transaction, snapshot);
        },
        committed: (error) => {
          if (this.#engine.failure !== null) done(this.#engine.failure);
          else if (error !== null) {
            if (sequence !== null) this.#engine.setLiveSequence(sequenceBefore);
            for (const snapshot of snapshots) this.#undo(snapshot);
            done(noSpaceForMetadata(this.#engine.disk.path));
          } else {
            for (const snapshot of snapshots) this.#settle(snapshot);
            if (sequence !== null) this.#emptyLive(sequence);
            done(this.#engine.failure);
          }
        },
      });
    });
  }

  #stage(transaction: Transaction, snapshot: Snapshot): void {
    const { object, closing } = snapshot;
    // Removed since, and perhaps made anew: what was taken then says nothing about now.
    if (object.deleting || object.objectId !== snapshot.objectId) return;
    const before = transaction.head(object);
    const head = copyHead(snapshot.head);
    let closed = 0; // chunks with a part that this closes
    for (let part = 0; part < PARTS_PER_OBJECT; part += 1) {
      const hasData = partHasData(head, part);
      const wasOpen = before !== null && isOpenInHead(before, part);
      let open: boolean;
      switch (object.parts[part]) {
        case PART.empty:
          open = hasData; // written without being opened, as nothing durable was there
          break;
        case PART.open:
          open = !(closing && object.touched[part] === 0);
          if (!open) {
            object.parts[part] = PART.closing;
            closed |= 1 << Math.floor((part * BLOCKS_PER_PART) / BLOCKS_PER_CHUNK);
          }
          break;
        case PART.suspect:
          open = true;
          break;
        default:
          open = wasOpen; // somebody else is changing that
      }
      setOpenInHead(head, part, open);
    }
    for (let chunk = 0; chunk < CHUNKS_PER_OBJECT; chunk += 1) {
      if ((closed & (1 << chunk)) === 0) continue;
      this.#table.loadChecks(object, chunk);
      const key = checksKey(object.objectId, chunk);
      transaction.change(key, seal(key, this.#table.encodeChecks(object, chunk)));
    }
    if (object.hasStaleContent) transaction.change(contentKey(object.objectId), null);
    if (isImageData(object.kind) && isEmptyHead(head)) {
      if (before === null) return;
      for (let chunk = 0; chunk < CHUNKS_PER_OBJECT; chunk += 1)
        transaction.change(checksKey(object.objectId, chunk), null);
      transaction.stage(object, null);
    } else transaction.stage(object, head);
  }

  /** The transaction was refused for lack of space: memory stays ahead of the disk. */
  #undo({ object, objectId }: Snapshot): void {
    object.snapshots -= 1;
    if (object.objectId !== objectId) return;
    for (let part = 0; part < PARTS_PER_OBJECT; part += 1)
      if (object.parts[part] === PART.closing) object.parts[part] = PART.open;
    this.markChanged(object);
  }

  /** The transaction is durable. */
  #settle(snapshot: Snapshot): void {
    const { object } = snapshot;
    object.snapshots -= 1;
    if (object.objectId !== snapshot.objectId) return;
    if (snapshot.closing) this.#engine.counters.closes += 1;
    const head = object.durable;
    for (let part = 0; part < PARTS_PER_OBJECT; part += 1) {
      const state = object.parts[part];
      const hasData = partHasData(head, part);
      if (state === PART.closing) object.parts[part] = hasData ? PART.closed : PART.empty;
      else if (state === PART.closed && !hasData) object.parts[part] = PART.empty;
      else if (state === PART.empty && head !== null && isOpenInHead(head, part))
        object.parts[part] = PART.open;
    }
    if (!object.exists && head === null) this.#release(object);
    else this.#holes.punchZeroed(object);
    object.hasStaleContent = false;
    if (object.changed || (head !== null && hasOpenParts(head))) {
      if (snapshot.closing) this.#openSet.renew(object);
      else this.#openSet.add(object);
    } else this.#openSet.remove(object);
  }

  /** See `#release`: if there is nothing to keep. */
  releaseIfGone(object: StoredObject): void {
    const isNew = object.durable === null && object.staged === undefined && !object.inline;
    if (isNew && object.version > 0 && object.usedBlocks === 0 && object.broken === null)
      this.#release(object);
  }

  /** Nothing is left of the object, durably: once nobody reads it, and unless it was written again, its slot is free. */
  #release(object: StoredObject): void {
    const { objectId } = object;
    object.locks.acquire(0, BLOCKS_PER_OBJECT - 1, true, (lock) => {
      // If it changed again, or a commit of it is under way, that one's end comes here again.
      const isEmpty = !object.exists || (object.usedBlocks === 0 && object.length === 0);
      const isGone =
        isEmpty && !object.changed && object.durable === null && object.staged === undefined;
      if (object.objectId === objectId && isGone && !object.inline) {
        const { slot, isIncomplete } = object;
        this.forget(object);
        object.reset();
        object.isIncomplete = isIncomplete; // what comes next may be only a part of it
        this.#holes.freeSlot(slot);
      }
      object.locks.release(lock);
    });
  }

  #emptyLive(sequence: number): void {
    try {
      this.#engine.live.recorded(sequence);
    } catch (error) {
      this.#engine.failFrom(error);
    }
  }
}

export function noSpaceForMetadata(path: string): StoreError {
  return new StoreError(
    'E_NO_SPACE',
    `No space left under '${path}' for metadata; free some space and try again`,
  );
}
