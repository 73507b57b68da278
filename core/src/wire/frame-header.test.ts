import fc from 'fast-check';
import t from 'tap';
import { crc32cShort } from '../util/crc32c-short.js';
import {
  checkBody,
  emptyHeader,
  HEADER_BYTES,
  readHeader,
  readU64,
  writeAnswerHeader,
  writeRequestHeader,
  writeU64,
} from './frame-header.js';

const U64_MAX = Number.MAX_SAFE_INTEGER;
const BODY = Buffer.from('the body');

function request(): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + BODY.length);
  BODY.copy(out, HEADER_BYTES);
  writeRequestHeader(out, 0, 19, 7, 5, BODY.length, 4096);
  return out;
}

/** With a checksum that is right again. */
function forged(change: (bytes: Buffer) => void): Buffer {
  const out = request();
  change(out);
  out.writeUInt32LE(crc32cShort(out, 0, 44), 44);
  return out;
}

t.test('a header is these bytes, and none other', async (t) => {
  const out = request();
  t.equal(
    out.toString('hex', 0, 40),
    '73746f72' +
      '01' +
      '00' +
      '1300' +
      '0700000000000000' +
      '0500000000000000' +
      '00000000' +
      '0000' +
      '0000' +
      '08000000' +
      '00100000',
  );
  t.equal(out.readUInt32LE(40), crc32cShort(BODY, 0, BODY.length));
  t.equal(out.readUInt32LE(44), crc32cShort(out, 0, 44));
  const answer = Buffer.alloc(HEADER_BYTES, 0xff);
  writeAnswerHeader(answer, 0, 18, U64_MAX, 17, 0, 0);
  t.equal(
    answer.toString('hex', 0, 44),
    '73746f72' +
      '01' +
      '01' +
      '1200' +
      'ffffffffffff1f00' +
      '0000000000000000' +
      '00000000' +
      '1100' +
      '0000' +
      '00000000' +
      '00000000' +
      '00000000',
  );
});

t.test('what is written is read, anywhere in a buffer', async (t) => {
  const u64 = fc.oneof(fc.constantFrom(0, 1, 2 ** 32 - 1, 2 ** 32, U64_MAX), fc.maxSafeNat());
  const u32 = fc.oneof(fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1), fc.nat());
  const op = fc.nat({ max: 65_535 });
  fc.assert(
    fc.property(
      op,
      u64,
      u64,
      u32,
      u32,
      fc.nat({ max: 100 }),
      (number, id, floor, payload, epoch, at) => {
        const out = Buffer.alloc(at + HEADER_BYTES + 3, 1);
        writeRequestHeader(out, at, number, id, floor, 3, payload, epoch);
        const header = emptyHeader();
        readHeader(out, at, header);
        checkBody(out, at + HEADER_BYTES, at + HEADER_BYTES + 3, header);
        const { op, requestId, floor: read, payloadBytes, bodyBytes, isAnswer, version } = header;
        t.strictSame(
          [
            op,
            requestId,
            read,
            payloadBytes,
            bodyBytes,
            isAnswer,
            version,
            header.status,
            header.epoch,
          ],
          [number, id, floor, payload, 3, false, 1, 0, epoch],
        );
      },
    ),
    { numRuns: 300 },
  );
});

t.test('every flipped bit of header and body is E_BAD_FRAME', async (t) => {
  const good = request();
  let refused = 0;
  for (let bit = 0; bit < good.length * 8; bit += 1) {
    const bytes = Buffer.from(good);
    bytes.writeUInt8((bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
    const header = emptyHeader();
    const read = (): void => {
      readHeader(bytes, 0, header);
      checkBody(bytes, HEADER_BYTES, bytes.length, header);
    };
    try {
      read();
    } catch (error) {
      t.match(error, { code: 'E_BAD_FRAME' });
      refused += 1;
    }
  }
  t.equal(refused, good.length * 8);
});

t.test(
  'with a right checksum, each field is read up to its last value and refused beyond',
  async (t) => {
    const header = emptyHeader();
    const read = (change: (bytes: Buffer) => void): typeof header => {
      readHeader(forged(change), 0, header);
      return header;
    };
    for (const [at, field] of [
      [8, 'requestId'],
      [16, 'floor'],
    ] as const) {
      for (const value of [0, 1, 2 ** 32 - 1, 2 ** 32, U64_MAX])
        t.equal(read((bytes) => writeU64(bytes, at, value))[field], value);
      for (const high of ['0000000000002000', '0100000000002000', 'ffffffffffffffff'])
        t.throws(
          () => read((bytes) => bytes.write(high, at, 'hex')),
          { code: 'E_BAD_FRAME' },
          field,
        );
    }
    for (const [at, field] of [
      [24, 'epoch'],
      [32, 'bodyBytes'],
      [36, 'payloadBytes'],
      [40, 'bodyCrc'],
    ] as const)
      for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1])
        t.equal(read((bytes) => bytes.writeUInt32LE(value, at))[field], value);
    for (const value of [0, 1, 65_535]) {
      t.equal(read((bytes) => bytes.writeUInt16LE(value, 6)).op, value);
      t.equal(read((bytes) => bytes.writeUInt16LE(value, 28)).status, value);
    }
    for (const value of [0, 2, 255])
      t.equal(read((bytes) => bytes.writeUInt8(value, 4)).version, value);
    t.equal(read((bytes) => bytes.writeUInt8(1, 5)).isAnswer, true);
    for (const value of [2, 3, 128, 255])
      t.throws(() => read((bytes) => bytes.writeUInt8(value, 5)), { code: 'E_BAD_FRAME' });
    for (const value of [1, 65_535])
      t.throws(() => read((bytes) => bytes.writeUInt16LE(value, 30)), { code: 'E_BAD_FRAME' });
    t.throws(() => readHeader(Buffer.alloc(HEADER_BYTES), 0, header), {
      message: /not the protocol/,
    });
  },
);

t.test('64 bits hold what a number holds exactly', async (t) => {
  const out = Buffer.alloc(8);
  for (const value of [0, 255, 2 ** 32 - 1, 2 ** 32, 2 ** 52 + 1, U64_MAX]) {
    writeU64(out, 0, value);
    t.equal(out.readBigUInt64LE(), BigInt(value));
    t.equal(readU64(out, 0), value);
  }
  for (const value of [2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n]) {
    out.writeBigUInt64LE(value);
    t.throws(() => readU64(out, 0), { code: 'E_BAD_FRAME' });
  }
});
