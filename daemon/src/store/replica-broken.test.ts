/** The record of an object rots on one copy: what it holds is unknown there, until another copy says what it is. */
import { OBJECT_KIND, ObjectRef, pieceChecksOf, promised, promisedWith } from '@store/core';
import { PoolUser, codeOf } from '@store/core/testing';
import t from 'tap';
import type { Change } from '../replication/change.js';
import {
  RecordingTap,
  bringUp,
  digestOf,
  inventoryOf,
} from '../replication/replica-pool-player.js';
import type { ReplicaPool } from '../replication/replica-pool.js';
import { SimStory, blocks, data, type OpenedStory } from './crash/sim-story.js';

const PIECE = data('layer_0');
const NOTE = new ObjectRef(OBJECT_KIND.plain, 'note');

/** A copy whose records of these objects are damaged. */
async function brokenCopy(world: SimStory, objects: readonly ObjectRef[]): Promise<ReplicaPool> {
  const first = await world.openWith();
  await world.write(first, PIECE, 0, blocks('old', 4));
  await world.wait(() => first.user.write(NOTE, 0, Buffer.from('old')));
  await world.close(first);
  for (const object of objects)
    world.changeHead(object, false, (head) => head.writeUInt32BE(0xffffffff, 100));
  const { store } = await world.openWith();
  return store.openPool('pool', { create: false });
}

/** Runs what needs both of them. */
function together(world: SimStory, other: SimStory): <T>(work: () => Promise<T>) => Promise<T> {
  return async (work) => {
    let isDone = false;
    const result = work().finally(() => {
      isDone = true;
    });
    const done = (): boolean => isDone;
    while (!done()) {
      world.scheduler.step();
      other.scheduler.step();
      await new Promise(setImmediate);
    }
    return result;
  };
}

function write(): Change {
  const bytes = blocks('new');
  const checks = pieceChecksOf(0, [bytes]);
  return {
    op: 'write',
    object: PIECE,
    version: 9,
    first: 0,
    blocks: [bytes],
    checks,
    length: 4096,
  };
}

await t.test('it is taken stock of, refuses writes, and is replaced as a whole', async (t) => {
  const world = new SimStory(1);
  const pool = await brokenCopy(world, [PIECE, NOTE]);
  t.match(await world.wait(() => inventoryOf(pool)), [{ isBroken: true }, { isBroken: true }]);
  const apply = (change: Change): Promise<string | null> =>
    world.wait(() => codeOf(promised((done) => pool.apply(change, done))));
  t.equal(await apply(write()), 'E_CHECKSUM');
  t.equal(
    await world.wait(() => codeOf(promisedWith((done) => pool.verify(PIECE, done)))),
    'E_CHECKSUM',
  );
  t.equal(await world.wait(() => digestOf(pool, PIECE)), null, 'there is nothing to go by');
  const gone = apply({ op: 'delete', object: PIECE, version: 9 });
  const written = apply(write()); // called before that is answered
  t.same([await gone, await written], [null, null]);
  const content = Buffer.from('new');
  t.equal(await apply({ op: 'whole', object: NOTE, version: 10, content }), null);
  t.match(
    (await world.wait(() => inventoryOf(pool))).map(({ version }) => version).toSorted(),
    [10, 9],
  );
  world.disk.powerCut();
  const again = await world.openWith();
  t.equal((await world.wait(() => again.user.read(NOTE, 0, 3))).toString(), 'new');
  t.equal(await world.wait(() => again.pool.stat(PIECE)), null, 'its delete was durable');
});

await t.test('a difference makes it good, and it can be erased', async (t) => {
  const [world, other] = [new SimStory(1), new SimStory(2)];
  const pool = await brokenCopy(world, [PIECE, NOTE]);
  const source = (await other.openWith()).pool as unknown as ReplicaPool; // it is one of the engine's
  source.announceTo(new RecordingTap());
  const user = new PoolUser(source);
  const both = together(world, other);
  await both(() => user.write(PIECE, 0, blocks('good', 3)));
  await both(() => user.write(NOTE, 0, Buffer.from('good')));
  for (const object of [PIECE, NOTE]) {
    await both(() => bringUp(source, pool, object));
    t.same(await both(() => digestOf(pool, object)), await both(() => digestOf(source, object)));
  }
  const third = new SimStory(3);
  const broken = await brokenCopy(third, [PIECE]);
  await third.wait(() => promised((done) => broken.erase(PIECE, done)));
  t.match(await third.wait(() => inventoryOf(broken)), [{ object: { place: NOTE.place } }]);
});

await t.test('a broken record of ours never removes what others have', async (t) => {
  const world = new SimStory(1);
  const pool = await brokenCopy(world, [PIECE]);
  const theirs = { version: 3, length: 1, isInline: false, states: new Uint8Array(), unknown: [] };
  const emitted: Change[] = [];
  const difference = promisedWith((done) =>
    pool.difference(
      PIECE,
      { ...theirs, checks: new Uint32Array(), prints: new Uint32Array() },
      (change) => emitted.push(change),
      done,
    ),
  );
  t.equal(await world.wait(() => codeOf(difference)), 'E_CHECKSUM');
  const presented = promised((done) =>
    pool.present(PIECE, 0, 3, (change) => emitted.push(change), done),
  );
  t.equal(await world.wait(() => codeOf(presented)), 'E_CHECKSUM');
  t.same(emitted, []);
});

await t.test('content that is good nowhere is lost on the other copy as well', async (t) => {
  const [world, other] = [new SimStory(1), new SimStory(2)];
  const first = await world.openWith();
  await world.wait(() => first.user.write(NOTE, 0, Buffer.alloc(5000, 'old')));
  await world.close(first);
  world.changeContents((content) => content.writeUInt8(content.readUInt8(9) ^ 1, 9));
  const opened = await world.openWith();
  const source = opened.pool as unknown as ReplicaPool; // it is one of the engine's
  source.announceTo(new RecordingTap());
  t.equal(await world.wait(() => codeOf(opened.user.read(NOTE, 0, 4))), 'E_CHECKSUM');
  const copy = await other.openWith();
  const target = copy.pool as unknown as ReplicaPool;
  const both = together(world, other);
  t.same(await both(() => bringUp(source, target, NOTE)), [], 'nothing is made up');
  const older: Change = { op: 'whole', object: NOTE, version: 1, content: Buffer.from('older') };
  await both(() => promised((done) => target.apply(older, done)));
  const changes = await both(() => bringUp(source, target, NOTE, { marksLost: true }));
  t.same(
    changes.map(({ op }) => op),
    ['delete', 'write', 'write', 'states'],
  );
  await other.flush(copy);
  const isLost = async ({ user, pool }: OpenedStory): Promise<void> => {
    t.match(await other.wait(() => pool.stat(NOTE)), { length: 5000 });
    for (const at of [0, 4096])
      t.equal(await other.wait(() => codeOf(user.read(NOTE, at, 4))), 'E_CHECKSUM', 'not zeros');
  };
  await isLost(copy);
  await other.close(copy);
  await isLost(await other.openWith());
});
