import { StoreError } from '@store/core';
import t from 'tap';
import type { Engine } from './engine.js';
import { PARKED_WRITE_BYTES_MAX, ParkedWrites } from './parked-writes.js';

function makeParked(): { parked: ParkedWrites; live: { sequence: number } } {
  const live = { sequence: 100 };
  const engine = {
    limits: { parkedBytesMax: 3 * PARKED_WRITE_BYTES_MAX },
    counters: { parkedWrites: 0 },
    live,
  } as unknown as Engine; // what it uses of it
  return { parked: new ParkedWrites(engine), live };
}

await t.test('a flush waits for what is parked now, not for what comes later', (t) => {
  const { parked } = makeParked();
  const events: string[] = [];
  parked.whenLanded(() => events.push('nothing to wait for'));
  t.same(events, ['nothing to wait for']);
  parked.park(5, 4096);
  parked.park(7, 4096);
  parked.whenLanded((stuck) => events.push(stuck === null ? 'landed' : 'stuck'));
  parked.park(9, 4096);
  parked.landed(7);
  t.equal(events.length, 1, 'the older one is not in its place');
  parked.landed(5);
  t.equal(events.at(-1), 'landed');
  t.equal(parked.count, 1);
  t.end();
});

await t.test('live must be kept from the oldest parked write on', (t) => {
  const { parked, live } = makeParked();
  t.equal(parked.recordedSequence(), 100);
  parked.park(101, 4096);
  parked.park(103, 4096);
  live.sequence = 110;
  t.equal(parked.recordedSequence(), 100);
  parked.landed(103);
  t.equal(parked.recordedSequence(), 100, 'the order of landing means nothing');
  parked.landed(101);
  t.equal(parked.recordedSequence(), 110);
  t.end();
});

await t.test('writes that cannot land fail the flushes that wait for them', (t) => {
  const { parked } = makeParked();
  const answers: (string | null)[] = [];
  const wait = (): void => parked.whenLanded((stuck) => answers.push(stuck?.code ?? null));
  parked.park(1, 4096);
  wait();
  parked.park(2, 4096);
  wait();
  parked.stuck(new StoreError('E_NO_SPACE', 'full'));
  t.same(answers, ['E_NO_SPACE', 'E_NO_SPACE']);
  wait();
  parked.landed(1);
  t.equal(answers.length, 2, 'a later flush waits anew');
  parked.landed(2);
  t.same(answers, ['E_NO_SPACE', 'E_NO_SPACE', null]);
  t.end();
});

await t.test('small writes are parked up to a limit, which comes back as they land', (t) => {
  const { parked } = makeParked();
  t.notOk(parked.hasRoom(PARKED_WRITE_BYTES_MAX + 1), 'a large one is not');
  for (const sequence of [1, 2, 3]) {
    t.ok(parked.hasRoom(PARKED_WRITE_BYTES_MAX));
    parked.park(sequence, PARKED_WRITE_BYTES_MAX);
  }
  t.notOk(parked.hasRoom(1));
  parked.landed(2);
  t.ok(parked.hasRoom(PARKED_WRITE_BYTES_MAX));
  t.end();
});

await t.test('parked writes come in the order of live', (t) => {
  const { parked } = makeParked();
  parked.park(2, 4096);
  t.throws(() => parked.park(2, 4096), { message: /in order/ });
  t.end();
});
