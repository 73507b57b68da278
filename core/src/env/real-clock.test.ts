import { uptime } from 'node:os';
import t from 'tap';
import { realClock, realRandom, realTimers } from './real-clock.js';

await t.test('the clock counts milliseconds since boot and never goes back', async (t) => {
  const clock = realClock();
  const start = clock.now();
  let last = start;
  for (let step = 0; step < 1000; step += 1) {
    const now = clock.now();
    if (now < last) t.fail('went back');
    last = now;
  }
  await new Promise((resolve) => setTimeout(resolve, 30));
  const passed = clock.now() - start;
  t.ok(passed >= 29 && passed < 5000, `${passed} ms for 30`);
  t.ok(Math.abs(clock.now() / 1000 - uptime()) < 5, 'agrees with the uptime of the machine');
  t.match(clock.wallTime(), /^20\d\d-\d\d-\d\dT/);
});

await t.test('a timer runs once, unless it is cancelled', async (t) => {
  const events: string[] = [];
  realTimers.after(5, () => events.push('ran'));
  const cancelled = realTimers.after(5, () => events.push('cancelled'));
  cancelled.cancel();
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.same(events, ['ran']);
  t.throws(() => realTimers.after(2 ** 31, () => undefined), { message: /2\^31-1/ });
});

await t.test('random bytes differ', (t) => {
  t.equal(realRandom.bytes(16).length, 16);
  t.notOk(realRandom.bytes(16).equals(realRandom.bytes(16)));
  t.end();
});
