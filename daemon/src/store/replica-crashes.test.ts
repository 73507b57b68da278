/**
 * A copy that makes the changes of another one dies at any moment. What it has answered is there after a kill, and after
 * a power cut what was flushed; and whenever it says that an object is closed and has a version that the other one has
 * too, both hold the same.
 */
import { pieceChecksOf, promised } from '@store/core';
import { SimRandom } from '@store/core/sim';
import { PoolUser, codeOf } from '@store/core/testing';
import t, { type Test } from 'tap';
import type { Change } from '../replication/change.js';
import type { ObjectDigest, ReplicaPool } from '../replication/replica-pool.js';
import {
  Follower,
  IMAGE,
  NOTES,
  OBJECTS,
  RecordingTap,
  bringUp,
  digestOf,
  inventoryOf,
  playRandomly,
} from '../replication/replica-pool-player.js';
import { SimReplicas, type SimReplica } from './crash/sim-replicas.js';
import { SimStory, type OpenChanges } from './crash/sim-story.js';
import { REPLICATED_PREFIX } from './file-store.js';

const SEEDS = Number(process.env['STORE_TEST_SEEDS'] ?? 8);

/** Without what a crash may forget, because it is compared anyway. */
function contentOf(digest: ObjectDigest | null): Partial<ObjectDigest> | null {
  return digest === null ? null : { ...digest, version: 0, length: 0 };
}

async function crash(world: SimReplicas, copy: SimReplica, end: string): Promise<SimReplica> {
  if (end === 'close') await world.wait(() => copy.store.close());
  else if (end === 'kill') copy.world.disk.kill();
  else copy.world.disk.powerCut();
  return world.open(1);
}

for (let seed = 1; seed <= SEEDS; seed += 1)
  await t.test(`equal versions of closed copies are equal bytes (seed ${seed})`, async (t) => {
    const world = new SimReplicas(seed);
    const random = new SimRandom(seed, 1);
    const ours = await world.open(0);
    let theirs = await world.open(1);
    const tap = new RecordingTap();
    ours.pool.announceTo(tap);
    let equal = 0;
    for (let round = 0; round < 6; round += 1) {
      const follower = new Follower(theirs.pool);
      tap.onChange = follower.follow;
      let isPlaying = true;
      const playing = playRandomly(ours.pool, random, 60).finally(() => {
        isPlaying = false;
      });
      const goesOn = (): boolean => isPlaying;
      const isInFlight = random.chance(0.6);
      for (let steps = random.below(120); steps > 0; steps -= 1) await world.step();
      if (!isInFlight) {
        while (goesOn()) await world.step();
        await world.wait(() => follower.settled());
      }
      // Flushes on its own account, at any time.
      if (random.chance(0.7)) theirs.pool.flush(() => undefined);
      for (let steps = random.below(40); steps > 0; steps -= 1) await world.step();
      tap.onChange = () => undefined; // what comes now it misses
      if (isInFlight) theirs = await crash(world, theirs, random.pick(['kill', 'powerCut']));
      else theirs = await crash(world, theirs, random.pick(['kill', 'powerCut', 'close']));
      await world.wait(() => playing);
      for (let steps = random.below(200); steps > 0; steps -= 1) await world.step();
      equal += await compareClosed(t, world, ours.pool, theirs.pool);
      for (const object of OBJECTS) await world.wait(() => bringUp(ours.pool, theirs.pool, object));
      for (const object of OBJECTS)
        t.same(
          await world.wait(() => digestOf(theirs.pool, object)),
          await world.wait(() => digestOf(ours.pool, object)),
          `${object.id} is brought up`,
        );
    }
    t.comment(`${equal} times the versions told that nothing had to be compared`);
  });

/** @returns how many objects are the same by their versions alone */
async function compareClosed(
  t: Test,
  world: SimReplicas,
  ours: ReplicaPool,
  theirs: ReplicaPool,
): Promise<number> {
  const known = await world.wait(() => inventoryOf(theirs));
  let equal = 0;
  for (const entry of await world.wait(() => inventoryOf(ours))) {
    const same = known.find(({ object }) => object.place === entry.object.place);
    const isSame = same?.isClosed === true && entry.isClosed && same.version === entry.version;
    if (!isSame) continue;
    equal += 1;
    const digest = await world.wait(() => digestOf(ours, entry.object));
    t.same(
      await world.wait(() => digestOf(theirs, entry.object)),
      digest,
      entry.object.key.toString(),
    );
  }
  return equal;
}

for (let seed = 1; seed <= SEEDS; seed += 1)
  await t.test(
    `what was answered survives a kill, what was flushed a power cut (seed ${seed})`,
    async (t) => {
      const world = new SimReplicas(seed);
      const random = new SimRandom(seed, 2);
      const ours = await world.open(0);
      let theirs = await world.open(1);
      const tap = new RecordingTap();
      ours.pool.announceTo(tap);
      for (let round = 0; round < 6; round += 1) {
        const follower = new Follower(theirs.pool);
        tap.onChange = follower.follow;
        await world.wait(() => playRandomly(ours.pool, random, 40));
        await world.wait(() => follower.settled());
        const end = random.pick(['kill', 'powerCut']);
        if (end === 'powerCut') await world.wait(() => promised((done) => theirs.pool.flush(done)));
        theirs = await crash(world, theirs, end);
        for (const object of OBJECTS)
          t.same(
            contentOf(await world.wait(() => digestOf(theirs.pool, object))),
            contentOf(await world.wait(() => digestOf(ours.pool, object))),
            `${object.id} after ${end}`,
          );
      }
    },
  );

for (const end of ['kill', 'powerCut', 'close'])
  await t.test(`a version that was told is not told of other bytes after a ${end}`, async (t) => {
    const [[piece], [note]] = [IMAGE, NOTES];
    if (piece === undefined || note === undefined) throw new Error('There are some');
    const world = new SimReplicas(1);
    const first = await world.open(1);
    first.pool.announceTo(new RecordingTap(1));
    const user = new PoolUser(first.pool);
    await world.wait(() => user.write(piece, 0, Buffer.alloc(4096, 'old')));
    await world.wait(() => user.write(note, 0, Buffer.alloc(100_000, 'old')));
    await world.wait(() => user.flush());
    const statOf = async (pool: ReplicaPool): Promise<(number | undefined)[]> => [
      (await world.wait(() => pool.stat(piece)))?.version,
      (await world.wait(() => pool.stat(note)))?.version,
    ];
    const before = await statOf(first.pool);
    const second = await crash(world, first, end);
    const tap = new RecordingTap(2);
    second.pool.announceTo(tap);
    const listed = await world.wait(() => second.pool.list({}));
    const after = await statOf(second.pool);
    t.same(
      listed.entries.map(({ stat }) => stat.version).toSorted(),
      after.toSorted(),
      'the list tells the same',
    );
    if (end === 'close') {
      t.same(after, before, 'nothing was open');
      t.same(tap.changes, []);
      return;
    }
    for (const version of after) t.ok((version ?? 0) > 2 ** 33, 'given out by the new tap');
    t.match(tap.changes, [
      { op: 'states', count: 0 },
      { op: 'states', count: 0 },
    ]);
    t.same(await statOf(second.pool), after, 'once');
    const swapped = second.pool.compareAndSwap(note, before[1] ?? 0, Buffer.from('x'));
    t.equal(await world.wait(() => codeOf(swapped)), 'E_VERSION');
    t.equal(await world.wait(() => second.pool.delete(piece, before[0])), false);
    t.equal(await world.wait(() => second.pool.delete(piece, after[0])), true);
  });

await t.test('what was open at a crash is compared, also after it was closed', async (t) => {
  const [piece] = IMAGE;
  if (piece === undefined) throw new Error('There are some');
  const world = new SimReplicas(1);
  const first = await world.open(1);
  first.pool.announceTo(new RecordingTap(1));
  await world.wait(() => new PoolUser(first.pool).write(piece, 0, Buffer.alloc(4096, 'x')));
  await world.wait(() => new PoolUser(first.pool).flush());
  let copy = await crash(world, first, 'kill');
  for (let round = 0; round < 3; round += 1) {
    const { world: own } = copy;
    await own.pass(60_000); // it is closed long ago
    t.match(await world.wait(() => inventoryOf(copy.pool)), [{ isClosed: false }]);
    copy = await crash(world, copy, 'close');
  }
  const change = { op: 'states', object: piece, version: 7, first: 0, count: 0, state: 0 } as const;
  const ended = { ...change, length: 4096 };
  await world.wait(() => promised((done) => copy.pool.apply(ended, done)));
  await copy.world.pass(60_000);
  t.match(await world.wait(() => inventoryOf(copy.pool)), [{ isClosed: true, version: 7 }]);
  copy = await crash(world, copy, 'close');
  t.match(await world.wait(() => inventoryOf(copy.pool)), [{ isClosed: true, version: 7 }]);
});

await t.test('a version does not stand for an earlier change that was not made yet', async (t) => {
  const [piece] = IMAGE;
  if (piece === undefined) throw new Error('There are some');
  const world = new SimStory(1);
  const name = `${REPLICATED_PREFIX}pool`;
  const open = async (changes: OpenChanges = {}): Promise<SimReplica> => {
    const { store } = await world.openWith(changes);
    return { world, store, pool: await world.wait(() => store.openPool(name, { create: true })) };
  };
  const write = (version: number, first: number): Change => {
    const bytes = Buffer.alloc(4096, `${version}`);
    const checks = pieceChecksOf(0, [bytes]);
    return {
      op: 'write',
      object: piece,
      version,
      first,
      blocks: [bytes],
      checks,
      length: 4_194_304,
    };
  };
  const apply = ({ pool }: SimReplica, change: Change): Promise<void> =>
    promised((done) => pool.apply(change, done));
  const first = await open();
  await world.wait(() => apply(first, write(9, 0)));
  await world.wait(() => first.store.close());
  // From now on no byte arrives.
  const stuck = { tryWrite: (): boolean => false, write: (): void => undefined };
  const second = await open({ dataFile: () => stuck });
  void apply(second, write(10, 500));
  const states = { op: 'states', object: piece, first: 0, count: 1, state: 2 } as const;
  await world.wait(() => apply(second, { ...states, version: 11, length: 4_194_304 }));
  await world.wait(() => promised((done) => second.pool.flush(done)));
  world.disk.powerCut();
  const third = await open();
  t.match(await world.wait(() => inventoryOf(third.pool)), [{ version: 11, isClosed: false }]);
});
