/**
 * The groups of one pool while they are being placed: who of the daemons that may hold copies (numbered from 0 on, in
 * the order of their ids) stands where, and what each has beyond its share. No two of a group are in one failure domain.
 */
import { invariant } from '../util/invariant.js';
import type { Levelling } from './placement-level.js';
import { groupSeed, placementHash, placementScore, scoreOfHash } from './placement-score.js';
import { COPY, type Bearer } from './placement-shares.js';

/** Of many groups that could give a copy to a daemon, so many are compared by score. */
const COMPARED_MAX = 64;

export interface BoardDaemon extends Bearer {
  readonly id: number;
}

export class Board {
  readonly daemons: readonly BoardDaemon[];
  readonly members: number[][];
  readonly excess: Float64Array;
  readonly #pool: number;
  /** The groups that each daemon is in. */
  readonly #groups: number[][];
  /** Of each group, who has the data now. */
  readonly #holders: readonly (readonly number[])[];
  /** Of each daemon. */
  readonly #weights: Float64Array;
  readonly #domains: Int32Array;
  /** Of each daemon, what chance says about it and the group that is being filled. */
  readonly #hashes: Float64Array;
  /** Of each domain, the last mark it was given. */
  readonly #marks: Int32Array;
  #mark = 0;

  /**
   * @param wanted - For each daemon, in units of COPY.
   * @param holders - For each group the daemons, by number, that have its data and may keep it. They are its members
   *   at first, though there may be too many; {@link trim} comes next.
   */
  constructor(
    pool: number,
    daemons: readonly BoardDaemon[],
    wanted: Float64Array,
    holders: readonly (readonly number[])[],
  ) {
    this.#pool = pool;
    this.daemons = daemons;
    this.excess = wanted.map((copies) => -copies);
    this.#holders = holders;
    this.members = holders.map(() => []);
    this.#groups = daemons.map(() => []);
    this.#weights = Float64Array.from(daemons, ({ weight }) => weight);
    this.#domains = Int32Array.from(daemons, ({ domain }) => domain);
    this.#hashes = new Float64Array(daemons.length);
    this.#marks = new Int32Array(
      this.#domains.reduce((max, domain) => Math.max(max, domain), 0) + 1,
    );
    holders.forEach((list, group) => list.forEach((daemon) => this.#add(group, daemon)));
  }

  score(group: number, daemon: number): number {
    const { id, weight } = this.#daemon(daemon);
    return placementScore(groupSeed(this.#pool, group), id, weight);
  }

  /** Leaves a group one member in each domain, and `replicas` in all: those with the most beyond their share go. */
  trim(group: number, replicas: number): void {
    const members = this.#membersOf(group);
    for (;;) {
      const domains = members.map((daemon) => this.#daemon(daemon).domain);
      const doubled = members.filter((_, at) =>
        domains.some((domain, other) => other !== at && domain === domains[at]),
      );
      const candidates = doubled.length > 0 ? doubled : members.length > replicas ? members : [];
      const [first] = candidates;
      if (first === undefined) return;
      const worst = candidates.reduce((a, b) => (this.#isWorse(group, b, a) ? b : a), first);
      this.#remove(group, worst);
    }
  }

  /** Gives a group members until it has `count`: in the order of their scores, who has its share already last. */
  fill(group: number, count: number): void {
    const members = this.#membersOf(group);
    if (members.length >= count) return;
    const seed = groupSeed(this.#pool, group);
    for (let at = 0; at < this.daemons.length; at += 1)
      this.#hashes[at] = placementHash(seed, this.#daemon(at).id);
    while (members.length < count) {
      this.#markDomains(members, -1);
      const best = this.#best(true) ?? this.#best(false);
      invariant(best !== null, 'a group has no more members than there are domains');
      this.#add(group, best);
    }
  }

  /** The daemon with the least score of those whose domain is not marked, and who have room if that is asked. */
  #best(withRoom: boolean): number | null {
    const [hashes, weights] = [this.#hashes, this.#weights];
    let best: number | null = null;
    // Separate variables: a list of them for each daemon would be much of the time.
    let score = Infinity;
    let hash = 0;
    let weight = 0;
    for (let at = 0; at < hashes.length; at += 1) {
      const itsHash = hashes[at] ?? 0;
      const itsWeight = weights[at] ?? 0;
      // Its score is not less: most are passed over without a logarithm.
      if (itsHash <= hash && itsWeight <= weight) continue;
      if ((withRoom && (this.excess[at] ?? 0) >= 0) || this.#isMarked(at)) continue;
      const itsScore = scoreOfHash(itsHash, itsWeight);
      if (itsScore >= score) continue;
      best = at;
      score = itsScore;
      hash = itsHash;
      weight = itsWeight;
    }
    return best;
  }

  /**
   * To even out copies.
   * @param free - Only those that nobody has the data of: to move them costs nothing.
   */
  levelling(tolerance: Float64Array, { free }: { free: boolean }): Levelling {
    return {
      excess: this.excess,
      tolerance,
      reach: (from, visit) => {
        for (const group of this.#groups[from] ?? []) {
          if (free && this.#hasData(group, from)) continue;
          this.#markDomains(this.#membersOf(group), from);
          for (let to = 0; to < this.daemons.length; to += 1)
            if (to !== from && !this.#isMarked(to) && !visit(to)) return;
        }
      },
      move: (from, to) => {
        const group = this.#groupToMove(from, to, free);
        this.#remove(group, from);
        this.#add(group, to);
      },
    };
  }

  /**
   * The group of `from` that is best given to `to`: one without data if there is one, and of those by score.
   *
   * There is one. When the path was looked for, `from` was in a group G that `to` could enter. `from` leaves G only in
   * this move. Since then others entered G only as ends of later hops; had one of them the domain of `to`, it could have
   * entered G in place of `from` as well, and would be one hop from `from`: but on a shortest path the ends of later hops
   * are two or more away.
   */
  #groupToMove(from: number, to: number, free: boolean): number {
    let [best, bestHasData, bestScore] = [-1, true, Infinity];
    let compared = 0;
    for (const group of this.#groups[from] ?? []) {
      const hasData = this.#hasData(group, from);
      if (hasData && (free || !bestHasData)) continue;
      this.#markDomains(this.#membersOf(group), from);
      if (this.#isMarked(to)) continue;
      const score = this.score(group, to);
      if (hasData === bestHasData && score >= bestScore) continue;
      [best, bestHasData, bestScore] = [group, hasData, score];
      compared += 1;
      if (compared >= COMPARED_MAX) break;
    }
    invariant(best >= 0, 'a path leads along groups');
    return best;
  }

  #isWorse(group: number, a: number, b: number): boolean {
    const difference = (this.excess[a] ?? 0) - (this.excess[b] ?? 0);
    return difference === 0 ? this.score(group, a) > this.score(group, b) : difference > 0;
  }

  #hasData(group: number, daemon: number): boolean {
    return this.#holders[group]?.includes(daemon) ?? false;
  }

  /** Marks the domains of a group's members but for `except`. */
  #markDomains(members: readonly number[], except: number): void {
    this.#mark += 1;
    for (const daemon of members)
      if (daemon !== except) this.#marks[this.#daemon(daemon).domain] = this.#mark;
  }

  #isMarked(daemon: number): boolean {
    return this.#marks[this.#domains[daemon] ?? 0] === this.#mark;
  }

  #add(group: number, daemon: number): void {
    this.#membersOf(group).push(daemon);
    this.#groups[daemon]?.push(group);
    this.excess[daemon] = (this.excess[daemon] ?? 0) + COPY;
  }

  #remove(group: number, daemon: number): void {
    removeFrom(this.#membersOf(group), daemon);
    removeFrom(this.#groups[daemon] ?? [], group);
    this.excess[daemon] = (this.excess[daemon] ?? 0) - COPY;
  }

  #membersOf(group: number): number[] {
    const members = this.members[group];
    invariant(members !== undefined, 'a group is one of the pool');
    return members;
  }

  #daemon(daemon: number): BoardDaemon {
    const found = this.daemons[daemon];
    invariant(found !== undefined, 'a daemon is one of the board');
    return found;
  }
}

function removeFrom(list: number[], value: number): void {
  const at = list.indexOf(value);
  invariant(at >= 0, 'what is taken from a list is in it');
  list.splice(at, 1);
}
