/**
 * What every `CheckedPool` must do, told as tests: the checksums it gives are those of the bytes it gives, and bytes
 * that are not the ones whose checksums came with them change nothing.
 */
import type { Test } from 'tap';
import { promised, promisedWith } from '../util/errors.js';
import { BLOCK_BYTES } from '../util/limits.js';
import { pieceChecksOf, verifyPieces } from '../util/piece-checks.js';
import { appendBlock } from '../util/run-checksum.js';
import type { CheckedPool, PieceChecks } from './checked-pool.js';
import { pattern } from './object-pool-data.suite.js';
import { OBJECT_KIND, ObjectRef, WRITE_FLAGS } from './object-pool.js';
import type { CheckedStore } from './object-store.js';
import { codeOf } from './pool-user.js';

type CheckedStory = (
  title: string,
  play: (t: Test, user: CheckedUser, pool: CheckedPool) => Promise<void>,
) => Promise<void>;

const POOL = 'checked';
const POISON = 0xdb;
const imageData = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
const plain = new ObjectRef(OBJECT_KIND.plain, 'plain');
/** Whole blocks, pieces at either end, a piece within a block; inline sizes and larger ones. */
const RANGES = [
  [0, 4096],
  [8192, 65_536],
  [5000, 10],
  [4095, 2],
  [100, 4000],
  [4000, 4192],
  [4096, 5000],
  [1, 200_000],
  [65_536, 131_072],
] as const;

/** Waits for answers, and poisons what it passed in as soon as it has them. */
class CheckedUser {
  readonly #pool: CheckedPool;

  constructor(pool: CheckedPool) {
    this.#pool = pool;
  }

  async write(
    ref: ObjectRef,
    offset: number,
    bytes: Buffer,
    checks: PieceChecks = pieceChecksOf(offset, [bytes]),
    flags = 0,
  ): Promise<void> {
    const cut = Math.floor(bytes.length / 3);
    const parts = [Buffer.from(bytes.subarray(0, cut)), Buffer.from(bytes.subarray(cut))];
    const passed = Uint32Array.from(checks);
    try {
      await promised((done) => this.#pool.writeChecked(ref, offset, parts, passed, flags, done));
    } finally {
      for (const part of parts) part.fill(POISON);
      passed.fill(POISON);
    }
  }

  async read(
    ref: ObjectRef,
    offset: number,
    bytes: number,
  ): Promise<{ bytes: Buffer; checks: PieceChecks }> {
    const target = Buffer.alloc(bytes, POISON);
    const checks = await promisedWith<PieceChecks>((done) =>
      this.#pool.readChecked(ref, offset, target, done),
    );
    return { bytes: target, checks };
  }
}

/** The contract of `CheckedPool` as subtests of `t`, beyond that of `ObjectPool`. */
export async function checkedPoolStories(
  t: Test,
  open: () => Promise<CheckedStore>,
): Promise<void> {
  const story: CheckedStory = async (title, play) => {
    await t.test(title, async (t) => {
      const store = await open();
      const pool = await store.openPool(POOL, { create: true });
      try {
        await play(t, new CheckedUser(pool), pool);
      } finally {
        await store.close();
      }
    });
  };
  await goodStories(story);
  await damageStories(story);
}

async function goodStories(story: CheckedStory): Promise<void> {
  for (const ref of [imageData, plain])
    await story(`checksums of '${ref.id}' are those of the bytes`, async (t, user, pool) => {
      const model = Buffer.alloc(300_000);
      for (const [index, [offset, bytes]] of RANGES.entries()) {
        const written = pattern(bytes, index);
        written.copy(model, offset);
        await user.write(ref, offset, written, pieceChecksOf(offset, [written]), index % 2);
        if (index % 3 === 2) await promised((done) => pool.flush(done));
        for (const [from, length] of RANGES) {
          const seen = await user.read(ref, from, length);
          const expected = model.subarray(from, from + length);
          t.ok(seen.bytes.equals(expected), `${length} bytes at ${from}`);
          t.same(seen.checks, pieceChecksOf(from, [expected]), `their checksums`);
        }
      }
      await promised((done) => pool.write(ref, 0, [Buffer.from('as ever')], 0, done));
      model.write('as ever');
      const { checks } = await user.read(ref, 0, 8192);
      t.same(checks, pieceChecksOf(0, [model.subarray(0, 8192)]), 'of what came without any');
    });

  await story(
    'what was never written, or zeroed, has checksums of zeros',
    async (t, user, pool) => {
      const zeros = (offset: number, bytes: number): PieceChecks =>
        pieceChecksOf(offset, [Buffer.alloc(bytes)]);
      t.same((await user.read(imageData, 100, 20_000)).checks, zeros(100, 20_000));
      t.equal(await pool.stat(imageData), null, 'reading makes no object');
      await user.write(imageData, 4096, pattern(4096, 1));
      await user.write(imageData, 16_384, pattern(8192, 1));
      await promised((done) => pool.zero(imageData, 16_384, 4096, WRITE_FLAGS.layered, done));
      await promised((done) => pool.zero(imageData, 20_480, 4096, 0, done));
      const { bytes, checks } = await user.read(imageData, 0, 32_768);
      t.same(checks, pieceChecksOf(0, [bytes]));
      t.same((await user.read(imageData, 16_384, 8192)).checks, zeros(16_384, 8192));
      t.same((await user.read(imageData, 0, 0)).checks, new Uint32Array());
      t.equal(await codeOf(user.read(plain, 0, 1)), 'E_NOT_FOUND');
    },
  );

  await story('reads and writes with checksums keep the order of calls', async (t, user) => {
    const model = Buffer.alloc(40_960);
    const running: Promise<unknown>[] = [];
    for (let step = 0; step < 200; step += 1) {
      const offset = (step * 4099) % 30_000;
      const written = pattern(1 + ((step * 577) % 10_000), step);
      written.copy(model, offset);
      running.push(user.write(imageData, offset, written));
      const expected = Buffer.from(model);
      const seen = user.read(imageData, 0, expected.length);
      running.push(
        seen.then(({ bytes, checks }) => {
          t.ok(bytes.equals(expected), `read after step ${step}`);
          t.same(checks, pieceChecksOf(0, [expected]));
        }),
      );
    }
    await Promise.all(running);
  });

  await story('ifAbsent works with checksums', async (t, user) => {
    const { ifAbsent } = WRITE_FLAGS;
    await user.write(imageData, BLOCK_BYTES, pattern(BLOCK_BYTES, 1));
    const below = pattern(4 * BLOCK_BYTES, 2);
    const expected = Buffer.from(below);
    pattern(BLOCK_BYTES, 1).copy(expected, BLOCK_BYTES);
    const checks = pieceChecksOf(0, [below]);
    await user.write(imageData, 0, below, checks, ifAbsent | WRITE_FLAGS.durable);
    const seen = await user.read(imageData, 0, expected.length);
    t.ok(seen.bytes.equals(expected));
    t.same(seen.checks, pieceChecksOf(0, [expected]));
    t.equal(await codeOf(user.write(imageData, 1, below, undefined, ifAbsent)), 'E_INVALID');
  });
}

async function damageStories(story: CheckedStory): Promise<void> {
  for (const ref of [imageData, plain]) {
    await story(`damaged bytes make no '${ref.id}' and change none`, async (t, user, pool) => {
      for (const [offset, bytes] of RANGES) {
        const good = pattern(bytes, 1);
        for (const at of [0, bytes >> 1, bytes - 1]) {
          const damaged = Buffer.from(good);
          damaged[at] = (damaged[at] ?? 0) ^ 0x10;
          const sent = user.write(ref, offset, damaged, pieceChecksOf(offset, [good]));
          t.equal(await codeOf(sent), 'E_CHECKSUM', `byte ${at} of ${bytes} at ${offset}`);
        }
        t.equal(await pool.stat(ref), null, 'no object was made');
      }
      const before = pattern(262_144, 5);
      await user.write(ref, 0, before);
      const stat = await pool.stat(ref);
      for (const [offset, bytes] of RANGES) {
        const checks = pieceChecksOf(offset, [pattern(bytes, 1)]);
        const last = checks.length - 1;
        checks[last] = (checks[last] ?? 0) ^ 1;
        t.equal(await codeOf(user.write(ref, offset, pattern(bytes, 1), checks)), 'E_CHECKSUM');
      }
      t.ok((await user.read(ref, 0, before.length)).bytes.equals(before), 'nothing was changed');
      t.same(await pool.stat(ref), stat);
    });

    await story(`a wrong number of checksums writes no '${ref.id}'`, async (t, user, pool) => {
      for (const [offset, bytes] of [...RANGES, [0, 0]] as const) {
        const right = [...pieceChecksOf(offset, [pattern(bytes, 1)])];
        for (const wrong of [right.slice(1), [...right, 0]]) {
          if (wrong.length === right.length) continue; // of nothing there is nothing less
          const sent = user.write(ref, offset, pattern(bytes, 1), Uint32Array.from(wrong));
          t.equal(await codeOf(sent), 'E_INVALID', `${wrong.length} for ${bytes} at ${offset}`);
        }
      }
      t.equal(await pool.stat(ref), null);
    });
  }

  await story('checksums whose errors cancel out do not pass either', async (t, user, pool) => {
    // A run of blocks may be compared as one; two checksums can be wrong so that it still fits.
    const bytes = pattern(2 * BLOCK_BYTES, 1);
    const swapped = pieceChecksOf(0, [bytes]).reverse();
    t.equal(await codeOf(user.write(imageData, 0, bytes, swapped)), 'E_CHECKSUM');
    const shifted = pieceChecksOf(0, [bytes]);
    shifted[0] = (shifted[0] ?? 0) ^ 1;
    shifted[1] = (shifted[1] ?? 0) ^ appendBlock(1, 0);
    t.equal(verifyPieces(0, [bytes], shifted), -1, 'such as these');
    t.equal(await codeOf(user.write(imageData, 0, bytes, shifted)), 'E_CHECKSUM');
    t.equal(await pool.stat(imageData), null);
  });

  await story('the message names the block and what to do', async (t, user) => {
    const bytes = pattern(3 * BLOCK_BYTES, 1);
    const checks = pieceChecksOf(8192, [bytes]);
    checks[1] = 0;
    await t.rejects(user.write(imageData, 8192, bytes, checks), {
      message: /^Block 3 of object 'layer_0' was damaged on its way here.* send it again$/,
    });
  });

  await story(
    'a range outside the object is E_INVALID, with checksums too',
    async (t, user, pool) => {
      const end = pool.objectBytes;
      for (const [offset, bytes] of [
        [-1, 1],
        [end, 1],
        [end - 1, 2],
        [0.5, 1],
        [Number.NaN, 1],
        [2 ** 53, 1],
      ] as const) {
        const checks = new Uint32Array(1);
        const sent = user.write(imageData, offset, Buffer.alloc(bytes), checks);
        t.equal(await codeOf(sent), 'E_INVALID', `write at ${offset}`);
        t.equal(
          await codeOf(user.read(imageData, offset, bytes)),
          'E_INVALID',
          `read at ${offset}`,
        );
      }
      t.equal(await pool.stat(imageData), null);
    },
  );
}
