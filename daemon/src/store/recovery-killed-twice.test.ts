/**
 * Both files of `live` hold records when the process dies, and one write is answered and not in its place. The next
 * start is killed at every step it has: the one after it still finds all of it, and nothing that is out of date.
 */
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data } from './crash/sim-story.js';

const [PARKED, ZEROED, FILLER] = [data('parked'), data('zeroed'), data('filler')];
/** Beyond what the part of the first blocks covers, so that it is not open. */
const FAR = 256;
/** A few records fill one file of `live`, and the other takes over. */
const CHANGES = { limits: { liveBytesSwitch: 3000 } };
const FILLER_WRITES = 60;
const STEPS_MAX = 60;
/** Not every seed leaves the parked write where it is until the kill. */
const SEEDS_MAX = 12;

/** A life that ends with a kill; null if the parked write landed or one of the files is empty. */
async function liveALife(seed: number): Promise<SimStory | null> {
  const world = new SimStory(seed);
  const first = await world.openWith(CHANGES);
  for (const ref of [PARKED, ZEROED]) await world.write(first, ref, 0, blocks('old', 16));
  await world.close(first);

  const second = await world.openWith(CHANGES);
  const { user } = second;
  await world.write(second, FILLER, 0, blocks('filler'));
  // A flush takes its records; what comes while it runs fills the file and goes on in the other one.
  const answers = [codeOf(user.flush())];
  world.scheduler.step();
  await new Promise(setImmediate);
  for (let at = 1; at < FILLER_WRITES; at += 1)
    answers.push(codeOf(user.write(FILLER, at * blocks('').length, blocks('filler'))));
  answers.push(codeOf(user.write(ZEROED, FAR * blocks('').length, blocks('deleted'))));
  for (const answer of await world.wait(() => Promise.all(answers)))
    if (answer !== null) throw new Error(`A write was answered ${answer}`);
  await world.zero(second, ZEROED, FAR, 1);
  const parked = { isAnswered: false };
  second.pool.write(PARKED, 2 * blocks('').length, [blocks('new')], 0, (error) => {
    parked.isAnswered = error === null;
  });
  const hasBoth = ['live.0', 'live.1'].every((name) => isFilled(world, name));
  const isParked = parked.isAnswered && second.store.parts.parked.count === 1;
  world.disk.kill();
  return hasBoth && isParked ? world : null;
}

/** It holds more than its first record. */
function isFilled(world: SimStory, name: string): boolean {
  const bytes = world.disk.appendFiles.get(name) ?? Buffer.alloc(4);
  return bytes.length > 17 + bytes.readUInt32BE(0);
}

/** @returns true if the start was complete before it could be killed */
async function startAndDie(world: SimStory, steps: number): Promise<boolean> {
  const start = { isDone: false };
  void world.start(CHANGES).then(() => (start.isDone = true));
  await new Promise(setImmediate);
  for (let step = 0; step < steps && !start.isDone; step += 1) {
    world.scheduler.step();
    await new Promise(setImmediate);
  }
  world.disk.kill();
  return start.isDone;
}

await t.test('a recovery with two files of live starts again from any step', async (t) => {
  let stories = 0;
  for (let seed = 1; stories < 3 && seed <= SEEDS_MAX; seed += 1) {
    if ((await liveALife(seed)) === null) continue;
    stories += 1;
    let steps = 0;
    for (let isDone = false; !isDone && steps < STEPS_MAX; steps += 1) {
      const world = await liveALife(seed);
      if (world === null) throw new Error(`Seed ${seed} lives two lives`);
      isDone = await startAndDie(world, steps);
      const killed = `seed ${seed}, killed after ${steps} steps`;
      const last = await world.openWith(CHANGES);
      if (!(await world.read(last, PARKED, 2)).equals(blocks('new')))
        t.fail(`${killed}: an answered write is lost`);
      if (!(await world.read(last, ZEROED, FAR)).equals(blocks('')))
        t.fail(`${killed}: what was zeroed is back`);
      for (const at of [0, FILLER_WRITES - 1])
        if (!(await world.read(last, FILLER, at)).equals(blocks('filler')))
          t.fail(`${killed}: block ${at} is lost`);
      if (last.store.lostUnflushed) t.fail(`${killed}: thinks it lost something`);
    }
    t.ok(steps > 8 && steps < STEPS_MAX, `seed ${seed}: ${steps} places to die`);
  }
  t.equal(stories, 3, 'so many seeds lead to the story');
});
