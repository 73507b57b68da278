/**
 * Changes of a group that not all who must make them have made yet, in the order of their numbers, and who waits for them:
 * operations that made them, and reads of the same blocks, which may have seen them.
 */
import { invariant, type Done, type StoreError } from '@store/core';
import { blocksOf, type Change } from './change.js';

/** One change under way to the members. */
export interface Entry {
  readonly number: number;
  readonly change: Change;
  readonly first: number;
  readonly last: number;
  /** It only makes one member equal to the others: nobody's operation waits for it. */
  readonly isPush: boolean;
  /** Members that have not made it yet. */
  pending: number;
  waiters: Waiter[] | null;
}

/** Somebody who waits until several entries are committed. */
interface Waiter {
  left: number;
  readonly done: Done;
}

export class Uncommitted {
  readonly #byNumber = new Map<number, Entry>();
  readonly #byPlace = new Map<string, Entry[]>();
  #last = 0;

  get size(): number {
    return this.#byNumber.size;
  }

  /** All changes up to this number are committed. */
  get point(): number {
    for (const number of this.#byNumber.keys()) return number - 1;
    return this.#last;
  }

  /** @param number - Greater than all before. @param pending - Members that must make it, at least 1 */
  add(number: number, change: Change, pending: number, isPush: boolean): Entry {
    invariant(number > this.#last && pending > 0, 'changes come in the order of their numbers');
    this.#last = number;
    const { first, last } = blocksOf(change);
    const entry: Entry = { number, change, first, last, isPush, pending, waiters: null };
    this.#byNumber.set(number, entry);
    if (!isPush) {
      const { place } = change.object;
      const entries = this.#byPlace.get(place);
      if (entries === undefined) this.#byPlace.set(place, [entry]);
      else entries.push(entry);
    }
    return entry;
  }

  /** A number was given to a change that nobody else must make. */
  committedAtOnce(number: number): void {
    this.#last = Math.max(this.#last, number);
  }

  /** One more member has made it, or need not any more. */
  settled(entry: Entry): void {
    entry.pending -= 1;
    if (entry.pending > 0 || !this.#byNumber.delete(entry.number)) return;
    if (!entry.isPush) this.#forget(entry);
    const { waiters } = entry;
    entry.waiters = null;
    if (waiters !== null)
      for (const waiter of waiters) {
        waiter.left -= 1;
        if (waiter.left === 0) waiter.done(null);
      }
  }

  /** Whether a change of these blocks is under way. */
  overlaps(place: string, first: number, last: number): boolean {
    const entries = this.#byPlace.get(place);
    if (entries === undefined) return false;
    for (const entry of entries) if (entry.first <= last && first <= entry.last) return true;
    return false;
  }

  /** Calls `done` when all changes of these blocks that are under way now are committed; at once if there are none. */
  whenCommitted(place: string, first: number, last: number, done: Done): void {
    const entries = this.#byPlace.get(place);
    let waiter: Waiter | null = null;
    if (entries !== undefined)
      for (const entry of entries) {
        if (entry.first > last || first > entry.last) continue;
        waiter ??= { left: 0, done };
        waiter.left += 1;
        (entry.waiters ??= []).push(waiter);
      }
    if (waiter === null) done(null);
  }

  /** In the order of their numbers. */
  entries(): Entry[] {
    return [...this.#byNumber.values()];
  }

  /** Nobody will make them: whoever waits hears why. @returns what was under way */
  abandon(error: StoreError): Entry[] {
    const entries = this.entries();
    this.#byNumber.clear();
    this.#byPlace.clear();
    const told = new Set<Waiter>();
    for (const { waiters } of entries)
      for (const waiter of waiters ?? []) {
        if (told.has(waiter)) continue;
        told.add(waiter);
        waiter.done(error);
      }
    return entries;
  }

  #forget(entry: Entry): void {
    const { place } = entry.change.object;
    const entries = this.#byPlace.get(place) ?? [];
    if (entries.length === 1) this.#byPlace.delete(place);
    else entries.splice(entries.indexOf(entry), 1);
  }
}
