/** What the store says at once of image data that is not there, and what it must find all the same. */
import { BLOCKS_PER_OBJECT, DiskError, type ObjectRef } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data, type OpenedStory } from './crash/sim-story.js';

const PREFIX = `${'0f'.repeat(16)}_`;
const EVICTING = { limits: { cachedObjectsMax: 8 } };

function piece(index: number, family = 'family'): ObjectRef {
  return data(`${PREFIX}${index}`, `${family}_${index}`);
}

function absentRun({ pool }: OpenedStory, first: number, count: number): number | null {
  return pool.absentRun(PREFIX, first, count);
}

/** What is looked for takes the place of what was in memory. */
async function lookForOthers(world: SimStory, opened: OpenedStory): Promise<void> {
  for (let index = 1000; index < 1200; index += 1)
    await world.wait(() => opened.pool.stat(piece(index)));
}

await t.test('what only a killed process knew of is not absent', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  t.equal(absentRun(first, 0, 1000), 1000);
  await world.write(first, piece(40), 0, blocks('a')); // in `live` alone
  world.disk.kill();
  const opened = await world.openWith();
  t.equal(absentRun(opened, 0, 1000), 40);
  t.same(await world.read(opened, piece(40), 0), blocks('a'));
  await world.close(opened);
  const again = await world.openWith();
  t.equal(absentRun(again, 0, 1000), 40, 'in the metadata by now');
  t.equal(absentRun(again, 41, 1000), 1000);
  await world.close(again);
});

await t.test('an object whose record is damaged is not absent', async (t) => {
  const world = new SimStory(2);
  const first = await world.openWith();
  await world.write(first, piece(3), 0, blocks('a'));
  await world.close(first);
  world.changeHead(piece(3), false, (head) => head.writeUInt8((head[4] ?? 0) ^ 1, 4));
  const opened = await world.openWith();
  t.equal(absentRun(opened, 0, 100), 3);
  t.equal(await world.wait(() => codeOf(opened.user.read(piece(3), 0, 1))), 'E_CHECKSUM');
  await world.close(opened);
});

await t.test('objects that leave memory stay, and discarded ones become absent', async (t) => {
  const world = new SimStory(3);
  const opened = await world.openWith(EVICTING);
  const indexes = Array.from({ length: 100 }, (_, index) => index);
  for (const index of indexes) await world.write(opened, piece(index), 0, blocks('a'));
  await world.flush(opened);
  await world.pass(60_000); // they are closed and may leave
  await lookForOthers(world, opened);
  const inMemory = [...opened.store.parts.table.objects()].length;
  t.ok(inMemory < 50, `most have left, ${inMemory} are in memory`);
  for (const index of indexes) {
    t.same(await world.read(opened, piece(index), 0), blocks('a'));
    if (indexes.some((other) => absentRun(opened, other, 1) !== 0)) t.fail('one was lost');
  }
  for (const index of indexes) await world.zero(opened, piece(index), 0, BLOCKS_PER_OBJECT);
  await world.flush(opened);
  await world.pass(60_000);
  await lookForOthers(world, opened);
  const absent = indexes.filter((index) => absentRun(opened, index, 1) === 1);
  t.ok(absent.length > 80, `${absent.length} of 100 are known to be gone`);
  const [gone = -1] = absent;
  await world.write(opened, piece(gone), 5, blocks('b'));
  t.equal(absentRun(opened, gone, 1), 0);
  t.same(await world.read(opened, piece(gone), 5), blocks('b'));
  await world.close(opened);
});

await t.test('a key with two locators is absent only when both objects are', async (t) => {
  const world = new SimStory(4);
  const opened = await world.openWith(EVICTING);
  await world.write(opened, piece(1, 'one'), 0, blocks('1'));
  await world.write(opened, piece(1, 'two'), 0, blocks('2'));
  await world.wait(() => opened.pool.delete(piece(1, 'two')));
  await lookForOthers(world, opened);
  t.equal(absentRun(opened, 1, 1), 0);
  t.same(await world.read(opened, piece(1, 'one'), 0), blocks('1'));
  await world.close(opened);
  const again = await world.openWith(EVICTING);
  t.equal(absentRun(again, 1, 1), 0);
  await world.close(again);
});

await t.test(
  'a pool whose disk failed sends the question to the objects, which refuse',
  async (t) => {
    const world = new SimStory(5);
    let fails = false;
    const opened = await world.openWith({
      dataFile: (file) => {
        const sync = file.sync.bind(file);
        return {
          sync: (done) => {
            if (fails) done(new DiskError('EIO', 'sync failed'));
            else sync(done);
          },
        };
      },
    });
    fails = true;
    await world.write(opened, piece(1), 0, blocks('a'));
    t.equal(await world.wait(() => codeOf(opened.user.flush())), 'E_DISK_FAILED');
    t.equal(absentRun(opened, 500, 1), null);
    t.equal(await world.wait(() => codeOf(opened.user.extents(piece(500), 0, 1))), 'E_DISK_FAILED');
    await world.close(opened);
  },
);
