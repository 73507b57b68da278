/** The part of `objectPoolSuite` that tells what happens to bytes. */
import { BLOCK_BYTES, INLINE_BYTES_MAX } from '../util/limits.js';
import type { Story } from './object-pool.suite.js';
import { BLOCK_STATE, OBJECT_KIND, ObjectRef, WRITE_FLAGS, type Extent } from './object-pool.js';
import { codeOf } from './pool-user.js';

const { absent, data, zero } = BLOCK_STATE;
const imageData = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
const plain = new ObjectRef(OBJECT_KIND.plain, 'plain');

/** Bytes that differ from block to block and never are zero. */
export function pattern(bytes: number, seed: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 1)
    buffer[at] = 1 + ((at * 31 + (at >> 12) * 7 + seed * 101) % 255);
  return buffer;
}

export async function objectPoolDataStories(story: Story): Promise<void> {
  for (const ref of [imageData, plain])
    await story(
      `bytes of '${ref.id}' are read back, whatever their alignment`,
      async (t, user, pool) => {
        const end = pool.objectBytes;
        const model = Buffer.alloc(end);
        const ranges = [
          [1, 1],
          [0, 1],
          [4095, 2],
          [4096, 4096],
          [8191, 4098],
          [511, 513],
          [65_535, 2],
          [65_536, 65_536],
          [end - 1, 1],
          [end - 4097, 4097],
          [100, 200_000],
          [0, end],
          [5000, 10],
        ] as const;
        for (const [index, [offset, bytes]] of ranges.entries()) {
          const written = pattern(bytes, index);
          written.copy(model, offset);
          await user.write(ref, offset, written);
          t.ok((await user.read(ref, offset, bytes)).equals(written), `${bytes} at ${offset}`);
          const from = Math.max(0, offset - 5000);
          const to = Math.min(end, offset + bytes + 5000);
          const around = await user.read(ref, from, to - from);
          t.ok(around.equals(model.subarray(from, to)), `nothing around ${offset} changed`);
        }
        t.ok((await user.read(ref, 0, end)).equals(model), 'the whole object');
      },
    );

  await story('a list of parts is written as if it were one', async (t, user) => {
    const whole = pattern(70_001, 3);
    const sizes = [1, 4095, 0, 4096, 1, 8192, 513, 40_000];
    const parts: Buffer[] = [];
    let at = 0;
    for (const size of sizes) parts.push(whole.subarray(at, (at += size)));
    parts.push(whole.subarray(at));
    await user.write(imageData, 4000, parts);
    t.ok((await user.read(imageData, 4000, whole.length)).equals(whole));
  });

  await story('bytes never written are zeros', async (t, user, pool) => {
    t.ok((await user.read(imageData, 0, pool.objectBytes)).equals(Buffer.alloc(pool.objectBytes)));
    t.equal(await pool.stat(imageData), null, 'reading makes no object');
    t.equal(await codeOf(user.read(plain, 0, 1)), 'E_NOT_FOUND');
    t.equal(
      await codeOf(user.read(new ObjectRef(OBJECT_KIND.imageHeader, 'x'), 0, 1)),
      'E_NOT_FOUND',
    );
    for (const ref of [imageData, plain]) {
      await user.write(ref, 10_000, Buffer.from('end'));
      const seen = await user.read(ref, 0, 100_000);
      t.equal(seen.toString('latin1', 10_000, 10_003), 'end');
      seen.fill(0, 10_000, 10_003);
      t.ok(seen.equals(Buffer.alloc(100_000)), 'zeros before and behind');
    }
  });

  await story(
    'a range outside the object is E_INVALID and changes nothing',
    async (t, user, pool) => {
      const end = pool.objectBytes;
      for (const [offset, bytes] of [
        [-1, 1],
        [-4096, 4096],
        [end, 1],
        [end - 1, 2],
        [0, end + 1],
        [2 ** 53, 1],
        [0.5, 1],
        [Number.NaN, 1],
      ] as const) {
        t.equal(await codeOf(user.read(imageData, offset, bytes)), 'E_INVALID', `read ${offset}`);
        const written = Buffer.alloc(bytes);
        t.equal(
          await codeOf(user.write(imageData, offset, written)),
          'E_INVALID',
          `write ${offset}`,
        );
        t.equal(await codeOf(user.zero(imageData, offset, bytes)), 'E_INVALID', `zero ${offset}`);
        t.equal(await codeOf(user.extents(imageData, offset, bytes)), 'E_INVALID');
      }
      t.equal(await pool.stat(imageData), null);
    },
  );

  await story('zero() of part of a block leaves the rest of it alone', async (t, user) => {
    const model = pattern(20_480, 1);
    await user.write(imageData, 0, model);
    for (const [offset, bytes] of [
      [1, 3],
      [4095, 2],
      [5000, 10_000],
      [20_479, 1],
    ] as const) {
      await user.zero(imageData, offset, bytes);
      model.fill(0, offset, offset + bytes);
      t.ok((await user.read(imageData, 0, 20_480)).equals(model), `${bytes} at ${offset}`);
    }
    t.same(await user.extents(imageData, 0, 24_576), [
      { bytes: 8192, state: data },
      { bytes: 4096, state: absent },
      { bytes: 8192, state: data },
      { bytes: 4096, state: absent },
    ]);
    await user.write(imageData, 9000, Buffer.from('back'));
    model.write('back', 9000);
    t.ok((await user.read(imageData, 0, 20_480)).equals(model), 'nothing old comes back');
  });

  await story(
    'image data that is all discarded is gone, a plain object stays',
    async (t, user, pool) => {
      const end = pool.objectBytes;
      for (const ref of [imageData, plain]) {
        await user.zero(ref, 0, end);
        t.equal(await pool.stat(ref), null, 'discarding makes no object');
        await user.write(ref, 4096, pattern(300_000, 2));
      }
      const full = (await pool.stat(imageData))?.allocatedBytes ?? 0;
      t.ok(full >= 300_000, 'data takes space');
      await user.zero(imageData, 4096, 200_704);
      t.ok(((await pool.stat(imageData))?.allocatedBytes ?? full) < full, 'space came back');
      await user.zero(imageData, 200_704, end - 200_704);
      t.equal(await pool.stat(imageData), null);
      t.same(await user.extents(imageData, 0, end), [{ bytes: end, state: absent }]);
      await user.zero(plain, 0, end);
      t.equal((await pool.stat(plain))?.length, 304_096);
      t.ok((await user.read(plain, 0, 400_000)).equals(Buffer.alloc(400_000)));
    },
  );

  await story('what is zeroed over a layer is zero, not absent', async (t, user, pool) => {
    await user.zero(imageData, 4096, 8192, WRITE_FLAGS.layered);
    t.not(await pool.stat(imageData), null, 'the object exists to hide the layer below');
    t.same(await user.extents(imageData, 0, 16_384), [
      { bytes: 4096, state: absent },
      { bytes: 8192, state: zero },
      { bytes: 4096, state: absent },
    ]);
    await user.write(imageData, 8192, Buffer.from('x'));
    t.same(await user.extents(imageData, 6000, 4000), [
      { bytes: 2192, state: zero },
      { bytes: 1808, state: data },
    ]);
    const block = await user.read(imageData, 8192, BLOCK_BYTES);
    t.ok(
      block.equals(Buffer.from('x'.padEnd(BLOCK_BYTES, '\0'))),
      'the rest of the block is zeros',
    );
    await user.zero(imageData, 8192, 4096, WRITE_FLAGS.layered);
    t.same(await user.extents(imageData, 4096, 8192), [{ bytes: 8192, state: zero }]);
    await user.zero(imageData, 0, pool.objectBytes);
    t.equal(await pool.stat(imageData), null, 'without a layer below nothing is left');
  });

  await story('zero() that allocates keeps the space', async (t, user, pool) => {
    await user.zero(imageData, 8192, 16_384, WRITE_FLAGS.allocate);
    t.ok(((await pool.stat(imageData))?.allocatedBytes ?? 0) >= 16_384, 'space is reserved');
    t.ok((await user.read(imageData, 0, 40_960)).equals(Buffer.alloc(40_960)));
    const extents = await user.extents(imageData, 8192, 16_384);
    t.notOk(
      extents.some((extent) => extent.state === absent),
      'no part of it is a hole',
    );
    await user.write(imageData, 12_000, pattern(5000, 4));
    t.ok((await user.read(imageData, 12_000, 5000)).equals(pattern(5000, 4)));
  });

  await story('extents cover exactly what was asked, merged', async (t, user, pool) => {
    for (const block of [1, 2, 3, 7, 8])
      await user.write(imageData, block * 4096, Buffer.alloc(4096, 1));
    await user.write(imageData, 10 * 4096 + 5, Buffer.from('x'));
    const end = pool.objectBytes;
    t.same(await user.extents(imageData, 0, end), [
      { bytes: 4096, state: absent },
      { bytes: 12_288, state: data },
      { bytes: 12_288, state: absent },
      { bytes: 8192, state: data },
      { bytes: 4096, state: absent },
      { bytes: 4096, state: data },
      { bytes: end - 11 * 4096, state: absent },
    ]);
    t.same(await user.extents(imageData, 4095, 2), [
      { bytes: 1, state: absent },
      { bytes: 1, state: data },
    ]);
    t.same(await user.extents(imageData, 5000, 3000), [{ bytes: 3000, state: data }]);
    const small = await user.extents(imageData, end - 1, 1);
    t.same(small, [{ bytes: 1, state: absent }] satisfies Extent[]);
  });

  await story('overlapping writes take effect in the order they were called', async (t, user) => {
    const model = Buffer.alloc(12_288);
    const running: Promise<unknown>[] = [];
    for (let step = 0; step < 300; step += 1) {
      const offset = (step * 1237) % 9000;
      const bytes = 1 + ((step * 577) % 3000);
      if (step % 7 === 3) {
        running.push(user.zero(imageData, offset, bytes));
        model.fill(0, offset, offset + bytes);
      } else {
        running.push(user.write(imageData, offset, pattern(bytes, step)));
        pattern(bytes, step).copy(model, offset);
      }
      if (step % 5 === 0) {
        const expected = Buffer.from(model);
        const seen = user.read(imageData, 0, model.length);
        running.push(seen.then((bytes) => t.ok(bytes.equals(expected), `read after step ${step}`)));
      }
      if (step % 50 === 9) running.push(user.flush());
    }
    await Promise.all(running);
    t.ok((await user.read(imageData, 0, model.length)).equals(model), 'at the end');
  });

  await story('a plain object grows from a few bytes to a whole object', async (t, user, pool) => {
    const model = Buffer.alloc(pool.objectBytes);
    let length = 0;
    for (const [offset, bytes] of [
      [0, 5],
      [5, 100],
      [4000, 5000],
      [INLINE_BYTES_MAX - 10, 10],
      [INLINE_BYTES_MAX - 3, 6],
      [3, 2],
      [200_000, 70_000],
      [pool.objectBytes - 3, 3],
    ] as const) {
      const written = pattern(bytes, offset);
      written.copy(model, offset);
      length = Math.max(length, offset + bytes);
      await user.write(plain, offset, written, offset % 2 === 0 ? WRITE_FLAGS.durable : 0);
      t.equal((await pool.stat(plain))?.length, length);
      t.ok(
        (await user.read(plain, 0, length)).equals(model.subarray(0, length)),
        `${length} bytes`,
      );
    }
    await user.flush();
    t.ok((await user.read(plain, 0, length)).equals(model));
  });

  await story('prefetch() answers, whether there is anything or not', async (t, user) => {
    await user.prefetch(imageData, 0, 65_536);
    await user.write(imageData, 0, pattern(65_536, 1));
    await user.prefetch(imageData, 4096, 8192);
    t.ok((await user.read(imageData, 0, 65_536)).equals(pattern(65_536, 1)));
  });
}
