import t from 'tap';
import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import { MemStore } from '../pool/mem-store.js';
import {
  BLOCK_STATE,
  WRITE_FLAGS,
  type Extent,
  type ObjectPool,
  type ObjectRef,
} from '../pool/object-pool.js';
import { PoolWrapper } from '../pool/pool-wrapper.js';
import { codeOf } from '../pool/pool-user.js';
import { promised, promisedWith, StoreError, type Done } from '../util/errors.js';
import { Image } from './image.js';
import { IMAGE_FORMAT, type ImageHeader } from './image-header.js';

const OBJECT = 64 * 1024;
const { absent, data } = BLOCK_STATE;

function headerOf(size: number, objectBytes = OBJECT): ImageHeader {
  const id = 'ab'.repeat(16);
  return {
    format: IMAGE_FORMAT,
    id,
    family: id,
    size,
    objectBytes,
    layers: [{ id, overlap: 0 }],
    snapshots: [],
    metadata: {},
    writer: null,
    state: 'ready',
    request: id,
  };
}

async function memPool(): Promise<ObjectPool> {
  return new MemStore({ objectBytes: OBJECT }).openPool('pool', { create: true });
}

/** Answers later, in an order of its own, and can fail one call. */
class LatePool extends PoolWrapper {
  calls = 0;
  failAt = -1;
  inFlight = 0;
  inFlightMax = 0;
  readonly waiting: (() => void)[] = [];

  /** As one far away: it cannot tell. */
  override absentRun: ObjectPool['absentRun'] = () => null;

  #later(done: Done): Done {
    this.inFlight += 1;
    this.inFlightMax = Math.max(this.inFlightMax, this.inFlight);
    this.calls += 1;
    const fails = this.calls === this.failAt;
    return (error) => {
      this.waiting.push(() => {
        this.inFlight -= 1;
        done(fails ? new StoreError('E_CHECKSUM', 'This piece is broken') : error);
      });
    };
  }

  /** Answers what waits, last first, until nothing does. */
  answerAll(): void {
    for (let next = this.waiting.pop(); next !== undefined; next = this.waiting.pop()) next();
  }

  override read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    super.read(ref, offset, target, this.#later(done));
  }

  override write(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    flags: number,
    done: Done,
  ): void {
    super.write(ref, offset, parts, flags, this.#later(done));
  }

  override zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    super.zero(ref, offset, bytes, flags, this.#later(done));
  }
}

await t.test('an image is one run of bytes, whatever objects a request spans', async (t) => {
  const size = 5 * OBJECT + 512;
  const seed = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 31));
  t.comment(`replay: STORE_TEST_SEED=${seed} node ${process.argv[1] ?? ''}`);
  const step = fc.record({
    act: fc.constantFrom('write', 'read', 'zero', 'extents'),
    offset: fc.nat({ max: size }),
    bytes: fc.oneof(fc.nat({ max: size }), fc.nat({ max: 9000 })),
    cuts: fc.array(fc.nat({ max: size }), { maxLength: 5 }),
    fill: fc.integer({ min: 1, max: 255 }),
  });
  const report = await fc.check(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const image = new Image(await memPool(), 'vm1', headerOf(size), { readOnly: false });
      const model = Buffer.alloc(size);
      for (const { act, offset, bytes: wanted, cuts, fill } of steps) {
        const bytes = Math.min(wanted, size - offset);
        const range = model.subarray(offset, offset + bytes);
        if (act === 'write') {
          for (let at = 0; at < bytes; at += 1) range[at] = 1 + ((at * fill) % 255);
          const at = [0, ...cuts.map((cut) => Math.min(cut, bytes)).sort((a, b) => a - b), bytes];
          const parts = at
            .slice(1)
            .map((end, index) => Buffer.from(range.subarray(at[index], end)));
          await promised((done) => image.write(offset, parts, 0, done));
        } else if (act === 'zero') {
          range.fill(0);
          await promised((done) => image.zero(offset, bytes, 0, done));
        } else if (act === 'read') {
          const target = Buffer.alloc(bytes, 0xdb);
          await promised((done) => image.read(offset, target, done));
          if (!target.equals(range)) throw new Error(`read of ${bytes} at ${offset} differs`);
        } else {
          const extents = await promisedWith<Extent[]>((done) =>
            image.extents(offset, bytes, done),
          );
          let at = 0;
          for (const [index, extent] of extents.entries()) {
            const hole = range.subarray(at, (at += extent.bytes));
            if (extent.state !== data && hole.some((byte) => byte !== 0))
              throw new Error('data in a hole');
            if (extents[index - 1]?.state === extent.state) throw new Error('not merged');
          }
          if (at !== bytes) throw new Error(`extents cover ${at} of ${bytes}`);
        }
      }
      const whole = Buffer.alloc(size);
      await promised((done) => image.read(0, whole, done));
      if (!whole.equals(model)) throw new Error('the whole image differs');
    }),
    { seed, numRuns: Number(process.env['STORE_TEST_RUNS'] ?? 60) },
  );
  if (report.failed) t.comment(fc.defaultReportMessage(report) ?? '');
  t.notOk(report.failed);
});

await t.test('a request that spans objects is answered once, after its last piece', async (t) => {
  const pool = new LatePool(await memPool());
  const image = new Image(pool, 'vm1', headerOf(8 * OBJECT), { readOnly: false });
  const answers: (StoreError | null)[] = [];
  image.write(100, [Buffer.alloc(4 * OBJECT, 1)], 0, (error) => answers.push(error));
  t.equal(pool.waiting.length, 5);
  while (pool.waiting.length > 1) pool.waiting.shift()?.();
  t.same(answers, [], 'not before the last');
  pool.answerAll();
  t.same(answers, [null]);
});

await t.test('the first error of a piece is the answer, after all pieces in flight', async (t) => {
  for (const act of ['read', 'write', 'zero'] as const) {
    const pool = new LatePool(await memPool());
    pool.failAt = 2;
    const image = new Image(pool, 'vm1', headerOf(8 * OBJECT), { readOnly: false });
    const answers: (string | undefined)[] = [];
    const done: Done = (error) => answers.push(error?.code);
    if (act === 'read') image.read(0, Buffer.alloc(3 * OBJECT), done);
    else if (act === 'write') image.write(0, [Buffer.alloc(3 * OBJECT)], 0, done);
    else image.zero(0, 3 * OBJECT, 0, done);
    pool.waiting.splice(1, 1)[0]?.();
    t.same(answers, [], 'two pieces may still use the buffers');
    pool.answerAll();
    t.same(answers, ['E_CHECKSUM'], act);
  }
});

await t.test(
  'a huge discard has a bounded number of pieces in flight and stops at an error',
  async (t) => {
    const pool = new LatePool(await memPool());
    const image = new Image(pool, 'vm1', headerOf(10_000 * OBJECT), { readOnly: false });
    let answers = 0;
    image.zero(0, image.bytes, 0, () => (answers += 1));
    pool.answerAll();
    t.equal(answers, 1);
    t.equal(pool.calls, 10_000);
    t.ok(pool.inFlightMax <= 64, `${pool.inFlightMax} pieces at a time`);
    pool.failAt = pool.calls + 100;
    image.zero(0, image.bytes, 0, () => (answers += 1));
    pool.answerAll();
    t.equal(answers, 2);
    t.ok(pool.calls < 10_300, 'no piece is started after the error');
  },
);

await t.test('a discard of a million objects needs no deep stack', async (t) => {
  const image = new Image(await memPool(), 'vm1', headerOf(1_000_000 * OBJECT), {
    readOnly: false,
  });
  await promised((done) => image.zero(0, image.bytes, 0, done));
  t.pass('answered');
});

await t.test('extents of an empty 1 TiB image ask the pool for next to nothing', async (t) => {
  class CountingPool extends PoolWrapper {
    calls = 0;
    override extents: ObjectPool['extents'] = (ref, offset, bytes, done) => {
      this.calls += 1;
      this.below.extents(ref, offset, bytes, done);
    };
  }
  const pool = new CountingPool(await memPool());
  const image = new Image(pool, 'vm1', headerOf(2 ** 40), { readOnly: false });
  t.same(await promisedWith((done) => image.extents(0, 2 ** 40, done)), [
    { bytes: 2 ** 40, state: absent },
  ]);
  t.equal(pool.calls, 0);
  const at = 2 ** 39 + 8192;
  await promised((done) => image.write(at, [Buffer.alloc(4096, 1)], 0, done));
  t.same(await promisedWith((done) => image.extents(512, 2 ** 40 - 512, done)), [
    { bytes: at - 512, state: absent },
    { bytes: 4096, state: data },
    { bytes: 2 ** 40 - at - 4096, state: absent },
  ]);
  t.equal(pool.calls, 1);
});

await t.test('an image finds its data in a pool that cannot tell what is absent', async (t) => {
  class BlindPool extends PoolWrapper {
    override absentRun: ObjectPool['absentRun'] = () => null;
  }
  const pool = new BlindPool(await memPool());
  const image = new Image(pool, 'vm1', headerOf(2 ** 40), { readOnly: false });
  const at = 2 ** 39 + 8192;
  await promised((done) => image.write(at, [Buffer.alloc(4096, 1)], 0, done));
  const ranges: [number, number][] = [
    [512, 2 ** 40 - 512], // listed
    [at - 10 * OBJECT, 20 * OBJECT], // asked one by one
  ];
  for (const [offset, bytes] of ranges)
    t.same(await promisedWith((done) => image.extents(offset, bytes, done)), [
      { bytes: at - offset, state: absent },
      { bytes: 4096, state: data },
      { bytes: offset + bytes - at - 4096, state: absent },
    ]);
  const seen = Buffer.alloc(8192, 9);
  await promised((done) => image.read(at, seen, done));
  t.ok(seen.equals(Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4096)])));
});

await t.test('objects that are absent are neither read nor zeroed nor fetched', async (t) => {
  class StrictPool extends PoolWrapper {
    calls = 0;
    override read: ObjectPool['read'] = (ref, offset, target, done) => {
      this.calls += 1;
      this.below.read(ref, offset, target, done);
    };
    override zero: ObjectPool['zero'] = (ref, offset, bytes, flags, done) => {
      this.calls += 1;
      this.below.zero(ref, offset, bytes, flags, done);
    };
    override prefetch: ObjectPool['prefetch'] = (ref, offset, bytes, done) => {
      this.calls += 1;
      this.below.prefetch(ref, offset, bytes, done);
    };
  }
  const pool = new StrictPool(await memPool());
  const image = new Image(pool, 'vm1', headerOf(8 * OBJECT), { readOnly: false });
  const reader = new Image(pool, 'vm1', headerOf(8 * OBJECT), { readOnly: true });
  const everything = async (): Promise<Buffer> => {
    const seen = Buffer.alloc(3 * OBJECT, 9);
    await promised((done) => reader.read(OBJECT, seen, done));
    await promised((done) => image.prefetch(OBJECT, 3 * OBJECT, done));
    await promised((done) => image.zero(3 * OBJECT, OBJECT, 0, done));
    return seen;
  };
  t.ok((await everything()).equals(Buffer.alloc(3 * OBJECT)));
  t.equal(pool.calls, 0);
  await promised((done) => image.write(2 * OBJECT, [Buffer.alloc(512, 7)], 0, done));
  const seen = await everything();
  t.ok(seen.subarray(OBJECT, OBJECT + 512).equals(Buffer.alloc(512, 7)), 'another handle sees it');
  t.equal(pool.calls, 2, 'one read, one prefetch');
  await promised((done) => image.zero(0, OBJECT, WRITE_FLAGS.durable, done));
  t.equal(pool.calls, 3, 'what shall be durable is for the pool to say');
});

await t.test('of a very long range full of data the beginning is described', async (t) => {
  const pool = await memPool();
  const image = new Image(pool, 'vm1', headerOf(2000 * OBJECT), { readOnly: false });
  for (let index = 0; index < 2000; index += 1)
    await promised((done) => image.write(index * OBJECT, [Buffer.alloc(4096, 1)], 0, done));
  for (let at = 0; at < image.bytes;) {
    const found: Extent[] = await promisedWith((done) => image.extents(at, image.bytes - at, done));
    t.ok(found.length > 0, 'it goes on');
    for (const { bytes, state } of found) {
      if (state !== (at % OBJECT === 0 ? data : absent)) t.fail(`${at} is in state ${state}`);
      at += bytes;
    }
    if (at > image.bytes) t.fail('more than the image');
  }
});

await t.test('an image refuses ranges behind its end and writes when read-only', async (t) => {
  const pool = await memPool();
  const image = new Image(pool, 'vm1', headerOf(OBJECT + 512), { readOnly: false });
  const readOnly = new Image(pool, 'vm1', headerOf(OBJECT + 512), { readOnly: true });
  const end = image.bytes;
  const one = [Buffer.alloc(1)];
  t.equal(await codeOf(promised((done) => image.read(end, Buffer.alloc(1), done))), 'E_INVALID');
  t.equal(await codeOf(promised((done) => image.write(end, one, 0, done))), 'E_INVALID');
  t.equal(await codeOf(promised((done) => image.write(-1, one, 0, done))), 'E_INVALID');
  t.equal(await codeOf(promised((done) => image.zero(0, end + 1, 0, done))), 'E_INVALID');
  t.equal(await codeOf(promised((done) => image.prefetch(end, 1, done))), 'E_INVALID');
  t.equal(await codeOf(promisedWith((done) => image.extents(1, end, done))), 'E_INVALID');
  t.equal(await codeOf(promised((done) => readOnly.write(0, one, 0, done))), 'E_READ_ONLY');
  t.equal(await codeOf(promised((done) => readOnly.zero(0, 1, 0, done))), 'E_READ_ONLY');
  await promised((done) => readOnly.read(0, Buffer.alloc(end), done));
  await promised((done) => readOnly.flush(done));
  t.equal((await pool.list({})).entries.length, 0, 'nothing was written');
});

t.test('zeroing to an end that lies within a block gives the block back', async (t) => {
  for (const bytes of [512, OBJECT + 4096 + 512, 2 * OBJECT - 512]) {
    const image = new Image(await memPool(), 'vm1', headerOf(bytes), { readOnly: false });
    const whole = (): Promise<Extent[]> =>
      promisedWith((done) => {
        image.extents(0, bytes, done);
      });
    await promised((done) => image.write(0, [Buffer.alloc(bytes, 1)], 0, done));
    t.same(await whole(), [{ bytes, state: data }]);
    const start = Math.floor((bytes - 1) / 4096) * 4096;
    await promised((done) => image.zero(start, bytes - start, 0, done));
    t.same((await whole()).at(-1), { bytes: bytes - start, state: absent });
    await promised((done) => image.zero(0, bytes, 0, done));
    t.same(await whole(), [{ bytes, state: absent }]);
  }
});

await t.test('flags reach the pool: durable and allocate', async (t) => {
  const pool = await memPool();
  const image = new Image(pool, 'vm1', headerOf(4 * OBJECT), { readOnly: false });
  await promised((done) => image.zero(OBJECT - 4096, 8192, WRITE_FLAGS.allocate, done));
  const { entries } = await pool.list({});
  t.same(
    entries.map((entry) => entry.stat.allocatedBytes),
    [4096, 4096],
  );
});

await t.test('an image this version cannot do right is not opened', async (t) => {
  const pool = await memPool();
  const { layers, ...rest } = headerOf(OBJECT);
  const two = { ...rest, layers: [{ id: 'cd'.repeat(16), overlap: OBJECT }, layers[0]] } as const;
  t.throws(() => new Image(pool, 'vm1', two, { readOnly: true }), { code: 'E_FORMAT' });
  const large = headerOf(OBJECT, 2 * OBJECT);
  t.throws(() => new Image(pool, 'vm1', large, { readOnly: true }), { code: 'E_FORMAT' });
});
