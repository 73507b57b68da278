import t from 'tap';
import { locatorHash, murmur3 } from './locator-hash.js';

void t.test('murmur3() matches the published vectors', (t) => {
  t.equal(murmur3(Buffer.from(''), 0), 0);
  t.equal(murmur3(Buffer.from(''), 1), 0x514e28b7);
  t.equal(murmur3(Buffer.from(''), 0xffffffff), 0x81f16f39);
  t.equal(murmur3(Buffer.from('test'), 0), 0xba6bd213);
  t.equal(murmur3(Buffer.from('test'), 0x9747b28c), 0x704b81dc);
  t.equal(murmur3(Buffer.from('Hello, world!'), 0), 0xc0363e43);
  t.equal(murmur3(Buffer.from('aaa'), 0x9747b28c), 0x283e0130);
  t.equal(murmur3(Buffer.from([0xff, 0xff, 0xff, 0xff]), 0), 0x76293b50);
  t.end();
});

void t.test('locatorHash() is the one that is stored on disk', (t) => {
  const { high, low } = locatorHash(Buffer.from('0123456789abcdef_7'));
  t.strictSame([high.toString(16), low.toString(16)], ['9a6a57d7', 'eb336fed']);
  t.end();
});
