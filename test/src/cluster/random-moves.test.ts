// Random work on a pool while its groups move, daemons fall behind, restart at other addresses, and masters go away.
import { MapView, OBJECT_KIND, ObjectRef, WRITE_FLAGS } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { POOL, TestCluster } from './test-cluster.js';

t.setTimeout(300_000);

const GROUPS = 16;
const OBJECTS = 24;
const BLOCKS = 4;
const BLOCK_BYTES = 4096;
const STEPS = 1500;

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/cluster/random-moves.test.js`);

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What happens to the cluster meanwhile. */
class Trouble {
  readonly #cluster: TestCluster;
  readonly #random: SeededRandom;
  restarts = 0;
  moves = 0;

  constructor(cluster: TestCluster, random: SeededRandom) {
    this.#cluster = cluster;
    this.#random = random;
  }

  async next(): Promise<void> {
    const random = this.#random;
    const daemon = this.#cluster.daemon(random.between(1, 4));
    const kind = random.below(10);
    if (kind < 6) {
      // Some hear of it late: the daemon that loses a group may serve it no more by then.
      const before = new MapView(this.#cluster.map);
      const group = random.below(GROUPS);
      const target = random.between(0, 4);
      if (target > 0) this.#cluster.daemon(target).view = before;
      this.#cluster.move(new Map([[group, target]]));
      await pause(random.below(30));
      if (target > 0) this.#cluster.daemon(target).view = null;
      else this.#cluster.move(new Map([[group, random.between(1, 4)]]));
      this.moves += 1;
    } else if (kind < 8) {
      this.#cluster.guide.isCutOff = true;
      await pause(random.below(40));
      this.#cluster.guide.isCutOff = false;
    } else {
      await daemon.stop();
      await pause(random.below(30));
      daemon.start += 1;
      await daemon.run();
      this.#cluster.change();
      this.restarts += 1;
    }
  }
}

t.test('each read sees what was written before it, whatever happens to the daemons', async (t) => {
  const random = new SeededRandom(seed);
  const cluster = await TestCluster.start({ groups: GROUPS });
  t.teardown(() => cluster.close());
  const pool = await cluster.open({ deadlineMs: 30_000 }).openPool(POOL, { create: false });
  const users = [pool, pool.forUser(), pool.forUser()].map((one) => new PoolUser(one));
  const refs = Array.from(
    { length: OBJECTS },
    (_, index) => new ObjectRef(OBJECT_KIND.imageData, `layer_${index}`, `family_${index}`),
  );
  const model = refs.map(() => Buffer.alloc(BLOCKS * BLOCK_BYTES));
  const underWay = new Set<Promise<void>>();
  const wrong: string[] = [];
  let step = 0;

  const begin = (): Promise<void> => {
    const object = random.below(OBJECTS);
    const [ref, bytes, user] = [refs[object], model[object], random.pick(users)];
    if (ref === undefined || bytes === undefined) throw new Error('there are as many');
    const offset = random.below(BLOCKS) * BLOCK_BYTES;
    const end = random.between(offset / BLOCK_BYTES + 1, BLOCKS) * BLOCK_BYTES;
    const kind = random.below(20);
    if (kind < 8) {
      const written = Buffer.alloc(end - offset);
      for (let at = 0; at < written.length; at += 4) written.writeUInt32LE(step, at);
      written.copy(bytes, offset);
      return user.write(ref, offset, written, random.pick([WRITE_FLAGS.none, WRITE_FLAGS.durable]));
    }
    if (kind < 10) {
      bytes.fill(0, offset, end);
      return user.zero(ref, offset, end - offset);
    }
    if (kind === 10) return user.flush();
    const expected = Buffer.from(bytes.subarray(offset, end));
    const here = `step ${step}, object ${object}, bytes ${offset} to ${end}`;
    return user.read(ref, offset, end - offset).then((seen) => {
      if (seen.equals(expected)) return;
      const [is, was] = [seen.readUInt32LE(0), expected.readUInt32LE(0)];
      wrong.push(`${here}: begins with step ${is} instead of ${was}`);
    });
  };

  const trouble = new Trouble(cluster, random);
  let isOver = false;
  const troubled = (async () => {
    while (!isOver) await trouble.next();
  })();
  for (; step < STEPS; step += 1) {
    const work = begin();
    underWay.add(work);
    void work.finally(() => underWay.delete(work)).catch(() => undefined);
    if (underWay.size >= 16) await Promise.race(underWay);
    if (random.chance(5)) await pause(random.below(10));
  }
  isOver = true;
  await troubled;
  await Promise.all(underWay);
  t.strictSame(wrong, []);
  const [user] = users;
  for (const [object, ref] of refs.entries()) {
    const seen = await user?.read(ref, 0, BLOCKS * BLOCK_BYTES);
    if (seen === undefined || model[object]?.equals(seen) !== true)
      t.fail(`object ${object} is another`);
  }
  t.ok(
    trouble.moves > 10 && trouble.restarts > 1,
    `${trouble.moves} moves, ${trouble.restarts} restarts`,
  );
});
