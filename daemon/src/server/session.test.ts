import { REQUEST_SPAN_MAX } from '@store/core';
import fc from 'fast-check';
import t from 'tap';
import { Session } from './session.js';

const answerOf = (id: number): { status: number; body: Buffer } => ({
  status: id % 3,
  body: Buffer.from(`answer ${id}`),
});

const newSession = (incarnation: number): Session =>
  new Session('client a', incarnation, { count: 0, added: () => undefined });

t.test('a request is run once, and answered again from what was kept', async (t) => {
  const session = newSession(1);
  t.equal(session.admit(1, 0), 'run');
  t.equal(session.admit(1, 0), 'drop', 'it runs');
  session.finished(1, answerOf(1));
  t.strictSame(session.admit(1, 0), answerOf(1));
  t.strictSame(session.admit(1, 1), answerOf(1), 'its own floor does not end it');
  t.equal(session.runningCount, 0);
});

t.test(
  'what lies below the floor is dropped and forgotten, and the floor never falls',
  async (t) => {
    const session = newSession(1);
    t.equal(session.admit(1, 1), 'run');
    session.finished(1, answerOf(1));
    t.equal(session.admit(5, 3), 'run');
    t.equal(session.admit(1, 1), 'drop', 'a late copy with an old floor');
    t.equal(session.admit(2, 0), 'drop', 'given up before it came');
    t.equal(session.admitAgain(2, 0), false, 'nor is it read');
    t.equal(session.admitAgain(4, 0), true);
    t.equal(session.admitAgain(9, 9), true);
    t.equal(session.admit(5, 0), 'drop', 'a read raises the floor too');
  },
);

t.test('one that runs while the floor passes it ends, and its answer is not kept', async (t) => {
  const session = newSession(1);
  session.admit(1, 1);
  session.admit(2, 2);
  t.equal(session.runningCount, 2);
  session.finished(1, answerOf(1));
  t.equal(session.runningCount, 1);
  t.equal(session.admit(1, 0), 'drop');
  session.finished(2, answerOf(2));
  await session.whenQuiet();
});

t.test('ids may be as far from the floor as the span, and no further', async (t) => {
  const session = newSession(1);
  t.equal(session.admit(100, 100), 'run');
  t.equal(session.admit(100 + REQUEST_SPAN_MAX - 1, 100), 'run');
  for (const far of [100 + REQUEST_SPAN_MAX, 2 ** 32, Number.MAX_SAFE_INTEGER])
    t.throws(() => session.admit(far, 100), { code: 'E_BAD_FRAME' });
  t.equal(session.runningCount, 2, 'what was refused does not count');
  t.equal(session.admit(100 + REQUEST_SPAN_MAX, 101), 'run', 'when the floor has risen');
});

t.test('a session belongs to who began it, and to the newest connection', async (t) => {
  const session = newSession(5);
  let superseded = 0;
  session.holder = { superseded: () => (superseded += 1) };
  t.throws(() => session.takeOver('client b', 6), { code: 'E_DENIED', message: /another client/ });
  for (const old of [0, 4, 5])
    t.throws(() => session.takeOver('client a', old), { code: 'E_DENIED', message: /newer/ });
  t.equal(superseded, 0);
  session.takeOver('client a', 6);
  t.equal(superseded, 1);
  t.throws(() => session.takeOver('client a', 6), { code: 'E_DENIED' });
});

t.test('whenQuiet resolves when the last has ended, for all who wait', async (t) => {
  const session = newSession(1);
  session.admit(1, 0);
  session.admit(2, 0);
  const order: string[] = [];
  const waits = ['one', 'two'].map((name) => session.whenQuiet().then(() => order.push(name)));
  session.finished(1, answerOf(1));
  await Promise.resolve();
  t.strictSame(order, []);
  session.finished(2, answerOf(2));
  await Promise.all(waits);
  t.strictSame(order, ['one', 'two']);
});

t.test('however often and in whatever order copies come, each id runs at most once', async (t) => {
  const step = fc.record({
    id: fc.integer({ min: 1, max: 40 }),
    floor: fc.integer({ min: 0, max: 40 }),
    ends: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const session = newSession(1);
      const runs = new Map<number, number>();
      const running = new Set<number>();
      let floor = 0;
      for (const { id, floor: claimed, ends } of steps) {
        floor = Math.max(floor, Math.min(claimed, id));
        const admission = session.admit(id, Math.min(claimed, id));
        if (admission === 'run') {
          if (runs.has(id) || id < floor) throw new Error(`request ${id} is run again or late`);
          runs.set(id, 1);
          running.add(id);
        } else if (admission !== 'drop') {
          if (running.has(id) || !runs.has(id) || id < floor)
            throw new Error(`request ${id} has no answer yet`);
          t.strictSame(admission, answerOf(id));
        } else if (id >= floor && !running.has(id)) throw new Error(`request ${id} is dropped`);
        if (ends && running.delete(id)) session.finished(id, answerOf(id));
        if (session.runningCount !== running.size) throw new Error('the count is wrong');
      }
    }),
  );
});
