/** The part of `objectPoolSuite` that tells what a write does that fills only what is absent. */
import { BLOCK_BYTES } from '../util/limits.js';
import { pattern } from './object-pool-data.suite.js';
import type { Story } from './object-pool.suite.js';
import { BLOCK_STATE, OBJECT_KIND, ObjectRef, WRITE_FLAGS } from './object-pool.js';
import { codeOf } from './pool-user.js';

const { ifAbsent, durable, layered } = WRITE_FLAGS;
const ref = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

function blocks(count: number, seed: number): Buffer {
  return pattern(count * BLOCK_BYTES, seed);
}

export async function objectPoolIfAbsentStories(story: Story): Promise<void> {
  await story('ifAbsent fills absent blocks and leaves all others', async (t, user, pool) => {
    const below = blocks(8, 1);
    await user.write(ref, 2 * BLOCK_BYTES + 100, Buffer.from('mine'));
    await user.zero(ref, 5 * BLOCK_BYTES, 2 * BLOCK_BYTES, layered);
    const cut = 3 * BLOCK_BYTES + 17; // parts may be cut anywhere
    await user.write(ref, 0, [below.subarray(0, cut), below.subarray(cut)], ifAbsent);
    const expected = Buffer.from(below);
    expected.fill(0, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES).write('mine', 2 * BLOCK_BYTES + 100);
    expected.fill(0, 5 * BLOCK_BYTES, 7 * BLOCK_BYTES);
    t.ok((await user.read(ref, 0, expected.length)).equals(expected));
    t.same(await user.extents(ref, 0, expected.length), [
      { bytes: 5 * BLOCK_BYTES, state: BLOCK_STATE.data },
      { bytes: 2 * BLOCK_BYTES, state: BLOCK_STATE.zero },
      { bytes: BLOCK_BYTES, state: BLOCK_STATE.data },
    ]);
    const before = await pool.stat(ref);
    await user.write(ref, 0, blocks(8, 9), ifAbsent | durable);
    t.ok((await user.read(ref, 0, expected.length)).equals(expected), 'nothing is absent now');
    t.same(await pool.stat(ref), before, 'so nothing was changed');
  });

  await story('ifAbsent makes the object, whole', async (t, user, pool) => {
    const all = pattern(pool.objectBytes, 2);
    for (const flags of [ifAbsent, ifAbsent | durable]) {
      await user.write(ref, 0, all, flags);
      t.ok((await user.read(ref, 0, all.length)).equals(all));
      t.equal((await pool.stat(ref))?.length, all.length);
      await pool.delete(ref);
    }
    await user.write(ref, BLOCK_BYTES, [], ifAbsent);
    t.equal(await pool.stat(ref), null, 'no bytes make no object');
  });

  await story('ifAbsent fills every second block', async (t, user, pool) => {
    const count = pool.objectBytes / BLOCK_BYTES;
    const expected = pattern(pool.objectBytes, 3);
    const own = Buffer.alloc(BLOCK_BYTES, 'own');
    for (let block = 0; block < count; block += 2) {
      await user.write(ref, block * BLOCK_BYTES, own);
      own.copy(expected, block * BLOCK_BYTES);
    }
    await user.write(ref, 0, pattern(pool.objectBytes, 3), ifAbsent);
    t.ok((await user.read(ref, 0, expected.length)).equals(expected));
  });

  await story('ifAbsent takes whole blocks of image data only', async (t, user, pool) => {
    for (const [offset, bytes] of [
      [1, BLOCK_BYTES],
      [0, BLOCK_BYTES - 1],
      [BLOCK_BYTES, 1],
      [512, 512],
    ] as const)
      t.equal(await codeOf(user.write(ref, offset, Buffer.alloc(bytes), ifAbsent)), 'E_INVALID');
    const plain = new ObjectRef(OBJECT_KIND.plain, 'plain');
    t.equal(await codeOf(user.write(plain, 0, blocks(1, 1), ifAbsent)), 'E_INVALID');
    const beyond = user.write(ref, pool.objectBytes, blocks(1, 1), ifAbsent);
    t.equal(await codeOf(beyond), 'E_INVALID');
    for (const object of [ref, plain]) t.equal(await pool.stat(object), null);
  });

  await story('ifAbsent takes its turn among writes and zeros', async (t, user) => {
    const window = 24;
    const model: (Buffer | null)[] = Array.from({ length: window }, () => null);
    const running: Promise<unknown>[] = [];
    const below = (step: number): number => (step * 7919 + (step >> 3) * 104_729) % 65_536;
    for (let step = 0; step < 400; step += 1) {
      const first = below(step) % window;
      const count = 1 + (below(step + 1) % (window - first));
      const bytes = blocks(count, step);
      const at = (block: number): Buffer =>
        bytes.subarray((block - first) * BLOCK_BYTES, (block - first + 1) * BLOCK_BYTES);
      const act = below(step + 2) % 5;
      for (let block = first; block < first + count; block += 1)
        if (act < 2) model[block] ??= at(block);
        else model[block] = act === 2 ? at(block) : act === 3 ? null : Buffer.alloc(BLOCK_BYTES);
      const [offset, length] = [first * BLOCK_BYTES, count * BLOCK_BYTES];
      if (act < 2) running.push(user.write(ref, offset, bytes, ifAbsent | (act * durable)));
      else if (act === 2) running.push(user.write(ref, offset, bytes));
      else running.push(user.zero(ref, offset, length, act === 3 ? 0 : layered));
      if (step % 4 === 0) {
        const expected = Buffer.concat(model.map((block) => block ?? Buffer.alloc(BLOCK_BYTES)));
        const seen = user.read(ref, 0, expected.length);
        running.push(seen.then((bytes) => t.ok(bytes.equals(expected), `after step ${step}`)));
      }
      // What is closed must be opened again, which takes a while.
      if (step % 90 === 89) running.push(user.flush());
      if (step % 60 === 59) await Promise.all(running.splice(0));
    }
    await Promise.all(running);
  });
}
