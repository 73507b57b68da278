/**
 * A client that wrote and has not flushed learns from the lineage whether its writes may be gone: it changes with every
 * loss, however often the starts after it die, and with nothing else.
 */
import t from 'tap';
import { BLOCK_BYTES } from '@store/core';
import { checkFolder } from './check.js';
import { SimStory, blocks, data } from './crash/sim-story.js';
import { LINEAGE_KEY, sealed } from './format.js';
import { SimRandom, simEnv } from '@store/core/sim';

const REF = data('written');
const STEPS_MAX = 60;
const ZEROS = '0'.repeat(32);

/** A world in which a write was answered and not flushed. @returns it and its lineage */
async function writtenWorld(seed: number): Promise<{ world: SimStory; lineage: string }> {
  const world = new SimStory(seed);
  const opened = await world.openWith();
  await world.write(opened, REF, 0, blocks('flushed', 2));
  await world.flush(opened);
  await world.write(opened, REF, 300, blocks('answered'));
  return { world, lineage: opened.store.lineage.toString('hex') };
}

async function lineageOfNextStart(world: SimStory): Promise<string> {
  const { store } = await world.openWith();
  return store.lineage.toString('hex');
}

/** Starts and is killed after so many steps. @returns true if it was complete before */
async function startAndDie(world: SimStory, steps: number): Promise<boolean> {
  const start = { isDone: false };
  // What becomes of it nobody will know: it dies on the way.
  world.start().then(
    () => (start.isDone = true),
    () => undefined,
  );
  await new Promise(setImmediate);
  for (let step = 0; step < steps && !start.isDone; step += 1) {
    world.scheduler.step();
    await new Promise(setImmediate);
  }
  world.disk.kill();
  return start.isDone;
}

/** Starts and dies after so many changes of `live`. @returns false if the start was complete before */
async function startAndDieInLive(world: SimStory, changes: number): Promise<boolean> {
  let left = changes;
  const change = (work: () => void): void => {
    if (left === 0) {
      world.disk.kill();
      throw new Error('The process is dead');
    }
    left -= 1;
    work();
  };
  try {
    await world.openWith({
      appendFile: (file) => ({
        truncate: () => change(() => file.truncate()),
        append: (parts) => change(() => file.append(parts)),
      }),
    });
    return false;
  } catch (error) {
    if (left > 0) throw error;
    return true;
  }
}

await t.test('kills and clean stops keep the lineage, a power cut changes it', async (t) => {
  const { world, lineage } = await writtenWorld(1);
  t.equal(lineage, ZEROS, 'nothing was ever lost');
  world.disk.kill();
  const second = await world.openWith();
  t.equal(second.store.lineage.toString('hex'), lineage, 'a kill loses nothing');
  t.notOk(second.store.lostUnflushed);
  const { diskId, startId } = second.store;
  await world.close(second);
  world.disk.powerCut();
  const third = await world.openWith();
  t.equal(third.store.lineage.toString('hex'), lineage, 'nor does a power cut after a clean stop');
  t.same(third.store.diskId, diskId);
  t.notSame(third.store.startId, startId, 'each start has its own id');
  world.disk.powerCut();
  const changed = await lineageOfNextStart(world);
  t.not(changed, lineage, 'a power cut may lose what was not flushed');
  world.disk.kill();
  t.equal(await lineageOfNextStart(world), changed, 'and is noticed once');
  world.disk.powerCut();
  t.notOk([lineage, changed].includes(await lineageOfNextStart(world)), 'each cut has its own');
});

for (const [title, between] of [
  ['killed', () => undefined],
  ['killed, and the power fails again', (world: SimStory) => world.disk.powerCut()],
] as const)
  await t.test(`a loss is not hidden by a start that is ${title} at any step`, async (t) => {
    for (let seed = 1; seed <= 4; seed += 1) {
      let steps = 0;
      for (let isDone = false; !isDone && steps < STEPS_MAX; steps += 1) {
        const { world, lineage } = await writtenWorld(seed);
        world.disk.powerCut();
        isDone = await startAndDie(world, steps);
        between(world);
        const after = await lineageOfNextStart(world);
        if (after === lineage) t.fail(`seed ${seed}, killed after ${steps} steps: it is hidden`);
        world.disk.kill();
        if ((await lineageOfNextStart(world)) !== after)
          t.fail(`seed ${seed}, killed after ${steps} steps: the change is not durable`);
      }
      t.ok(steps > 2 && steps < STEPS_MAX, `seed ${seed}: ${steps} places to die`);
    }
  });

await t.test('a loss is not hidden by a start that dies while it begins live anew', async (t) => {
  let count = 0;
  for (let isDone = false; !isDone && count < STEPS_MAX; count += 1) {
    const { world, lineage } = await writtenWorld(1);
    world.disk.powerCut();
    isDone = !(await startAndDieInLive(world, count));
    world.disk.kill();
    if ((await lineageOfNextStart(world)) === lineage)
      t.fail(`died after ${count} changes of live: it is hidden`);
  }
  t.ok(count > 3 && count < STEPS_MAX, `${count} places to die`);
});

for (const isClean of [true, false])
  await t.test(
    `a start killed at any step after a ${isClean ? 'clean stop and a reboot' : 'kill'} loses nothing`,
    async (t) => {
      let steps = 0;
      for (let isDone = false; !isDone && steps < STEPS_MAX; steps += 1) {
        const { world, lineage } = await writtenWorld(3);
        world.disk.kill();
        if (isClean) {
          await world.close(await world.openWith());
          world.disk.powerCut();
        }
        isDone = await startAndDie(world, steps);
        const last = await world.openWith();
        const where = `killed after ${steps} steps`;
        if (last.store.lineage.toString('hex') !== lineage) t.fail(`${where}: a false alarm`);
        if (last.store.lostUnflushed) t.fail(`${where}: thinks it lost something`);
        const seen = await world.read(last, REF, 300);
        if (!seen.equals(blocks('answered'))) t.fail(`${where}: an answered write is lost`);
      }
      t.ok(steps > 2 && steps < STEPS_MAX, `${steps} places to die`);
    },
  );

await t.test('after a failed sync the lineage changes although the machine went on', async (t) => {
  const { world, lineage } = await writtenWorld(1);
  world.disk.kill();
  const failing = await world.openWith();
  await world.write(failing, REF, 400, blocks('never synced'));
  world.disk.dataFaults.syncError = 1;
  await t.rejects(world.flush(failing), { code: 'E_DISK_FAILED' });
  world.disk.dataFaults.syncError = 0;
  world.disk.kill();
  const report = await world.wait(() =>
    checkFolder(simEnv(world.scheduler, new SimRandom(9, 9), world.disk), 'simulated', {
      acceptDamage: false,
      onProgress: () => undefined,
    }),
  );
  t.ok(report.isUsable && report.hadFailed, 'store check accepts the disk');
  t.not(await lineageOfNextStart(world), lineage, 'but says to clients that writes may be gone');
});

await t.test('store check after a power cut does not swallow the loss', async (t) => {
  const { world, lineage } = await writtenWorld(2);
  world.disk.powerCut();
  await world.wait(() =>
    checkFolder(simEnv(world.scheduler, new SimRandom(9, 9), world.disk), 'simulated', {
      acceptDamage: false,
      onProgress: () => undefined,
    }),
  );
  t.not(await lineageOfNextStart(world), lineage);
});

await t.test('a damaged record of the lineage counts as a loss', async (t) => {
  const { world, lineage } = await writtenWorld(1);
  world.disk.kill();
  const name = LINEAGE_KEY.toString('latin1');
  for (const value of [
    Buffer.alloc(20, 1),
    sealed(LINEAGE_KEY, Buffer.alloc(5)),
    Buffer.alloc(0),
  ]) {
    for (const medium of [world.disk.meta.visible, world.disk.meta.durable])
      medium.set(name, value);
    const opened = await world.openWith();
    const found = opened.store.lineage.toString('hex');
    t.not(found, lineage);
    t.equal((await world.read(opened, REF, 0)).length, BLOCK_BYTES, 'the folder is served');
    world.disk.kill();
    t.equal(await lineageOfNextStart(world), found, 'and stays so');
    world.disk.kill();
  }
});
