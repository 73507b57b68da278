/**
 * Closes in the background: what has been open for a while, what is too many, and what was left open by a crash. So
 * after the next crash little has to be taken on trust.
 */
import { OBJECT_KIND, type Done, type Timer } from '@store/core';
import type { Engine } from './engine.js';
import { BLOCKS_PER_PART, PARTS_PER_OBJECT } from './format.js';
import type { ObjectTable } from './object-table.js';
import type { OpenSet } from './open-set.js';
import type { Persister } from './persister.js';
import type { Reader } from './reader.js';
import { PART, type StoredObject } from './stored-object.js';

const TICK_MS = 1000;
/**
 * Objects left open by a crash that are read again in one tick, or closed together: that takes reading all that is open
 * in them, up to 4 MiB each.
 */
const SUSPECTS_PER_TICK = 8;
/** When everything is busy, look again so soon. */
const CROWDED_RETRY_MS = 20;
/** Between two batches, so that others have their turn. */
const NEXT_BATCH_MS = 1;
/** The same after a batch that was read again: at most 320 MiB/s, unless there are too many. */
const NEXT_SUSPECTS_MS = 100;

export class Checkpointer {
  readonly #engine: Engine;
  readonly #table: ObjectTable;
  readonly #openSet: OpenSet;
  readonly #persister: Persister;
  readonly #reader: Reader;
  /** Heads that were open when the last process ended. */
  #leftOpen: Buffer[] = [];
  #closing = false;
  #timer: Timer | null = null;
  /** Recovery must not be disturbed: what it is about to overwrite stays open. */
  #running = false;

  constructor(
    engine: Engine,
    table: ObjectTable,
    openSet: OpenSet,
    persister: Persister,
    reader: Reader,
  ) {
    this.#engine = engine;
    this.#table = table;
    this.#openSet = openSet;
    this.#persister = persister;
    this.#reader = reader;
    openSet.onCrowded = () => {
      this.#closeSome();
    };
  }

  start(leftOpen: Buffer[]): void {
    this.#leftOpen = leftOpen;
    this.#running = true;
    this.#schedule();
    this.#closeSome();
  }

  /** No close is on its way. */
  get isIdle(): boolean {
    return !this.#closing;
  }

  stop(): void {
    this.#running = false;
    this.#timer?.cancel();
  }

  /** Closes everything; nothing may be in flight. What a crash left open and nobody touched is found again. */
  closeAll(done: Done): void {
    const objects = [...this.#openSet.oldest()].filter((object) => object.locks.idle);
    if (objects.length === 0 || this.#engine.failure?.code === 'E_DISK_FAILED') {
      done(this.#engine.failure);
      return;
    }
    const before = this.#openSet.count;
    this.#persister.close(objects, (error) => {
      if (error !== null || this.#openSet.count >= before) done(error);
      else this.closeAll(done);
    });
  }

  #schedule(): void {
    if (!this.#running) return;
    this.#timer = this.#engine.env.timers.after(TICK_MS, () => {
      this.#tick();
      this.#schedule();
    });
  }

  #tick(): void {
    if (this.#engine.failure !== null) return;
    for (const head of this.#leftOpen.splice(0, SUSPECTS_PER_TICK)) {
      const object = this.#table.findByHeadKey(head, OBJECT_KIND.imageData);
      const isLeftOpen = object.version > 0 && isSuspect(object);
      if (isLeftOpen && !object.inline && object.broken === null) this.#openSet.add(object);
    }
    this.#closeSome();
  }

  /** Closes what is old, or the oldest if there are too many. */
  #closeSome(): void {
    if (this.#closing || !this.#running || this.#engine.failure !== null) return;
    const crowded = this.#openSet.isCrowded;
    const objects = crowded
      ? this.#closable(0, Math.ceil(this.#openSet.count / 4))
      : this.#closable(this.#engine.limits.openMsMax, Infinity);
    if (objects.length === 0) {
      if (crowded) this.#closeSomeIn(CROWDED_RETRY_MS);
      return;
    }
    this.#closing = true;
    const suspects = objects.filter(isSuspect);
    this.#resolveAll(suspects, () => {
      this.#persister.close(objects, (error) => {
        this.#closing = false;
        if (error !== null)
          this.#engine.log.warn({ code: error.code }, `Closing objects failed: ${error.message}`);
        else this.#closeSomeIn(suspects.length > 0 && !crowded ? NEXT_SUSPECTS_MS : NEXT_BATCH_MS);
      });
    });
  }

  /** Operations may be waiting for room: the process must not end before them. */
  #closeSomeIn(ms: number): void {
    void this.#engine.env.timers.sleep(ms).then(() => this.#closeSome());
  }

  #closable(ageMs: number, count: number): StoredObject[] {
    const now = this.#engine.env.clock.now();
    const objects: StoredObject[] = [];
    let suspects = 0;
    for (const object of this.#openSet.oldest()) {
      if (now - object.openedAt < ageMs || objects.length >= count) break;
      if (!object.locks.idle) continue;
      if (isSuspect(object) && ++suspects > SUSPECTS_PER_TICK) continue;
      objects.push(object);
    }
    return objects;
  }

  /** Makes checksums where a crash took them, so that the objects can be closed. */
  #resolveAll(suspects: readonly StoredObject[], done: () => void): void {
    let pending = suspects.length + 1;
    const finish = (): void => {
      pending -= 1;
      if (pending === 0) done();
    };
    for (const object of suspects) this.#resolveParts(object, 0, finish);
    finish();
  }

  /** From `part` on. One at a time: whoever wants another does not wait. */
  #resolveParts(object: StoredObject, part: number, done: () => void): void {
    let next = part;
    while (next < PARTS_PER_OBJECT && object.parts[next] !== PART.suspect) next += 1;
    if (next === PARTS_PER_OBJECT || this.#engine.failure !== null) {
      done();
      return;
    }
    const first = next * BLOCKS_PER_PART;
    const last = first + BLOCKS_PER_PART - 1;
    object.locks.acquire(first, last, true, (lock) => {
      // An unreadable part stays suspect; whoever reads it learns why.
      this.#reader.resolveSuspects(object, first, last, () => {
        object.locks.release(lock);
        this.#resolveParts(object, next + 1, done);
      });
    });
  }
}

function isSuspect(object: StoredObject): boolean {
  return object.parts.includes(PART.suspect);
}
