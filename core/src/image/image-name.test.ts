import t from 'tap';
import { codeOf } from '../pool/pool-user.js';
import { checkPoolName } from '../util/pool-name.js';
import { checkImageName } from './image-name.js';
import { ancestorId, dataRef, indexOfDataKey, isImageId } from './striping.js';

const refused = (check: (name: string) => void, name: string): Promise<unknown> =>
  codeOf(
    new Promise((resolve) => {
      check(name);
      resolve(null);
    }),
  );

await t.test('image names may be anything a person would write', async (t) => {
  for (const name of [
    'a',
    'vm1',
    'k\u00e4se',
    'a/b',
    '..',
    'disk one',
    '\u{1f9c0}',
    'x'.repeat(255),
  ])
    t.equal(await refused(checkImageName, name), null, name.slice(0, 20));
});

await t.test('image names that would confuse somebody are refused', async (t) => {
  const hex = 'ab'.repeat(16);
  for (const name of [
    '',
    'x'.repeat(256),
    '\u{1f9c0}'.repeat(64),
    'a\0b',
    'line\nbreak',
    '\x7f',
    '\x9b2J',
    'vm1@monday',
    '-rf',
    ' vm1',
    'vm1 ',
    '\ud800',
    `${hex}_0`,
    `ancestor-${hex}_77`,
  ])
    t.equal(await refused(checkImageName, name), 'E_INVALID', JSON.stringify(name.slice(0, 40)));
});

await t.test('pool names have 1 to 128 bytes', async (t) => {
  t.equal(await refused(checkPoolName, 'p'.repeat(128)), null);
  t.equal(await refused(checkPoolName, 'p'.repeat(129)), 'E_INVALID');
  t.equal(await refused(checkPoolName, 'a\tb'), 'E_INVALID');
});

await t.test(
  'a data object is found from its key, and no image can be named like one',
  async (t) => {
    for (const layer of ['0123456789abcdef'.repeat(2), ancestorId('vm1')]) {
      const ref = dataRef({ layer, family: 'f'.repeat(32) }, 268_435_455);
      t.equal(ref.id, `${layer}_268435455`);
      t.equal(ref.locator.toString(), `${'f'.repeat(32)}_268435455`);
      t.equal(indexOfDataKey(ref.key), 268_435_455);
      t.equal(await refused(checkImageName, ref.id), 'E_INVALID');
    }
    t.equal(indexOfDataKey(Buffer.from('vm1_3')), null);
  },
);

await t.test('the identity of an ancestor image never changes and never is a random one', (t) => {
  t.equal(ancestorId('testblock'), 'ancestor-d8a73ab676c0b1bd31ad3831da5d8bea');
  t.ok(isImageId(ancestorId('vm1')));
  t.notMatch(ancestorId('vm1'), /^[0-9a-f]{32}$/);
  t.end();
});
