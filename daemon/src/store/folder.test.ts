import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { realEnv, silentLog } from '@store/core';
import { SimDisk, SimRandom, SimScheduler, simEnv } from '@store/core/sim';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStore } from './crash/sim-store.js';
import { openFileStore, type FileStore } from './file-store.js';
import { STORE_KEY, sealed } from './format.js';

const STEPS_MAX = 100;

/** Steps of a start until it is done; fewer if `stepsMax` is reached, which is where it is killed. */
async function start(disk: SimDisk, scheduler: SimScheduler, seed: number, stepsMax: number) {
  const env = simEnv(scheduler, new SimRandom(seed, 5), disk);
  let store: FileStore | undefined;
  let failure: unknown;
  void openFileStore(env, 'simulated', { create: true, onFailure: () => undefined }).then(
    (opened) => (store = opened),
    (error: unknown) => (failure = error),
  );
  for (let step = 0; step < stepsMax; step += 1) {
    await new Promise(setImmediate);
    if (store !== undefined || failure !== undefined) break;
    scheduler.step();
  }
  await new Promise(setImmediate);
  if (failure !== undefined) throw failure as Error;
  return store;
}

for (const end of ['kill', 'powerCut'] as const)
  await t.test(`a first start ended at any step by a ${end} is done again`, async (t) => {
    for (let seed = 1; seed <= 4; seed += 1) {
      let killedAt = 0;
      for (let done = false; !done && killedAt < STEPS_MAX; killedAt += 1) {
        const scheduler = new SimScheduler();
        const disk = new SimDisk(scheduler, new SimRandom(seed * 1000 + killedAt));
        done = (await start(disk, scheduler, 1, killedAt)) !== undefined;
        disk[end]();
        const store = await start(disk, scheduler, 2, STEPS_MAX);
        if (store === undefined) t.fail(`killed at step ${killedAt}: no second start`);
        else if (disk.smallFiles.has('format.making') && !disk.smallFiles.has('format'))
          t.fail(`killed at step ${killedAt}: half a folder`);
      }
      t.ok(killedAt > 3 && killedAt < STEPS_MAX, `seed ${seed}: ${killedAt} places to die`);
    }
  });

async function madeWorld(): Promise<SimStore> {
  const world = new SimStore(1);
  const { store } = await world.open();
  await world.wait(() => store.close());
  return world;
}

await t.test('a folder of another version is refused, and the message says which', async (t) => {
  const world = await madeWorld();
  world.disk.smallFiles.set('format', Buffer.from('store 2\ndisk 00\n'));
  await t.rejects(world.open(), { code: 'E_FORMAT', message: /version 2.*version 1.*release/ });
  world.disk.smallFiles.set('format', Buffer.from('hello\n'));
  await t.rejects(world.open(), { code: 'E_FORMAT', message: /not written by this program/ });
});

await t.test('metadata of another version is refused too', async (t) => {
  const world = await madeWorld();
  const key = STORE_KEY.toString('latin1');
  const record = Buffer.from(world.disk.meta.visible.get(key) ?? '');
  record.writeUInt32BE(9, 0);
  world.disk.meta.visible.set(key, sealed(STORE_KEY, record.subarray(0, -4)));
  await t.rejects(world.open(), { code: 'E_FORMAT', message: /version 9/ });
});

await t.test('a damaged record of the folder is refused', async (t) => {
  const world = await madeWorld();
  const key = STORE_KEY.toString('latin1');
  const record = Buffer.from(world.disk.meta.visible.get(key) ?? '');
  record[50] = (record[50] ?? 0) ^ 4;
  world.disk.meta.visible.set(key, record);
  await t.rejects(world.open(), { code: 'E_CHECKSUM', message: /folder record/ });
  world.disk.meta.visible.delete(key);
  await t.rejects(world.open(), { code: 'E_FORMAT', message: /metadata is empty/ });
});

await t.test('data of one folder with metadata of another is refused', async (t) => {
  const [mine, other] = [await madeWorld(), new SimStore(2)];
  const { store } = await other.open();
  await other.wait(() => store.close());
  const label = Buffer.alloc(4096);
  other.disk.data.read(0, label);
  mine.disk.data.write(0, label);
  await t.rejects(mine.open(), { code: 'E_FORMAT', message: /do not belong together/ });
});

await t.test('any flipped bit in the label is refused', async (t) => {
  const world = await madeWorld();
  for (let bit = 0; bit < 40 * 8; bit += 1) {
    world.disk.data.flip(bit >> 3, 1 << (bit & 7));
    if ((await codeOf(world.open())) !== 'E_FORMAT') t.fail(`bit ${bit}`);
    world.disk.data.flip(bit >> 3, 1 << (bit & 7));
  }
  t.ok(await world.open(), 'without damage it opens');
});

await t.test('a folder with something else in it is left alone', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-folder-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  fs.writeFileSync(path.join(folder, 'thesis.txt'), 'years of work');
  const open = (create: boolean): Promise<FileStore> =>
    openFileStore(realEnv(silentLog), folder, { create, onFailure: () => undefined });
  await t.rejects(open(true), { code: 'E_FORMAT', message: /something else.*empty folder/ });
  await t.rejects(open(false), { code: 'E_NOT_FOUND', message: /store-image create/ });
  t.same(fs.readdirSync(folder).sort(), ['lock', 'thesis.txt']);
  t.equal(fs.readFileSync(path.join(folder, 'thesis.txt'), 'utf8'), 'years of work');
});
