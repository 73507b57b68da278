import t from 'tap';
import { decodeFlush, encodeFlush, FLUSH_BYTES_MAX } from './flush-request.js';
import { NAMED_GROUPS_MAX } from './wire-limits.js';

t.test('a flush names its pool, and groups with their epochs', async (t) => {
  t.equal(encodeFlush(7, []).toString('hex'), '07000000');
  const groups = [
    { group: 0, epoch: 1 },
    { group: 65_535, epoch: 2 ** 32 - 1 },
  ];
  const body = encodeFlush(7, groups);
  t.equal(body.toString('hex'), '07000000' + '000001000000' + 'ffffffffffff');
  t.strictSame(decodeFlush(body), { pool: 7, groups });
  t.strictSame(decodeFlush(encodeFlush(0, [])), { pool: 0, groups: [] });
});

t.test(
  'a flush that ends in the middle of a group, or names too many, is E_BAD_FRAME',
  async (t) => {
    const whole = encodeFlush(7, [{ group: 1, epoch: 1 }]);
    for (let bytes = 0; bytes < whole.length; bytes += 1)
      if (bytes !== 4)
        t.throws(() => decodeFlush(whole.subarray(0, bytes)), { code: 'E_BAD_FRAME' });
    const groups = Array.from({ length: NAMED_GROUPS_MAX }, (_, group) => ({ group, epoch: 1 }));
    const longest = encodeFlush(7, groups);
    t.equal(longest.length, FLUSH_BYTES_MAX);
    t.equal(decodeFlush(longest).groups.length, NAMED_GROUPS_MAX);
    t.throws(() => decodeFlush(Buffer.alloc(FLUSH_BYTES_MAX + 6)), { code: 'E_BAD_FRAME' });
  },
);
