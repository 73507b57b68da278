/** A list of very many objects keeps none of them in memory, lets others work, and stays in its pool. */
import { OBJECT_KIND } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data } from './crash/sim-story.js';
import { encodeHead, headKey, sealed } from './format.js';

const OBJECTS = 2500;

await t.test('listing does not fill memory, and gives way to others', async (t) => {
  const world = new SimStory(1);
  await world.close(await world.openWith());
  const states = new Uint8Array(1024).fill(1, 0, 3);
  for (let index = 0; index < OBJECTS; index += 1) {
    const ref = data(`layer ${index}`);
    const fields = {
      kind: ref.kind,
      inline: false,
      slot: index,
      length: 4096,
      version: 9,
      objectId: index + 1,
    };
    const key = headKey(1, ref.hash, ref.key);
    const value = sealed(key, encodeHead(fields, states));
    for (const medium of [world.disk.meta.visible, world.disk.meta.durable])
      medium.set(key.toString('latin1'), value);
  }
  world.disk.meta.sortedKeys = null;
  const { store, pool } = await world.openWith();
  let isDone = false;
  const listing = pool.list({ kind: OBJECT_KIND.imageHeader }).finally(() => (isDone = true));
  await new Promise(setImmediate);
  t.notOk(isDone, 'there are turns between its pages');
  t.same((await world.wait(() => listing)).entries, []);
  const { entries } = await world.wait(() => pool.list({ limit: 1000 }));
  t.equal(entries.length, 1000);
  t.match(entries[0]?.stat, { kind: OBJECT_KIND.imageData, version: 9, allocatedBytes: 3 * 4096 });
  t.ok([...store.parts.table.objects()].length < 10);
});

await t.test('a cursor of another pool is refused, and shows nothing of it', async (t) => {
  const world = new SimStory(2);
  const first = await world.openWith();
  await world.write(first, data('secret'), 0, blocks('x'));
  await world.flush(first);
  const other = await world.wait(() => first.store.openPool('other', { create: true }));
  for (const cursor of [[1, 0, 0, 0, 1], [0], [], [1, 0, 0, 0, 3], [255]])
    t.equal(
      await codeOf(world.wait(() => other.list({ cursor: Buffer.from(cursor) }))),
      'E_INVALID',
    );
  t.same((await world.wait(() => other.list({}))).entries, []);
});
