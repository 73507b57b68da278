import { BLOCK_BYTES, OBJECT_KIND, ObjectRef, type ObjectPool } from '@store/core';
import { SimRandom, simEnv } from '@store/core/sim';
import { PoolUser, codeOf } from '@store/core/testing';
import t from 'tap';
import { SimStore } from './crash/sim-store.js';
import { openFileStore, type FileStore } from './file-store.js';
import { seal } from './format.js';

const STEPS_MAX = 200;

function data(name: string): ObjectRef {
  return new ObjectRef(OBJECT_KIND.imageData, name, name);
}

function block(text: string): Buffer {
  return Buffer.alloc(BLOCK_BYTES, text);
}

function write(world: SimStore, pool: ObjectPool, name: string, at: number, text: string) {
  return world.wait(() => new PoolUser(pool).write(data(name), at * BLOCK_BYTES, block(text)));
}

function read(world: SimStore, pool: ObjectPool, name: string, at: number): Promise<Buffer> {
  return world.wait(() => new PoolUser(pool).read(data(name), at * BLOCK_BYTES, BLOCK_BYTES));
}

function flush(world: SimStore, pool: ObjectPool): Promise<void> {
  return world.wait(() => new PoolUser(pool).flush());
}

function slotOf(store: FileStore, name: string): number {
  return store.parts.table.find(1, data(name)).slot;
}

/** Key of an object's head on the medium. */
function headKeyOf(world: SimStore, name: string): string {
  for (const key of world.disk.meta.visible.keys())
    if (key.startsWith('\x01') && key.slice(13) === name) return key;
  throw new Error(`no head of ${name}`);
}

function changeHead(world: SimStore, name: string, change: (head: Buffer) => void): void {
  const key = headKeyOf(world, name);
  const head = Buffer.from(world.disk.meta.visible.get(key) ?? '');
  change(head);
  for (const medium of [world.disk.meta.visible, world.disk.meta.durable]) medium.set(key, head);
}

/** What has happened when the process dies: flushed, parked, new, zeroed, deleted. */
async function liveALife(world: SimStore): Promise<Map<string, string>> {
  const first = await world.open();
  for (const name of ['a', 'b', 'c']) {
    await write(world, first.pool, name, 0, 'old');
    await write(world, first.pool, name, 1, 'old');
  }
  await world.wait(() => first.store.close());
  const { store, pool } = await world.open();
  await write(world, pool, 'd', 0, 'new object'); // only `live` knows of it
  await world.wait(() => new PoolUser(pool).zero(data('b'), 0, BLOCK_BYTES));
  await world.wait(() => pool.delete(data('c')));
  // Its parts are closed: answered from `live`, not in its place before time passes.
  const user = new PoolUser(pool);
  await Promise.all([
    user.write(data('a'), 0, block('parked')),
    user.write(data('a'), 9 * BLOCK_BYTES, block('far')),
  ]);
  if (store.parts.parked.count === 0) throw new Error('nothing is parked');
  world.disk.kill();
  return new Map([
    ['a 0', 'parked'], ['a 1', 'old'], ['a 9', 'far'], ['b 0', ''], ['b 1', 'old'], ['c 0', ''], ['c 1', ''], ['d 0', 'new object'],
  ]); // prettier-ignore
}

async function differences(world: SimStore, pool: ObjectPool, model: Map<string, string>) {
  const wrong: string[] = [];
  for (const [place, text] of model) {
    const [name = '', at] = place.split(' ');
    const found = await read(world, pool, name, Number(at));
    const expected = text === '' ? Buffer.alloc(BLOCK_BYTES) : block(text);
    if (!found.equals(expected)) wrong.push(place);
  }
  return wrong;
}

await t.test('a killed process loses nothing that was answered', async (t) => {
  const world = new SimStore(1);
  const model = await liveALife(world);
  const { store, pool } = await world.open();
  t.notOk(store.lostUnflushed);
  t.same(await differences(world, pool, model), []);
  await flush(world, pool);
  world.disk.powerCut();
  const again = await world.open();
  t.same(await differences(world, again.pool, model), [], 'and what was flushed is there for good');
});

await t.test('a recovery killed at any step starts again', async (t) => {
  for (let seed = 1; seed <= 4; seed += 1) {
    let steps = 0;
    for (let isDone = false; !isDone && steps < STEPS_MAX; steps += 1) {
      const world = new SimStore(seed);
      const model = await liveALife(world);
      isDone = await startAndDie(world, seed, steps);
      const { store, pool } = await world.open();
      const wrong = await differences(world, pool, model);
      if (wrong.length > 0)
        t.fail(`seed ${seed}, killed after ${steps} steps: ${wrong.join()} wrong`);
      if (store.lostUnflushed)
        t.fail(`seed ${seed}, killed after ${steps} steps: thinks it lost something`);
      await world.wait(() => store.close());
    }
    t.ok(steps > 8 && steps < STEPS_MAX, `seed ${seed}: ${steps} places to die`);
  }
});

/** @returns true if the start was complete when it was killed */
async function startAndDie(world: SimStore, seed: number, steps: number): Promise<boolean> {
  const start = { isDone: false };
  const env = simEnv(world.scheduler, new SimRandom(seed, steps), world.disk);
  const options = { create: false, onFailure: () => undefined };
  void openFileStore(env, 'simulated', options).then(() => (start.isDone = true));
  await new Promise(setImmediate);
  for (let step = 0; step < steps && !start.isDone; step += 1) {
    world.scheduler.step();
    await new Promise(setImmediate);
  }
  world.disk.kill();
  return start.isDone;
}

await t.test('after a power cut live is ignored', async (t) => {
  const world = new SimStore(3);
  const first = await world.open();
  await write(world, first.pool, 'a', 0, 'flushed');
  await flush(world, first.pool);
  await world.wait(() => new PoolUser(first.pool).zero(data('a'), 0, BLOCK_BYTES));
  await write(world, first.pool, 'b', 0, 'unflushed');
  world.disk.kill();
  const live = new Map(world.disk.appendFiles);
  world.disk.powerCut();
  for (const [name, bytes] of live) world.disk.appendFiles.set(name, bytes); // all of it came through
  const { store, pool } = await world.open();
  t.ok(store.lostUnflushed);
  t.same(await read(world, pool, 'a', 0), block('flushed'));
  t.same(await read(world, pool, 'b', 0), Buffer.alloc(BLOCK_BYTES));
});

await t.test('killed while it emptied live, one file alone brings nothing back', async (t) => {
  const world = new SimStore(8);
  const first = await world.open();
  await write(world, first.pool, 'a', 0, 'deleted');
  await world.wait(() => new PoolUser(first.pool).zero(data('a'), 0, BLOCK_BYTES));
  world.disk.kill();
  const live = world.disk.appendFiles.get('live.0') ?? Buffer.alloc(0);
  await world.open();
  world.disk.kill();
  const beginBytes = 17 + live.readUInt32BE(0);
  const recordBytes = 17 + live.readUInt32BE(beginBytes);
  t.ok(
    beginBytes + recordBytes < live.length,
    'the write comes first, the zeroing is another record',
  );
  world.disk.appendFiles.set('live.1', live.subarray(0, beginBytes + recordBytes));
  const { pool } = await world.open();
  t.same(await read(world, pool, 'a', 0), Buffer.alloc(BLOCK_BYTES));
});

await t.test('an object id in live is not given out again', async (t) => {
  const world = new SimStore(4);
  const first = await world.open();
  await write(world, first.pool, 'a', 0, 'a');
  await write(world, first.pool, 'b', 0, 'b');
  const idOf = (store: FileStore, name: string): number =>
    store.parts.table.find(1, data(name)).objectId;
  const [idOfA, idOfB] = [idOf(first.store, 'a'), idOf(first.store, 'b')];
  await world.wait(() => first.pool.delete(data('b')));
  world.disk.kill();
  const { store, pool } = await world.open();
  await write(world, pool, 'c', 0, 'c');
  t.equal(idOf(store, 'a'), idOfA);
  t.ok(idOf(store, 'c') > Math.max(idOfA, idOfB), 'not that of the deleted one either');
  t.not(slotOf(store, 'a'), slotOf(store, 'c'));
});

await t.test('two objects that claim one slot are both refused, loudly', async (t) => {
  const world = new SimStore(5);
  const first = await world.open();
  for (const name of ['a', 'b', 'c']) await write(world, first.pool, name, 0, name);
  const slot = slotOf(first.store, 'a');
  await world.wait(() => first.store.close());
  changeHead(world, 'b', (head) => {
    head.writeUInt32BE(slot, 4);
    seal(Buffer.from(headKeyOf(world, 'b'), 'latin1'), head);
  });
  const { pool, store } = await world.open();
  for (const name of ['a', 'b']) {
    const expected = { code: 'E_CHECKSUM', message: /shares slot 0 with another/ };
    await t.rejects(read(world, pool, name, 0), expected);
    await t.rejects(write(world, pool, name, 0, 'x'), expected);
  }
  t.same(await read(world, pool, 'c', 0), block('c'), 'the others are served');
  await write(world, pool, 'd', 0, 'd');
  t.not(slotOf(store, 'd'), slot);
});

await t.test('an object with an unreadable head keeps its slot', async (t) => {
  const world = new SimStore(6);
  world.disk.dataFaults.punch = 1;
  const first = await world.open();
  for (const name of ['a', 'b']) await write(world, first.pool, name, 0, name);
  const slot = slotOf(first.store, 'a');
  await world.wait(() => first.store.close());
  const second = await world.open(); // ends without a goodbye, so that free slots are given back
  world.disk.kill();
  changeHead(world, 'a', (head) => (head[36] = (head[36] ?? 0) ^ 1));
  const { store, pool } = await world.open();
  t.equal(second.store.lostUnflushed, false);
  const expected = { code: 'E_CHECKSUM', message: /record of object 'a'/ };
  await t.rejects(read(world, pool, 'a', 0), expected);
  t.equal(await codeOf(write(world, pool, 'a', 0, 'x')), 'E_CHECKSUM', 'and is not made anew');
  for (const name of ['c', 'd', 'e']) await write(world, pool, name, 0, name);
  const slots = ['b', 'c', 'd', 'e'].map((name) => slotOf(store, name));
  t.notOk(slots.includes(slot), `slot ${slot} is not among ${slots.join()}`);
  await flush(world, pool);
  const bytes = Buffer.alloc(BLOCK_BYTES);
  world.disk.data.read((slot + 1) * 4 * 1024 * 1024, bytes);
  t.same(bytes, block('a'), 'its bytes are there for a repair');
});
