import t from 'tap';
import { WriteTally } from './write-tally.js';

t.test('a loss is told to each flush that it came between, and then no more', async (t) => {
  const losses = { count: 0 };
  const tally = new WriteTally(losses);
  tally.answered();
  const [first, second] = [tally.flushCalled(), tally.flushCalled()];
  tally.answered();
  losses.count += 1;
  tally.answered();
  t.notOk(tally.flushed(first));
  t.notOk(tally.flushed(second));
  t.notOk(tally.flushed(tally.flushCalled()), 'what was answered while they were under way');
  tally.answered();
  t.ok(tally.flushed(tally.flushCalled()), 'what was written after the loss is safe');
});

t.test('who has nothing to lose is told nothing', async (t) => {
  const losses = { count: 0 };
  const tally = new WriteTally(losses);
  losses.count += 1;
  t.ok(tally.flushed(tally.flushCalled()));
  tally.answered();
  t.ok(tally.flushed(tally.flushCalled()));
  losses.count += 1;
  t.ok(tally.flushed(tally.flushCalled()), 'all was flushed before');
});

t.test('a flush that failed leaves its writes to the next one', async (t) => {
  const losses = { count: 0 };
  const tally = new WriteTally(losses);
  tally.answered();
  const failed = tally.flushCalled();
  losses.count += 1;
  tally.answered();
  tally.flushFailed(failed);
  t.notOk(tally.flushed(tally.flushCalled()));
});
