import t from 'tap';
import type { Random } from './env.js';
import { BackOff } from './back-off.js';

const always = (value: number): Random => ({ bytes: (count) => Buffer.alloc(count, value) });

t.test(
  'it waits twice as long each time, up to two seconds, and from the start after a success',
  async (t) => {
    const longest = new BackOff(always(255), 600_000);
    const waits = Array.from({ length: 10 }, () => longest.next());
    t.strictSame(waits, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000]);
    longest.reset();
    t.equal(longest.next(), 20);
  },
);

t.test('not all wait equally long, and never less than half', async (t) => {
  const shortest = new BackOff(always(0), 600_000);
  t.strictSame([shortest.next(), shortest.next(), shortest.next()], [10, 20, 40]);
});

t.test('who gives up soon is not kept waiting for longer than a quarter of that', async (t) => {
  const hasty = new BackOff(always(255), 400);
  const waits = Array.from({ length: 6 }, () => hasty.next());
  t.strictSame(waits, [20, 40, 80, 100, 100, 100]);
});
