import { promised, WRITE_FLAGS } from '@store/core';
import t from 'tap';
import { SeededRandom } from '../tagged-writer/seeded-random.js';
import { LossyBackend } from './lossy-backend.js';

const BYTES = 1024 * 1024;

async function readAll(device: LossyBackend): Promise<Buffer> {
  const target = Buffer.alloc(BYTES, 0xee);
  await promised((done) => device.read(0, target, done));
  return target;
}

function write(device: LossyBackend, offset: number, data: Buffer, flags = 0): Promise<void> {
  const half = data.length >> 1;
  const parts = [data.subarray(0, half), data.subarray(half)];
  return promised((done) => device.write(offset, parts, flags, done));
}

const flush = (device: LossyBackend): Promise<void> => promised((done) => device.flush(done));

t.test('a lossy device without a power cut is a device like any other', async (t) => {
  const device = new LossyBackend({ bytes: BYTES });
  const model = Buffer.alloc(BYTES);
  const random = new SeededRandom(1);
  for (let step = 0; step < 500; step++) {
    const offset = random.below(BYTES - 20_000);
    const bytes = random.between(1, 20_000);
    const kind = random.below(10);
    if (kind === 0) await flush(device);
    else if (kind < 3) {
      await promised((done) => device.zero(offset, bytes, 0, done));
      model.fill(0, offset, offset + bytes);
    } else {
      const data = Buffer.alloc(bytes, random.below(256));
      await write(device, offset, data);
      data.copy(model, offset);
    }
  }
  t.ok((await readAll(device)).equals(model));
});

t.test(
  'a power cut that keeps nothing leaves what was flushed and what was written with FUA',
  async (t) => {
    const device = new LossyBackend({ bytes: BYTES });
    const random = new SeededRandom(2);
    await write(device, 0, Buffer.alloc(5000, 1));
    await flush(device);
    await write(device, 4096, Buffer.alloc(8192, 2), WRITE_FLAGS.durable);
    const before = await readAll(device);
    for (let number = 0; number < 64; number++)
      await write(device, 65_536 + number * 512, Buffer.alloc(512, 3));
    const report = device.cut(random, 0);
    const after = await readAll(device);
    t.ok(after.subarray(0, 65_536).equals(before.subarray(0, 65_536)));
    t.equal(report.cached, 65);
    t.equal(report.lost + report.torn, 64);
    t.ok(report.lost > 10 && report.torn > 10, 'some are lost, some are torn');
  },
);

t.test('a torn write is old or new in each sector, and both occur', async (t) => {
  const device = new LossyBackend({ bytes: BYTES });
  await write(device, 0, Buffer.alloc(BYTES, 1));
  await flush(device);
  for (let offset = 0; offset < BYTES; offset += 4096)
    await write(device, offset, Buffer.alloc(4096, 2));
  device.cut(new SeededRandom(3), 0);
  const after = await readAll(device);
  const counts = [0, 0, 0];
  let mixed = 0;
  for (let page = 0; page < BYTES; page += 4096) {
    const values = new Set<number>();
    for (let at = page; at < page + 4096; at += 512) {
      const sector = after.subarray(at, at + 512);
      const value = sector[0] ?? 0;
      if (!sector.every((byte) => byte === value)) return t.fail(`sector at ${at} is torn inside`);
      counts[value] = (counts[value] ?? 0) + 1;
      values.add(value);
    }
    if (values.size > 1) mixed += 1;
  }
  t.equal(counts[0], 0);
  t.ok((counts[1] ?? 0) > 500 && (counts[2] ?? 0) > 200 && mixed > 50, `${counts.join()} ${mixed}`);
});

t.test('a later write that was lost does not take an earlier FUA write with it', async (t) => {
  const device = new LossyBackend({ bytes: BYTES });
  await write(device, 0, Buffer.alloc(4096, 1));
  await write(device, 0, Buffer.alloc(4096, 2), WRITE_FLAGS.durable);
  device.cut(new SeededRandom(4), 100);
  t.ok((await readAll(device)).subarray(0, 4096).equals(Buffer.alloc(4096, 2)));
});

t.test('a device whose flush lies loses what it said was durable', async (t) => {
  const device = new LossyBackend({ bytes: BYTES, flushLies: true });
  await write(device, 0, Buffer.alloc(BYTES, 1));
  await flush(device);
  device.cut(new SeededRandom(5), 0);
  t.notOk((await readAll(device)).equals(Buffer.alloc(BYTES, 1)));
});
