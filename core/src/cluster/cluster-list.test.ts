import t from 'tap';
import { KEY_BYTES_MAX } from '../util/limits.js';
import { BitSet } from './bit-set.js';
import { decodePlace, encodePlace } from './cluster-list.js';

function setOf(limit: number, ...numbers: number[]): BitSet {
  const set = new BitSet(limit);
  for (const number of numbers) set.add(number);
  return set;
}

t.test('a cursor says what is listed, and who goes on from where', async (t) => {
  for (const groups of [1, 2, 8, 64, 128])
    for (const cursor of [Buffer.alloc(0), Buffer.alloc(KEY_BYTES_MAX + 64, 1)]) {
      const done = setOf(groups, 0);
      const place = { done, begun: setOf(groups, groups - 1), daemon: 2 ** 32 - 1, cursor };
      const bytes = encodePlace(place);
      t.strictSame(decodePlace(bytes, groups), place);
      t.ok(bytes.length <= 1024, 'it fits where cursors go');
    }
});

t.test('what is too short for a cursor is refused', async (t) => {
  const [done, begun] = [setOf(16, 3), setOf(16, 4)];
  const whole = encodePlace({ done, begun, daemon: 3, cursor: Buffer.alloc(0) });
  for (let bytes = 0; bytes < whole.length; bytes += 1)
    t.throws(() => decodePlace(whole.subarray(0, bytes), 16), { code: 'E_INVALID' });
});

t.test('a set has what was added to it', async (t) => {
  const set = setOf(64, 0, 7, 8, 63, 8);
  t.strictSame(set.all(), [0, 7, 8, 63]);
  t.equal(set.size, 4);
  t.ok(set.has(63));
  t.notOk(set.has(62));
  t.notOk(set.has(1000), 'nor is what cannot be in it');
});
