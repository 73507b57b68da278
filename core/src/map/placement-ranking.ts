import { invariant } from '../util/invariant.js';

/** Numbers from 0 on by their values, the highest first; of equal ones the smaller number. Values change now and then. */
export class Ranking {
  readonly #values: Float64Array;
  readonly #order: Int32Array;
  /** Of each number, its place in the order. */
  readonly #places: Int32Array;

  /** @param values - Stay the caller's, who tells when one has changed. */
  constructor(values: Float64Array) {
    this.#values = values;
    this.#order = Int32Array.from(values.keys());
    this.#order.sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0) || a - b);
    this.#places = new Int32Array(values.length);
    this.#order.forEach((number, place) => (this.#places[number] = place));
  }

  /** Who has that place; null behind the last. */
  at(place: number): number | null {
    return this.#order[place] ?? null;
  }

  /** The value of `number` is another one now: it moves past those between, which are few. */
  changed(number: number): void {
    let place = this.#places[number] ?? 0;
    invariant(this.#order[place] === number, 'a number stands where it is said to stand');
    while (place > 0 && this.#isBefore(number, this.#order[place - 1] ?? 0)) {
      this.#put(this.#order[place - 1] ?? 0, place);
      place -= 1;
    }
    while (place + 1 < this.#order.length && this.#isBefore(this.#order[place + 1] ?? 0, number)) {
      this.#put(this.#order[place + 1] ?? 0, place);
      place += 1;
    }
    this.#put(number, place);
  }

  #put(number: number, place: number): void {
    this.#order[place] = number;
    this.#places[number] = place;
  }

  #isBefore(a: number, b: number): boolean {
    const difference = (this.#values[a] ?? 0) - (this.#values[b] ?? 0);
    return difference > 0 || (difference === 0 && a < b);
  }
}
