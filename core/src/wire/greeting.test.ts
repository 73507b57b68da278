import fc from 'fast-check';
import t from 'tap';
import { StoreError } from '../util/errors.js';
import { BodyReader } from './body-reader.js';
import * as greeting from './greeting.js';
import * as answers from './object-answers.js';
import { BLOCK_STATE, OBJECT_KIND } from '../pool/object-pool.js';

/** That clients see. */
const KINDS = [OBJECT_KIND.plain, OBJECT_KIND.imageHeader, OBJECT_KIND.imageData] as const;

const bytesOf = (count: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: count, maxLength: count }).map((array) => Buffer.from(array));
const upTo = (count: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength: count }).map((array) => Buffer.from(array));
const orNone = (count: number): fc.Arbitrary<Buffer> =>
  fc.oneof(fc.constant(Buffer.alloc(0)), bytesOf(count));
const text = fc
  .string({ unit: 'grapheme', maxLength: 12 })
  .filter((one) => Buffer.byteLength(one) <= 128);
const version = fc.nat({ max: 255 });
const anyStat = fc.record({
  kind: fc.constantFrom(...KINDS),
  length: fc.maxSafeNat(),
  version: fc.maxSafeNat(),
  allocatedBytes: fc.maxSafeNat(),
});

/** Decoders of what comes from the other side: they take what their encoder makes, and throw nothing but E_BAD_FRAME. */
const DECODERS: readonly [
  string,
  fc.Arbitrary<unknown>,
  (value: never) => Buffer,
  (body: Buffer) => unknown,
][] = [
  [
    'HELLO',
    fc.record({
      versionMin: version,
      versionMax: version,
      name: text,
      nonce: bytesOf(32),
      ticket: upTo(300),
    }),
    greeting.encodeHello,
    greeting.decodeHello,
  ],
  [
    'the answer of HELLO',
    fc.record({
      version,
      diskId: bytesOf(16),
      startId: bytesOf(16),
      nonce: bytesOf(32),
      proof: orNone(32),
    }),
    greeting.encodeHelloAnswer,
    greeting.decodeHelloAnswer,
  ],
  [
    'BEGIN',
    fc.record({
      session: bytesOf(16),
      incarnation: fc.maxSafeNat(),
      proof: orNone(32),
      datagramBytes: fc.nat({ max: 65_507 }),
    }),
    greeting.encodeBegin,
    greeting.decodeBegin,
  ],
  [
    'the answer of BEGIN',
    fc.record({
      resumed: fc.boolean(),
      lineage: bytesOf(16),
      requestsMax: fc.maxSafeNat(),
      bytesMax: fc.maxSafeNat(),
      association: orNone(8),
      datagramBytes: fc.nat({ max: 65_507 }),
      isSealed: fc.boolean(),
    }),
    greeting.encodeBeginAnswer,
    greeting.decodeBeginAnswer,
  ],
  [
    'OPEN_POOL',
    fc.record({ name: text, create: fc.boolean() }),
    greeting.encodeOpenPool,
    greeting.decodeOpenPool,
  ],
  [
    'the answer of OPEN_POOL',
    fc.record({ pool: fc.nat({ max: 2 ** 32 - 1 }), objectBytes: fc.nat({ max: 2 ** 30 }) }),
    greeting.encodeOpenPoolAnswer,
    greeting.decodeOpenPoolAnswer,
  ],
  ['LIST_POOLS', text, greeting.encodeListPools, greeting.decodeListPools],
  [
    'the answer of LIST_POOLS',
    fc.record({ names: fc.array(text, { maxLength: 20 }), isLast: fc.boolean() }),
    greeting.encodePoolNames,
    greeting.decodePoolNames,
  ],
  [
    'a page of LIST',
    fc.record(
      {
        entries: fc.array(fc.record({ key: upTo(512), stat: anyStat }), { maxLength: 5 }),
        cursor: fc.uint8Array({ minLength: 1, maxLength: 30 }).map((array) => Buffer.from(array)),
      },
      { requiredKeys: ['entries'] },
    ),
    answers.encodeListPage,
    answers.decodeListPage,
  ],
];

for (const [what, values, encode, decode] of DECODERS) {
  t.test(`${what} is read as it was written`, async (t) => {
    fc.assert(
      fc.property(values, (value) => {
        t.same(decode(encode(value as never)), value); // of the encoder's own type
      }),
    );
  });

  t.test(`${what} that is cut short, longer or garbage is E_BAD_FRAME`, async (t) => {
    const refused = (body: Buffer): boolean => {
      try {
        decode(body);
        return false;
      } catch (error) {
        if (error instanceof StoreError && error.code === 'E_BAD_FRAME') return true;
        throw error;
      }
    };
    const [value] = fc.sample(values, { numRuns: 1, seed: 7 });
    const good = encode(value as never); // likewise
    for (let end = 0; end < good.length; end += 1)
      t.ok(refused(good.subarray(0, end)), `${end} of ${good.length} bytes`);
    t.ok(refused(Buffer.concat([good, Buffer.from('x')])));
    fc.assert(
      fc.property(upTo(200), (garbage) => void refused(garbage)),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.json(), (json) => void refused(Buffer.from(json))),
      { numRuns: 300 },
    );
  });
}

t.test('fields that are out of range are named', async (t) => {
  const good = { session: 'A'.repeat(22), incarnation: 1, proof: '', datagramBytes: 0 };
  const cases: [object, RegExp][] = [
    [{ incarnation: -1 }, /'incarnation'/],
    [{ incarnation: 2 ** 53 }, /'incarnation'/],
    [{ incarnation: '1' }, /'incarnation'/],
    [{ datagramBytes: 65_508 }, /'datagramBytes'/],
    [{ session: 'A'.repeat(21) }, /'session'/],
    [{ session: 'A'.repeat(21) + 'B' }, /'session'/],
    [{ session: null }, /'session'/],
    [{ proof: 'A'.repeat(44) }, /'proof'/],
    [{ proof: ['A'] }, /'proof'/],
  ];
  for (const [change, message] of cases)
    t.throws(
      () => greeting.decodeBegin(Buffer.from(JSON.stringify({ ...good, ...change }))),
      { code: 'E_BAD_FRAME', message },
      JSON.stringify(change),
    );
});

t.test('extents cover exactly what was asked for', async (t) => {
  const runs = fc.array(
    fc.record({
      bytes: fc.integer({ min: 1, max: 2 ** 22 }),
      state: fc.constantFrom(...Object.values(BLOCK_STATE)),
    }),
    { minLength: 1, maxLength: 50 },
  );
  fc.assert(
    fc.property(runs, (extents) => {
      const total = extents.reduce((sum, { bytes }) => sum + bytes, 0);
      const body = answers.encodeExtents(extents);
      t.same(answers.decodeExtents(body, total), extents);
      for (const wrong of [total - 1, total + 1, 0])
        t.throws(() => answers.decodeExtents(body, wrong), { code: 'E_BAD_FRAME' });
    }),
  );
  const word = (value: number): Buffer => {
    const out = Buffer.alloc(4);
    out.writeUInt32LE(value);
    return out;
  };
  for (const body of [word(4 * 8 + 3), word(1), Buffer.alloc(3), Buffer.alloc(4 * 1025, word(5))])
    t.throws(() => answers.decodeExtents(body, 8), { code: 'E_BAD_FRAME' });
});

t.test('a list is asked for as it was meant, and stats are whole', async (t) => {
  const options = fc.record(
    {
      kind: fc.constantFrom(...KINDS),
      prefix: fc.uint8Array({ minLength: 1, maxLength: 512 }).map((array) => Buffer.from(array)),
      cursor: fc.uint8Array({ minLength: 1, maxLength: 1024 }).map((array) => Buffer.from(array)),
      limit: fc.integer({ min: 1, max: 1000 }),
    },
    { requiredKeys: ['limit'] },
  );
  const groups = fc.array(
    fc.record({ group: fc.nat({ max: 65_535 }), epoch: fc.nat({ max: 2 ** 32 - 1 }) }),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(options, groups, fc.nat({ max: 2 ** 32 - 1 }), (asked, named, pool) => {
      const body = answers.encodeListRequest(pool, asked, named);
      t.same(answers.decodeListRequest(body), { pool, options: asked, groups: named });
      t.throws(() => answers.decodeListRequest(body.subarray(0, -1)), { code: 'E_BAD_FRAME' });
    }),
  );
  t.equal(answers.readStat(Buffer.alloc(0)), null);
  for (const bytes of [1, 31, 33])
    t.throws(() => answers.readStat(Buffer.alloc(bytes, 1)), { code: 'E_BAD_FRAME' });
  t.throws(() => answers.readStat(Buffer.alloc(32)), { message: /kind 0/ });
  t.throws(() => answers.readStat(Buffer.alloc(32, OBJECT_KIND.guard)), { message: /kind 4/ });
});

t.test('a page of the largest keys fits into a frame', async (t) => {
  const stat = { kind: OBJECT_KIND.plain, length: 1, version: 1, allocatedBytes: 1 };
  const entries = Array.from({ length: answers.LIST_ENTRIES_MAX }, () => ({
    key: Buffer.alloc(512),
    stat,
  }));
  t.ok(answers.encodeListPage({ entries, cursor: Buffer.alloc(1024) }).length <= 65_536);
});

t.test('a body is read to its end and no further', async (t) => {
  const reader = new BodyReader(Buffer.from([1, 2, 0, 3, 0, 0, 0, 0xc3, 0xa9, 0xff]));
  t.equal(reader.u8(), 1);
  t.equal(reader.u16(), 2);
  t.equal(reader.u32(), 3);
  t.equal(reader.text(2), 'é');
  t.throws(() => reader.end(), { code: 'E_BAD_FRAME', message: /1 bytes too many/ });
  t.throws(() => reader.text(1), { code: 'E_BAD_FRAME', message: /UTF-8/ });
  for (const read of [() => reader.u16(), () => reader.u64(), () => reader.bytes(9)])
    t.throws(read, { code: 'E_BAD_FRAME' });
});
