/** Something is to grow and there is no room: it stays what it was, and holds on to nothing. */
import { DiskError, type DataFile } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data, objectOf, plain, type OpenedStory } from './crash/sim-story.js';

const DOCUMENT = plain('document');
const INLINE_BYTES = 60_000;
/** How long the free space is believed without another look. */
const SPACE_MS = 300;

/** A document that just fits into the metadata store. */
async function makeDocument(world: SimStory, opened: OpenedStory): Promise<Buffer> {
  const content = Buffer.alloc(INLINE_BYTES, 'abc');
  await world.wait(() => opened.user.write(DOCUMENT, 0, content));
  await world.flush(opened);
  return content;
}

function readDocument(world: SimStory, opened: OpenedStory, bytes: number): Promise<Buffer> {
  return world.wait(() => opened.user.read(DOCUMENT, 0, bytes));
}

function append(world: SimStory, opened: OpenedStory): Promise<string | null> {
  const more = Buffer.alloc(INLINE_BYTES, 'more');
  return codeOf(world.wait(() => opened.user.write(DOCUMENT, INLINE_BYTES, more)));
}

/** A data file that has no room for anything behind its label while `isFull`. */
function fullFile(world: SimStory, isFull: () => boolean): (file: DataFile) => Partial<DataFile> {
  const full = (): DiskError => new DiskError('ENOSPC', 'no space left on device');
  return (file) => ({
    tryWrite: (position, parts) => {
      if (isFull() && position > 0) throw full();
      return file.tryWrite(position, parts);
    },
    write: (position, parts, done) => {
      if (isFull() && position > 0) world.scheduler.at(1, () => done(full()));
      else file.write(position, parts, done);
    },
  });
}

await t.test('a document that cannot outgrow the metadata keeps its content', async (t) => {
  for (const where of ['space', 'data file']) {
    const world = new SimStory(1);
    const state = { isFull: false };
    const changes = { dataFile: fullFile(world, () => state.isFull) };
    const first = await world.openWith(changes);
    const content = await makeDocument(world, first);
    const before = await world.wait(() => first.pool.stat(DOCUMENT));
    const { capacityBytes } = world.disk;
    await world.pass(SPACE_MS);
    if (where === 'space') world.disk.capacityBytes = world.disk.usedBytes() + 4096;
    else state.isFull = true;
    t.equal(await append(world, first), 'E_NO_SPACE', where);
    world.disk.capacityBytes = capacityBytes;
    state.isFull = false;
    await world.pass(SPACE_MS);
    t.same(await readDocument(world, first, INLINE_BYTES), content, where);
    t.same(await world.wait(() => first.pool.stat(DOCUMENT)), before, where);
    t.equal(first.store.engine.slots.takenCount, 0, 'its slot went back');

    // What made the loss durable: the next small write of what was empty by then.
    await world.wait(() => first.user.write(DOCUMENT, 100, Buffer.from('small')));
    Buffer.from('small').copy(content, 100);
    await world.flush(first);
    await world.close(first);
    const second = await world.openWith(changes);
    t.same(await readDocument(world, second, INLINE_BYTES), content, `${where}, after a restart`);
    t.equal(await append(world, second), null, 'with room it grows');
    await world.flush(second);
    world.disk.powerCut();
    const third = await world.openWith(changes);
    const grown = Buffer.concat([content, Buffer.alloc(INLINE_BYTES, 'more')]);
    t.same(await readDocument(world, third, grown.length), grown, where);
  }
});

await t.test('a document in the data that cannot grow keeps its content', async (t) => {
  const world = new SimStory(2);
  const state = { isFull: false };
  const first = await world.openWith({ dataFile: fullFile(world, () => state.isFull) });
  await makeDocument(world, first);
  await append(world, first);
  await world.flush(first);
  const content = await readDocument(world, first, 2 * INLINE_BYTES);
  state.isFull = true;
  const beyond = world.wait(() => first.user.write(DOCUMENT, 2 ** 20, blocks('x', 2)));
  t.equal(await codeOf(beyond), 'E_NO_SPACE');
  state.isFull = false;
  t.match(await world.wait(() => first.pool.stat(DOCUMENT)), { length: 2 * INLINE_BYTES });
  t.same(await readDocument(world, first, 2 * INLINE_BYTES), content);
  world.disk.kill();
  const second = await world.openWith();
  t.same(await readDocument(world, second, 2 * INLINE_BYTES), content);
});

await t.test('new objects that find no room leave no slot taken', async (t) => {
  const world = new SimStory(3);
  const state = { isFull: true };
  const dataFile = fullFile(world, () => state.isFull);
  const first = await world.openWith({ dataFile, limits: { cachedObjectsMax: 8 } });
  for (let index = 0; index < 60; index += 1) {
    const refused = world.write(first, data(`object ${index}`), 0, blocks('x'));
    t.equal(await codeOf(refused), 'E_NO_SPACE');
  }
  await world.pass(50);
  t.equal(first.store.engine.slots.takenCount, 0);
  t.ok([...first.store.parts.table.objects()].length < 20, 'nor do they stay in memory');
  state.isFull = false;
  await world.write(first, data('object 7'), 0, blocks('x'));
  t.equal(objectOf(first, data('object 7')).slot, 0);
  await world.flush(first);
  world.disk.powerCut();
  const second = await world.openWith();
  t.same(await world.read(second, data('object 7'), 0), blocks('x'));
  t.same(await world.read(second, data('object 8'), 0), blocks(''));
});
