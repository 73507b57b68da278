import t from 'tap';
import * as integers from './integers.js';

/** How `Buffer` does the same. */
const PAIRS = [
  [16, integers.u16le, integers.putU16le, 'readUInt16LE'],
  [32, integers.u32le, integers.putU32le, 'readUInt32LE'],
  [32, integers.i32le, integers.putU32le, 'readInt32LE'],
  [16, integers.u16be, integers.putU16be, 'readUInt16BE'],
  [32, integers.u32be, integers.putU32be, 'readUInt32BE'],
] as const;

t.test('integers are written and read as Buffer does', async (t) => {
  for (const [bits, read, put, method] of PAIRS)
    for (const value of [0, 1, 0x7f, 0x80, 0xff, 0x1234, 0x8000, 0x12345678, 2 ** 31, 2 ** 32 - 1])
      for (const at of [0, 3]) {
        const out = Buffer.alloc(8, 0xa5);
        put(out, value, at);
        const expected = bits === 16 ? value & 0xffff : value;
        const name = `${method} of ${value} at ${at}`;
        t.equal(out[method](at), method === 'readInt32LE' ? expected | 0 : expected, name);
        t.equal(read(out, at), out[method](at), name);
        const untouched = Buffer.alloc(8, 0xa5);
        out.copy(untouched, at, at, at + bits / 8);
        t.same(untouched, out, `${name} touches nothing else`);
      }
});

t.test('what lies beyond the end reads as zeros, and is not written', async (t) => {
  const bytes = Buffer.from([0xff, 0xff]);
  t.equal(integers.u32le(bytes, 0), 0xffff);
  t.equal(integers.u32be(bytes, 1), 0xff000000);
  integers.putU32le(bytes, 0x01020304, 1);
  t.same(bytes, Buffer.from([0xff, 4]));
});
