import t from 'tap';
import { numbers, textTable, words } from './text-table.js';

await t.test('columns line up, numbers at the right, and no line ends in spaces', async (t) => {
  const rows = [
    ['全部', '7', 'first'],
    ['b', '1234', ''],
  ];
  t.equal(
    textTable([words('NAME'), numbers('N'), words('LAST')], rows),
    ['NAME     N  LAST', '全部     7  first', 'b     1234'].join('\n'),
  );
  t.equal(textTable([words('NAME')], []), 'NAME');
});

await t.test('a cell stays one line', async (t) => {
  t.equal(textTable([words('A'), words('B')], [['x\ny', 'z']]), 'A         B\nx\\u000ay  z');
});

await t.test('a table may be long', async (t) => {
  const rows = Array.from({ length: 200_000 }, (_, index) => [String(index)]);
  t.equal(textTable([numbers('N')], rows).split('\n').length, 200_001);
});
