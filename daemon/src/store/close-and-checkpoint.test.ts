/** A store is closed on a full disk, or while its background work runs: it ends in order, and starts again. */
import { DiskError } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory, blocks, data, plain, type OpenChanges } from './crash/sim-story.js';

const X = data('x');
/** Notes what reaches a file or the metadata after it was closed: on a real disk it hits whatever is there by then. */
function watched(): { late: string[]; changes: OpenChanges } {
  const late: string[] = [];
  const state = { isClosed: false };
  const note = (what: string): void => {
    if (state.isClosed) late.push(what);
  };
  const changes: OpenChanges = {
    dataFile: (file) => ({
      read: (position, target, done) => {
        note('read');
        file.read(position, target, done);
      },
      write: (position, parts, done) => {
        note('write');
        file.write(position, parts, done);
      },
      sync: (done) => {
        note('sync');
        file.sync(done);
      },
    }),
    metaStore: (store) => ({
      commit: (changes, done) => {
        note('commit');
        store.commit(changes, done);
      },
      close: () => {
        state.isClosed = true;
        return store.close();
      },
    }),
  };
  return { late, changes };
}

/** The background has closed everything by then. */
const CLOSED_MS = 15_000;

await t.test('an idle store on a full disk closes without being marked as failed', async (t) => {
  const world = new SimStory(1);
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('x'));
  await world.flush(first);
  await world.pass(CLOSED_MS);
  const { capacityBytes } = world.disk;
  world.disk.capacityBytes = world.disk.usedBytes();
  await world.close(first);
  world.disk.capacityBytes = capacityBytes;
  t.notOk(world.disk.smallFiles.has('failed'));
  t.same(await world.read(await world.openWith(), X, 0), blocks('x'));
});

await t.test(
  'a checkpoint that runs when the store is closed does nothing behind it',
  async (t) => {
    for (let wait = 0; wait < 24; wait += 1) {
      const world = new SimStory(2);
      const first = await world.openWith();
      for (let index = 0; index < 4; index += 1)
        await world.write(first, data(`${index}`), 0, blocks('x', 64));
      await world.flush(first);
      world.disk.kill();
      const { late, changes } = watched();
      const second = await world.openWith({ ...changes, limits: { openMsMax: 1000 } });
      await world.pass(1990 + wait);
      await world.close(second);
      await world.pass(100);
      if (late.length > 0) t.fail(`closed after ${1990 + wait} ms: then ${late.join()}`);
      if (world.disk.smallFiles.has('failed')) t.fail(`closed after ${1990 + wait} ms: it failed`);
      const third = await world.openWith();
      t.same(await world.read(third, data('3'), 63), blocks('x'));
    }
  },
);

await t.test(
  'a document that left its slot before the background came is passed over',
  async (t) => {
    const world = new SimStory(3);
    const document = plain('document');
    const first = await world.openWith();
    await world.wait(() => first.user.write(document, 0, Buffer.alloc(100_000, 'D')));
    await world.flush(first);
    world.disk.kill();
    const second = await world.openWith();
    const before = await world.wait(() => second.pool.stat(document));
    await world.wait(() =>
      second.user.compareAndSwap(document, before?.version ?? 0, Buffer.from('small')),
    );
    await world.pass(2 * CLOSED_MS);
    t.equal(second.store.parts.openSet.count, 0);
    t.equal((await world.wait(() => second.user.read(document, 0, 5))).toString(), 'small');
  },
);

await t.test('a close that gives up on a parked write leaves it to the next start', async (t) => {
  const world = new SimStory(4);
  const first = await world.openWith();
  await world.write(first, X, 0, blocks('old', 16));
  await world.close(first);
  let isFull = false;
  const { late, changes } = watched();
  const second = await world.openWith({
    ...changes,
    metaStore: (store) => {
      const seen = changes.metaStore?.(store) ?? {};
      return {
        ...seen,
        commit: (records, done) => {
          if (isFull) world.scheduler.at(1, () => done(new DiskError('ENOSPC', 'full')));
          else seen.commit?.(records, done);
        },
      };
    },
  });
  isFull = true;
  await world.write(second, X, 0, blocks('parked'));
  t.equal(
    await codeOf(world.close(second)),
    'E_NO_SPACE',
    'it is not in its place, and that is said',
  );
  isFull = false;
  await world.pass(2000);
  t.same(late, [], 'nothing is tried behind the close');
  t.notOk(world.disk.smallFiles.has('failed'));
  const third = await world.openWith();
  t.same(await world.read(third, X, 0), blocks('parked'));
});
