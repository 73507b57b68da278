/**
 * The part of `objectPoolSuite` that plays random operations against a model of plain buffers. Operations of one
 * batch are called without waiting for each other: because each 4 KiB block changes in the order of calls, the
 * model knows what every read in the middle must return.
 */
import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import type { Test } from 'tap';
import type { Story } from './object-pool.suite.js';
import { BLOCK_STATE, OBJECT_KIND, ObjectRef, WRITE_FLAGS } from './object-pool.js';
import { pattern } from './object-pool-data.suite.js';
import type { PoolUser } from './pool-user.js';

/** Random ranges fall into windows of this size at the start, in the middle and at the end of an object. */
const WINDOW_BYTES = 96 * 1024;
const SEED_VARIABLE = 'STORE_TEST_SEED';
const RUNS_VARIABLE = 'STORE_TEST_RUNS';

interface Step {
  readonly act: 'write' | 'zero' | 'read' | 'extents' | 'flush' | 'delete' | 'settle';
  readonly object: 0 | 1 | 2;
  readonly window: 0 | 1 | 2;
  readonly start: number;
  readonly bytes: number;
  readonly flags: number;
  readonly fill: number;
}

const edges = fc.oneof(
  fc.nat({ max: WINDOW_BYTES - 1 }),
  fc.nat({ max: WINDOW_BYTES / 4096 - 1 }).map((block) => block * 4096),
);
const steps: fc.Arbitrary<Step> = fc.record({
  act: fc.oneof(
    { arbitrary: fc.constant('write' as const), weight: 10 },
    {
      arbitrary: fc.constantFrom('zero' as const, 'read' as const, 'extents' as const),
      weight: 10,
    },
    {
      arbitrary: fc.constantFrom('flush' as const, 'delete' as const, 'settle' as const),
      weight: 3,
    },
  ),
  object: fc.constantFrom(0, 1, 2),
  window: fc.constantFrom(0, 1, 2),
  start: edges,
  bytes: fc.oneof(
    fc.integer({ min: 1, max: WINDOW_BYTES }),
    fc.integer({ min: 1, max: 8192 }),
    fc.constantFrom(512, 4096, 65_536),
  ),
  flags: fc.nat({ max: 7 }),
  fill: fc.nat({ max: 250 }),
});

export async function objectPoolModelStories(story: Story): Promise<void> {
  await story('random operations do what plain buffers would', async (t, user) => {
    const seed = Number(process.env[SEED_VARIABLE] ?? randomInt(2 ** 31));
    const numRuns = Number(process.env[RUNS_VARIABLE] ?? 30);
    t.comment(`replay: ${SEED_VARIABLE}=${seed} node ${process.argv[1] ?? ''}`);
    let run = 0;
    const property = fc.asyncProperty(fc.array(steps, { minLength: 5, maxLength: 60 }), (list) =>
      play(user, list, (run += 1)),
    );
    const report = await fc.check(property, { seed, numRuns });
    checkReport(t, report.failed, fc.defaultReportMessage(report) ?? '');
  });
}

function checkReport(t: Test, failed: boolean, message: string): void {
  if (failed) t.comment(message);
  t.notOk(failed, 'the store and the model agree');
}

class Model {
  readonly ref: ObjectRef;
  readonly bytes: Buffer;
  exists = false;

  constructor(ref: ObjectRef, objectBytes: number) {
    this.ref = ref;
    this.bytes = Buffer.alloc(objectBytes);
  }
}

async function play(user: PoolUser, list: readonly Step[], run: number): Promise<void> {
  const { plain, imageData } = OBJECT_KIND;
  const objects = [
    new Model(new ObjectRef(plain, `plain ${run}`), user.pool.objectBytes),
    new Model(new ObjectRef(imageData, `l${run}_0`, `f${run}_0`), user.pool.objectBytes),
    new Model(new ObjectRef(imageData, `l${run}_1`, `f${run}_1`), user.pool.objectBytes),
  ] as const;
  const running: Promise<void>[] = [];
  const settle = async () => {
    await Promise.all(running.splice(0));
  };
  for (const step of list) {
    const object = objects[step.object];
    if (step.act === 'settle' || step.act === 'delete') await settle();
    if (step.act === 'delete') {
      await user.pool.delete(object.ref);
      object.bytes.fill(0);
      object.exists = false;
    } else if (step.act === 'flush') running.push(user.flush());
    else if (step.act !== 'settle') running.push(...act(user, object, step));
  }
  await settle();
  for (const { ref, bytes, exists } of objects) {
    if (ref.kind === plain && !exists) continue;
    expect((await user.read(ref, 0, bytes.length)).equals(bytes), `all of ${ref.id}`);
    await user.pool.delete(ref);
  }
}

/** Calls the operation, changes the model, and promises that the answer fits. */
function act(user: PoolUser, object: Model, step: Step): Promise<void>[] {
  const { ref } = object;
  const end = object.bytes.length;
  const offset = [0, Math.floor(end / 2), end - WINDOW_BYTES][step.window] ?? 0;
  const from = Math.min(offset + step.start, end - 1);
  const bytes = Math.min(step.bytes, end - from);
  const what = `${step.act} ${ref.id} ${bytes} at ${from}`;
  if (step.act === 'write') {
    const written = pattern(bytes, step.fill);
    const cut = Math.floor(bytes / 3);
    const parts = [written.subarray(0, cut), written.subarray(cut)];
    const answer = user.write(ref, from, parts, step.flags & WRITE_FLAGS.durable);
    written.copy(object.bytes, from);
    object.exists = true;
    return [answer];
  }
  if (step.act === 'zero') {
    // A plain object has no layer below and, unlike image data, no use for reserving.
    const flags = ref.kind === OBJECT_KIND.plain ? step.flags & WRITE_FLAGS.durable : step.flags;
    object.bytes.fill(0, from, from + bytes);
    return [user.zero(ref, from, bytes, flags)];
  }
  if (ref.kind === OBJECT_KIND.plain && !object.exists) return [];
  const expected = Buffer.from(object.bytes.subarray(from, from + bytes));
  if (step.act === 'read')
    return [user.read(ref, from, bytes).then((seen) => expect(seen.equals(expected), what))];
  return [
    user.extents(ref, from, bytes).then((extents) => {
      let at = 0;
      let last: number | null = null;
      for (const { bytes: run, state } of extents) {
        expect(run > 0 && state !== last, `${what}: runs are merged`);
        const seen = expected.subarray(at, at + run);
        expect(state === BLOCK_STATE.data || seen.every((byte) => byte === 0), `${what}: a hole`);
        at += run;
        last = state;
      }
      expect(at === bytes, `${what}: covered ${at}`);
    }),
  ];
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`Differs from the model: ${what}`);
}
