/** Writes were answered from `live`, and the disk has no room at the moment they are to get into their place. */
import { DiskError } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data, type OpenedStory } from './crash/sim-story.js';

const X = data('x');
/** Longer than a parked write waits before it tries again. */
const RETRIED_MS = 1000;

function full(): DiskError {
  return new DiskError('ENOSPC', 'no space left on device');
}

/** What has no room at the moment. */
interface Refusals {
  appends: boolean;
  writes: boolean;
  commits: boolean;
}

/** A closed object, and a disk that refuses on demand. */
async function madeWorld(seed: number) {
  const world = new SimStory(seed);
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('old', 64));
  await world.close(first);
  const refusals: Refusals = { appends: false, writes: false, commits: false };
  const opened = await world.openWith({
    appendFile: (file) => ({
      append: (parts) => {
        if (refusals.appends) throw full();
        file.append(parts);
      },
    }),
    dataFile: (file) => ({
      tryWrite: (position, parts) => {
        if (refusals.writes) throw full();
        return file.tryWrite(position, parts);
      },
      write: (position, parts, done) => {
        if (refusals.writes) world.scheduler.at(1, () => done(full()));
        else file.write(position, parts, done);
      },
    }),
    metaStore: (store) => ({
      commit: (changes, done) => {
        if (refusals.commits) world.scheduler.at(1, () => done(full()));
        else store.commit(changes, done);
      },
    }),
  });
  return { world, opened, refusals };
}

/** A small write to a closed part. */
async function park(world: SimStory, opened: OpenedStory): Promise<void> {
  await world.write(opened, X, 0, blocks('parked'));
  if (opened.store.parts.parked.count !== 1) throw new Error('The write is not parked');
}

/** It serves, closes, and all is there at the next start. */
async function isWhole(world: SimStory, opened: OpenedStory): Promise<boolean> {
  const isServed = (await world.read(opened, X, 0)).equals(blocks('parked'));
  await world.flush(opened);
  await world.close(opened);
  const next = await world.openWith();
  const isKept = (await world.read(next, X, 0)).equals(blocks('parked'));
  const others = await world.read(next, X, 2);
  return isServed && isKept && others.equals(blocks('old')) && !next.store.lostUnflushed;
}

await t.test('live has no room to note that a write landed', async (t) => {
  const { world, opened, refusals } = await madeWorld(1);
  await park(world, opened);
  refusals.appends = true;
  await world.pass(100);
  refusals.appends = false;
  await world.pass(RETRIED_MS);
  t.equal(opened.store.parts.parked.count, 0);
  t.ok(await isWhole(world, opened));
});

await t.test('killed then, a later write to the same place is not undone', async (t) => {
  for (let seed = 1; seed <= 8; seed += 1) {
    const { world, opened, refusals } = await madeWorld(seed);
    await park(world, opened);
    refusals.appends = true;
    refusals.commits = seed % 2 === 0;
    await world.pass(100);
    const later = codeOf(opened.user.write(X, 0, blocks('later')));
    await world.pass(RETRIED_MS);
    refusals.appends = false;
    refusals.commits = false;
    t.equal(await world.wait(() => later), null);
    world.disk.kill();
    const next = await world.openWith();
    t.same(await world.read(next, X, 0), blocks('later'), `seed ${seed}`);
  }
});

await t.test('an overwrite is refused and tried again', async (t) => {
  const { world, opened, refusals } = await madeWorld(2);
  refusals.writes = true;
  await park(world, opened);
  t.equal(await codeOf(world.flush(opened)), 'E_NO_SPACE', 'flushes say so meanwhile');
  refusals.writes = false;
  await world.pass(RETRIED_MS);
  t.equal(opened.store.parts.parked.count, 0);
  t.ok(await isWhole(world, opened));
});

await t.test('the open is refused, and another write opens the part first', async (t) => {
  const { world, opened, refusals } = await madeWorld(3);
  refusals.commits = true;
  await park(world, opened);
  await world.pass(50);
  refusals.commits = false;
  await world.write(opened, X, 1, blocks('other'));
  await world.pass(RETRIED_MS);
  t.equal(opened.store.parts.parked.count, 0);
  t.same(await world.read(opened, X, 1), blocks('other'));
  t.ok(await isWhole(world, opened));
});

await t.test('a write of which a part got there is neither torn nor unreadable', async (t) => {
  for (const isFlushed of [false, true]) {
    const world = new SimStory(4);
    let isShort = false;
    const opened = await world.openWith({
      dataFile: (file) => ({
        tryWrite: (position, parts) => !isShort && file.tryWrite(position, parts),
        write: (position, parts, done) => {
          if (!isShort) {
            file.write(position, parts, done);
            return;
          }
          isShort = false;
          const writtenBytes = blocks('').length;
          file.write(position, [Buffer.concat(parts).subarray(0, writtenBytes)], () =>
            done(new DiskError('ENOSPC', 'no space left on device', { writtenBytes })),
          );
        },
      }),
    });
    await world.write(opened, X, 0, blocks('old'));
    if (isFlushed) await world.flush(opened);
    isShort = true;
    t.equal(await codeOf(world.write(opened, X, 0, blocks('new', 2))), 'E_NO_SPACE');
    t.same(await world.read(opened, X, 0), blocks('new'), 'the block that got there');
    t.same(await world.read(opened, X, 1), blocks(''));
    await world.close(opened);
    const next = await world.openWith();
    t.same(await world.read(next, X, 0), blocks('new'));
    t.same(await world.read(next, X, 1), blocks(''));
  }
});
