/** The embedded state under a process that is killed, power that is cut, and a disk that is full, broken or lies. */
import { randomInt } from 'node:crypto';
import { messageOf } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { SimState } from './sim-state.js';
import { get, put, Watcher } from './state-user.js';
import type { EmbeddedState } from './embedded-state.js';
import type { StateSnapshot } from './state-store.js';

const SEEDS = Number(process.env['STORE_TEST_SEEDS'] ?? 60);
const base = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 30));
const STARTS = 6;
const COMMITS = 10;

/** Two keys that always change together, and one that only every other commit makes or deletes. */
function commitRound(state: EmbeddedState, round: number) {
  const value = Buffer.from(`${round}`);
  const odd = { key: 'odd', value: round % 2 === 1 ? value : null };
  return state.commit({
    conditions: [],
    changes: [{ key: 'a', value }, { key: 'b', value }, odd],
  });
}

/** The round that a snapshot is the state after. @throws Error if it is the state after none */
function roundOf({ revision, entries }: StateSnapshot): number {
  const value = (key: string): string | undefined =>
    entries.find((entry) => entry.key === key)?.value.toString();
  const round = Number(value('a') ?? 0);
  const odd = round % 2 === 1 ? `${round}` : undefined;
  if (Number(value('b') ?? 0) !== round || value('odd') !== odd)
    throw new Error(`A commit was applied in part: ${entries.map(({ key }) => key).join()}`);
  if (revision !== round) throw new Error(`Revision ${revision} after round ${round}`);
  return round;
}

await t.test('what was answered survives, what was not is there as a whole or not', async (t) => {
  t.comment(
    `replay: STORE_TEST_SEED=${base} STORE_TEST_SEEDS=1 node master/dist/state/embedded-crash.test.js`,
  );
  const counts = { kept: 0, dropped: 0, unanswered: 0 };
  for (let seed = base; seed < base + SEEDS; seed += 1) {
    const sim = new SimState(seed);
    let round = 0;
    for (let start = 0; start < STARTS; start += 1) {
      const state = await sim.open();
      const found = roundOf(await state.read(''));
      if (start > 0 && found < round) t.fail(`seed ${seed}: round ${round} was lost`);
      if (start > 0) counts[found > round ? 'kept' : 'dropped'] += 1;
      round = found;
      const answered: number[] = [];
      for (let next = found + 1; next <= found + COMMITS; next += 1)
        void commitRound(state, next).then(() => answered.push(next));
      await sim.pass(sim.random.below(COMMITS + 2));
      counts.unanswered += COMMITS - answered.length;
      round = answered.at(-1) ?? found;
      if (roundOf(await state.read('')) !== round)
        t.fail(`seed ${seed}: a reader sees what was not answered`);
      if (sim.random.chance(0.5)) sim.disk.kill();
      else sim.disk.powerCut();
    }
  }
  for (const [name, count] of Object.entries(counts))
    t.ok(count > 0 || SEEDS < 20, `${name}: ${count}`);
});

await t.test('a first start ended at any step is done again', async (t) => {
  let killedAt = 0;
  for (let isDone = false; !isDone; killedAt += 1) {
    const sim = new SimState(1000 + killedAt);
    void sim.start().then(
      () => {
        isDone = true;
      },
      (error: unknown) => t.fail(messageOf(error)),
    );
    await sim.pass(killedAt);
    if (killedAt % 2 === 0) sim.disk.kill();
    else sim.disk.powerCut();
    const state = await sim.open();
    t.ok((await sim.wait(put(state, 'k', 'v'))).applied);
    if (killedAt > 50) t.fail('it never ends');
    if (killedAt > 50) break;
  }
  t.ok(killedAt > 1, `${killedAt} steps`);
});

await t.test('a full disk refuses commits, changes nothing, and the store goes on', async (t) => {
  const sim = new SimState(1);
  const state = await sim.open();
  const { revision } = await sim.wait(put(state, 'k', 'before'));
  const lease = await state.lease(1000);
  const leased = { key: 'leased', value: Buffer.from('x'), lease };
  await sim.wait(state.commit({ conditions: [], changes: [leased] }));
  const watcher = new Watcher();
  state.watch('', revision + 1, watcher);
  sim.disk.capacityBytes = 0;
  t.equal(await sim.wait(codeOf(put(state, 'k', 'refused'))), 'E_NO_SPACE');
  t.same(await get(state, 'k'), { value: 'before', revision });
  await sim.passMs(3000);
  t.not(await get(state, 'leased'), null, 'even a lease cannot end');
  t.equal(await codeOf(lease.keepAlive()), 'E_NOT_FOUND');
  sim.disk.capacityBytes = 2 ** 30;
  await sim.passMs(3000);
  t.equal(await get(state, 'leased'), null, 'it ends when there is room');
  t.ok((await sim.wait(put(state, 'k', 'after'))).applied);
  await sim.pass(1);
  t.same(watcher.lines(), [`${revision + 2}:leased`, `${revision + 3}:k=after`]);
  sim.disk.powerCut();
  t.equal((await get(await sim.open(), 'k'))?.value, 'after');
});

await t.test('after any other error of the disk the store has failed for good', async (t) => {
  const sim = new SimState(2);
  const state = await sim.open();
  const { revision } = await sim.wait(put(state, 'k', 'before'));
  const watcher = new Watcher();
  state.watch('', revision, watcher);
  sim.disk.metaFaults.commitError = 1;
  const codes = Promise.all(['1', '2'].map((value) => codeOf(put(state, 'k', value))));
  t.same(await sim.wait(codes), ['E_IN_DOUBT', 'E_DISK_FAILED']);
  sim.disk.metaFaults.commitError = 0;
  t.equal(await codeOf(put(state, 'k', '3')), 'E_DISK_FAILED');
  t.equal(await codeOf(state.read('')), 'E_DISK_FAILED');
  t.same([watcher.batches.length, watcher.losses.length], [0, 1]);
  await sim.wait(state.close());
  t.equal((await get(await sim.open(), 'k'))?.value, 'before');
});

await t.test('a damaged value is reported by its key, and never returned', async (t) => {
  const sim = new SimState(3);
  const state = await sim.open();
  await sim.wait(put(state, 'good', 'value'));
  await sim.wait(put(state, 'bad', 'value'));
  await sim.wait(state.close());
  const records = sim.disk.meta.visible;
  const stored = [...records].find(([key]) => key.endsWith('bad'));
  if (stored === undefined) throw new Error('The record was not found');
  const [storedKey, bytes] = stored;
  const refusal = async (): Promise<string> => {
    const opened = sim.open();
    t.equal(await codeOf(opened), 'E_CHECKSUM');
    return opened.then(
      () => 'opened',
      (error: unknown) => messageOf(error),
    );
  };
  for (let at = 0; at < bytes.length; at += 1)
    for (const bit of [1, 128]) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(at) ^ bit, at);
      records.set(storedKey, damaged);
      const message = await refusal();
      if (!message.includes("'bad'")) t.fail(`byte ${at}: ${message}`);
    }
  records.set(storedKey, bytes.subarray(0, 5));
  t.match(await refusal(), /'bad'/, 'cut short');
  const good = [...records].find(([key]) => key.endsWith('good'))?.[1];
  records.set(storedKey, good ?? Buffer.alloc(0));
  t.match(await refusal(), /'bad'/, 'the value of another key');
  records.set(storedKey, bytes);
  t.equal((await get(await sim.open(), 'bad'))?.value, 'value');
});
