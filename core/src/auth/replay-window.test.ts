import fc from 'fast-check';
import t from 'tap';
import { REPLAY_WINDOW, ReplayWindow } from './replay-window.js';

await t.test('each counter is taken once, in any order within 4096', (t) => {
  const window = new ReplayWindow();
  t.notOk(window.take(0), 'counters begin at 1');
  t.notOk(window.take(-5));
  t.ok(window.take(5000));
  for (let counter = 5000; counter > 5000 - REPLAY_WINDOW; counter -= 1)
    if (window.take(counter) !== counter < 5000) t.fail(`${counter} for the first time`);
  for (let counter = 5000; counter > 0; counter -= 1)
    if (window.take(counter)) t.fail(`${counter} again, or too old`);
  t.notOk(window.isNew(5000 - REPLAY_WINDOW), 'one older than the window');
  t.end();
});

await t.test('it agrees with a set of all that ever came, whatever comes', (t) => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -80, max: 80 }) },
    { weight: 2, arbitrary: fc.integer({ min: -4200, max: 4200 }) },
    { weight: 1, arbitrary: fc.constantFrom(-4096, -4095, -4097, 4096, 4127, 4128, 4129, 32, 31) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 40 }) },
  );
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 400 }), (steps) => {
      const window = new ReplayWindow();
      const met = new Set<number>();
      let highest = 0;
      for (const one of steps) {
        const counter = highest + one;
        const expected = counter >= 1 && counter > highest - REPLAY_WINDOW && !met.has(counter);
        if (window.isNew(counter) !== expected || window.take(counter) !== expected) return false;
        if (!expected) continue;
        met.add(counter);
        highest = Math.max(highest, counter);
      }
      return window.highest === highest;
    }),
    { numRuns: 500 },
  );
  t.end();
});

await t.test('a jump over any distance forgets nothing new and remembers nothing old', (t) => {
  for (const jump of [1, 31, 32, 4095, 4096, 4097, 4128, 4129, 10 ** 6, 2 ** 47]) {
    const window = new ReplayWindow();
    for (let counter = 1; counter <= 4200; counter += 1) window.take(counter);
    t.ok(window.take(4200 + jump));
    for (let counter = Math.max(4201, 4200 + jump - 4095); counter < 4200 + jump; counter += 1)
      if (!window.take(counter)) t.fail(`${counter} after a jump of ${jump}`);
    for (let counter = 1; counter <= 4200; counter += 1)
      if (window.take(counter)) t.fail(`${counter} again after a jump of ${jump}`);
  }
  t.end();
});
