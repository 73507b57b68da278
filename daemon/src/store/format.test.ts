/** Every byte of the metadata as FORMAT.md says it; the hex comes from a program that shares no code with ours. */
import { OBJECT_KIND, ObjectRef, StoreError, locatorHash } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import { SimStore } from './crash/sim-store.js';
import {
  HEAD_BYTES,
  STORE_KEY,
  checksKey,
  contentKey,
  decodeHead,
  decodeStates,
  decodeStoreRecord,
  encodeHead,
  encodeStoreRecord,
  hasOpenParts,
  headKey,
  isEmptyHead,
  isOpenInHead,
  poolKey,
  poolNameOf,
  seal,
  sealed,
  setOpenInHead,
  splitHeadKey,
  stateInHead,
  unseal,
} from './format.js';

const HEAD_KEY = '01000000017d31d810da3427946c617965725f30'; // pool 1, locator `family_0`, key `layer_0`
const HEAD_FIELDS = {
  kind: OBJECT_KIND.imageData,
  inline: false,
  slot: 7,
  length: 0x1234,
  version: 0x1_0000_0005,
  objectId: 0x2_0000_0003,
};
// Parts 0, 9 and 63 are open; block 0 is data, 1 zero, 3 data, 1023 zero.
const HEAD =
  '01030000000000070000123400000001000000050000000200000003' +
  '0102000000000080' +
  `49${'00'.repeat(254)}80` +
  'e60adfcb';
const STORE_RECORD =
  '00000001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f' +
  '01000000010000000200000003000000040000000' +
  '5c49bff45';

function hex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

function makeHead(): Buffer {
  const states = new Uint8Array(1024);
  states[0] = 1;
  states[1] = 2;
  states[3] = 1;
  states[1023] = 2;
  const head = encodeHead(HEAD_FIELDS, states);
  for (const part of [0, 9, 63]) setOpenInHead(head, part, true);
  return seal(hex(HEAD_KEY), head);
}

await t.test('keys are the bytes of FORMAT.md', (t) => {
  const hash = locatorHash(Buffer.from('family_0'));
  t.equal(headKey(1, hash, Buffer.from('layer_0')).toString('hex'), HEAD_KEY);
  t.same(splitHeadKey(hex(HEAD_KEY)), { poolId: 1, hash, key: Buffer.from('layer_0') });
  t.equal(checksKey(0x2_0000_0003, 3).toString('hex'), '02000000020000000303');
  t.equal(contentKey(0x2_0000_0003).toString('hex'), '040000000200000003');
  t.equal(poolKey('pool').toString('hex'), '03706f6f6c');
  t.equal(poolNameOf(hex('03706f6f6c')), 'pool');
  t.end();
});

await t.test('a head is the bytes of FORMAT.md, and reads back', (t) => {
  const head = makeHead();
  t.equal(head.length, HEAD_BYTES);
  t.equal(head.toString('hex'), HEAD);
  t.same(decodeHead(head), HEAD_FIELDS);
  const states = new Uint8Array(1024);
  decodeStates(head, states);
  const used = [...states.entries()].filter(([, state]) => state !== 0);
  t.same(used, [[0, 1], [1, 2], [3, 1], [1023, 2]]); // prettier-ignore
  t.ok([...states.entries()].every(([block, state]) => stateInHead(head, block) === state));
  const open = Array.from({ length: 64 }, (_, part) => part).filter((p) => isOpenInHead(head, p));
  t.same(open, [0, 9, 63]);
  t.ok(hasOpenParts(head));
  for (const part of open) setOpenInHead(head, part, false);
  t.notOk(hasOpenParts(head));
  t.notOk(isEmptyHead(head));
  t.ok(isEmptyHead(encodeHead(HEAD_FIELDS, new Uint8Array(1024))));
  t.end();
});

await t.test('an open mask in any one bit is an open part', (t) => {
  const head = encodeHead(HEAD_FIELDS, new Uint8Array(1024));
  for (let part = 0; part < 64; part += 1) {
    setOpenInHead(head, part, true);
    if (!hasOpenParts(head) || !isEmptyHead(head)) t.fail(`part ${part}`);
    setOpenInHead(head, part, false);
    if (hasOpenParts(head)) t.fail(`part ${part} stays open`);
  }
  t.end();
});

await t.test('the record of the folder is the bytes of FORMAT.md, and reads back', (t) => {
  const record = {
    diskId: Buffer.from(Array.from({ length: 16 }, (_, index) => index)),
    startId: Buffer.from(Array.from({ length: 16 }, (_, index) => 16 + index)),
    clean: true,
    liveSequence: 0x1_0000_0002,
    nextObjectId: 0x3_0000_0004,
    nextPoolId: 5,
  };
  t.equal(encodeStoreRecord(record).toString('hex'), STORE_RECORD);
  t.same(decodeStoreRecord(hex(STORE_RECORD)), record);
  t.end();
});

await t.test('a value with any flipped bit, or cut anywhere, is unknown', (t) => {
  const key = hex(HEAD_KEY);
  const head = makeHead();
  t.ok(unseal(key, head));
  for (let bit = 0; bit < head.length * 8; bit += 1) {
    const damaged = Buffer.from(head);
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    if (unseal(key, damaged) !== null) t.fail(`bit ${bit} of the value`);
  }
  for (let bit = 0; bit < key.length * 8; bit += 1) {
    const other = Buffer.from(key);
    other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    if (unseal(other, head) !== null) t.fail(`bit ${bit} of the key`);
  }
  for (let bytes = 0; bytes < head.length; bytes += 1)
    if (unseal(key, head.subarray(0, bytes)) !== null) t.fail(`the first ${bytes} bytes`);
  t.end();
});

await t.test('a damaged record of the folder and one of a later version are refused', (t) => {
  const record = hex(STORE_RECORD);
  for (let bit = 0; bit < record.length * 8; bit += 1) {
    const damaged = Buffer.from(record);
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    try {
      decodeStoreRecord(damaged);
      t.fail(`bit ${bit}`);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_CHECKSUM') throw error;
    }
  }
  const later = Buffer.from(record.subarray(0, -4));
  later.writeUInt32BE(2, 0);
  const expected = { code: 'E_FORMAT', message: /version 2.*knows version 1/ };
  t.throws(() => decodeStoreRecord(sealed(STORE_KEY, later)), expected);
  const head = makeHead();
  head[0] = 2;
  t.throws(() => decodeHead(head), { code: 'E_FORMAT', message: /version 2/ });
  t.end();
});

await t.test('what the engine stores is what FORMAT.md says', async (t) => {
  const world = new SimStore(1);
  const { store, pool } = await world.open();
  const user = new PoolUser(pool);
  const data = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
  await world.wait(() => user.write(data, 0, Buffer.alloc(4096, 'A')));
  await world.wait(() => user.write(data, 255 * 4096, Buffer.alloc(4096, 'B')));
  const note = new ObjectRef(OBJECT_KIND.plain, 'note');
  await world.wait(() => user.write(note, 0, Buffer.from('hello world')));
  await world.wait(() => store.close());
  const stored = (key: string): string | undefined =>
    world.disk.meta.durable.get(hex(key).toString('latin1'))?.toString('hex');
  t.equal(stored('03706f6f6c'), '00000001b3174a87', 'the pool');
  const checks = `0e53a43a${'00'.repeat(1016)}549225f9`;
  t.equal(stored('02000000000000000200'), `${checks}05042f80`, 'checksums, bound to their place');
  const head = stored(HEAD_KEY) ?? '';
  t.equal(head.slice(0, 24), '010300000000000000100000', 'the head: kind, slot 0, 1 MiB long');
  t.equal(head.slice(40, 72), '00000000000000020000000000000000', 'object 2, nothing open');
  t.equal(head.slice(72, -8), `01${'00'.repeat(62)}40${'00'.repeat(192)}`, 'two data blocks');
  t.equal(stored('040000000000000005')?.slice(0, 22), '68656c6c6f20776f726c64', 'inline content');
  t.equal(world.disk.smallFiles.get('format')?.toString().slice(0, 13), 'store 1\ndisk ');
});
