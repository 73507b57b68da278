/** A disk that fills up: clients are refused first, so that what others have made already can be made here too. */
import {
  BLOCK_BYTES,
  DiskError,
  encodeGuard,
  guardRef,
  OBJECT_KIND,
  ObjectRef,
  pieceChecksOf,
  promised,
  type MetaStore,
} from '@store/core';
import { PoolUser, codeOf } from '@store/core/testing';
import t from 'tap';
import type { Change } from '../replication/change.js';
import { RecordingTap, digestOf, inventoryOf } from '../replication/replica-pool-player.js';
import { SimStory, blocks, data } from './crash/sim-story.js';
import { REPLICATED_PREFIX } from './file-store.js';
import type { FilePool } from './file-pool.js';

const PIECE = data('layer_0');
const NOTE = new ObjectRef(OBJECT_KIND.plain, 'note');
const HEADER = new ObjectRef(OBJECT_KIND.imageHeader, 'header');
const MIB = 1024 * 1024;

async function openPool(world: SimStory, metaStore?: (store: MetaStore) => Partial<MetaStore>) {
  const opened = await world.openWith(metaStore === undefined ? {} : { metaStore });
  const name = `${REPLICATED_PREFIX}pool`;
  const pool = await world.wait(() => opened.store.openPool(name, { create: true }));
  const tap = new RecordingTap();
  pool.announceTo(tap);
  return { ...opened, pool, tap, user: new PoolUser(pool) };
}

function write(version: number, first: number, count: number): Change {
  const bytes = blocks('applied', count);
  const checks = pieceChecksOf(0, [bytes]);
  const length = (first + count) * BLOCK_BYTES;
  return { op: 'write', object: PIECE, version, first, blocks: [bytes], checks, length };
}

function applied(world: SimStory, pool: FilePool, change: Change): Promise<string | null> {
  return world.wait(() => codeOf(promised((done) => pool.apply(change, done))));
}

await t.test('clients are refused while changes of others still have room', async (t) => {
  const world = new SimStory(1);
  const { pool, user, tap } = await openPool(world);
  t.equal(pool.isFull, false);
  await world.wait(() => user.write(data('other'), 0, Buffer.alloc(4 * MIB, 'x')));
  await world.wait(() => user.write(HEADER, 0, Buffer.from('an image')));
  tap.changes.length = 0;
  // An eighth of so small a disk is kept free.
  world.disk.capacityBytes = Math.floor((world.disk.usedBytes() * 8) / 7);
  await world.pass(300);
  t.equal(pool.isFull, true);
  t.equal(await world.wait(() => codeOf(user.write(PIECE, 0, blocks('x')))), 'E_NO_SPACE');
  t.equal(await world.wait(() => codeOf(user.write(NOTE, 0, blocks('x')))), 'E_NO_SPACE');
  t.same(tap.changes, [], 'and nobody hears of it');
  const guard = encodeGuard({ image: 'vm', token: 1, layer: 0, layerId: 'layer' });
  const raise = (): Promise<void> =>
    promised((done) => pool.write(guardRef('vm', 3, 16), 0, [guard], 0, done));
  t.equal(await world.wait(() => codeOf(raise())), null, 'an image can be opened all the same');
  t.equal(tap.changes.splice(0).length, 1);
  const unmarked = (await world.wait(() => pool.stat(HEADER)))?.version ?? 0;
  const mark = Buffer.from('an image that goes away');
  const marked = await world.wait(() => user.compareAndSwap(HEADER, unmarked, mark));
  const grown = codeOf(user.compareAndSwap(HEADER, marked, Buffer.alloc(4096)));
  t.equal(await world.wait(() => grown), 'E_NO_SPACE', 'it may be marked, and no more');
  tap.changes.length = 0;
  t.same(tap.notMadeOf, []);
  t.equal(await applied(world, pool, write(5, 0, 4)), null);
  const content = Buffer.from('x');
  t.equal(await applied(world, pool, { op: 'whole', object: NOTE, version: 6, content }), null);
  let version = 7;
  let code: string | null = null;
  while (code === null && version < 1000) {
    code = await applied(world, pool, write(version, version, 1));
    version += 1;
  }
  t.equal(code, 'E_NO_SPACE', 'in the end there is none left for anybody');
  const freeBytes = world.disk.capacityBytes - world.disk.usedBytes();
  t.ok(freeBytes > world.disk.capacityBytes / 32, 'but for commits');
  t.equal(await applied(world, pool, { op: 'delete', object: NOTE, version }), null);
});

await t.test('an overwrite that was announced and cannot be opened is reported', async (t) => {
  const world = new SimStory(1);
  const isFull = { meta: false };
  const first = await openPool(world);
  await world.wait(() => first.user.write(PIECE, 0, blocks('old', 64)));
  await world.wait(() => first.store.close());
  const { user, pool, tap, store } = await openPool(world, (meta) => ({
    commit: (changes, done) => {
      if (isFull.meta) setImmediate(() => done(new DiskError('ENOSPC', 'full')));
      else meta.commit(changes, done);
    },
  }));
  isFull.meta = true;
  const refused = user.write(PIECE, 0, blocks('new', 64)); // too large to be parked
  t.equal(await world.wait(() => codeOf(refused)), 'E_NO_SPACE');
  t.match(tap.changes, [{ op: 'write', first: 0 }], 'others make it');
  t.match(tap.notMadeOf, [{ place: PIECE.place }]);
  isFull.meta = false;
  const before = await world.wait(() => digestOf(pool, PIECE));
  await world.wait(() => user.write(PIECE, 64 * BLOCK_BYTES, blocks('more')));
  const after = await world.wait(() => digestOf(pool, PIECE));
  t.ok((after?.version ?? 0) > (before?.version ?? 0));
  await world.wait(() => user.flush());
  await world.pass(60_000);
  t.match(
    await world.wait(() => inventoryOf(pool)),
    [{ isClosed: false }],
    'its version does not prove that it is whole',
  );
  await world.wait(() => store.close());
  const again = await openPool(world);
  t.match(await world.wait(() => inventoryOf(again.pool)), [{ isClosed: false }], 'nor later');
});
