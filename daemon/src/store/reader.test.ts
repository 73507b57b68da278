/** What is read is what was written, or an error: whatever the disk returns. */
import { BLOCK_BYTES, DiskError, OBJECT_KIND, ObjectRef } from '@store/core';
import { PoolUser, codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStore } from './crash/sim-store.js';
import type { FileStore } from './file-store.js';
import { checksKey } from './format.js';
import { slotPosition } from './slot-map.js';

const REF = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

function block(text: string): Buffer {
  return Buffer.alloc(BLOCK_BYTES, text);
}

/** An object of 20 blocks, each with its number, closed and opened again. */
async function madeWorld(): Promise<{ world: SimStore; store: FileStore; user: PoolUser }> {
  const world = new SimStore(1);
  const first = await world.open();
  const bytes = Buffer.concat(Array.from({ length: 20 }, (_, index) => block(`<${index}>`)));
  await world.wait(() => new PoolUser(first.pool).write(REF, 0, bytes));
  await world.wait(() => first.store.close());
  const { store, pool } = await world.open();
  return { world, store, user: new PoolUser(pool) };
}

await t.test('a flipped bit anywhere in a block is an error, and only there', async (t) => {
  const { world, store, user } = await madeWorld();
  const readAt = (index: number): Promise<Buffer> =>
    world.wait(() => user.read(REF, index * BLOCK_BYTES, BLOCK_BYTES));
  const position = slotPosition(0) + 3 * BLOCK_BYTES;
  for (let bit = 0; bit < BLOCK_BYTES * 8; bit += 1021) {
    world.disk.data.flip(position + (bit >> 3), 1 << (bit & 7));
    if ((await codeOf(readAt(3))) !== 'E_CHECKSUM') t.fail(`bit ${bit}`);
    world.disk.data.flip(position + (bit >> 3), 1 << (bit & 7));
  }
  t.same(await readAt(3), block('<3>'));
  t.ok(store.engine.counters.checksumErrors > 30, 'each is counted');
  world.disk.data.flip(position, 1);
  t.same(await readAt(2), block('<2>'));
  t.same(await readAt(4), block('<4>'));
  const partial = world.wait(() => user.read(REF, 4 * BLOCK_BYTES - 8, 16));
  await t.rejects(partial, { code: 'E_CHECKSUM', message: /Block 3 of object 'layer_0'/ });
  await t.rejects(
    world.wait(() => user.read(REF, 0, 20 * BLOCK_BYTES)),
    { code: 'E_CHECKSUM', message: /Block 3/ },
  );
  t.equal(store.engine.failure, null, 'one bad block does not stop the store');
});

await t.test('a good block at a wrong place is an error', async (t) => {
  const { world, user } = await madeWorld();
  const bytes = block('<5>');
  world.disk.data.write(slotPosition(0) + 6 * BLOCK_BYTES, bytes);
  t.equal(
    await codeOf(world.wait(() => user.read(REF, 6 * BLOCK_BYTES, BLOCK_BYTES))),
    'E_CHECKSUM',
  );
  const other = new ObjectRef(OBJECT_KIND.imageData, 'layer_1', 'family_1');
  await world.wait(() => user.write(other, 0, block('other')));
  await world.wait(() => user.flush());
  world.disk.data.write(slotPosition(1), block('<0>')); // block 0, but of another object
  t.equal(await codeOf(world.wait(() => user.read(other, 0, BLOCK_BYTES))), 'E_CHECKSUM');
});

await t.test('a write of a part of a damaged block does not make it good', async (t) => {
  const { world, user } = await madeWorld();
  world.disk.data.flip(slotPosition(0) + 100, 1);
  const partial = world.wait(() => user.write(REF, 200, Buffer.from('new')));
  await t.rejects(partial, { code: 'E_CHECKSUM', message: /Block 0/ });
  t.equal(await codeOf(world.wait(() => user.read(REF, 0, BLOCK_BYTES))), 'E_CHECKSUM');
  await world.wait(() => user.zero(REF, BLOCK_BYTES + 5, 10));
  const zeroed = world.wait(() => user.zero(REF, 5, 10));
  await t.rejects(zeroed, { code: 'E_CHECKSUM' }, 'nor does zeroing a part');
  await world.wait(() => user.write(REF, 0, block('whole')));
  t.same(await world.wait(() => user.read(REF, 0, BLOCK_BYTES)), block('whole'), 'a whole does');
});

await t.test('an error of the system on a read is an error of that block', async (t) => {
  const { world, store, user } = await madeWorld();
  const { data } = store.engine;
  const read = data.read.bind(data);
  data.tryRead = () => false;
  data.read = (position, target, done) => {
    if (position === slotPosition(0) + 7 * BLOCK_BYTES)
      setImmediate(() => done(new DiskError('EIO', 'read of data: medium error')));
    else read(position, target, done);
  };
  const readAt = (index: number): Promise<Buffer> =>
    world.wait(() => user.read(REF, index * BLOCK_BYTES, BLOCK_BYTES));
  await t.rejects(readAt(7), { code: 'E_CHECKSUM', message: /Block 7.*medium error/ });
  t.same(await readAt(8), block('<8>'));
  t.equal(store.engine.failure, null);
  data.tryRead = () => {
    throw new DiskError('EIO', 'read of data: EIO');
  };
  await t.rejects(readAt(7), { code: 'E_CHECKSUM' }, 'the same, found out at once');
});

await t.test('damaged checksums make blocks unreadable, not zeros and not believed', async (t) => {
  const { world, store, user } = await madeWorld();
  const { objectId } = store.parts.table.find(1, REF);
  const key = checksKey(objectId, 0).toString('latin1');
  const value = Buffer.from(world.disk.meta.visible.get(key) ?? '');
  value[7] = (value[7] ?? 0) ^ 16;
  world.disk.meta.visible.set(key, value);
  for (const index of [0, 1, 19])
    t.equal(
      await codeOf(world.wait(() => user.read(REF, index * BLOCK_BYTES, BLOCK_BYTES))),
      'E_CHECKSUM',
    );
  t.same(
    await world.wait(() => user.read(REF, 300 * BLOCK_BYTES, BLOCK_BYTES)),
    Buffer.alloc(BLOCK_BYTES),
    'a block without data needs none',
  );
});

await t.test('blocks written before a crash are read, and verified from then on', async (t) => {
  const { world, user } = await madeWorld();
  await world.wait(() => user.write(REF, 0, block('new')));
  await world.wait(() => user.flush());
  world.disk.powerCut();
  const { pool, store } = await world.open();
  const again = new PoolUser(pool);
  t.same(await world.wait(() => again.read(REF, 0, BLOCK_BYTES)), block('new'));
  world.disk.data.flip(slotPosition(0), 1);
  t.equal(await codeOf(world.wait(() => again.read(REF, 0, BLOCK_BYTES))), 'E_CHECKSUM');
  t.equal(store.engine.counters.checksumErrors, 1);
});
