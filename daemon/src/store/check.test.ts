import { BLOCK_BYTES, OBJECT_KIND, ObjectRef } from '@store/core';
import { SimRandom, simEnv } from '@store/core/sim';
import { PoolUser, codeOf } from '@store/core/testing';
import t from 'tap';
import { checkFolder, type CheckReport } from './check.js';
import { SimStore } from './crash/sim-store.js';
import { contentKey } from './format.js';
import { slotPosition } from './slot-map.js';

const DATA = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
const NOTE = new ObjectRef(OBJECT_KIND.plain, 'note');

function check(world: SimStore, acceptDamage = false): Promise<CheckReport> {
  const env = simEnv(world.scheduler, new SimRandom(7), world.disk);
  return world.wait(() =>
    checkFolder(env, 'simulated', { acceptDamage, onProgress: () => undefined }),
  );
}

/** Blocks 0 to 29 of an object, and a note; closed. */
async function madeWorld(): Promise<SimStore> {
  const world = new SimStore(1);
  const { store, pool } = await world.open();
  const user = new PoolUser(pool);
  await world.wait(() => user.write(DATA, 0, Buffer.alloc(30 * BLOCK_BYTES, 'data')));
  await world.wait(() => user.write(NOTE, 0, Buffer.from('hello world')));
  await world.wait(() => store.close());
  return world;
}

/** The same, and then its disk fails at a flush. */
async function failedWorld(): Promise<SimStore> {
  const world = await madeWorld();
  const { store, pool } = await world.open();
  const user = new PoolUser(pool);
  world.disk.dataFaults.syncError = 1;
  await world.wait(() => user.write(DATA, 5 * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, 'lost')));
  const answer = await codeOf(world.wait(() => user.flush()));
  if (answer !== 'E_DISK_FAILED') throw new Error(`The flush was answered ${answer}`);
  world.disk.dataFaults.syncError = 0;
  await world.wait(() => store.close());
  return world;
}

await t.test('a sound folder is verified to the last byte', async (t) => {
  const world = await madeWorld();
  t.same(await check(world), {
    objects: 2,
    verifiedBytes: 30 * BLOCK_BYTES + 11,
    unverifiedBytes: 0,
    damage: [],
    hadFailed: false,
    isUsable: true,
  });
});

await t.test('a folder whose disk failed is refused until it was checked', async (t) => {
  const world = await failedWorld();
  const expected = {
    code: 'E_DISK_FAILED',
    message: /failed earlier.*simulated sync error.*store check/,
  };
  await t.rejects(world.open(), expected);
  world.disk.powerCut();
  await t.rejects(world.open(), expected, 'also after a reboot');
  const report = await check(world);
  t.match(report, { hadFailed: true, isUsable: true, damage: [] });
  const { pool } = await world.open();
  const note = await world.wait(() => new PoolUser(pool).read(NOTE, 0, 11));
  t.equal(note.toString(), 'hello world');
});

await t.test(
  'each damaged block is named, and the folder stays closed unless accepted',
  async (t) => {
    const world = await failedWorld();
    world.disk.powerCut();
    // The part with blocks 0 to 15 was open; the one after it was not.
    world.disk.data.flip(slotPosition(0) + 17 * BLOCK_BYTES, 1);
    world.disk.data.flip(slotPosition(0) + 29 * BLOCK_BYTES + 4095, 0x80);
    const report = await check(world);
    t.match(report, { hadFailed: true, isUsable: false });
    t.equal(report.damage.length, 2);
    t.match(report.damage[0], /Block 17 of object 'layer_0'/);
    t.match(report.damage[1], /Block 29 of object 'layer_0'/);
    t.equal(await codeOf(world.open()), 'E_DISK_FAILED');
    t.match(await check(world, true), { isUsable: true, damage: { length: 2 } });
    const { pool } = await world.open();
    const read = world.wait(() => new PoolUser(pool).read(DATA, 17 * BLOCK_BYTES, BLOCK_BYTES));
    t.equal(await codeOf(read), 'E_CHECKSUM', 'accepted damage goes on answering errors');
  },
);

await t.test('damaged metadata is damage', async (t) => {
  const world = await madeWorld();
  const flip = (key: string): void => {
    const value = Buffer.from(world.disk.meta.visible.get(key) ?? '');
    value[5] = (value[5] ?? 0) ^ 1;
    world.disk.meta.visible.set(key, value);
  };
  const content = contentKey(0).toString('latin1', 0, 1); // the only one
  for (const key of world.disk.meta.visible.keys()) if (key.startsWith(content)) flip(key);
  t.match((await check(world)).damage, [/note/]);
  for (const key of world.disk.meta.visible.keys()) if (key.endsWith('layer_0')) flip(key);
  const { damage } = await check(world);
  t.equal(damage.length, 2);
  t.match(damage.join(), /record of object 'layer_0'/);
});

await t.test('what was written just before a crash is counted as not verifiable', async (t) => {
  const world = await madeWorld();
  const { pool } = await world.open();
  const user = new PoolUser(pool);
  await world.wait(() => user.write(DATA, 0, Buffer.alloc(BLOCK_BYTES, 'new')));
  await world.wait(() => user.flush());
  world.disk.powerCut();
  const report = await check(world);
  t.match(report, { unverifiedBytes: 16 * BLOCK_BYTES, damage: [] }, 'its whole part');
  t.equal(report.verifiedBytes, 14 * BLOCK_BYTES + 11);
});

await t.test('a disk that fails during the check keeps the folder closed', async (t) => {
  const world = await failedWorld();
  world.disk.metaFaults.commitError = 1;
  t.not(await codeOf(check(world)), null);
  world.disk.metaFaults.commitError = 0;
  world.disk.kill();
  t.equal(await codeOf(world.open()), 'E_DISK_FAILED');
});
