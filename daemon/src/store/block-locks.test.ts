import fc from 'fast-check';
import t from 'tap';
import { BlockLocks, type BlockLock } from './block-locks.js';

interface Request {
  readonly id: number;
  readonly first: number;
  readonly last: number;
  readonly exclusive: boolean;
}

function overlap(left: Request, right: Request): boolean {
  return (
    left.first <= right.last && right.first <= left.last && (left.exclusive || right.exclusive)
  );
}

/** The rule itself: a request runs as soon as no unfinished one that came earlier overlaps it. */
function runningByRule(unfinished: readonly Request[]): number[] {
  return unfinished
    .filter(
      (request, index) => !unfinished.slice(0, index).some((other) => overlap(other, request)),
    )
    .map(({ id }) => id);
}

const request = fc.record({
  first: fc.nat(7),
  blocks: fc.nat(3),
  exclusive: fc.boolean(),
  /** Released within its own start, as an operation that needs no waiting. */
  instant: fc.boolean(),
});
const steps = fc.array(fc.oneof({ weight: 2, arbitrary: request }, fc.nat(100)), {
  maxLength: 60,
});

await t.test('locks are granted in order of arrival among those that overlap', (t) => {
  fc.assert(
    fc.property(steps, (script) => {
      const locks = new BlockLocks();
      let unfinished: Request[] = [];
      const started: number[] = [];
      const held = new Map<number, BlockLock>();
      const finish = (id: number): void => {
        unfinished = unfinished.filter((other) => other.id !== id);
      };
      for (const [id, step] of script.entries()) {
        if (typeof step === 'number') {
          const [victim, lock] = [...held][step % Math.max(1, held.size)] ?? [];
          if (victim === undefined || lock === undefined) continue;
          held.delete(victim);
          finish(victim);
          locks.release(lock);
        } else {
          const wanted = { ...step, id, last: step.first + step.blocks };
          const waits = unfinished.some((other) => overlap(other, wanted));
          if (locks.conflicts(wanted.first, wanted.last, wanted.exclusive) !== waits) return false;
          unfinished.push(wanted);
          locks.acquire(wanted.first, wanted.last, wanted.exclusive, (lock) => {
            if (!runningByRule(unfinished).includes(id)) throw new Error(`${id} is too early`);
            started.push(id);
            if (step.instant) {
              finish(id);
              locks.release(lock);
            } else held.set(id, lock);
          });
        }
        const running = [...held.keys()].sort((left, right) => left - right);
        if (running.join() !== runningByRule(unfinished).join()) return false;
        if (locks.idle !== (unfinished.length === 0)) return false;
      }
      // Whoever waits has its turn, if those before it finish.
      while (held.size > 0) {
        const [[id, lock]] = [...held] as [[number, BlockLock]]; // there is one
        held.delete(id);
        finish(id);
        locks.release(lock);
      }
      return locks.idle && new Set(started).size === started.length;
    }),
    { numRuns: 500 },
  );
  t.pass('agrees with the rule');
  t.end();
});

await t.test('a stream of readers does not starve a writer', (t) => {
  const locks = new BlockLocks();
  const events: string[] = [];
  const held: BlockLock[] = [];
  const take = (name: string, exclusive: boolean): void =>
    locks.acquire(0, 0, exclusive, (lock) => {
      events.push(name);
      held.push(lock);
    });
  take('reader 1', false);
  take('reader 2', false);
  take('writer', true);
  take('reader 3', false);
  t.same(events, ['reader 1', 'reader 2']);
  for (const lock of held.splice(0)) locks.release(lock);
  t.same(events, ['reader 1', 'reader 2', 'writer']);
  for (const lock of held.splice(0)) locks.release(lock);
  t.same(events.at(-1), 'reader 3');
  t.end();
});

await t.test('a queue of instant operations runs without growing the stack', (t) => {
  const locks = new BlockLocks();
  let first: BlockLock | undefined;
  locks.acquire(0, 0, true, (lock) => (first = lock));
  const order: number[] = [];
  for (let index = 0; index < 3000; index += 1)
    locks.acquire(0, 0, true, (lock) => {
      order.push(index);
      locks.release(lock);
    });
  if (first !== undefined) locks.release(first);
  t.same(
    order,
    Array.from({ length: 3000 }, (_, index) => index),
  );
  t.ok(locks.idle);
  t.end();
});

await t.test('a lock taken while another is being started waits its turn', (t) => {
  const locks = new BlockLocks();
  const events: string[] = [];
  let outer: BlockLock | undefined;
  locks.acquire(0, 3, true, (lock) => (outer = lock));
  locks.acquire(0, 0, true, (lock) => {
    events.push('first');
    locks.acquire(0, 0, true, (inner) => {
      events.push('inner');
      locks.release(inner);
    });
    locks.release(lock);
  });
  locks.acquire(0, 0, true, (lock) => {
    events.push('second');
    locks.release(lock);
  });
  if (outer !== undefined) locks.release(outer);
  t.same(events, ['first', 'second', 'inner']);
  t.ok(locks.idle);
  t.end();
});

await t.test('a start that releases another lock frees those who came before it', (t) => {
  const locks = new BlockLocks();
  const events: string[] = [];
  const held: BlockLock[] = [];
  for (const block of [0, 1]) locks.acquire(block, block, true, (lock) => held.push(lock));
  locks.acquire(0, 0, true, () => events.push('earlier'));
  locks.acquire(1, 1, true, () => {
    events.push('later');
    for (const lock of held.splice(0)) locks.release(lock);
  });
  const second = held.pop();
  if (second !== undefined) locks.release(second);
  t.same(events, ['later', 'earlier']);
  t.end();
});

await t.test('a lock is released once', (t) => {
  const locks = new BlockLocks();
  locks.acquire(0, 0, true, (lock) => {
    locks.release(lock);
    t.throws(() => locks.release(lock), { message: /released once/ });
  });
  t.end();
});
