/**
 * A plain object that is too large for the metadata store is replaced: whatever goes wrong, it is the old one or the new
 * one, and no space is lost.
 */
import { DiskError, type DataFile } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, objectOf, plain, type OpenedStory } from './crash/sim-story.js';

const DOCUMENT = plain('document');
const BLOCKS = 40;

function swap(world: SimStory, { pool }: OpenedStory, version: number, text: string) {
  return world.wait(() => pool.compareAndSwap(DOCUMENT, version, blocks(text, BLOCKS)));
}

async function isAll(world: SimStory, opened: OpenedStory, text: string): Promise<boolean> {
  for (const at of [0, 1, BLOCKS - 1])
    if (!(await world.read(opened, DOCUMENT, at)).equals(blocks(text))) return false;
  return (await world.wait(() => opened.pool.stat(DOCUMENT)))?.length === BLOCKS * 4096;
}

t.test('a power cut after the answer leaves the new object, without a flush', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  const old = await swap(world, first, 0, 'old');
  const { slot } = objectOf(first, DOCUMENT);
  await swap(world, first, old, 'new');
  t.not(objectOf(first, DOCUMENT).slot, slot, 'in a slot of its own');
  await world.pass(10);
  t.notOk(first.store.engine.slots.isTaken(slot), 'and the old one is free');
  world.disk.powerCut();
  const second = await world.openWith();
  t.ok(await isAll(world, second, 'new'));
  t.notOk(second.store.engine.slots.isTaken(slot));
});

t.test('a crash at any moment leaves the old object or the new one', async (t) => {
  let [olds, news] = [0, 0];
  for (let steps = 0; steps < 24; steps += 1)
    for (const end of ['kill', 'powerCut'] as const) {
      const world = new SimStory(steps + 1);
      const first = await world.openWith();
      const old = await swap(world, first, 0, 'old');
      // It dies on the way: nobody hears of it.
      first.pool.compareAndSwap(DOCUMENT, old, blocks('new', BLOCKS)).catch(() => undefined);
      for (let step = 0; step < steps; step += 1) {
        world.scheduler.step();
        await new Promise(setImmediate);
      }
      world.disk[end]();
      const second = await world.openWith();
      const isNew = await isAll(world, second, 'new');
      if (isNew) news += 1;
      else olds += 1;
      t.ok(isNew || (await isAll(world, second, 'old')), `${end} after ${steps} steps`);
      const taken = [0, 1, 2, 3].filter((slot) => second.store.engine.slots.isTaken(slot));
      t.same(taken, [objectOf(second, DOCUMENT).slot], 'one slot is taken');
    }
  t.ok(olds > 0 && news > 0, `old ${olds} times, new ${news} times`);
});

t.test('no space for the bytes, or for the record of them: the old object stays', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  const old = await swap(world, first, 0, 'old');
  await world.close(first);
  const full = new DiskError('ENOSPC', 'full');
  const isFull = { data: false, meta: false };
  const second = await world.openWith({
    dataFile: (file: DataFile) => ({
      write: (position, parts, done) => {
        if (isFull.data) setImmediate(() => done(full));
        else file.write(position, parts, done);
      },
    }),
    metaStore: (store) => ({
      commit: (changes, done) => {
        if (isFull.meta) setImmediate(() => done(full));
        else store.commit(changes, done);
      },
    }),
  });
  for (const place of ['data', 'meta'] as const) {
    isFull[place] = true;
    t.equal(await codeOf(swap(world, second, old, 'new')), 'E_NO_SPACE', place);
    isFull[place] = false;
    t.ok(await isAll(world, second, 'old'));
    t.equal((await world.wait(() => second.pool.stat(DOCUMENT)))?.version, old);
    await world.pass(10);
    t.notOk(second.store.engine.slots.isTaken(1), 'the new slot is free again');
  }
  t.ok((await swap(world, second, old, 'new')) > old);
  t.ok(await isAll(world, second, 'new'));
  world.disk.kill();
  t.ok(await isAll(world, await world.openWith(), 'new'));
});

t.test(
  'what was written and swapped away does not come back after a delete and a kill',
  async (t) => {
    for (const text of ['small', 'x'.repeat(100_000)]) {
      const world = new SimStory(1);
      const first = await world.openWith();
      await world.write(first, DOCUMENT, 0, blocks('unflushed', BLOCKS));
      const version = (await world.wait(() => first.pool.stat(DOCUMENT)))?.version ?? 0;
      await world.wait(() => first.pool.compareAndSwap(DOCUMENT, version, Buffer.from(text)));
      t.equal(await world.wait(() => first.pool.delete(DOCUMENT)), true);
      world.disk.kill();
      const second = await world.openWith();
      t.equal(await world.wait(() => second.pool.stat(DOCUMENT)), null, `${text.length} bytes`);
    }
  },
);
