/**
 * Writes that were answered from `live` while the part they go to is being opened. They hold their blocks until they
 * are in place, and a flush waits for them.
 */
import { invariant, type StoreError } from '@store/core';
import type { Engine } from './engine.js';

/** Larger writes wait for the open: next to their own time it is little. */
export const PARKED_WRITE_BYTES_MAX: number = 64 * 1024;

interface Waiter {
  /** Last parked write it waits for. */
  readonly until: number;
  readonly done: (stuck: StoreError | null) => void;
}

export class ParkedWrites {
  readonly #engine: Engine;
  /** By their numbers in `live`, rising. */
  readonly #sequences = new Map<number, number>();
  #bytes = 0;
  #last = 0;
  #waiters: Waiter[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  get count(): number {
    return this.#sequences.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  hasRoom(bytes: number): boolean {
    return (
      bytes <= PARKED_WRITE_BYTES_MAX && this.#bytes + bytes <= this.#engine.limits.parkedBytesMax
    );
  }

  park(sequence: number, bytes: number): void {
    invariant(sequence > this.#last, 'parked writes are numbered in order');
    this.#sequences.set(sequence, bytes);
    this.#bytes += bytes;
    this.#last = sequence;
    this.#engine.counters.parkedWrites += 1;
  }

  landed(sequence: number): void {
    this.#bytes -= this.#sequences.get(sequence) ?? 0;
    this.#sequences.delete(sequence);
    this.#wake(null);
  }

  /** They cannot land now: whoever waits for them learns why. */
  stuck(error: StoreError): void {
    this.#wake(error);
  }

  /** Calls `done` when all that are parked now are in place, or are stuck. */
  whenLanded(done: (stuck: StoreError | null) => void): void {
    if (this.#sequences.size === 0) done(null);
    else this.#waiters.push({ until: this.#last, done });
  }

  /** Everything in `live` up to this number is in memory and in place. */
  recordedSequence(): number {
    for (const oldest of this.#sequences.keys()) return oldest - 1;
    return this.#engine.live.sequence;
  }

  #wake(stuck: StoreError | null): void {
    if (this.#waiters.length === 0) return;
    const recorded = this.recordedSequence();
    const ready = this.#waiters.filter((waiter) => stuck !== null || waiter.until <= recorded);
    this.#waiters = this.#waiters.filter((waiter) => !ready.includes(waiter));
    for (const waiter of ready) waiter.done(waiter.until <= recorded ? null : stuck);
  }
}
