/**
 * Keeps the order of operations that touch the same bytes: over a network they may be sent again, over several ways at
 * once, and arrive in any order. An operation waits for the earlier ones it conflicts with (the same bytes of the same
 * object, and one of the two changes them); all others go at once. So whatever way requests take, the pool behaves as
 * `ObjectPool` says: as if they took effect in the order they were called.
 */
import { invariant } from '../util/invariant.js';

/** An operation on bytes `[from, to)` of the object named `place`. */
export interface Gated {
  readonly place: string;
  readonly from: number;
  readonly to: number;
  readonly changes: boolean;
  /** Set by the gate: it may go. */
  isThrough: boolean;
}

/** Lanes with nobody in them that are kept: most objects are used again soon. */
const LANES_KEPT = 1024;

interface Lane<T> {
  /** In order of their calls; those that are through and those that wait. */
  readonly all: T[];
  changes: number;
  waiting: number;
}

export class ConflictGate<T extends Gated> {
  readonly #start: (operation: T) => void;
  readonly #lanes = new Map<string, Lane<T>>();

  /** @param start - Called with each operation that had to wait, when it may go. */
  constructor(start: (operation: T) => void) {
    this.#start = start;
  }

  /** @returns true if the operation may go at once; else `start` is called later. */
  enter(operation: T): boolean {
    const lane = this.#lanes.get(operation.place);
    if (lane === undefined) {
      const changes = operation.changes ? 1 : 0;
      this.#lanes.set(operation.place, { all: [operation], changes, waiting: 0 });
      operation.isThrough = true;
      return true;
    }
    const isAlone = !operation.changes && lane.changes === 0;
    operation.isThrough = isAlone || !conflictsBefore(lane.all, lane.all.length, operation);
    lane.all.push(operation);
    if (operation.changes) lane.changes += 1;
    if (!operation.isThrough) lane.waiting += 1;
    return operation.isThrough;
  }

  /** The operation is answered, or given up: whoever waited for it alone may go. */
  leave(operation: T): void {
    const lane = this.#lanes.get(operation.place);
    const index = lane?.all.indexOf(operation) ?? -1;
    invariant(lane !== undefined && index >= 0, 'who leaves has entered');
    if (index === lane.all.length - 1) lane.all.pop();
    else lane.all.splice(index, 1);
    if (operation.changes) lane.changes -= 1;
    if (!operation.isThrough) lane.waiting -= 1;
    if (lane.all.length === 0 && this.#lanes.size > LANES_KEPT) this.#lanes.delete(operation.place);
    if (lane.waiting > 0) this.#letThrough(lane, index);
  }

  #letThrough(lane: Lane<T>, from: number): void {
    const started: T[] = [];
    for (let at = from; at < lane.all.length && lane.waiting > 0; at += 1) {
      const operation = lane.all[at];
      if (operation === undefined || operation.isThrough) continue;
      if (conflictsBefore(lane.all, at, operation)) continue;
      operation.isThrough = true;
      lane.waiting -= 1;
      started.push(operation);
    }
    for (const operation of started) this.#start(operation);
  }
}

function conflictsBefore(all: readonly Gated[], end: number, operation: Gated): boolean {
  const { from, to, changes } = operation;
  for (let at = 0; at < end; at += 1) {
    const other = all[at];
    if (other === undefined) continue;
    if ((changes || other.changes) && other.from < to && from < other.to) return true;
  }
  return false;
}
