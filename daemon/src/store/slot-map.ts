/**
 * Which slots of the data file are taken. Computed at the start from the heads; a slot comes back only after the
 * transaction that freed it is durable and nothing reads it any more.
 */
import { OBJECT_BYTES, invariant } from '@store/core';
import { NO_SLOT } from './format.js';

/** The first slot's place in the file holds the label. */
const LABEL_SLOTS = 1;

export function slotPosition(slot: number): number {
  return (slot + LABEL_SLOTS) * OBJECT_BYTES;
}

export class SlotMap {
  readonly #slotsMax: number;
  #taken = new Uint8Array(1024);
  /** Nothing below is free. */
  #lowest = 0;
  #takenCount = 0;
  /** Claimed by two objects: never free again. */
  readonly #doubled = new Set<number>();

  /** @param bytesMax - size of a block device, or `Infinity` */
  constructor(bytesMax: number) {
    this.#slotsMax = Math.min(NO_SLOT - 1, Math.floor(bytesMax / OBJECT_BYTES) - LABEL_SLOTS);
  }

  get takenCount(): number {
    return this.#takenCount;
  }

  get isFull(): boolean {
    return this.#takenCount >= this.#slotsMax;
  }

  isTaken(slot: number): boolean {
    return this.#taken[slot] === 1;
  }

  /** @returns false if it was taken already: two objects claim it */
  take(slot: number): boolean {
    this.#grow(slot);
    if (this.#taken[slot] === 1) {
      this.#doubled.add(slot);
      return false;
    }
    this.#taken[slot] = 1;
    this.#takenCount += 1;
    return true;
  }

  /** The lowest free slot, or null if the device is full. Low ones first keeps a sparse file short. */
  allocate(): number | null {
    let slot = this.#lowest;
    while (slot < this.#taken.length && this.#taken[slot] === 1) slot += 1;
    this.#lowest = slot;
    if (slot >= this.#slotsMax) return null;
    this.take(slot);
    return slot;
  }

  isDoubled(slot: number): boolean {
    return this.#doubled.has(slot);
  }

  free(slot: number): void {
    if (this.#doubled.has(slot)) return;
    invariant(this.#taken[slot] === 1, 'a slot is freed once');
    this.#taken[slot] = 0;
    this.#takenCount -= 1;
    if (slot < this.#lowest) this.#lowest = slot;
  }

  /** Never hands out anything below `slot`: an unreadable head may own it. */
  reserveBelow(slot: number): void {
    if (slot > this.#lowest) this.#lowest = slot;
    for (let index = 0; index < slot; index += 1) if (!this.isTaken(index)) this.take(index);
  }

  #grow(slot: number): void {
    if (slot < this.#taken.length) return;
    const grown = new Uint8Array(Math.max(slot + 1, this.#taken.length * 2));
    grown.set(this.#taken);
    this.#taken = grown;
  }
}
