import t from 'tap';
import { KEY_BYTES_MAX } from '../util/limits.js';
import { decodePlace, encodePlace } from './cluster-list.js';

t.test('a cursor says which daemon goes on from where', async (t) => {
  const places = [
    { since: 0, begun: 1, daemon: 0, cursor: Buffer.alloc(0) },
    { since: 7, begun: 2 ** 40, daemon: 2 ** 32 - 1, cursor: Buffer.from('where it was') },
  ];
  for (const place of places) t.strictSame(decodePlace(encodePlace(place)), place);
  const longest = Buffer.alloc(KEY_BYTES_MAX + 64, 1);
  const place = { since: 0, begun: 1, daemon: 1, cursor: longest };
  t.ok(encodePlace(place).length <= 1024, 'it fits where cursors go');
});

t.test('what is too short for a cursor is refused', async (t) => {
  const whole = encodePlace({ since: 1, begun: 2, daemon: 3, cursor: Buffer.alloc(0) });
  for (let bytes = 0; bytes < whole.length; bytes += 1)
    t.throws(() => decodePlace(whole.subarray(0, bytes)), { code: 'E_INVALID' });
});
