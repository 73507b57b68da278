import { createHash } from 'node:crypto';
import {
  crc32cShort,
  emptyObjectRequest,
  OBJECT_KIND,
  ObjectRef,
  objectRequestBytes,
  readObjectRequest,
  writeObjectRequest,
} from '@store/core';
import t from 'tap';
import { ObjectNames } from './object-names.js';

/** The object that `names` finds for a request that names `ref`. */
function asked(names: ObjectNames, ref: ObjectRef): ObjectRef {
  const body = Buffer.alloc(objectRequestBytes(ref));
  writeObjectRequest(body, 0, 1, ref, 0, 0, 0, 0);
  const request = emptyObjectRequest();
  readObjectRequest(body, request);
  return names.refOf(body, request);
}

const plain = (key: string, locator = key): ObjectRef =>
  new ObjectRef(OBJECT_KIND.plain, key, locator);

t.test('an object that is asked for again is found without making it again', async (t) => {
  const names = new ObjectNames();
  const ref = plain('a', 'b');
  t.equal(asked(names, ref), asked(names, ref));
});

t.test('names that run together alike are told apart, and so are kinds', async (t) => {
  const names = new ObjectNames();
  const alike = [plain('ab', 'c'), plain('a', 'bc'), plain('abc'), plain('abc', 'abc')];
  alike.push(new ObjectRef(OBJECT_KIND.imageData, 'ab', 'c'));
  for (let round = 0; round < 2; round += 1)
    for (const ref of alike) {
      const found = asked(names, ref);
      t.same(
        [found.kind, found.id, found.locator.toString(), found.place],
        [ref.kind, ref.id, ref.locator.toString(), ref.place],
      );
    }
});

t.test('two names with one checksum are two objects', async (t) => {
  const seen = new Map<number, string>();
  let pair: [string, string] | null = null;
  for (let count = 0; pair === null; count += 1) {
    // Names that differ in a few neighbouring bits never have one checksum.
    const name = createHash('sha256').update(`${count}`).digest('hex');
    const checksum = crc32cShort(Buffer.from(name), 0, name.length);
    const other = seen.get(checksum);
    if (other !== undefined) pair = [other, name];
    seen.set(checksum, name);
    if (count === 1_000_000) break;
  }
  if (pair === null) return t.fail('no two names have one checksum');
  const names = new ObjectNames();
  for (const name of [...pair, ...pair]) t.equal(asked(names, plain(name)).id, name);
});

t.test('thousands of names are forgotten in turn, and found all the same', async (t) => {
  const names = new ObjectNames();
  const first = asked(names, plain('first'));
  for (let count = 0; count < 10_000; count += 1)
    if (asked(names, plain(`${count}`)).id !== `${count}`) t.fail(`object ${count}`);
  t.not(asked(names, plain('first')), first, 'it was made again');
  t.equal(asked(names, plain('first')).place, first.place);
});
