import t from 'tap';
import { displayWidth, padded, printable } from './printable.js';

await t.test(
  'names of others cannot move the cursor, break the line or turn it around',
  async (t) => {
    t.equal(printable('a\x1b[2J\r\nb\u0085'), 'a\\u001b[2J\\u000d\\u000ab\\u0085');
    t.equal(printable('x\u202ecod.exe\u2028y'), 'x\\u202ecod.exe\\u2028y');
    t.equal(printable('\ud800'), '\\ud800');
    const harmless = 'vms 全部 é 👩‍👧 -=*';
    t.equal(printable(harmless), harmless);
  },
);

await t.test('the width is what a terminal shows', async (t) => {
  t.equal(displayWidth('vms'), 3);
  t.equal(displayWidth('全部'), 4);
  t.equal(displayWidth('ｶﾅ'), 2, 'half-width forms');
  t.equal(displayWidth('e\u0301'), 1, 'a combining accent');
  t.equal(displayWidth('🙂'), 2);
  t.equal(padded('全', 4, 'end'), '全  ');
  t.equal(padded('全', 4, 'start'), '  全');
  t.equal(padded('too long', 3, 'end'), 'too long');
});
