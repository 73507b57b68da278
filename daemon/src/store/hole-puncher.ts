/** Gives space back to the file system, once no durable record names it and nothing in flight uses it. */
import { BLOCKS_PER_OBJECT, BLOCK_BYTES, BLOCK_STATE } from '@store/core';
import type { Engine } from './engine.js';
import { NO_SLOT, stateInHead } from './format.js';
import { slotPosition } from './slot-map.js';
import type { StoredObject } from './stored-object.js';

export class HolePuncher {
  readonly #engine: Engine;
  #punching = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** No slot is on its way back. (Blocks on theirs are held.) */
  get isIdle(): boolean {
    return this.#punching === 0;
  }

  /** Gives a slot back that no durable record names and nothing in flight reads. */
  freeSlot(slot: number): void {
    if (slot === NO_SLOT || this.#engine.slots.isDoubled(slot)) return;
    this.#punching += 1;
    this.#engine.data.punch(slotPosition(slot), BLOCKS_PER_OBJECT * BLOCK_BYTES, () => {
      this.#punching -= 1;
      this.#engine.slots.free(slot);
    });
  }

  /** Gives the space of blocks back that are no longer data, unless they are again by now. */
  punchZeroed(object: StoredObject): void {
    const blocks: number[] = [];
    for (const block of object.unpunched) {
      if (object.durable !== null && stateInHead(object.durable, block) === BLOCK_STATE.data)
        continue;
      blocks.push(block);
      object.unpunched.delete(block);
    }
    for (const [first, last] of runs(blocks.sort((left, right) => left - right))) {
      object.locks.acquire(first, last, true, (lock) => {
        // A write must not come before the hole: it would be punched away.
        const holes = Array.from(runs(stillFree(object, first, last)));
        let left = holes.length;
        if (left === 0) object.locks.release(lock);
        for (const [from, to] of holes) {
          const position = slotPosition(object.slot) + from * BLOCK_BYTES;
          this.#engine.data.punch(position, (to - from + 1) * BLOCK_BYTES, () => {
            left -= 1;
            if (left === 0) object.locks.release(lock);
          });
        }
      });
    }
  }
}

function stillFree(object: StoredObject, first: number, last: number): number[] {
  const free: number[] = [];
  if (object.slot === NO_SLOT) return free;
  for (let block = first; block <= last; block += 1)
    if (object.states[block] !== BLOCK_STATE.data) free.push(block);
  return free;
}

/** Runs of consecutive numbers, as first and last. */
function* runs(sorted: readonly number[]): Generator<[number, number]> {
  let first: number | undefined;
  let last = -1;
  for (const value of sorted) {
    if (first !== undefined && value === last + 1) {
      last = value;
      continue;
    }
    if (first !== undefined) yield [first, last];
    first = value;
    last = value;
  }
  if (first !== undefined) yield [first, last];
}
