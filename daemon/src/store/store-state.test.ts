/** What metrics are made of: each number moves when that happens which it counts. */
import t from 'tap';
import { codeOf } from '@store/core/testing';
import { SimStory, blocks, data } from './crash/sim-story.js';

const REF = data('written');

await t.test('state() counts what is dirty, open, cached and parked', async (t) => {
  const world = new SimStory(1);
  const opened = await world.openWith();
  const { store } = opened;
  const fresh = store.state();
  t.match(fresh, { openObjects: 0, cachedObjects: 0, parkedWrites: 0, hasFailed: false });
  t.ok((fresh.space?.totalBytes ?? 0) >= (fresh.space?.freeBytes ?? 0));
  await world.write(opened, REF, 0, blocks('old', 16));
  t.match(store.state(), { openObjects: 1, cachedObjects: 1, dirtyBytes: 16 * 4096 });
  await world.flush(opened);
  t.match(store.state(), { dirtyBytes: 0, counters: { flushes: 1 } });
  t.equal(fresh.counters.flushes, 0, 'a state is a copy');
  t.ok((store.state().space?.freeBytes ?? 0) < (fresh.space?.freeBytes ?? 0), 'space was taken');
  await world.close(opened);
  t.match(store.state(), { space: null, hasFailed: false }, 'a closed store has no disk');

  const again = await world.openWith();
  // What is closed must be opened first: the write is answered before it is in its place.
  let isAnswered = false;
  again.pool.write(REF, 0, [blocks('new', 2)], 0, () => (isAnswered = true));
  t.ok(isAnswered);
  t.match(again.store.state(), { parkedWrites: 1, parkedBytes: 8192 });
  await world.flush(again);
  t.match(again.store.state(), {
    parkedWrites: 0,
    parkedBytes: 0,
    counters: { parkedWrites: 1, opens: 1 },
  });
});

await t.test('state() says that the disk failed', async (t) => {
  const world = new SimStory(2);
  const opened = await world.openWith();
  await world.write(opened, REF, 0, blocks('x'));
  world.disk.dataFaults.syncError = 1;
  t.equal(await codeOf(world.flush(opened)), 'E_DISK_FAILED');
  t.ok(opened.store.state().hasFailed);
});

await t.test('state() counts damage that arrives', async (t) => {
  const world = new SimStory(3);
  const { store, pool } = await world.openWith();
  const sent = new Promise((resolve) =>
    pool.writeChecked(REF, 0, [blocks('x')], Uint32Array.of(1), 0, resolve),
  );
  t.match(await sent, { code: 'E_CHECKSUM' });
  t.match(store.state().counters, { arrivedDamaged: 1, checksumErrors: 0 });
});
