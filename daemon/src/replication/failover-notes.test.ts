import t from 'tap';
import type { Log } from '@store/core';
import { FailoverNotes } from './failover-notes.js';

t.test('a daemon that dies is one line, however many groups it was in', async (t) => {
  const lines: string[] = [];
  const warn = (fields: object, text: string): void => {
    lines.push(`${JSON.stringify(fields)} ${text}`);
  };
  const notes = new FailoverNotes({ warn } as unknown as Log);
  for (let group = 0; group < 300; group += 1) notes.asks('take', 3);
  notes.asks('remove', 3);
  notes.asks('remove', 4);
  notes.asks('joined', 5);
  notes.tick(1000);
  const said = [
    '{"daemon":3} The primary of 300 groups is silent: asks to take its place',
    '{"daemon":3} A member of 1 group cannot be waited for: asks to go on without it',
    '{"daemon":4} A member of 1 group cannot be waited for: asks to go on without it',
  ];
  t.same(lines, said);

  notes.asks('take', 3);
  notes.asks('take', 3);
  notes.tick(1999);
  t.equal(lines.length, 3, 'not within a second');
  notes.tick(2000);
  t.equal(lines[3], '{"daemon":3} The primary of 2 groups is silent: asks to take its place');
  notes.tick(3000);
  notes.tick(4000);
  t.equal(lines.length, 4, 'and nothing when there is nothing new');
});
