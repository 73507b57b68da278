/** A store is closed while operations are on their way: they come to their end, and what was answered is there. */
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data, plain } from './crash/sim-story.js';

const SEEDS = 24;
const LARGE_BLOCKS = 512;

await t.test('a large write in flight is answered and kept', async (t) => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const world = new SimStory(seed);
    const first = await world.openWith();
    await world.pass(seed % 7);
    const answer = codeOf(first.user.write(data('x'), 0, blocks('W', LARGE_BLOCKS)));
    await world.close(first);
    await world.pass(50);
    if ((await answer) !== null) t.fail(`seed ${seed}: answered ${await answer}`);
    if (world.disk.smallFiles.has('failed')) t.fail(`seed ${seed}: marked as failed`);
    const second = await world.openWith();
    t.notOk(second.store.lostUnflushed);
    for (const at of [0, LARGE_BLOCKS - 1])
      if (!(await world.read(second, data('x'), at)).equals(blocks('W')))
        t.fail(`seed ${seed}: block ${at} was answered and is lost`);
  }
});

await t.test('so is every other kind of operation', async (t) => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const world = new SimStory(seed);
    const first = await world.openWith();
    for (const name of ['parked', 'zeroed', 'deleted'])
      await world.write(first, data(name), 0, blocks('old', 2));
    await world.close(first);
    const second = await world.openWith();
    const { user, pool } = second;
    const answers = [
      codeOf(user.write(data('parked'), 0, blocks('new'))),
      codeOf(user.zero(data('zeroed'), 0, blocks('').length)),
      codeOf(pool.delete(data('deleted'))),
      codeOf(user.compareAndSwap(plain('swapped'), 0, Buffer.from('new'))),
      codeOf(user.write(plain('grown'), 0, blocks('new', 20))),
      codeOf(user.flush()),
    ];
    t.ok(second.store.parts.parked.count > 0, 'one of the writes is parked');
    await world.pass((seed % 5) / 4);
    await world.close(second);
    t.same(await world.wait(() => Promise.all(answers)), answers.map(() => null)); // prettier-ignore
    const third = await world.openWith();
    t.same(await world.read(third, data('parked'), 0), blocks('new'));
    t.same(await world.read(third, data('parked'), 1), blocks('old'));
    t.same(await world.read(third, data('zeroed'), 0), blocks(''));
    t.same(await world.read(third, data('zeroed'), 1), blocks('old'));
    t.same(await world.read(third, data('deleted'), 0), blocks(''));
    t.same((await world.read(third, plain('swapped'), 0)).subarray(0, 3), Buffer.from('new'));
    t.same(await world.read(third, plain('grown'), 19), blocks('new'));
  }
});

await t.test('whoever comes after the close began is refused, and changes nothing', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  await world.write(first, data('x'), 0, blocks('old'));
  const inFlight = codeOf(first.user.write(data('y'), 0, blocks('W', LARGE_BLOCKS)));
  const closing = first.store.close();
  const late = await Promise.all([
    codeOf(first.user.write(data('x'), 0, blocks('late'))),
    codeOf(first.user.zero(data('x'), 0, blocks('').length)),
    codeOf(first.user.flush()),
    codeOf(first.pool.delete(data('x'))),
    codeOf(first.user.compareAndSwap(plain('p'), 0, Buffer.from('late'))),
  ]);
  t.same(new Set(late), new Set(['E_CLOSED']));
  await world.wait(() => closing);
  t.equal(await inFlight, null);
  const second = await world.openWith();
  t.same(await world.read(second, data('x'), 0), blocks('old'));
});

await t.test(
  'writes that wait for room are made, or refused; none is answered and lost',
  async (t) => {
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const world = new SimStory(seed);
      const names = Array.from({ length: 6 }, (_, index) => `object ${index}`);
      const first = await world.openWith({ limits: { openObjectsMax: 2, openMsMax: 60_000 } });
      const answers = names.map((name) => codeOf(first.user.write(data(name), 0, blocks(name))));
      await world.pass(seed % 3);
      await world.close(first);
      const codes = await world.wait(() => Promise.all(answers));
      t.same(codes, names.map(() => null), 'the close makes room for them'); // prettier-ignore
      const second = await world.openWith();
      for (const name of names)
        if (!(await world.read(second, data(name), 0)).equals(blocks(name)))
          t.fail(`seed ${seed}: ${name} was answered and is lost`);
    }
  },
);
