/** Chains with as many layers as there may be, over an object that is in as many pieces as it can be. */
import { BLOCK_STATE, OBJECT_KIND, ObjectRef, type Chain } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import { ServedFolder } from './testing/served-folder.js';

const BLOCK = 4096;
const OBJECT = 1024 * BLOCK;
const LAYERS = 256;

t.test('a daemon outlives an object in pieces at the top of a deep chain', async (t) => {
  const served = await ServedFolder.open();
  const remote = await served.connect({});
  t.teardown(async () => {
    await remote.close();
    await served.remove();
  });
  const pool = await remote.openPool('pool', { create: true });
  const chain: Chain = Array.from({ length: LAYERS }, (_, level) => ({
    id: `layer${level}`,
    overlap: OBJECT,
  }));
  const ref = (level: number): ObjectRef =>
    new ObjectRef(OBJECT_KIND.imageData, `layer${level}_0`, 'family_0');
  const user = new PoolUser(pool);
  const expected = Buffer.alloc(OBJECT, 'bottom');
  await user.write(ref(LAYERS - 1), 0, expected);
  const piece = Buffer.alloc(BLOCK, 'top');
  const writes: Promise<void>[] = [];
  for (let at = 0; at < OBJECT; at += 2 * BLOCK) {
    writes.push(user.write(ref(0), at, piece));
    piece.copy(expected, at);
  }
  await Promise.all(writes);
  const view = new PoolUser(await pool.layered(chain));
  const extents = await view.extents(ref(0), 0, OBJECT);
  t.strictSame(extents, [{ bytes: OBJECT, state: BLOCK_STATE.data }]);
  t.ok((await view.read(ref(0), 0, OBJECT)).equals(expected));
  t.equal(remote.counters.connects, 1, 'it was there all the time');
});
