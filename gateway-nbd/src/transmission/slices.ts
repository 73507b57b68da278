/**
 * Long operations of one connection (TRIM, WRITE_ZEROES, CACHE), piece by piece: no client can hand the backend a
 * terabyte at once, whole objects stay whole, and a few bytes of request never keep the event loop for long. Pieces
 * of several operations take turns.
 */
import type { Clock, Done } from '@store/core';

/** Does one piece of a long operation. */
export type SliceStep = (offset: number, bytes: number, done: Done) => void;

export interface SlicedOperation {
  readonly offset: number;
  readonly bytes: number;
  /** Each piece ends on a multiple of it. */
  readonly sliceBytes: number;
  readonly step: SliceStep;
  readonly done: Done;
}

/** Pieces under way at a time, of all long operations of the connection. */
const RUNNING_MAX = 2;
/** After so long others have their turn. */
const TURN_MS_MAX = 2;

interface Running {
  readonly operation: SlicedOperation;
  at: number;
}

export class SliceQueue {
  readonly #clock: Clock;
  readonly #given: () => boolean;
  readonly #waiting: Running[] = [];
  #running = 0;
  #isPumping = false;
  #isScheduled = false;

  /** @param given - asked before each piece; true ends all operations early, without an error */
  constructor(clock: Clock, given: () => boolean) {
    this.#clock = clock;
    this.#given = given;
  }

  /** Runs the operation; one that is a single piece at once. Stops at its first error. */
  run(operation: SlicedOperation): void {
    const { offset, bytes, sliceBytes, step, done } = operation;
    const isSingle =
      Math.floor(offset / sliceBytes) === Math.floor((offset + bytes - 1) / sliceBytes);
    if (bytes === 0 || this.#given()) done(null);
    else if (isSingle) step(offset, bytes, done);
    else {
      this.#waiting.push({ operation, at: offset });
      this.#pump();
    }
  }

  #pump(): void {
    if (this.#isPumping || this.#isScheduled) return;
    this.#isPumping = true;
    const until = this.#clock.now() + TURN_MS_MAX;
    while (this.#running < RUNNING_MAX) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#step(next);
      if (this.#waiting.length > 0 && this.#clock.now() >= until) {
        this.#pumpLater();
        break;
      }
    }
    this.#isPumping = false;
  }

  #pumpLater(): void {
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #step(running: Running): void {
    const { operation } = running;
    const { offset, bytes, sliceBytes, step, done } = operation;
    const end = offset + bytes;
    if (this.#given()) {
      done(null);
      return;
    }
    const from = running.at;
    running.at = Math.min(end, (Math.floor(from / sliceBytes) + 1) * sliceBytes);
    this.#running += 1;
    step(from, running.at - from, (error) => {
      this.#running -= 1;
      if (error !== null || running.at >= end) done(error);
      else this.#waiting.push(running);
      this.#pump();
    });
  }
}
