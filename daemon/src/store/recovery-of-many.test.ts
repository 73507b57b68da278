/**
 * A killed process had changed more objects than the next one keeps in memory: none of them may leave it before what
 * `live` says of them is recorded.
 */
import t from 'tap';
import { SimStory, blocks, data } from './crash/sim-story.js';

const OBJECTS = 24;
const FEW = { limits: { cachedObjectsMax: 4 } };
const NAMES = Array.from({ length: OBJECTS }, (_, index) => data(`object ${index}`));

t.test('nothing is lost by a kill that left more changes than objects fit in memory', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  for (const name of NAMES) await world.write(first, name, 0, blocks('recorded'));
  await world.flush(first);
  // By the second time the first is long forgotten.
  for (const at of [20, 21])
    for (const name of NAMES) await world.write(first, name, at, blocks('answered'));
  world.disk.kill();
  await world.openWith(FEW);
  world.disk.kill();
  const third = await world.openWith();
  for (const name of NAMES) {
    t.same(await world.read(third, name, 0), blocks('recorded'), name.id);
    t.same(await world.read(third, name, 20), blocks('answered'), name.id);
    t.same(await world.read(third, name, 21), blocks('answered'), name.id);
  }
});
