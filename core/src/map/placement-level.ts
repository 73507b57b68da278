/**
 * Evens out who has too much and who too little, by moves along the shortest path: what `a` has too much goes to `b`,
 * and something of `b` to `c`, if nothing of `a` can go to `c` itself. A path is taken if its ends differ by more than
 * one unit, so that each lowers the sum of the squares of the excesses: it ends. When no such path is left that sum is
 * the least there can be (the residual graph of a flow with convex costs has no negative cycle).
 */
import { Ranking } from './placement-ranking.js';
import { COPY } from './placement-shares.js';
import type { Steps } from './placement-steps.js';

/** What is to be evened out; those who have something are numbered from 0 on. */
export interface Levelling {
  /** What each has beyond what it should have, in units of COPY. `move` changes it. */
  readonly excess: Float64Array;
  /** A path is taken only if one of its ends is off by more than this. */
  readonly tolerance: Float64Array;
  /** Calls `visit` for those to which something of `from` could move. `visit` answers false when all are known. */
  readonly reach: (from: number, visit: (to: number) => boolean) => void;
  /**
   * Moves a unit between two that `reach` connected when the path was looked for. Moves of later hops of the same path
   * were made since; because it is a shortest path, and its hops are the first that lead to each, they may not hinder.
   */
  readonly move: (from: number, to: number) => void;
}

/**
 * Moves until no path is left: always from the one with the most that has a path. One step a search.
 *
 * Those who have no path are the first in the ranking and stay there: nobody else gets more than they have, since a path
 * ends at one who afterwards still has less than its beginning had; and so none of them is an end either.
 */
export function* level(levelling: Levelling): Steps<void> {
  const { excess } = levelling;
  const search = new PathSearch(levelling);
  const ranking = new Ranking(excess);
  // Who was stuck may find a path after others moved; so it goes on until all are stuck without a move between.
  for (let isDone = false; !isDone;) {
    isDone = true;
    for (let stuck = 0; ;) {
      const from = ranking.at(stuck);
      if (from === null || of(excess, from) - search.least <= COPY) break;
      const to = search.relieve(from);
      if (to === null) stuck += 1;
      else {
        isDone = false;
        // One after the other: each finds its place among those who stand right.
        ranking.changed(to);
        ranking.changed(from);
      }
      yield;
    }
  }
}

class PathSearch {
  /** The least excess of all. */
  least = Infinity;
  readonly #levelling: Levelling;
  /** Where the present search came from to each; -1: it did not get there. */
  readonly #previous: Int32Array;
  /** The least excess of those that miss more than their tolerance. */
  #neediest = Infinity;

  constructor(levelling: Levelling) {
    this.#levelling = levelling;
    this.#previous = new Int32Array(levelling.excess.length);
    this.#look();
  }

  /** Takes one path that begins at `from`, of the shortest ones that with the neediest end. @returns it; null: none */
  relieve(from: number): number | null {
    const { excess, tolerance, move } = this.#levelling;
    const isOver = of(excess, from) > of(tolerance, from);
    if (of(excess, from) - (isOver ? this.least : this.#neediest) <= COPY) return null;
    const to = this.#search(from);
    if (to === null) return null;
    const path = [to];
    for (let at = to; at !== from;) {
      at = of(this.#previous, at);
      path.push(at);
    }
    // From the far end, so that nobody has more than it had on the way. The hops before stay possible: see `Levelling`.
    for (let hop = 0; hop + 1 < path.length; hop += 1) move(path[hop + 1] ?? 0, path[hop] ?? 0);
    this.#look();
    return to;
  }

  #look(): void {
    const { excess, tolerance } = this.#levelling;
    this.least = Infinity;
    this.#neediest = Infinity;
    for (let at = 0; at < excess.length; at += 1) {
      const value = of(excess, at);
      if (value < this.least) this.least = value;
      if (value < -of(tolerance, at) && value < this.#neediest) this.#neediest = value;
    }
  }

  #search(from: number): number | null {
    const { excess, reach } = this.#levelling;
    this.#previous.fill(-1);
    this.#previous[from] = from;
    let unknown = excess.length - 1;
    for (let frontier = [from]; frontier.length > 0;) {
      const found: number[] = [];
      for (const at of frontier)
        reach(at, (to) => {
          if (of(this.#previous, to) >= 0) return unknown > 0;
          this.#previous[to] = at;
          found.push(to);
          unknown -= 1;
          return unknown > 0;
        });
      let best: number | null = null;
      for (const to of found)
        if (this.#isWorth(from, to) && (best === null || isLess(excess, to, best))) best = to;
      if (best !== null) return best;
      frontier = found;
    }
    return null;
  }

  #isWorth(from: number, to: number): boolean {
    const { excess, tolerance } = this.#levelling;
    const [high, low] = [of(excess, from), of(excess, to)];
    return high - low > COPY && (high > of(tolerance, from) || low < -of(tolerance, to));
  }
}

function isLess(excess: Float64Array, a: number, b: number): boolean {
  return of(excess, a) - of(excess, b) < 0 || (of(excess, a) === of(excess, b) && a < b);
}

function of(list: Float64Array | Int32Array, index: number): number {
  return list[index] ?? 0;
}
