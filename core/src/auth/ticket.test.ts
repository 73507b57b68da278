import fc from 'fast-check';
import t from 'tap';
import { StoreError } from '../util/errors.js';
import { MOMENT_MAX } from './moment.js';
import { PoolSecret } from './pool-secret.js';
import {
  allows,
  decodeTicket,
  encodeTicket,
  makeTicket,
  TICKET_BYTES_MAX,
  TICKET_RIGHTS,
  ticketKey,
  type Ticket,
} from './ticket.js';
import { ticketNameProblem } from './ticket-name.js';

const fixed = (byte: number): { bytes: (count: number) => Buffer } => ({
  bytes: (count) => Buffer.alloc(count, byte),
});
const secret = PoolSecret.create('testpool', 1, fixed(7));
const ticket = makeTicket(
  secret,
  { client: 'host1', rights: 'rw', issued: 1_700_000_000, expires: 1_700_086_400 },
  fixed(0xab),
);
// Computed from the offset table and RFC 5869 with Python's struct, hmac and hashlib.
const GOLDEN =
  '74696b7401030508abababababababababababababababab00f1536500000000804255650000000001000000' +
  '686f73743174657374706f6f6c';
const GOLDEN_KEY = '1f22079468962bfbbb85882969479dd758af78a9b64389e2ad3ffdbd8cc8a952';

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 128 })
  .filter((text) => ticketNameProblem(text) === null);
const anyTicket: fc.Arbitrary<Ticket> = fc.record({
  id: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((id) => Buffer.from(id).toString('hex')),
  client: name,
  pool: name,
  generation: fc.integer({ min: 1, max: 0xffff_ffff }),
  rights: fc.constantFrom(...TICKET_RIGHTS),
  issued: fc.maxSafeNat().map((n) => n % MOMENT_MAX),
  expires: fc.constant(MOMENT_MAX),
});

await t.test('a ticket is the bytes it has always been, and so is its key', (t) => {
  t.equal(encodeTicket(ticket).toString('hex'), GOLDEN);
  t.same(decodeTicket(Buffer.from(GOLDEN, 'hex')), ticket);
  t.equal(ticketKey(secret, Buffer.from(GOLDEN, 'hex')).toString('hex'), GOLDEN_KEY);
  t.end();
});

await t.test('every ticket reads back as it was written, in at most 300 bytes', (t) => {
  fc.assert(
    fc.property(anyTicket, (one) => {
      const bytes = encodeTicket(one);
      t.ok(bytes.length <= TICKET_BYTES_MAX);
      t.same(decodeTicket(bytes), one);
    }),
  );
  t.equal(TICKET_BYTES_MAX, 300);
  t.end();
});

await t.test('truncated tickets and tickets with something behind them are refused', (t) => {
  const bytes = Buffer.from(GOLDEN, 'hex');
  for (let end = 0; end < bytes.length; end += 1)
    t.throws(() => decodeTicket(bytes.subarray(0, end)), { code: 'E_DENIED' }, `${end} bytes`);
  for (const extra of [1, 2, 16, 10_000])
    t.throws(() => decodeTicket(Buffer.concat([bytes, Buffer.alloc(extra)])), { code: 'E_DENIED' });
  t.end();
});

await t.test('a flipped bit is refused or gives a ticket with another key', (t) => {
  const bytes = Buffer.from(GOLDEN, 'hex');
  let refused = 0;
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    t.notSame(ticketKey(secret, flipped), ticketKey(secret, bytes), `bit ${bit}`);
    try {
      t.same(encodeTicket(decodeTicket(flipped)), flipped, 'there is one encoding of each ticket');
    } catch (error) {
      if (!(error instanceof StoreError && error.code === 'E_DENIED')) throw error;
      refused += 1;
    }
  }
  t.ok(refused > 100, `${refused} of ${bytes.length * 8} are no tickets at all`);
  t.end();
});

await t.test('fields out of range are refused, whatever 64 bits they stand in', (t) => {
  const bytes = Buffer.from(GOLDEN, 'hex');
  const changed = (at: number, hex: string): Buffer => {
    const out = Buffer.from(bytes);
    out.write(hex, at, 'hex');
    return out;
  };
  const bad: readonly [string, number, string, RegExp][] = [
    ['expires before it was issued', 32, '00f1536500000000', /expires before/],
    ['issued in 2^53', 24, '0000000000002000', /out of range/],
    ['issued in 2^53 + 1', 24, '0100000000002000', /out of range/],
    ['expires in 2^64 - 1', 32, 'ffffffffffffffff', /out of range/],
    ['expires in 2^63', 32, '0000000000000080', /out of range/],
    ['expires in the year 10000', 32, '8041f4ff3a000000', /out of range/],
    ['generation 0', 40, '00000000', /generation/],
    ['no rights', 5, '00', /rights/],
    ['rights to write alone', 5, '02', /rights/],
    ['all rights and more', 5, 'ff', /rights/],
    ['no client', 6, '000d', /client is empty/],
    ['no pool', 6, '0d00', /pool is empty/],
    ['a control character in the client', 44, '00', /control character/],
    ['half a character in the pool', 49, 'c3', /UTF-8/],
    ['another version', 4, '02', /version 2/],
  ];
  for (const [what, at, hex, message] of bad)
    t.throws(() => decodeTicket(changed(at, hex)), { code: 'E_DENIED', message }, what);
  t.end();
});

await t.test('makeTicket() refuses clients and times that cannot be', (t) => {
  const make = (fields: Partial<Ticket>): unknown =>
    makeTicket(secret, { client: 'c', rights: 'r', issued: 1, expires: 2, ...fields }, fixed(1));
  t.ok(make({}));
  for (const client of ['', ' c', 'c\n', 'c'.repeat(129), '\ud800', '\x9b2J'])
    t.throws(() => make({ client }), { code: 'E_INVALID' }, JSON.stringify(client));
  for (const times of [
    { expires: 1 },
    { expires: 0 },
    { issued: -1 },
    { issued: 0.5 },
    { expires: NaN },
    { expires: MOMENT_MAX + 1 },
  ])
    t.throws(() => make(times), { code: 'E_INVALID' }, JSON.stringify(times));
  t.end();
});

await t.test('who may write may read, and who may administer may both', (t) => {
  const granted = TICKET_RIGHTS.map((rights) =>
    (['r', 'w', 'a'] as const).filter((right) => allows(rights, right)).join(''),
  );
  t.same(granted, ['r', 'rw', 'rwa']);
  t.end();
});
