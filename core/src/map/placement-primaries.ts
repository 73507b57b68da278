/**
 * Which member of each group is the first: the one preferred as primary. Every daemon is to be the first of one in so
 * many of its groups as they have members. To change it moves no data, so it is computed afresh each time.
 */
import { invariant } from '../util/invariant.js';
import type { Board } from './placement-board.js';
import { level } from './placement-level.js';
import { COPY } from './placement-shares.js';
import type { Steps } from './placement-steps.js';

/**
 * @param surplus - What each daemon of the board has beyond its share in other pools, in units of COPY.
 * @returns for each group the members of the board, the first one first, the others by their scores
 */
export function* orderMembers(board: Board, surplus: Float64Array): Steps<number[][]> {
  const ordered: number[][] = [];
  for (const [group, members] of board.members.entries()) {
    ordered.push(byScore(board, group, members));
    yield;
  }
  const excess = surplus.map((units) => Math.max(-COPY, Math.min(COPY, units)));
  const led: number[][] = board.daemons.map(() => []);
  const add = (daemon: number, units: number): void => {
    excess[daemon] = (excess[daemon] ?? 0) + units;
  };
  ordered.forEach((members, group) => {
    for (const daemon of members) add(daemon, -COPY / members.length);
    const [first] = members;
    if (first === undefined) return;
    add(first, COPY);
    led[first]?.push(group);
  });
  yield* level({
    excess,
    tolerance: new Float64Array(excess.length),
    // Who leads a group of `from` changes only with a move from `from`: hops of a path do not hinder each other.
    reach: (from, visit) => {
      for (const group of led[from] ?? [])
        for (const to of ordered[group] ?? []) if (to !== from && !visit(to)) return;
    },
    move: (from, to) => {
      const groups = led[from] ?? [];
      const at = bestAt(board, groups, ordered, to);
      const [group = -1] = groups.splice(at, 1);
      const members = ordered[group] ?? [];
      ordered[group] = [to, ...members.filter((daemon) => daemon !== to)];
      led[to]?.push(group);
      add(from, -COPY);
      add(to, COPY);
    },
  });
  for (const [group, [first, ...others]] of ordered.entries()) {
    if (first !== undefined) ordered[group] = [first, ...byScore(board, group, others)];
    yield;
  }
  return ordered;
}

/** Where in `groups` the one stands that has `daemon` and wants it most. */
function bestAt(
  board: Board,
  groups: readonly number[],
  ordered: readonly (readonly number[])[],
  daemon: number,
): number {
  let [best, bestScore] = [-1, Infinity];
  for (const [at, group] of groups.entries()) {
    if (ordered[group]?.includes(daemon) !== true) continue;
    const score = board.score(group, daemon);
    if (score < bestScore) [best, bestScore] = [at, score];
  }
  invariant(best >= 0, 'a path leads along groups');
  return best;
}

function byScore(board: Board, group: number, members: readonly number[]): number[] {
  return members
    .map((daemon) => ({ daemon, score: board.score(group, daemon) }))
    .sort((a, b) => a.score - b.score || a.daemon - b.daemon)
    .map(({ daemon }) => daemon);
}
