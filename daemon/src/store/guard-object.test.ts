/** The guard of an image as an object of the engine, which clients cannot get at whatever they call it. */
import {
  encodeGuard,
  guardRef,
  OBJECT_KIND,
  ObjectRef,
  promised,
  type StoreError,
} from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStory } from './crash/sim-story.js';

const GUARD = encodeGuard({ image: 'vm', token: 7, layer: 0, layerId: 'layer' });

t.test('who names the place of a guard by another kind gets nothing of it', async (t) => {
  const world = new SimStory(77);
  let opened = await world.openWith();
  const ref = guardRef('vm', 3, 16);
  const written = opened.pool;
  await world.wait(() => promised((done) => written.write(ref, 0, [GUARD], 0, done)));
  world.disk.powerCut();
  opened = await world.openWith();
  const { pool } = opened;
  const { plain, imageHeader, imageData } = OBJECT_KIND;
  for (const kind of [plain, imageHeader, imageData]) {
    const other = new ObjectRef(kind, ref.key, ref.key, ref.hash);
    const attempts: (() => Promise<unknown>)[] = [
      () => promised((done) => pool.read(other, 0, Buffer.alloc(8), done)),
      () => promised((done) => pool.write(other, 0, [GUARD], 0, done)),
      () => promised((done) => pool.zero(other, 0, 8, 0, done)),
      () => pool.stat(other),
      () => pool.delete(other),
      () => pool.compareAndSwap(other, 0, GUARD),
    ];
    for (const [index, attempt] of attempts.entries())
      t.equal(
        await world.wait<StoreError['code'] | null>(() => codeOf(attempt())),
        'E_INVALID',
        `${kind}, ${index}`,
      );
  }
  const seen = Buffer.alloc(GUARD.length);
  await world.wait(() => promised((done) => pool.read(ref, 0, seen, done)));
  t.ok(seen.equals(GUARD), 'what was answered survives a power cut');
  await world.close(opened);
});
