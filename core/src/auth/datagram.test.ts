/** Datagrams of both kinds: golden bytes, and everything that can happen to one on its way. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import {
  associationKeyOf,
  COUNTER_MAX,
  type DatagramOpener,
  type DatagramSealer,
} from './datagram-header.js';
import { deriveDatagramKeys } from './datagram-keys.js';
import { PLAIN_BYTES_MAX, PlainOpener, PlainSealer } from './datagram-plain.js';
import { Opener, SEALED_BYTES_MAX, Sealer } from './datagram-seal.js';

const association = Buffer.from('0102030405060708', 'hex');
const key = Buffer.alloc(32, 9);
const keys = deriveDatagramKeys(key, Buffer.alloc(32, 1), Buffer.alloc(32, 2));
const hello = [Buffer.from('he'), Buffer.alloc(0), Buffer.from('llo')];

interface Kind {
  readonly name: string;
  readonly bytesMax: number;
  readonly sealer: () => DatagramSealer;
  readonly opener: () => DatagramOpener;
}

const KINDS: readonly Kind[] = [
  {
    name: 'a sealed datagram',
    bytesMax: SEALED_BYTES_MAX,
    sealer: () => new Sealer(keys.toDaemon, association),
    opener: () => new Opener(keys.toDaemon, association),
  },
  {
    name: 'a plain datagram',
    bytesMax: PLAIN_BYTES_MAX,
    sealer: () => new PlainSealer(association),
    opener: () => new PlainOpener(association),
  },
];

function opens(t: Test, opener: DatagramOpener, datagram: Buffer, text: string): void {
  const payload = opener.open(datagram);
  t.equal(typeof payload === 'string' ? `refused: ${payload}` : payload.toString(), text);
}

await t.test('keys and datagrams are the bytes they have always been', (t) => {
  // Computed with Python's hmac and cryptography, and CRC-32C bit by bit.
  t.equal(
    keys.toDaemon.toString('hex'),
    'fae712d3f6fe3ce3a293fa23889c4ed344b89098a0ae9571d3e7f69da6d4a262',
  );
  t.equal(
    keys.toClient.toString('hex'),
    '98dd2d4ab66e95fed036908486a47baab501fede8a4ad721207abf706382d5cd',
  );
  t.equal(
    new Sealer(key, association).seal(hello).toString('hex'),
    '7344676d0102000001020304050607080100000000000000a802a4493c531f0eaad8df4f513a08e99aad23bfbb',
  );
  t.equal(
    new PlainSealer(association).seal(hello).toString('hex'),
    '7344676d010100000102030405060708010000000000000068656c6c6fe5993ae9',
  );
  t.end();
});

for (const { name, bytesMax, sealer, opener } of KINDS) {
  await t.test(`${name} carries any bytes in any parts, up to the longest of UDP`, (t) => {
    const from = sealer();
    const to = opener();
    const parts = fc.array(
      fc.uint8Array({ maxLength: 3000 }).map((part) => Buffer.from(part)),
      {
        maxLength: 8,
      },
    );
    fc.assert(
      fc.property(parts, (some) => {
        const payload = to.open(from.seal(some));
        return typeof payload !== 'string' && payload.equals(Buffer.concat(some));
      }),
    );
    const longest = from.seal([Buffer.alloc(bytesMax, 1)]);
    t.equal(longest.length, 65_507);
    t.same(to.open(longest), Buffer.alloc(bytesMax, 1));
    t.throws(() => from.seal([Buffer.alloc(bytesMax), Buffer.alloc(1)]), { message: /do not fit/ });
    t.end();
  });

  await t.test(`no truncation, no longer and no flipped bit of ${name} is taken`, (t) => {
    const datagram = sealer().seal(hello);
    const to = opener();
    for (let end = 0; end < datagram.length; end += 1)
      t.type(to.open(datagram.subarray(0, end)), 'string', `${end} bytes`);
    t.type(to.open(Buffer.concat([datagram, Buffer.alloc(1)])), 'string');
    t.type(to.open(Buffer.alloc(70_000)), 'string');
    for (let bit = 0; bit < datagram.length * 8; bit += 1) {
      const flipped = Buffer.from(datagram);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      t.type(to.open(flipped), 'string', `bit ${bit}`);
    }
    opens(t, to, datagram, 'hello'); // none of all that moved the window
    t.end();
  });

  await t.test(`${name} is taken once, in any order, until it is too old`, (t) => {
    const from = sealer();
    const to = opener();
    const all = Array.from({ length: 5000 }, (_, index) =>
      from.seal([Buffer.from(`${index + 1}`)]),
    );
    t.equal(from.count, 5000);
    const at = (counter: number): Buffer => all[counter - 1] ?? Buffer.alloc(0);
    for (const counter of [1, 3, 2, 5000, 905, 4999]) opens(t, to, at(counter), String(counter));
    for (const counter of [1, 2, 3, 5000, 905, 904, 4999])
      t.equal(to.open(at(counter)), 'replayed', String(counter));
    t.equal(opener().open(at(904)).toString(), '904', 'to another start it is new: keys must be');
    t.end();
  });

  await t.test(`${name} of another association is told apart`, (t) => {
    const datagram = sealer().seal(hello);
    t.equal(associationKeyOf(datagram), '\x01\x02\x03\x04\x05\x06\x07\x08');
    t.equal(associationKeyOf(datagram.subarray(0, 23)), null);
    const others = [
      new Opener(keys.toDaemon, Buffer.alloc(8)),
      new PlainOpener(Buffer.alloc(8)),
    ] as const;
    const kind = datagram[5] === 2 ? 0 : 1;
    t.equal(others[kind].open(datagram), 'other');
    t.equal(others[1 - kind]?.open(datagram), 'alien', 'and so is one of the other kind');
    t.end();
  });
}

await t.test('a sealed datagram sent back to who sealed it is refused', (t) => {
  const datagram = new Sealer(keys.toDaemon, association).seal(hello);
  t.equal(new Opener(keys.toClient, association).open(datagram), 'forged');
  t.end();
});

await t.test('a recorded datagram means nothing to an association with another nonce', (t) => {
  const datagram = new Sealer(keys.toDaemon, association).seal(hello);
  for (const later of [
    deriveDatagramKeys(key, Buffer.alloc(32, 1), Buffer.alloc(32, 3)),
    deriveDatagramKeys(key, Buffer.alloc(32, 3), Buffer.alloc(32, 2)),
    deriveDatagramKeys(key, Buffer.alloc(32, 2), Buffer.alloc(32, 1)),
    deriveDatagramKeys(Buffer.alloc(32, 8), Buffer.alloc(32, 1), Buffer.alloc(32, 2)),
  ])
    t.equal(new Opener(later.toDaemon, association).open(datagram), 'forged');
  t.throws(() => deriveDatagramKeys(key, Buffer.alloc(31), Buffer.alloc(32)), {
    code: 'E_BAD_FRAME',
  });
  t.end();
});

await t.test('a plain datagram with the header of a sealed one is refused', (t) => {
  const plain = new PlainSealer(association).seal(hello);
  plain[5] = 2;
  t.type(new Opener(keys.toDaemon, association).open(plain), 'string');
  t.type(new PlainOpener(association).open(plain), 'string');
  t.end();
});

await t.test('the same bytes sealed twice look different each time', (t) => {
  const from = new Sealer(keys.toDaemon, association);
  t.notSame(from.seal(hello).subarray(24), from.seal(hello).subarray(24));
  t.end();
});

await t.test('counters beyond 32 bits go on, and the last one is never used again', (t) => {
  for (const count of [2 ** 32 - 2, 2 ** 40, COUNTER_MAX - 2]) {
    const from = new Sealer(keys.toDaemon, association, count);
    const to = new Opener(keys.toDaemon, association);
    for (let more = 1; more <= 2; more += 1) opens(t, to, from.seal(hello), 'hello');
    t.equal(from.count, count + 2);
  }
  const last = new Sealer(keys.toDaemon, association, COUNTER_MAX);
  t.throws(() => last.seal(hello), { name: 'InvariantError', message: /nonce/ });
  const beyond = new Sealer(keys.toDaemon, association).seal(hello);
  for (const counter of ['0000000000000000', '0100000000000100', 'ffffffffffffffff']) {
    beyond.write(counter, 16, 'hex');
    t.equal(new Opener(keys.toDaemon, association).open(beyond), 'alien', counter);
  }
  t.end();
});

await t.test('what is sealed and opened shares no memory with its parts', (t) => {
  const part = Buffer.from('secret');
  const datagram = new Sealer(keys.toDaemon, association).seal([part]);
  part.fill(0);
  opens(t, new Opener(keys.toDaemon, association), datagram, 'secret');
  t.end();
});
