import fc from 'fast-check';
import t from 'tap';
import { OBJECT_KIND, ObjectRef } from '../pool/object-pool.js';
import { writeU64 } from './frame-header.js';
import {
  emptyObjectRequest,
  NAMES_START,
  objectRequestBytes,
  readChecks,
  readObjectRequest,
  writeChecks,
  writeObjectRequest,
} from './object-request.js';

const bytes = fc.uint8Array({ minLength: 1, maxLength: 512 }).map((array) => Buffer.from(array));
const u32 = fc.oneof(fc.constantFrom(0, 1, 2 ** 31, 2 ** 32 - 1), fc.nat());

t.test('what is written is read, for any name and any number', async (t) => {
  const { plain, imageHeader, imageData } = OBJECT_KIND;
  const kind = fc.constantFrom(plain, imageHeader, imageData);
  const locator = fc.option(bytes, { nil: undefined });
  const checks = fc.array(u32, { maxLength: 20 });
  fc.assert(
    fc.property(
      fc.tuple(kind, bytes, locator, checks),
      fc.tuple(u32, fc.nat({ max: 15 }), u32, u32, fc.maxSafeNat()),
      ([what, key, place, sums], [pool, flags, offset, count, extra]) => {
        const ref = new ObjectRef(what, key, place ?? key);
        const out = Buffer.alloc(10 + objectRequestBytes(ref) + sums.length * 4, 0xff);
        const end = writeObjectRequest(out, 10, pool, ref, flags, offset, count, extra);
        t.equal(writeChecks(out, end, Uint32Array.from(sums)), out.length);
        const request = emptyObjectRequest();
        const body = out.subarray(10);
        readObjectRequest(body, request);
        t.match(request, { kind: what, pool, flags, offset, bytes: count, extra });
        t.ok(body.subarray(NAMES_START, request.keyEnd).equals(key));
        const read = body.subarray(request.keyEnd, request.namesEnd);
        t.ok((read.length === 0 ? key : read).equals(ref.locator));
        t.strictSame([...readChecks(body, request.namesEnd)], sums);
      },
    ),
  );
});

function body(): Buffer {
  const ref = new ObjectRef(OBJECT_KIND.plain, 'key', 'locator');
  const out = Buffer.alloc(objectRequestBytes(ref));
  writeObjectRequest(out, 0, 1, ref, 0, 2, 3, 4);
  return out;
}

t.test('each field is read up to its last value and refused beyond', async (t) => {
  const read = (change: (bytes: Buffer) => void): ReturnType<typeof emptyObjectRequest> => {
    const out = Buffer.concat([body(), Buffer.alloc(1024)]);
    change(out);
    const request = emptyObjectRequest();
    readObjectRequest(out, request);
    return request;
  };
  for (const value of [0, 1, 2 ** 32 - 1]) {
    t.equal(read((out) => out.writeUInt32LE(value, 0)).pool, value);
    t.equal(read((out) => out.writeUInt32LE(value, 12)).offset, value);
    t.equal(read((out) => out.writeUInt32LE(value, 16)).bytes, value);
  }
  for (const value of [0, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1])
    t.equal(read((out) => writeU64(out, 20, value)).extra, value);
  t.equal(read((out) => out.writeUInt8(15, 5)).flags, 15);
  t.equal(read((out) => out.writeUInt16LE(512, 6)).keyEnd, NAMES_START + 512);
  t.equal(read((out) => out.writeUInt16LE(0, 8)).namesEnd, NAMES_START + 3);
  const refused: [string, (out: Buffer) => void][] = [
    ...[0, 4, 255].map((kind): [string, (out: Buffer) => void] => [
      `kind ${kind}`,
      (out) => out.writeUInt8(kind, 4),
    ]),
    ...[16, 255].map((flags): [string, (out: Buffer) => void] => [
      `flags ${flags}`,
      (out) => out.writeUInt8(flags, 5),
    ]),
    ...[0, 513, 65_535].map((key): [string, (out: Buffer) => void] => [
      `key of ${key}`,
      (out) => out.writeUInt16LE(key, 6),
    ]),
    ...[513, 65_535].map((locator): [string, (out: Buffer) => void] => [
      `locator of ${locator}`,
      (out) => out.writeUInt16LE(locator, 8),
    ]),
    ...[1, 65_535].map((zero): [string, (out: Buffer) => void] => [
      `zero is ${zero}`,
      (out) => out.writeUInt16LE(zero, 10),
    ]),
    ['2^53', (out) => out.writeBigUInt64LE(2n ** 53n, 20)],
    ['2^53 + 1', (out) => out.writeBigUInt64LE(2n ** 53n + 1n, 20)],
    ['2^64 - 1', (out) => out.writeBigUInt64LE(2n ** 64n - 1n, 20)],
  ];
  for (const [what, change] of refused) t.throws(() => read(change), { code: 'E_BAD_FRAME' }, what);
});

t.test('every truncation is E_BAD_FRAME', async (t) => {
  const whole = body();
  for (let end = 0; end < whole.length; end += 1)
    t.throws(
      () => readObjectRequest(whole.subarray(0, end), emptyObjectRequest()),
      { code: 'E_BAD_FRAME' },
      `${end}`,
    );
  readObjectRequest(whole, emptyObjectRequest());
  for (const extra of [1, 2, 3, 5])
    t.throws(() => readChecks(Buffer.alloc(extra), 0), { code: 'E_BAD_FRAME' });
});
