import t from 'tap';
import { parseDuration } from './duration.js';

t.test('times are minutes, hours and days, up to ten years', (t) => {
  t.equal(parseDuration('90m'), 5400);
  t.equal(parseDuration('12h'), 43_200);
  t.equal(parseDuration('30d'), 2_592_000);
  t.equal(parseDuration('3653d'), 315_619_200);
  for (const text of ['', '30', '30 d', '30D', '1.5h', '-1d', '+1d', '1w', '30dd', '١d', '1e3d'])
    t.throws(() => parseDuration(text), { code: 'E_INVALID', message: /30d, 12h or 90m/ }, text);
  for (const text of ['0m', '00d', '3654d', '87673h', '999999999d'])
    t.throws(() => parseDuration(text), { code: 'E_INVALID', message: /out of range/ }, text);
  t.end();
});
