// Lists of what lies on several daemons.
import { MapView, OBJECT_KIND, ObjectRef, type ListOptions, type ObjectPool } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { POOL, TestCluster } from './test-cluster.js';

const COUNT = 100;
const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/cluster/cluster-list.test.js`);

async function listAll(
  pool: ObjectPool,
  options: ListOptions,
  between: (cursor: Buffer | undefined) => void = () => undefined,
): Promise<string[]> {
  const keys: string[] = [];
  let cursor: Buffer | undefined;
  do {
    const page = await pool.list(cursor === undefined ? options : { ...options, cursor });
    keys.push(...page.entries.map(({ key }) => key.toString()));
    cursor = page.cursor;
    if (cursor !== undefined && cursor.length > 1024) throw new Error('a cursor is too long');
    between(cursor);
  } while (cursor !== undefined);
  return keys;
}

async function filled(pool: ObjectPool): Promise<string[]> {
  const user = new PoolUser(pool);
  const names = Array.from({ length: COUNT }, (_, index) => `object ${index}`);
  for (const name of names)
    await user.write(new ObjectRef(OBJECT_KIND.plain, name), 0, Buffer.from(name));
  return names.sort();
}

for (const isShared of [false, true])
  for (const limit of [1, 3, 7, 1000])
    t.test(
      `pages of ${limit} show everything once, data are ${isShared ? 'filtered' : 'apart'}`,
      async (t) => {
        const cluster = await TestCluster.start({ isShared });
        t.teardown(() => cluster.close());
        const pool = await cluster.open().openPool(POOL, { create: false });
        const names = await filled(pool);
        t.strictSame((await listAll(pool, { limit })).sort(), names);
        const prefix = Buffer.from('object 3');
        const some = names.filter((name) => name.startsWith('object 3'));
        t.strictSame((await listAll(pool, { limit, prefix })).sort(), some);
        t.strictSame(await listAll(pool, { limit, kind: OBJECT_KIND.imageHeader }), []);
      },
    );

t.test('nothing is missing when groups move while they are listed', async (t) => {
  const random = new SeededRandom(seed);
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  const names = await filled(pool);
  for (let round = 0; round < 10; round += 1) {
    let moves = 20;
    const seen = await listAll(pool, { limit: 5 }, () => {
      moves -= 1;
      if (moves > 0) cluster.move(new Map([[random.below(64), random.between(1, 4)]]));
    });
    t.strictSame([...new Set(seen)].sort(), names);
  }
});

/** Whether a part of a group of 64 was shown by the pages before this cursor: the second set in it, after daemon and first. */
function isBegun(cursor: Buffer | undefined, group: number): boolean {
  const bits = cursor?.subarray(12, 20) ?? Buffer.alloc(8);
  return (((bits[group >> 3] ?? 0) >> (group & 7)) & 1) === 1;
}

t.test('a group that moves between pages is shown once, listed before or not', async (t) => {
  const random = new SeededRandom(seed);
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  const names = await filled(pool);
  let moves = 0;
  for (let round = 0; round < 20; round += 1) {
    const seen = await listAll(pool, { limit: 10 }, (cursor) => {
      const group = random.below(64);
      // Of what is shown in part nobody knows where another daemon would go on.
      if (isBegun(cursor, group)) return;
      cluster.move(new Map([[group, random.between(1, 4)]]));
      moves += 1;
    });
    t.strictSame(seen.sort(), names);
  }
  t.ok(moves > 20, `${moves} moves`);
});

t.test('a list by an old map leaves nothing out', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  const names = await filled(pool);
  // Daemon 2 has not heard that group 0 is its own; daemon 1 has.
  const second = cluster.daemon(2);
  second.view = new MapView(cluster.map);
  cluster.move(new Map([[0, 2]]));
  await new Promise(setImmediate);
  const listing = listAll(pool, {});
  await new Promise((resolve) => setTimeout(resolve, 100));
  second.view = null;
  t.strictSame((await listing).sort(), names);
  // Nor has the client heard that it moves away and back between two pages.
  const seen = await listAll(pool, { limit: 7 }, () => {
    cluster.guide.isCutOff = true;
    cluster.move(new Map([[1, 3]]));
    cluster.move(new Map([[1, 2]]));
    cluster.guide.isCutOff = false;
  });
  t.strictSame(seen.sort(), names);
});

t.test('a group that moves while its daemon is asked for a page is shown once', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  const names = await filled(pool);
  const third = cluster.daemon(3).mapped;
  third.isHolding = true;
  const listing = listAll(pool, {});
  while (third.waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  cluster.move(new Map([[2, 1]]));
  third.release();
  t.strictSame((await listing).sort(), names);
});

t.test('a list waits for a daemon, and for a group that nobody serves', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const pool = await cluster.open({ deadlineMs: 3000 }).openPool(POOL, { create: false });
  const names = await filled(pool);
  const third = cluster.daemon(3);
  await third.stop();
  const late = listAll(pool, {});
  await new Promise((resolve) => setTimeout(resolve, 50));
  const groups = Array.from({ length: 64 }, (_, group) => group);
  const ofThird = groups.filter((group) => group % 4 === 2);
  cluster.move(new Map(ofThird.map((group) => [group, 1])));
  t.strictSame([...new Set(await late)].sort(), names, 'others have its groups');
  cluster.move(new Map([[9, 0]]));
  await new Promise(setImmediate);
  const waits = listAll(pool, {});
  await new Promise((resolve) => setTimeout(resolve, 50));
  cluster.move(new Map([[9, 4]]));
  t.strictSame([...new Set(await waits)].sort(), names);
  cluster.move(new Map([[9, 0]]));
  await new Promise(setImmediate);
  t.equal(await codeOf(listAll(pool, {})), 'E_TIMEOUT', 'never half a list');
});

t.test('a cursor that is none of ours is refused', async (t) => {
  const cluster = await TestCluster.start();
  t.teardown(() => cluster.close());
  const pool = await cluster.open().openPool(POOL, { create: false });
  t.equal(await codeOf(pool.list({ cursor: Buffer.from('abc') })), 'E_INVALID');
});
