/** After a power cut the store says that unflushed writes may be lost, even if nothing is left of `live`. */
import t from 'tap';
import { SimStory, blocks, data } from './crash/sim-story.js';

await t.test('a power cut that empties or removes live is noticed', async (t) => {
  for (const end of ['emptied', 'removed']) {
    const world = new SimStory(1);
    const first = await world.openWith();
    await world.write(first, data('x'), 0, blocks('flushed'));
    await world.flush(first);
    await world.write(first, data('x'), 0, blocks('lost'));
    world.disk.powerCut();
    const names = [...world.disk.appendFiles.keys()];
    world.disk.appendFiles.clear();
    if (end === 'emptied')
      for (const name of names) world.disk.appendFiles.set(name, Buffer.alloc(0));
    const second = await world.openWith();
    t.ok(second.store.lostUnflushed, end);
    await world.close(second);
    t.notOk((await world.openWith()).store.lostUnflushed, 'and not said again');
  }
});
