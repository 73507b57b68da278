/**
 * Objects that are open or changed, the oldest first. Their number is limited: after a crash their checksums are made
 * from what the disk holds, so that much cannot be verified, and must be read again.
 */
import type { Clock } from '@store/core';
import type { StoredObject } from './stored-object.js';

export class OpenSet {
  readonly #clock: Clock;
  readonly #countMax: number;
  readonly #objects = new Set<StoredObject>();
  #waiting: (() => void)[] = [];
  /** Called when there are too many. */
  onCrowded: () => void = () => undefined;

  constructor(clock: Clock, countMax: number) {
    this.#clock = clock;
    this.#countMax = countMax;
  }

  /** So many that the oldest are closed without being asked. */
  get isCrowded(): boolean {
    return this.#objects.size >= this.#countMax * 0.75;
  }

  get count(): number {
    return this.#objects.size;
  }

  add(object: StoredObject): void {
    if (object.openedAt !== 0) return;
    object.openedAt = Math.max(1, this.#clock.now());
    this.#objects.add(object);
    if (this.isCrowded) this.onCrowded();
  }

  remove(object: StoredObject): void {
    object.openedAt = 0;
    this.#objects.delete(object);
    if (this.#objects.size < this.#countMax && this.#waiting.length > 0) {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const go of waiting) go();
    }
  }

  /** After a checkpoint that left it open: it is young again. */
  renew(object: StoredObject): void {
    object.openedAt = Math.max(1, this.#clock.now());
    this.#objects.delete(object);
    this.#objects.add(object);
  }

  /** May this object be changed now? */
  hasRoom(object: StoredObject): boolean {
    return object.openedAt !== 0 || this.#objects.size < this.#countMax;
  }

  /** Calls `go` when some were closed. */
  whenRoom(go: () => void): void {
    this.#waiting.push(go);
    this.onCrowded();
  }

  /** There will be no room (the disk failed, or the store closes): those who wait learn it by going on. */
  wakeAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
  }

  /** The oldest first. */
  *oldest(): Generator<StoredObject> {
    yield* this.#objects;
  }
}
