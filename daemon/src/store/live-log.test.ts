import { OBJECT_KIND, type Disk } from '@store/core';
import { SimDisk, SimRandom, SimScheduler } from '@store/core/sim';
import t from 'tap';
import { splitHeadKey } from './format.js';
import { LiveLog, readLive, type LiveRecord } from './live-log.js';
import { StoredObject } from './stored-object.js';

const TOKEN = 'boot 1';
const START_ID = Buffer.from(Array.from({ length: 16 }, (_, index) => index));
const HEAD_KEY = '01000000017d31d810da3427946c617965725f30';
const OBJECT = `001403000000020000000300000007000012340000000100000005${HEAD_KEY}`;
/** FORMAT.md as bytes, made by a program that shares no code with ours. */
const GOLDEN = {
  begin: '00000016268127ad010000000000000005000102030405060708090a0b0c0d0e0f626f6f742031',
  state: `0000003419014395020000000000000006${OBJECT}0001000201`,
  parked: `0000103142db4844030000000000000007${OBJECT}03ff${'41'.repeat(4096)}`,
  landed: '00000008cc2b32180400000000000000080000000000000007',
  removed: `0000002f256a78f5050000000000000009${OBJECT}`,
};

function makeObject(): StoredObject {
  const key = Buffer.from('layer_0');
  const head = Buffer.from(HEAD_KEY, 'hex');
  const object = new StoredObject(1, 'layer_0', key, head, OBJECT_KIND.imageData);
  object.create(OBJECT_KIND.imageData, 0x2_0000_0003);
  object.slot = 7;
  object.length = 0x1234;
  object.version = 0x1_0000_0005;
  return object;
}

function makeWorld(sequence: number, switchBytes = 2 ** 20) {
  const medium = new SimDisk(new SimScheduler(), new SimRandom(1));
  const disk: Disk = medium.open();
  const log = new LiveLog(disk, TOKEN, START_ID, { sequence, switchBytes });
  log.restart();
  const file = (index: 0 | 1): Buffer => medium.appendFiles.get(`live.${index}`) ?? Buffer.alloc(0);
  const read = (recorded: number, token = TOKEN): LiveRecord[] | null =>
    readLive(disk, token, recorded);
  return { medium, log, file, read };
}

function sequences(records: readonly LiveRecord[] | null): number[] | null {
  return records === null ? null : records.map(({ sequence }) => sequence);
}

/** One record of each type, numbers 6 to 9. */
function appendAll(log: LiveLog, object: StoredObject): void {
  log.appendState(object, 1, 2, 1);
  log.appendLanded(log.appendParked(object, 1023, Buffer.alloc(4096, 'A')));
  log.appendRemoved(object);
}

await t.test('records are the bytes of FORMAT.md, and read back', (t) => {
  const { log, file, read } = makeWorld(5);
  appendAll(log, makeObject());
  t.equal(file(0).toString('hex'), Object.values(GOLDEN).join(''));
  const object = {
    headKey: Buffer.from(HEAD_KEY, 'hex'),
    kind: OBJECT_KIND.imageData,
    objectId: 0x2_0000_0003,
    slot: 7,
    length: 0x1234,
    version: 0x1_0000_0005,
  };
  t.same(read(5), [
    { type: 'state', sequence: 6, object, first: 1, count: 2, state: 1 },
    { type: 'parked', sequence: 7, object, first: 1023, bytes: Buffer.alloc(4096, 'A') },
    { type: 'landed', sequence: 8, of: 7 },
    { type: 'removed', sequence: 9, object },
  ]);
  const { poolId, key } = splitHeadKey(object.headKey);
  t.same([poolId, key.toString()], [1, 'layer_0']);
  t.end();
});

await t.test('cut after any byte, exactly the whole records before it are believed', (t) => {
  const { medium, log, file, read } = makeWorld(5);
  appendAll(log, makeObject());
  const whole = file(0);
  const ends: number[] = [];
  for (const record of Object.values(GOLDEN)) ends.push((ends.at(-1) ?? 0) + record.length / 2);
  const [beginEnd = 0, ...recordEnds] = ends;
  for (let bytes = 0; bytes <= whole.length; bytes += 1) {
    medium.appendFiles.set('live.0', whole.subarray(0, bytes));
    const expected = recordEnds.filter((end) => end <= bytes).map((_, index) => 6 + index);
    const found = sequences(read(5)) ?? [];
    // Without its first record a file says nothing, and nothing in it was answered.
    if (found.join() !== expected.join()) t.fail(`${bytes} bytes: ${found.join()}`);
    if (bytes >= beginEnd && read(5) === null) t.fail(`${bytes} bytes are not believed`);
  }
  t.end();
});

await t.test('a flipped bit ends what is believed, and invents nothing', (t) => {
  const { medium, log, file, read } = makeWorld(5);
  const object = makeObject();
  for (let count = 0; count < 3; count += 1) log.appendState(object, count, 1, 1);
  const whole = file(0);
  const beginBits = (GOLDEN.begin.length / 2) * 8;
  for (let bit = 0; bit < whole.length * 8; bit += 1) {
    const damaged = Buffer.from(whole);
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    medium.appendFiles.set('live.0', damaged);
    const hit = Math.floor((bit - beginBits) / 8 / (GOLDEN.state.length / 2));
    const expected = bit < beginBits ? '' : [6, 7, 8].slice(0, hit).join();
    const found = sequences(read(5))?.join() ?? '';
    if (found !== expected) t.fail(`bit ${bit}: ${found} instead of ${expected}`);
  }
  t.end();
});

await t.test('after a reboot nothing is believed', (t) => {
  const { log, read } = makeWorld(5);
  t.same(read(5), [], 'two empty files hold nothing, and lost nothing');
  appendAll(log, makeObject());
  t.equal(read(5, 'boot 2'), null);
  t.equal(read(5, 'boot 11'), null);
  t.equal(read(5, 'boot '), null);
  t.end();
});

await t.test('one file of another boot makes both unbelievable', (t) => {
  const { medium, log, file, read } = makeWorld(0);
  log.appendState(makeObject(), 0, 1, 1);
  const other = new LiveLog(medium.open(), 'boot 0', START_ID, { sequence: 9, switchBytes: 1 });
  medium.appendFiles.set('live.1', file(0));
  medium.appendFiles.set('live.0', Buffer.alloc(0));
  other.appendState(makeObject(), 0, 1, 1);
  t.equal(read(0), null);
  t.equal(read(0, 'boot 0'), null);
  t.end();
});

await t.test('what the metadata has recorded is not replayed', (t) => {
  const { log, read } = makeWorld(5);
  appendAll(log, makeObject());
  t.same(sequences(read(7)), [8, 9]);
  t.same(sequences(read(9)), []);
  t.end();
});

await t.test('two files take turns, and are read in order', (t) => {
  const { log, file, read } = makeWorld(0, 200);
  const empty = file(0).length;
  const object = makeObject();
  const append = (): void => log.appendState(object, 0, 1, 1);
  const fill = (): void => {
    while (!log.wantsFlush) append();
  };
  append(); // 1
  t.notOk(log.wantsFlush);
  fill();
  const full = log.sequence;
  log.recorded(full - 1); // a flush that does not cover the last record
  t.ok(file(0).length >= 200, 'a file with an unrecorded record stays');
  t.notOk(log.wantsFlush, 'the empty file took over');
  append();
  t.same(sequences(read(full - 1)), [full, full + 1], 'first file 0, then file 1');
  log.recorded(full);
  t.equal(file(0).length, empty, 'emptied when all of it is recorded');
  t.ok(file(1).length > empty, 'but not the one that is in use');
  fill();
  const last = log.sequence;
  log.recorded(last - 1);
  append();
  t.same(sequences(read(last - 1)), [last, last + 1], 'file 1 is older than file 0 now');
  log.recorded(last + 1);
  t.equal(file(1).length, empty);
  t.same(sequences(read(last + 1)), []);
  t.end();
});

await t.test('a full file with everything recorded is emptied and goes on', (t) => {
  const { log, file, read } = makeWorld(0, 100);
  const empty = file(0).length;
  const object = makeObject();
  while (!log.wantsFlush) log.appendState(object, 0, 1, 1);
  log.recorded(log.sequence);
  t.equal(file(0).length, empty);
  const { sequence } = log;
  log.appendState(object, 0, 1, 1);
  t.same(sequences(read(sequence)), [sequence + 1], 'with a first record of its own');
  t.end();
});

await t.test('numbers go on after those that recovery found', (t) => {
  const { log, read } = makeWorld(5);
  log.skipTo(40);
  log.skipTo(7);
  log.appendState(makeObject(), 0, 1, 1);
  t.same(sequences(read(5)), [41]);
  t.end();
});
