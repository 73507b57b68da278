/**
 * The part of `objectPoolSuite` about `absentRun`. A pool may know little, or answer that it cannot tell; what it must
 * never do is to call absent what holds data, or what an operation called before is about to make.
 */
import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import type { Story } from './object-pool.suite.js';
import { OBJECT_KIND, ObjectRef, WRITE_FLAGS } from './object-pool.js';

const LAYER = 'ab'.repeat(16);
/** What the keys of a layer's data begin with. */
export const ABSENT_PREFIX: string = `${LAYER}_`;
const INDEXES = 100;
const SEED_VARIABLE = 'STORE_TEST_SEED';

/** Piece `index` of an image. */
export function absentRef(index: number): ObjectRef {
  return new ObjectRef(OBJECT_KIND.imageData, `${ABSENT_PREFIX}${index}`, `f_${index}`);
}

export async function objectPoolAbsentStories(story: Story): Promise<void> {
  await story('what a call is about to make is not absent any more', async (t, user, pool) => {
    const isAbsent = (index: number): boolean => pool.absentRun(ABSENT_PREFIX, index, 1) === 1;
    const calls = [user.write(absentRef(1), 0, Buffer.from('x'))];
    t.notOk(isAbsent(1), 'written, not yet answered');
    calls.push(user.zero(absentRef(2), 0, 4096, WRITE_FLAGS.layered));
    t.notOk(isAbsent(2), 'zeros over a layer');
    calls.push(user.zero(absentRef(3), 0, 4096, WRITE_FLAGS.allocate));
    t.notOk(isAbsent(3), 'zeros that keep their space');
    const [one, all] = [4096, pool.objectBytes];
    calls.push(user.zero(absentRef(1), 0, all), user.write(absentRef(1), 0, Buffer.alloc(one, 1)));
    t.notOk(isAbsent(1), 'discarded and written again');
    await Promise.all(calls);
    await user.flush();
    for (const index of [1, 2, 3]) t.notOk(isAbsent(index), `${index} after a flush`);
    t.not(pool.absentRun(ABSENT_PREFIX, 0, 10), 10, 'a run ends before it');
  });

  await story('absentRun() never goes over an object that exists', async (t, user, pool) => {
    const seed = Number(process.env[SEED_VARIABLE] ?? randomInt(2 ** 31));
    t.comment(`replay: ${SEED_VARIABLE}=${seed} node ${process.argv[1] ?? ''}`);
    const index = fc.nat({ max: INDEXES - 1 });
    const act = fc.constantFrom('write', 'write', 'zero', 'delete', 'flush');
    const step = fc.record({
      index,
      act,
      first: index,
      count: fc.integer({ min: 1, max: INDEXES }),
    });
    const there = new Set<number>();
    const bytes = Buffer.alloc(4096, 1);
    for (const { index, act, first, count } of fc.sample(step, { seed, numRuns: 500 })) {
      const ref = absentRef(index);
      if (act === 'flush') await user.flush();
      else if (act === 'delete') {
        await pool.delete(ref);
        there.delete(index);
      } else if (act === 'zero') {
        await user.zero(ref, 0, pool.objectBytes);
        there.delete(index);
      } else {
        await user.write(ref, 0, bytes);
        there.add(index);
      }
      const run = pool.absentRun(ABSENT_PREFIX, first, count);
      if (run === null) continue;
      if (run > count) t.fail(`${run} of ${count} objects are absent`);
      for (let at = first; at < first + run; at += 1)
        if (there.has(at)) t.fail(`${at} exists, and ${run} from ${first} on were called absent`);
    }
    t.ok(there.size > 0, 'there were objects to be found');
  });
}
