import t from 'tap';
import { parsePskFile } from './psk-file.js';

const KEY = '000102030405060708090a0b0c0d0e0f';

t.test('lines of psktool become keys', (t) => {
  const keys = parsePskFile(
    'keys.psk',
    `# ours\nalice:${KEY}\r\n\nbob builder:${KEY.toUpperCase()}`,
  );
  t.strictSame([...keys.keys()], ['alice', 'bob builder']);
  t.equal(keys.get('alice')?.toString('hex'), KEY);
  t.end();
});

t.test('a bad line is named, and what stands there is not shown', (t) => {
  const bad: readonly [RegExp, string][] = [
    [/^keys, line 2: Not identity:hexkey/, `alice:${KEY}\n${KEY}`],
    [/line 1: The identity before the colon is empty/, `:${KEY}`],
    [/line 1: An identity in hex/, `#616c:${KEY}`],
    [/line 1: The identity has spaces/, ` alice:${KEY}`],
    [/line 1: The identity has more than 128 bytes/, `${'ä'.repeat(65)}:${KEY}`],
    [/line 1: The key after the colon is not hexadecimal/, `alice:${KEY}0`],
    [/line 1: The key after the colon is not hexadecimal/, `a:b:${KEY}`],
    [/line 1: The key has 15 bytes/, `alice:${KEY.slice(2)}`],
    [/line 1: The key has 257 bytes/, `alice:${'00'.repeat(257)}`],
    [/line 3: The identity of line 1 again/, `alice:${KEY}\nbob:${KEY}\nalice:${KEY}`],
    [/keys has no key/, '# nobody\n'],
  ];
  for (const [message, text] of bad)
    try {
      parsePskFile('keys', text);
      t.fail(`accepted: ${text}`);
    } catch (error) {
      t.match(error, { code: 'E_INVALID', message });
      t.notMatch(String(error), KEY.slice(2, 20));
    }
  t.end();
});
