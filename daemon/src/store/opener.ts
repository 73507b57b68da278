/**
 * Open before write (DRBD calls it the activity log): a part whose durable data is about to be overwritten is first
 * marked as open, durably, so that after a crash its stored checksums are not believed. One transaction opens many.
 *
 * What it costs: one commit (0.3-0.5 ms) for whatever was asked meanwhile, and a small write that does not wait for it
 * (see `writer.ts`) is written twice. So an object asked again and again is opened in ever larger pieces, a large write
 * opens all of it, and while many ask each opens a MiB: a writer who scatters over a GiB asks 1,024 times instead of
 * 16,384 times. Who writes little opens little, since what is open cannot be verified after a crash.
 */
import type { DiskError } from '@store/core';
import type { Engine } from './engine.js';
import { PARTS_PER_OBJECT, copyHead, setOpenInHead } from './format.js';
import type { OpenSet } from './open-set.js';
import { PART, type StoredObject } from './stored-object.js';

/** Parts opened at the first, second, … request for an object: aligned runs of so many. */
const WIDTHS = [1, 4, 16, PARTS_PER_OBJECT] as const;
/** Whoever writes so many parts at a time goes on with the rest of the object: it is opened whole. */
const BULK_PARTS_MIN = 4;

/** So many requests within so long are a scattering writer, who begins with this of the `WIDTHS`. */
const BUSY_STEP = 2;
const BUSY_REQUESTS_MIN = 8;
const BUSY_WINDOW_MS = 100;

interface Waiter {
  readonly first: number;
  readonly last: number;
  readonly done: (error: DiskError | null) => void;
}

export class Opener {
  readonly #engine: Engine;
  readonly #openSet: OpenSet;
  readonly #waiters = new Map<StoredObject, Waiter[]>();
  /** When the last requests came, in a circle. */
  readonly #requestedAt: number[] = Array.from({ length: BUSY_REQUESTS_MIN }, () => -Infinity);
  #requestCount = 0;

  constructor(engine: Engine, openSet: OpenSet) {
    this.#engine = engine;
    this.#openSet = openSet;
  }

  /** Must a write to these parts wait for `open`? */
  isNeeded(object: StoredObject, first: number, last: number): boolean {
    for (let part = first; part <= last; part += 1) {
      const state = object.parts[part];
      if (state === PART.closed || state === PART.opening || state === PART.closing) return true;
    }
    return false;
  }

  /** Calls `done` once all the parts may be written; `ENOSPC`: not now. */
  open(
    object: StoredObject,
    first: number,
    last: number,
    done: (error: DiskError | null) => void,
  ): void {
    if (!this.isNeeded(object, first, last)) {
      done(null);
      return;
    }
    let waiters = this.#waiters.get(object);
    if (waiters === undefined) this.#waiters.set(object, (waiters = []));
    waiters.push({ first, last, done });
    this.#openClosed(object, first, last);
  }

  #openClosed(object: StoredObject, first: number, last: number): void {
    const wanted = this.#take(object, first, last);
    if (wanted.length > 0) this.#commit(object, wanted);
  }

  /** Parts that nobody is opening yet, and closed neighbours when much is asked. */
  #take(object: StoredObject, first: number, last: number): number[] {
    const isAsked = object.parts
      .subarray(first, last + 1)
      .some((state) => state === PART.closed || state === PART.closing);
    if (!isAsked) return [];
    const width = this.#width(object, last - first + 1);
    const from = first - (first % width);
    const to = last - (last % width) + width;
    const wanted: number[] = [];
    for (let part = from; part < to; part += 1) {
      const state = object.parts[part];
      const asked = part >= first && part <= last;
      if (state === PART.closed || (asked && state === PART.closing)) wanted.push(part);
    }
    for (const part of wanted) object.parts[part] = PART.opening;
    return wanted;
  }

  #width(object: StoredObject, parts: number): number {
    const steps = WIDTHS.length - 1;
    const asked = this.#isBusy() ? Math.max(object.openRequests, BUSY_STEP) : object.openRequests;
    object.openRequests += 1;
    return WIDTHS[parts >= BULK_PARTS_MIN ? steps : Math.min(asked, steps)] ?? 1;
  }

  /** Notes a request. @returns True if there were many just now */
  #isBusy(): boolean {
    const now = this.#engine.env.clock.now();
    const place = this.#requestCount % BUSY_REQUESTS_MIN;
    const oldest = this.#requestedAt[place] ?? -Infinity;
    this.#requestedAt[place] = now;
    this.#requestCount += 1;
    return now - oldest < BUSY_WINDOW_MS;
  }

  #commit(object: StoredObject, parts: readonly number[]): void {
    this.#engine.committer.add({
      build: (transaction) => {
        const before = transaction.head(object);
        if (before === null) return; // removed meanwhile: nothing durable is left to protect
        const head = copyHead(before);
        for (const part of parts) setOpenInHead(head, part, true);
        transaction.stage(object, head);
      },
      committed: (error) => {
        this.#engine.counters.opens += 1;
        for (const part of parts)
          if (object.parts[part] === PART.opening)
            object.parts[part] = error === null ? PART.open : PART.closed;
        if (error === null) this.#openSet.add(object);
        this.#wake(object, parts, error);
      },
    });
  }

  /** Those whose parts are all open go on; those who asked for a part that could not be opened learn why. */
  #wake(object: StoredObject, parts: readonly number[], error: DiskError | null): void {
    const waiters = this.#waiters.get(object) ?? [];
    const ready = waiters.filter((waiter) =>
      error === null
        ? !this.isNeeded(object, waiter.first, waiter.last)
        : parts.some((part) => part >= waiter.first && part <= waiter.last),
    );
    const left = waiters.filter((waiter) => !ready.includes(waiter));
    if (left.length === 0) this.#waiters.delete(object);
    else this.#waiters.set(object, left);
    for (const waiter of ready) waiter.done(error);
    // A part that was open when it was asked for may have been closed since.
    for (const waiter of left) this.#openClosed(object, waiter.first, waiter.last);
  }
}
