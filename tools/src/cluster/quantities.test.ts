import t from 'tap';
import { bar, counted, formatDuration, percentOf, roughly } from './quantities.js';

await t.test('durations have the two largest units', async (t) => {
  const shown = [0, 59.9, 60, 3599, 3600, 7500, 86_399, 86_400, 90_000, 8_640_000];
  t.same(shown.map(formatDuration), [
    ...['0 s', '59 s', '1 m', '59 m', '1 h', '2 h 5 m', '23 h 59 m', '1 d', '1 d 1 h', '100 d'],
  ]);
});

await t.test('only what is full is 100 %, and only what is empty 0 %', async (t) => {
  t.same(
    [percentOf(0, 10), percentOf(1, 100_000), percentOf(999, 1000), percentOf(10, 10)],
    [0, 1, 99, 100],
  );
  t.same([percentOf(5, 0), percentOf(11, 10), percentOf(-1, 10)], [0, 100, 0]);
  t.same([bar(0, 1, 4), bar(1, 2, 4), bar(9, 9, 4)], ['[....]', '[##..]', '[####]']);
});

await t.test('counts and rates read well', async (t) => {
  t.same([counted(1, 'copy', 'copies'), counted(2, 'copy', 'copies')], ['1 copy', '2 copies']);
  t.same(
    [roughly(0.04), roughly(0.31), roughly(9.96), roughly(1234.5)],
    ['0', '0.3', '10', '1235'],
  );
});
