/** Layers behave the same whether they are resolved here or by a daemon: as plain buffers laid over each other. */
import { randomInt } from 'node:crypto';
import {
  BLOCK_STATE,
  CHAINS_MAX,
  LayeredView,
  MemStore,
  OBJECT_KIND,
  ObjectRef,
  WRITE_FLAGS,
  type Chain,
  type ObjectPool,
} from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { ServedFolder } from './testing/served-folder.js';

const KIB = 1024;
const OBJECT = 4 * KIB * KIB;
/** Only the beginning of object 1 is used. */
const USED = 256 * KIB;
/** The oldest layer ends within a block. */
const CHAIN: Chain = [
  { id: 'top', overlap: 0 },
  { id: 'middle', overlap: OBJECT + USED },
  { id: 'bottom', overlap: OBJECT + 100 * KIB + 512 },
];
const SEED_VARIABLE = 'STORE_TEST_SEED';

const ref = (layer: string): ObjectRef =>
  new ObjectRef(OBJECT_KIND.imageData, `${layer}_1`, 'family_1');

const range = fc
  .record({
    offset: fc.oneof(
      fc.nat({ max: USED - 1 }),
      fc.nat({ max: USED / 4096 - 1 }).map((block) => block * 4096),
    ),
    bytes: fc.oneof(fc.integer({ min: 1, max: 20_000 }), fc.constantFrom(512, 4096, 65_536)),
  })
  .map(({ offset, bytes }) => ({ offset, bytes: Math.min(bytes, USED - offset) }));
const step = fc.record({
  act: fc.constantFrom('write', 'write', 'zero', 'read', 'extents'),
  range,
  fill: fc.integer({ min: 1, max: 250 }),
});

/** @param below - The pool without layers, to prepare them and to look at them */
async function story(t: Test, below: ObjectPool, layered: ObjectPool): Promise<void> {
  const seed = Number(process.env[SEED_VARIABLE] ?? randomInt(2 ** 31));
  t.comment(`replay: ${SEED_VARIABLE}=${seed} node ${process.argv[1] ?? ''}`);
  const user = new PoolUser(below);
  const view = new PoolUser(layered);
  const seen = Buffer.alloc(USED);
  const parents = new Map<string, Buffer>();
  for (const { id, overlap } of [...CHAIN].reverse()) {
    if (id === 'top') continue;
    const own = Buffer.alloc(USED);
    const shown = Math.min(USED, overlap - OBJECT);
    for (const { range, fill } of fc.sample(step, { seed: seed + overlap, numRuns: 12 })) {
      const offset = Math.floor(range.offset / 4096) * 4096;
      await user.write(ref(id), offset, Buffer.alloc(4096, fill));
      own.fill(fill, offset, offset + 4096);
      seen.fill(fill, Math.min(shown, offset), Math.min(shown, offset + 4096));
    }
    parents.set(id, own);
  }
  for (const { act, range, fill } of fc.sample(step, { seed, numRuns: 300 })) {
    const { offset, bytes } = range;
    const what = `${act} ${bytes} at ${offset}`;
    if (act === 'write') {
      await view.write(ref('top'), offset, Buffer.alloc(bytes, fill));
      seen.fill(fill, offset, offset + bytes);
    } else if (act === 'zero') {
      await view.zero(ref('top'), offset, bytes);
      seen.fill(0, offset, offset + bytes);
    } else if (act === 'read') {
      const found = await view.read(ref('top'), offset, bytes);
      if (!found.equals(seen.subarray(offset, offset + bytes))) t.fail(what);
    } else {
      let at = offset;
      for (const extent of await view.extents(ref('top'), offset, bytes)) {
        const part = seen.subarray(at, at + extent.bytes);
        if (extent.state !== BLOCK_STATE.data && part.some((byte) => byte !== 0)) t.fail(what);
        at += extent.bytes;
      }
      t.equal(at, offset + bytes, `${what}: all of it`);
    }
  }
  t.ok((await view.read(ref('top'), 0, USED)).equals(seen), 'all of it in the end');
  for (const [id, own] of parents)
    t.ok((await user.read(ref(id), 0, USED)).equals(own), `${id} is as it was`);
}

t.test('layers resolved in this process', async (t) => {
  const pool = await new MemStore().openPool('p', { create: true });
  await story(t, pool, new LayeredView(pool, CHAIN));
});

for (const datagramBytes of [0, 8192])
  t.test(`layers resolved by a daemon, datagrams of ${datagramBytes}`, async (t) => {
    const served = await ServedFolder.open();
    t.teardown(() => served.remove());
    const store = await served.connect({ datagramBytes });
    const pool = await store.openPool('p', { create: true });
    await story(t, pool, await pool.layered(CHAIN));
    await store.close();
  });

t.test('a chain is known again after the daemon was restarted', async (t) => {
  const served = await ServedFolder.open();
  t.teardown(() => served.remove());
  const store = await served.connect();
  const pool = await store.openPool('p', { create: true });
  const user = new PoolUser(pool);
  await user.write(ref('bottom'), 0, Buffer.from('below'));
  const view = new PoolUser(await pool.layered(CHAIN));
  await user.flush();
  await served.stop();
  await served.start();
  t.equal((await view.read(ref('top'), 0, 5)).toString(), 'below');
  await view.write(ref('top'), 1, Buffer.from('E'));
  t.equal((await view.read(ref('top'), 0, 5)).toString(), 'bElow', 'the block was copied up');
  t.equal((await user.read(ref('bottom'), 0, 5)).toString(), 'below');
  await store.close();
});

t.test(
  'a client that uses more chains than a connection keeps is served all the same',
  async (t) => {
    const served = await ServedFolder.open();
    t.teardown(() => served.remove());
    for (const datagramBytes of [0, 8192]) {
      const store = await served.connect({ datagramBytes });
      const pool = await store.openPool('p', { create: true });
      const base = new PoolUser(pool);
      await base.write(ref('bottom'), 0, Buffer.from('below'));
      const views: PoolUser[] = [];
      for (let count = 0; count < CHAINS_MAX + 40; count += 1) {
        const chain = [
          { id: `own${count}`, overlap: 0 },
          { id: 'bottom', overlap: OBJECT + 4096 },
        ];
        views.push(new PoolUser(await pool.layered(chain)));
      }
      const order = views.map((_, index) => index);
      for (const round of [order, [...order].reverse()])
        await Promise.all(
          round.map(async (index) => {
            const top = ref(`own${index}`);
            const seen = await views[index]?.read(top, 0, 5);
            if (seen?.toString() !== 'below')
              t.fail(`chain ${index}: ${seen?.toString() ?? 'nothing'}`);
          }),
        );
      t.equal(store.counters.connects, 1);
      await store.close();
    }
  },
);

t.test('what does not belong to the chain is refused', async (t) => {
  const pool = await new MemStore().openPool('p', { create: true });
  const view = new PoolUser(new LayeredView(pool, CHAIN));
  t.equal(await codeOf(view.read(ref('middle'), 0, 1)), 'E_INVALID');
  t.throws(() => new LayeredView(pool, []), { code: 'E_INVALID' });
  t.throws(() => new LayeredView(pool, [{ id: 'x', overlap: -1 }]), { code: 'E_INVALID' });
  await view.write(ref('top'), 0, Buffer.alloc(4096, 1), WRITE_FLAGS.durable);
});
