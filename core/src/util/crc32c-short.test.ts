import t from 'tap';
import { crc32cOf } from './crc32c.js';
import { crc32cShort } from './crc32c-short.js';

t.test('the checksum of a few bytes is the same as of the native library', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 160 }, (_, index) => (index * 167 + 13) & 0xff));
  for (let start = 0; start < 10; start += 1)
    for (let end = start; end <= 130; end += 1)
      if (crc32cShort(bytes, start, end) !== crc32cOf(bytes, start, end))
        t.fail(`bytes ${start} to ${end}`);
  t.equal(crc32cShort(bytes, 5, 5), 0, 'of nothing');
});
