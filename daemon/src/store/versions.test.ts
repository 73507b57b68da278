/** A version of an object never comes back: whoever deletes the one he saw hits nothing else, whatever happened between. */
import { BLOCK_BYTES, OBJECT_KIND, ObjectRef } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import { SimStore } from './crash/sim-store.js';

const PIECE = new ObjectRef(OBJECT_KIND.imageData, 'piece', 'piece');

function block(text: string): Buffer {
  return Buffer.alloc(BLOCK_BYTES, text);
}

type End = 'kill' | 'power cut' | 'close';

for (const end of ['kill', 'power cut', 'close'] as const satisfies readonly End[])
  for (const isFlushed of [true, false])
    await t.test(
      `an overwrite that needed no record has a version of its own after a ${end}, ${isFlushed ? 'flushed' : 'not flushed'}`,
      async (t) => {
        const world = new SimStore(1);
        const { store, pool } = await world.open();
        const user = new PoolUser(pool);
        await world.wait(() => user.write(PIECE, 0, block('old')));
        const [listed] = (await world.wait(() => pool.list({}))).entries; // flushes: its parts are open
        const version = listed?.stat.version ?? 0;
        await world.wait(() => user.write(PIECE, 0, block('new')));
        if (isFlushed) await world.wait(() => user.flush());
        if (end === 'close') await world.wait(() => store.close());
        else if (end === 'kill') world.disk.kill();
        else world.disk.powerCut();
        const again = await world.open();
        const after = new PoolUser(again.pool);
        const [relisted] = (await world.wait(() => again.pool.list({}))).entries;
        const stat = await world.wait(() => again.pool.stat(PIECE));
        t.equal(relisted?.stat.version, stat?.version, 'the list knows the same version');
        t.equal(await world.wait(() => again.pool.delete(PIECE, version)), false);
        if (end !== 'power cut' || isFlushed) {
          const seen = await world.wait(() => after.read(PIECE, 0, BLOCK_BYTES));
          t.ok(seen.equals(block('new')));
        }
        t.equal(await world.wait(() => again.pool.delete(PIECE, stat?.version)), true);
        await world.wait(() => again.store.close());
      },
    );

await t.test('a write answered from live has a version of its own after a kill', async (t) => {
  const world = new SimStore(2);
  const first = await world.open();
  await world.wait(() => new PoolUser(first.pool).write(PIECE, 0, block('old')));
  await world.wait(() => first.store.close());
  const { store, pool } = await world.open();
  const version = (await world.wait(() => pool.stat(PIECE)))?.version ?? 0;
  const writing = new PoolUser(pool).write(PIECE, 0, block('parked'));
  await writing;
  t.equal(store.parts.parked.count, 1, 'it is not in its place');
  world.disk.kill();
  const again = await world.open();
  t.equal(await world.wait(() => again.pool.delete(PIECE, version)), false);
  const seen = await world.wait(() => new PoolUser(again.pool).read(PIECE, 0, BLOCK_BYTES));
  t.ok(seen.equals(block('parked')));
});

await t.test(
  'what is made after lives that were forgotten has none of their versions',
  async (t) => {
    const world = new SimStore(3);
    const seen = new Set<number>();
    let count = 0;
    for (const end of ['kill', 'power cut', 'close', 'power cut', 'kill', 'close'] as const) {
      const { store, pool } = await world.open();
      const user = new PoolUser(pool);
      for (let change = 0; change < 20; change += 1) {
        await world.wait(() => user.write(PIECE, 0, block(`${change}`)));
        seen.add((await world.wait(() => pool.stat(PIECE)))?.version ?? 0);
        count += 1;
        if (change % 7 === 6) await world.wait(() => pool.delete(PIECE));
      }
      if (end === 'close') await world.wait(() => store.close());
      else if (end === 'kill') world.disk.kill();
      else world.disk.powerCut();
    }
    t.equal(seen.size, count);
  },
);
