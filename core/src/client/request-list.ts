/** Requests in the order they were added, as a list through the requests themselves: nothing is allocated for each. */
import { invariant } from '../util/invariant.js';

/** What can be in one list at a time. */
export interface Listed<T> {
  before: T | null;
  after: T | null;
}

export class RequestList<T extends Listed<T>> {
  #first: T | null = null;
  #last: T | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(request: T): void {
    request.before = this.#last;
    if (this.#last === null) this.#first = request;
    else this.#last.after = request;
    this.#last = request;
    this.#size += 1;
  }

  remove(request: T): void {
    const { before, after } = request;
    invariant(
      (before === null ? this.#first : before.after) === request,
      'who is removed is in the list',
    );
    if (before === null) this.#first = after;
    else before.after = after;
    if (after === null) this.#last = before;
    else after.before = before;
    request.before = null;
    request.after = null;
    this.#size -= 1;
  }

  /** All that are in it now, in order. */
  all(): T[] {
    const all: T[] = [];
    for (let request = this.#first; request !== null; request = request.after) all.push(request);
    return all;
  }
}
