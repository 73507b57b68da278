/** A record says something else than what was written: its object is refused, and all others are left alone. */
import { SimRandom, simEnv } from '@store/core/sim';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { checkFolder } from './check.js';
import { SimStory, blocks, data, objectOf, plain, type OpenedStory } from './crash/sim-story.js';
import { slotPosition } from './slot-map.js';

const [X, Y, Z] = [data('x'), data('y'), data('z')];
const AT_SLOT_OF_HEAD = 4;
const AT_STATES_OF_HEAD = 50;

function flip(head: Buffer): void {
  head[AT_STATES_OF_HEAD] = (head[AT_STATES_OF_HEAD] ?? 0) ^ 1;
}

/** What lies in the data file, whoever it belongs to. */
function bytesAt(world: SimStory, slot: number): Buffer {
  const bytes = blocks('');
  world.disk.data.read(slotPosition(slot), bytes);
  return bytes;
}

/** `x` and `y` are on the medium; then both claim the slot of `x`. */
async function doubled(seed: number): Promise<{ world: SimStory; slot: number }> {
  const world = new SimStory(seed);
  world.disk.dataFaults.punch = 1;
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('x', 4));
  await world.write(first, Y, 0, blocks('y', 4));
  const { slot } = objectOf(first, X);
  await world.close(first);
  world.changeHead(Y, true, (head) => head.writeUInt32BE(slot, AT_SLOT_OF_HEAD));
  return { world, slot };
}

await t.test('objects of one name and different locators are different objects', async (t) => {
  const world = new SimStory(1);
  const [a, b] = [data('name', 'a'), data('name', 'b')];
  let opened: OpenedStory = await world.openWith();
  await world.write(opened, a, 0, blocks('a'));
  await world.flush(opened);
  t.same(await world.read(opened, b, 0), blocks(''));
  await world.close(opened);
  opened = await world.openWith();
  await world.write(opened, b, 0, blocks('b')); // the first to be looked up
  t.same(await world.read(opened, a, 0), blocks('a'));
  world.disk.kill();
  opened = await world.openWith(); // takes both over from `live`
  await world.write(opened, Z, 0, blocks('z'));
  await world.close(opened);
  opened = await world.openWith();
  t.same(await world.read(opened, a, 0), blocks('a'));
  t.same(await world.read(opened, b, 0), blocks('b'));
  t.same(await world.read(opened, Z, 0), blocks('z'));
});

await t.test('deleting one of two owners of a slot never frees it', async (t) => {
  const { world, slot } = await doubled(2);
  const opened = await world.openWith();
  t.equal(await codeOf(world.read(opened, X, 0)), 'E_CHECKSUM');
  t.equal(await world.wait(() => opened.pool.delete(X)), true);
  await world.pass(10);
  t.same(bytesAt(world, slot), blocks('x'), 'nothing was punched');
  await world.write(opened, Z, 0, blocks('z'));
  await world.flush(opened);
  t.not(objectOf(opened, Z).slot, slot);
  t.equal(await world.wait(() => opened.pool.delete(Y)), true);
  await world.pass(10);
  t.same(await world.read(opened, Z, 0), blocks('z'));
  t.ok(opened.store.engine.slots.isTaken(slot));
  t.ok(opened.store.engine.slots.isTaken(objectOf(opened, Z).slot));
  await world.close(opened);
  const again = await world.openWith();
  t.same(await world.read(again, Z, 0), blocks('z'));
  t.notOk(again.store.engine.slots.isTaken(slot), 'without owners it is free');
});

await t.test('an object that shares its slot stays refused when memory is short', async (t) => {
  const { world, slot } = await doubled(3);
  const opened = await world.openWith({ limits: { cachedObjectsMax: 4 } });
  for (let index = 0; index < 40; index += 1) await world.read(opened, data(`${index}`), 0);
  for (const ref of [X, Y]) {
    t.equal(await codeOf(world.write(opened, ref, 0, blocks('new'))), 'E_CHECKSUM');
    t.equal(await codeOf(world.read(opened, ref, 0)), 'E_CHECKSUM');
  }
  await world.pass(20);
  t.same(bytesAt(world, slot), blocks('x'));
});

await t.test('an unreadable record can be deleted, and its name used again', async (t) => {
  for (const ref of [X, plain('note')]) {
    const world = new SimStory(4);
    const first = await world.openWith();
    await world.write(first, ref, 0, blocks('lost'));
    await world.close(first);
    world.changeHead(ref, false, flip);
    const second = await world.openWith();
    t.equal(await codeOf(world.read(second, ref, 0)), 'E_CHECKSUM');
    t.equal(await codeOf(world.write(second, ref, 0, blocks('x'))), 'E_CHECKSUM');
    t.equal(await world.wait(() => second.pool.delete(ref)), true);
    t.equal(await world.wait(() => second.pool.delete(ref)), false);
    await world.close(second);
    const third = await world.openWith();
    t.equal(await world.wait(() => third.pool.stat(ref)), null, 'it is gone for good');
    await world.write(third, ref, 0, blocks('new'));
    world.disk.kill();
    t.same(await world.read(await world.openWith(), ref, 0), blocks('new'));
  }
});

await t.test('an unreadable record that live names as well keeps its slot', async (t) => {
  const world = new SimStory(5);
  world.disk.dataFaults.punch = 1;
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('x'));
  await world.flush(first);
  const { slot } = objectOf(first, X);
  await world.write(first, X, 5, blocks('x5')); // in `live` only
  world.disk.kill();
  world.changeHead(X, false, flip);
  const second = await world.openWith();
  for (const ref of [Y, Z]) {
    await world.write(second, ref, 0, blocks('new'));
    t.not(objectOf(second, ref).slot, slot);
  }
  await world.flush(second);
  t.equal(await codeOf(world.read(second, X, 0)), 'E_CHECKSUM');
  t.same(bytesAt(world, slot), blocks('x'), 'its bytes are there for a repair');
});

await t.test('a damaged record of a pool is refused, and found by a check', async (t) => {
  const world = new SimStory(6);
  await world.close(await world.openWith());
  const key = '\x03pool';
  const value = Buffer.from(world.disk.meta.visible.get(key) ?? '');
  value[3] = (value[3] ?? 0) ^ 1;
  world.disk.meta.visible.set(key, value);
  const env = simEnv(world.scheduler, new SimRandom(1), world.disk);
  const options = { acceptDamage: false, onProgress: () => undefined };
  const report = await world.wait(() => checkFolder(env, 'simulated', options));
  t.same(report.damage, ["The record of pool 'pool' does not match its checksum"]);
  t.equal(await codeOf(world.openWith()), 'E_CHECKSUM', 'it is not made anew');
});

await t.test('recovery does not make rot elsewhere in the object look good', async (t) => {
  const world = new SimStory(7);
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('x', 256));
  const { slot } = objectOf(first, X);
  await world.close(first);
  const second = await world.openWith();
  second.pool.write(X, 0, [blocks('parked')], 0, () => undefined);
  t.equal(second.store.parts.parked.count, 1);
  world.disk.kill();
  world.disk.data.flip(slotPosition(slot) + 100 * blocks('').length + 5, 1); // in a part closed for long
  const third = await world.openWith();
  t.equal(await codeOf(world.read(third, X, 100)), 'E_CHECKSUM');
  t.same(await world.read(third, X, 0), blocks('parked'));
});
