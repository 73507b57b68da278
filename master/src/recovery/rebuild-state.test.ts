/** Groups of several members, made anew from what daemons have kept. */
import { realEnv, silentLog, type StorageMap } from '@store/core';
import t from 'tap';
import { inSyncOf } from '../cluster/group-changes.js';
import { GroupWorld } from '../cluster/testing/group-world.js';
import { rebuildState } from './rebuild-state.js';

const { random } = realEnv(silentLog);

/** What a daemon that has the map keeps. */
function keptBy(map: StorageMap, daemon: number): Parameters<typeof rebuildState>[0]['kept'][0] {
  const diskId = map.daemons.find(({ id }) => id === daemon)?.diskId ?? '';
  return { diskId, capacityBytes: 2 ** 40, map, secrets: [] };
}

function world(): GroupWorld {
  const world = new GroupWorld();
  for (const id of [1, 2, 3]) world.start(id);
  world.pool('p', { groups: 4 });
  return world;
}

function remove(world: GroupWorld, group: number, member: number): void {
  const { epoch, members } = world.group(1, group);
  const [primary] = members;
  world.request(
    {
      ...{ kind: 'remove', pool: 1, group, epoch, member },
      memberStart: world.view.startOf(member) ?? '',
    },
    primary?.daemon ?? 0,
    primary?.inSync ?? '',
  );
  world.state = {
    ...world.state,
    map: { ...world.state.map, version: world.state.map.version + 1 },
  };
}

t.test('the highest epoch of each group wins, with its set and its primary', (t) => {
  const model = world();
  const oldest = model.state.map;
  const other = model.group(1, 0).members[1]?.daemon ?? 0;
  remove(model, 0, other);
  const middle = model.state.map;
  remove(model, 1, model.group(1, 1).members[1]?.daemon ?? 0);
  const newest = model.state.map;
  const kept = [keptBy(oldest, other), keptBy(newest, 2), keptBy(middle, 3)];
  const { map } = rebuildState({ old: null, kept, now: 1, random });
  t.same(map.pools, newest.pools);
  const removed = map.pools[0]?.groups[0]?.members.find(({ daemon }) => daemon === other);
  t.match(removed, { inSync: null }, 'who was removed is out, though its own map says otherwise');
  t.end();
});

t.test(
  'nobody from outside a set is promoted after a recovery, and a loss that nobody knows of is assumed',
  (t) => {
    const model = world();
    const [first, second, third] = model.group(1, 0).members.map(({ daemon }) => daemon);
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('three');
    remove(model, 0, second);
    remove(model, 0, third);
    for (const id of [1, 2, 3]) model.stop(id);
    model.start(second);
    model.start(third);
    // `first` came, was noted with a loss, and left; the state with that is lost.
    const before = model.state.map;
    const startId = 'e'.repeat(32);
    const daemons = before.daemons.map((one) => (one.id === first ? { ...one, startId } : one));
    const kept = [keptBy({ ...before, daemons }, second)];
    model.state = rebuildState({ old: null, kept, now: 1, random });
    model.electAnother();
    model.tend(3_600_000);
    t.equal(
      model.group(1, 0).members[0]?.daemon,
      first,
      'the set stays, though nobody of it is there',
    );
    t.ok(model.state.daemons.get(first)?.lostSince.length, 'of a start that is over');
    model.start(first);
    t.ok(model.group(1, 0).lostAt > 0);
    t.equal(inSyncOf(model.group(1, 0)).length, 1);
    t.end();
  },
);
