import t from 'tap';
import { Rounds } from './rounds.js';

t.test('who asks hears when all before are over, and waits for nobody after', async (t) => {
  const rounds = new Rounds();
  const over: string[] = [];
  rounds.whenOver(() => over.push('at once'));
  t.same(over, ['at once']);
  const first = rounds.begin();
  const second = rounds.begin();
  rounds.whenOver(() => over.push('a'));
  const later = rounds.begin();
  rounds.whenOver(() => over.push('b'));
  rounds.whenOver(() => over.push('c'));
  const last = rounds.begin();
  rounds.end(later);
  rounds.end(first);
  t.same(over, ['at once']);
  rounds.end(second);
  t.same(over, ['at once', 'a', 'b', 'c']);
  rounds.whenOver(() => over.push('d'));
  t.equal(over.length, 4);
  rounds.end(last);
  t.equal(over.pop(), 'd');
});
