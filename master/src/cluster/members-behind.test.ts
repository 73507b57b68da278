/** Since when members are not in sync follows from what the map was and is. */
import type { MapGroup } from '@store/core';
import t from 'tap';
import type { ClusterState } from './cluster-state.js';
import { nextGroup, withGroup } from './group-changes.js';
import { BEHIND_MAX, behindSince, noteBehind } from './members-behind.js';
import { GroupWorld } from './testing/group-world.js';

const POOL = 1;
const PLACE = { pool: POOL, group: 1 };

function two(): { world: GroupWorld; primary: number; copy: number } {
  const world = new GroupWorld();
  for (const id of [1, 2]) world.start(id);
  world.pool('p', { groups: 2, replicas: 2 });
  const [primary = 0, copy = 0] = world.group(POOL, 1).members.map(({ daemon }) => daemon);
  return { world, primary, copy };
}

/** The state with another in-sync set of the group, and what is noted of that. */
function changed(
  state: ClusterState,
  inSync: ReadonlyMap<number, string>,
  time: number,
  lost: 'nothing' | 'all' = 'nothing',
): ClusterState {
  const group = state.map.pools[0]?.groups[1] as MapGroup; // the pool has two
  const members = group.members.map(({ daemon }) => ({
    daemon,
    inSync: inSync.get(daemon) ?? null,
  }));
  return noteBehind(state, withGroup(state, PLACE, nextGroup(group, members, { lost })), time);
}

t.test('who leaves the set is noted until it is back', (t) => {
  const { world, primary, copy } = two();
  const start = (id: number): [number, string] => [id, world.view.startOf(id) ?? ''];
  const [both, one] = [new Map([start(primary), start(copy)]), new Map([start(primary)])];
  const left = changed(world.state, one, 100);
  t.same(left.behind, [{ ...PLACE, daemon: copy, since: 100 }]);
  t.equal(behindSince(left, { ...PLACE, daemon: copy }), 100);
  t.equal(behindSince(left, { ...PLACE, daemon: primary }), null);
  t.equal(behindSince(left, { ...PLACE, group: 0, daemon: copy }), null);
  const still = changed(left, one, 200);
  t.equal(behindSince(still, { ...PLACE, daemon: copy }), 100, 'the first time counts');
  t.same(changed(still, both, 300).behind, []);
  const none = { ...still, map: { ...still.map, pools: [] } };
  t.same(noteBehind(still, none, 300).behind, [], 'the pool was removed');
  t.equal(noteBehind(still, still, 300), still);
  t.end();
});

t.test('what is remembered has a limit, and the older stays', (t) => {
  const { world, primary, copy } = two();
  const known = Array.from({ length: BEHIND_MAX }, () => ({ ...PLACE, daemon: copy, since: 1 }));
  const [member] = world.group(POOL, 0).members;
  const other = member?.daemon ?? 0;
  const group = world.group(POOL, 1);
  const without = group.members.map(({ daemon }) => ({
    daemon,
    inSync: daemon === primary ? (world.view.startOf(daemon) ?? '') : null,
  }));
  const before = {
    ...withGroup(world.state, PLACE, nextGroup(group, without)),
    behind: known,
  };
  const zero = world.group(POOL, 0);
  const members = zero.members.map(({ daemon, inSync }) => ({
    daemon,
    inSync: daemon === other ? null : inSync,
  }));
  const next = withGroup(before, { pool: POOL, group: 0 }, nextGroup(zero, members));
  t.same(noteBehind(before, next, 9).behind, known);
  const fewer = known.slice(1);
  const noted = noteBehind({ ...before, behind: fewer }, { ...next, behind: fewer }, 9).behind;
  t.same(noted.at(-1), { pool: POOL, group: 0, daemon: other, since: 9 });
  t.end();
});

t.test('who joins a copy that an operator went on with lacks what that one lacks', (t) => {
  const { world, primary, copy } = two();
  const only = (id: number): Map<number, string> => new Map([[id, world.view.startOf(id) ?? '']]);
  const left = changed(world.state, only(primary), 100);
  const gone = changed(left, only(copy), 500, 'all');
  t.equal(behindSince(gone, { ...PLACE, daemon: primary }), 100, 'as old as the copy');
  const again = changed(gone, only(primary), 900, 'all');
  t.equal(behindSince(again, { ...PLACE, daemon: copy }), 100);
  const forgotten = changed({ ...left, behind: [] }, only(copy), 500, 'all');
  t.same(forgotten.behind, [], 'nobody knows how old that is');
  t.end();
});
