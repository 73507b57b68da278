import t from 'tap';
import { FlushHabit } from './flush-habit.js';

function rounds(habit: FlushHabit, count: number, changes = 1): boolean[] {
  return Array.from({ length: count }, () => {
    const expected = Array.from({ length: changes }, () => habit.changed());
    habit.flushed();
    return expected.some((one) => one);
  });
}

t.test('a flush is expected once four in a row came after a single change', (t) => {
  const habit = new FlushHabit();
  t.same(rounds(habit, 6), [false, false, false, false, true, true]);
  t.equal(habit.changed(), true);
  t.equal(habit.changed(), false, 'no flush came');
  habit.flushed();
  t.same(rounds(habit, 5), [false, false, false, false, true], 'and it begins anew');
  t.end();
});

t.test(
  'who changes more than one thing between flushes, or flushes nothing, has no such habit',
  (t) => {
    const habit = new FlushHabit();
    t.same(
      rounds(habit, 10, 2),
      Array.from({ length: 10 }, () => false),
    );
    for (let flush = 0; flush < 10; flush += 1) habit.flushed();
    t.equal(habit.changed(), false);
    t.end();
  },
);

t.test('a flush that has nothing to do changes nothing', (t) => {
  const habit = new FlushHabit();
  rounds(habit, 4);
  habit.flushed();
  t.equal(habit.changed(), true);
  t.end();
});
