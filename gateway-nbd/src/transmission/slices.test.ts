import { StoreError, type Done } from '@store/core';
import t from 'tap';
import { SliceQueue } from './slices.js';

const clock = { now: () => performance.now(), wallTime: () => '', wallSeconds: () => 0 };

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

await t.test('an operation is cut at multiples of the slice, and answered once', async (t) => {
  const queue = new SliceQueue(clock, () => false);
  const pieces: [number, number][] = [];
  await new Promise<void>((resolve) => {
    queue.run({
      offset: 3,
      bytes: 20,
      sliceBytes: 8,
      step: (at, count, done) => {
        pieces.push([at, count]);
        done(null);
      },
      done: (error) => {
        t.equal(error, null);
        resolve();
      },
    });
  });
  t.same(pieces, [
    [3, 5],
    [8, 8],
    [16, 7],
  ]);
});

await t.test('a terabyte that is answered at once leaves others their turn', async (t) => {
  const queue = new SliceQueue(clock, () => false);
  let pieces = 0;
  let isDone = false;
  queue.run({
    offset: 0,
    bytes: 2 ** 40,
    sliceBytes: 2 ** 22,
    step: (_at, _count, done) => {
      pieces += 1;
      done(null);
    },
    done: () => {
      isDone = true;
    },
  });
  t.ok(pieces < 2 ** 18, `${pieces} pieces in the first turn`);
  const hasEnded = (): boolean => isDone;
  for (let turns = 0; !hasEnded() && turns < 1_000_000; turns += 1) await turn();
  t.equal(pieces, 2 ** 18);
});

await t.test('two pieces run at a time, and operations take turns', (t) => {
  const queue = new SliceQueue(clock, () => false);
  const waiting: { name: string; done: Done }[] = [];
  for (const name of ['a', 'b', 'c'])
    queue.run({
      offset: 0,
      bytes: 30,
      sliceBytes: 10,
      step: (_at, _count, done) => waiting.push({ name, done }),
      done: () => undefined,
    });
  const order: string[] = [];
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    t.ok(waiting.length < 2, 'no more than two at a time');
    order.push(next.name);
    next.done(null);
  }
  t.equal(order.join(''), 'abcabcabc');
  t.end();
});

await t.test('the first error ends an operation, a client that is gone ends all', (t) => {
  let isGone = false;
  const queue = new SliceQueue(clock, () => isGone);
  const failure = new StoreError('E_NO_SPACE', 'full');
  const answers: (StoreError | null)[] = [];
  let pieces = 0;
  const operation = (step: (done: Done) => void): void =>
    queue.run({
      offset: 0,
      bytes: 30,
      sliceBytes: 10,
      step: (_at, _count, done) => {
        pieces += 1;
        step(done);
      },
      done: (error) => answers.push(error),
    });
  operation((done) => done(failure));
  t.same([pieces, answers], [1, [failure]]);
  let go: Done = () => undefined;
  operation((done) => {
    go = done;
  });
  isGone = true;
  go(null);
  t.same([pieces, answers], [2, [failure, null]]);
  t.end();
});
