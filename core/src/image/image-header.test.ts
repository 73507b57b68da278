import t from 'tap';
import { StoreError } from '../util/errors.js';
import { IMAGE_BYTES_MAX } from '../util/limits.js';
import {
  checkImageSize,
  decodeAncestorHeader,
  decodeImageHeader,
  encodeImageHeader,
  type ImageHeader,
} from './image-header.js';
import { ancestorId } from './striping.js';

const header: ImageHeader = {
  format: 'store-image-1',
  id: '11'.repeat(16),
  family: '22'.repeat(16),
  size: 104_857_600,
  objectBytes: 4_194_304,
  layers: [{ id: '33'.repeat(16), overlap: 0 }],
  snapshots: [],
  metadata: { owner: 'k\u00e4se' },
  writer: null,
  state: 'ready',
  request: '44'.repeat(16),
};
const GOLDEN =
  '{"format":"store-image-1","id":"11111111111111111111111111111111",' +
  '"family":"22222222222222222222222222222222","size":104857600,"objectBytes":4194304,' +
  '"layers":[{"id":"33333333333333333333333333333333","overlap":0}],"snapshots":[],' +
  '"metadata":{"owner":"k\u00e4se"},"writer":null,"state":"ready",' +
  '"request":"44444444444444444444444444444444"}';

await t.test('an image header is the JSON it has always been', (t) => {
  t.equal(encodeImageHeader(header).toString(), GOLDEN);
  t.same(decodeImageHeader('vm1', Buffer.from(GOLDEN)), header);
  t.end();
});

await t.test('no truncation of a header is accepted', (t) => {
  const bytes = Buffer.from(GOLDEN);
  for (let end = 0; end < bytes.length; end += 1)
    t.throws(() => decodeImageHeader('vm1', bytes.subarray(0, end)), { code: 'E_FORMAT' });
  t.end();
});

await t.test('a flipped bit gives another valid header or a refusal, nothing else', (t) => {
  const bytes = Buffer.from(GOLDEN);
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    try {
      const decoded = decodeImageHeader('vm1', flipped);
      t.same(decodeImageHeader('vm1', encodeImageHeader(decoded)), decoded);
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'E_FORMAT')) throw error;
    }
  }
  t.end();
});

await t.test('every field is checked, and unknown ones are refused', (t) => {
  const bad: [string, unknown][] = [
    ['id', 'x'],
    ['id', undefined],
    ['family', 7],
    ['size', 0],
    ['size', 513],
    ['size', -512],
    ['size', '104857600'],
    ['size', 2 ** 51],
    ['objectBytes', 3 * 1024 * 1024],
    ['objectBytes', 4096],
    ['layers', []],
    ['layers', [{ id: '33'.repeat(16) }]],
    ['layers', [{ id: '33'.repeat(16), overlap: -1 }]],
    ['layers', [{ id: '33'.repeat(16), overlap: 512 }]],
    ['layers', [{ id: '33'.repeat(16), overlap: 0, more: 1 }]],
    ['snapshots', [{}]],
    ['snapshots', null],
    ['metadata', { a: 1 }],
    ['metadata', []],
    ['writer', 'somebody'],
    ['state', 'open'],
    ['request', ''],
    ['encryption', 'aes'],
  ];
  for (const [field, value] of bad) {
    const bytes = Buffer.from(JSON.stringify({ ...header, [field]: value }));
    t.throws(() => decodeImageHeader('vm1', bytes), { code: 'E_FORMAT', message: /'vm1'/ }, field);
  }
  for (const text of ['null', '[]', '7', '"x"', '', '\xff'])
    t.throws(() => decodeImageHeader('vm1', Buffer.from(text, 'latin1')), { code: 'E_FORMAT' });
  t.end();
});

await t.test('a header of another format says which version to use', (t) => {
  const bytes = Buffer.from(JSON.stringify({ ...header, format: 'store-image-9', shards: 4 }));
  t.throws(() => decodeImageHeader('vm1', bytes), {
    message: /format is "store-image-9" and this version reads 'store-image-1'/,
  });
  t.end();
});

await t.test("the ancestor's header is the size as 8 big-endian bytes", (t) => {
  const bytes = Buffer.from([0, 0, 0, 0, 6, 0x40, 0, 0]);
  const decoded = decodeAncestorHeader('testblock', bytes);
  t.equal(decoded.size, 100 * 1024 * 1024);
  t.equal(decoded.layers[0].id, ancestorId('testblock'));
  t.same(decodeImageHeader('testblock', encodeImageHeader(decoded)), decoded, 'can be upgraded');
  t.equal(decodeAncestorHeader('x', Buffer.from('0004000000000000', 'hex')).size, IMAGE_BYTES_MAX);
  for (const hex of [
    '0000000000000000',
    '0000000000000001',
    '0004000000000200',
    'ffffffffffffffff',
  ])
    t.throws(() => decodeAncestorHeader('x', Buffer.from(hex, 'hex')), { code: 'E_FORMAT' });
  t.end();
});

await t.test('checkImageSize() takes whole sectors up to 1 PiB', (t) => {
  for (const bytes of [512, 1024, 4096, 1_000_448, IMAGE_BYTES_MAX]) checkImageSize(bytes);
  for (const bytes of [0, 1, 511, 513, -512, 512.5, NaN, Infinity, IMAGE_BYTES_MAX + 512])
    t.throws(() => checkImageSize(bytes), { code: 'E_INVALID' }, String(bytes));
  t.end();
});

t.test('a header says who writes to the image, and nothing else passes for that', async (t) => {
  const owner = { host: 'host1', name: 'vm1' };
  const writer = { token: 7, layer: 0, owner, since: 1_800_000_000, state: 'ready' } as const;
  for (const good of [writer, { ...writer, owner: null }, { ...writer, state: 'pending' as const }])
    t.same(decodeImageHeader('vm1', encodeImageHeader({ ...header, writer: good })).writer, good);
  const bad: unknown[] = [
    ...[{}, [], 7, { ...writer, more: 1 }, { ...writer, token: 0 }, { ...writer, token: 1.5 }],
    ...[
      { ...writer, layer: -1 },
      { ...writer, since: -1 },
      { ...writer, state: 'taken' },
    ],
    ...[
      { ...writer, owner: 'host1' },
      { ...writer, owner: { host: 'host1' } },
    ],
    ...[
      { ...writer, owner: { ...owner, host: 'a\u001bb' } },
      { ...writer, owner: { ...owner, host: '' } },
      { ...writer, owner: { ...owner, id: 1 } },
    ],
  ];
  for (const wrong of bad)
    t.throws(
      () => decodeImageHeader('vm1', Buffer.from(JSON.stringify({ ...header, writer: wrong }))),
      { code: 'E_FORMAT', message: /'writer'/ },
      JSON.stringify(wrong),
    );
});
