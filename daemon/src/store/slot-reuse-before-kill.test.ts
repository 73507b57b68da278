/**
 * An object is discarded, its slot goes to another one, and the process is killed before a flush: `live` tells of
 * both, and only one of them owns the slot.
 */
import t from 'tap';
import { SimStory, blocks, data, objectOf, type OpenedStory } from './crash/sim-story.js';

const [OLD, NEW] = [data('old'), data('new')];
const OBJECT_BLOCKS = 1024;
/** Long enough for the background to remove what was discarded. */
const CLOSED_MS = 15_000;

/** `old` was flushed and discarded, `new` lives in its slot and was answered; the process is dead. */
async function reusedAndKilled(seed: number): Promise<{ world: SimStory; slot: number }> {
  const world = new SimStory(seed);
  world.disk.dataFaults.punch = 1;
  const first = await world.openWith();
  await world.write(first, OLD, 0, blocks('old', 4));
  await world.flush(first);
  const { slot } = objectOf(first, OLD);
  await world.zero(first, OLD, 0, OBJECT_BLOCKS);
  await world.pass(CLOSED_MS);
  await world.write(first, NEW, 0, blocks('new', 4));
  if (objectOf(first, NEW).slot !== slot) throw new Error('The slot was not used again');
  world.disk.kill();
  return { world, slot };
}

async function isServed(world: SimStory, opened: OpenedStory): Promise<boolean> {
  for (let at = 0; at < 4; at += 1) {
    if (!(await world.read(opened, NEW, at)).equals(blocks('new'))) return false;
    if (!(await world.read(opened, OLD, at)).equals(blocks(''))) return false;
  }
  return true;
}

await t.test('the new owner of a slot is read and written after the kill', async (t) => {
  for (let seed = 1; seed <= 8; seed += 1) {
    const { world } = await reusedAndKilled(seed);
    const second = await world.openWith();
    t.ok(await isServed(world, second), `seed ${seed}`);
    await world.write(second, NEW, 9, blocks('more'));
    await world.flush(second);
    world.disk.powerCut();
    const third = await world.openWith();
    t.ok(await isServed(world, third), `seed ${seed}, after a power cut`);
    t.same(await world.read(third, NEW, 9), blocks('more'));
  }
});

await t.test('deleting what was discarded takes nothing from the new owner', async (t) => {
  const { world, slot } = await reusedAndKilled(1);
  const second = await world.openWith();
  t.equal(await world.wait(() => second.pool.delete(OLD)), false);
  t.ok(await isServed(world, second));
  t.ok(second.store.engine.slots.isTaken(slot));
  t.equal(await world.wait(() => second.pool.delete(NEW)), true);
  await world.pass(10);
  t.notOk(second.store.engine.slots.isTaken(slot), 'and then it is free');
});

await t.test('both come back if both are written again', async (t) => {
  const { world } = await reusedAndKilled(2);
  const second = await world.openWith();
  await world.write(second, OLD, 0, blocks('again'));
  t.not(objectOf(second, OLD).slot, objectOf(second, NEW).slot);
  world.disk.kill();
  const third = await world.openWith();
  t.same(await world.read(third, OLD, 0), blocks('again'));
  t.same(await world.read(third, OLD, 1), blocks(''));
  t.same(await world.read(third, NEW, 0), blocks('new'));
});
