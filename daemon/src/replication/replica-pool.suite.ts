/**
 * What every `ReplicaPool` must do, told as tests with two of them: what the one announces, the other makes, and then
 * they are the same.
 */
import {
  crc32c,
  BLOCK_BYTES,
  encodeGuard,
  GUARD_BYTES,
  guardRef,
  OBJECT_KIND,
  ObjectRef,
  pieceChecksOf,
  promised,
  promisedWith,
  silentLog,
  WRITE_FLAGS,
  type ListOptions,
} from '@store/core';
import { SimRandom } from '@store/core/sim';
import { PoolUser, codeOf } from '@store/core/testing';
import type { Test } from 'tap';
import type { Change, ObjectPlace } from './change.js';
import { GuardTable } from './guard-table.js';
import { loadGuards } from './load-guards.js';
import {
  ALL,
  Follower,
  HEADER,
  IMAGE,
  NOTES,
  OBJECTS,
  RecordingTap,
  bringUp,
  digestOf,
  inventoryOf,
  pagesOf,
  playRandomly,
} from './replica-pool-player.js';
import type { ReplicaPool } from './replica-pool.js';

/** Two empty pools to try. */
export interface ReplicaPair {
  readonly ours: ReplicaPool;
  readonly theirs: ReplicaPool;
  /** Lets time pass until the work is done. */
  wait<T>(work: () => Promise<T>): Promise<T>;
  /** Damages a block of an object of `ours` where it is stored. */
  rot(object: ObjectPlace, block: number): Promise<void>;
  close(): Promise<void>;
}

type PairStory = (
  title: string,
  play: (t: Test, pair: ReplicaPair) => Promise<void>,
) => Promise<void>;

const [PIECE, , OTHER_PIECE] = IMAGE as readonly [ObjectRef, ObjectRef, ObjectRef];
const [NOTE] = NOTES as readonly [ObjectRef];

/** The contract of `ReplicaPool` as a subtest of `t`. */
export async function replicaPoolSuite(
  t: Test,
  name: string,
  open: () => Promise<ReplicaPair>,
): Promise<void> {
  await t.test(name, async (t) => {
    const story: PairStory = async (title, play) => {
      await t.test(title, async (t) => {
        const pair = await open();
        try {
          await pair.wait(() => play(t, pair));
        } finally {
          await pair.close();
        }
      });
    };
    await announceStories(story);
    await applyStories(story);
    await differenceStories(story);
    await presentStories(story);
    await listStories(story);
    await mendStories(story);
    await guardStories(story);
  });
}

/** Both copies, by their digests. */
async function isEqual(t: Test, { ours, theirs }: ReplicaPair, objects = OBJECTS): Promise<void> {
  for (const object of objects) {
    const digest = await digestOf(ours, object);
    t.same(await digestOf(theirs, object), digest, object.id);
    t.same(await theirs.stat(object), await ours.stat(object), object.id);
  }
}

/** From now on `theirs` makes what `ours` announces. */
function follow({ ours, theirs }: ReplicaPair): { tap: RecordingTap; follower: Follower } {
  const [tap, follower] = [new RecordingTap(), new Follower(theirs)];
  tap.onChange = follower.follow;
  ours.announceTo(tap);
  return { tap, follower };
}

async function guardStories(story: PairStory): Promise<void> {
  const guard = { image: 'vm', token: 7, layer: 0, layerId: 'layer' };
  const load = (pool: ReplicaPool, group: number, table: GuardTable): Promise<void> =>
    promised((done) =>
      loadGuards({
        ...{ store: pool, group, groups: 16, table, log: silentLog, done },
        mend: (_, mended) => mended(false),
      }),
    );

  await story('guards have copies as all else, and no list has them', async (t, pair) => {
    const { follower } = follow(pair);
    const user = new PoolUser(pair.ours);
    for (const token of [6, 7])
      for (const group of [0, 3, 15])
        await promised((done) =>
          pair.ours.write(
            guardRef('vm', group, 16),
            0,
            [encodeGuard({ ...guard, token: token * 16 + group })],
            WRITE_FLAGS.none,
            done,
          ),
        );
    await promised((done) =>
      pair.ours.write(guardRef('other', 3, 16), 0, [Buffer.alloc(GUARD_BYTES)], 0, done),
    );
    await user.write(NOTE, 0, Buffer.from('a note'));
    await user.write(PIECE, 0, Buffer.alloc(4096, 1));
    await follower.settled();
    for (const pool of [pair.ours, pair.theirs]) {
      for (const group of [0, 3, 15]) {
        const table = new GuardTable();
        await load(pool, group, table);
        t.match(table.of('vm'), { token: 7 * 16 + group, layerId: 'layer' });
        t.equal(table.count, group === 3 ? 2 : 1);
        t.match(table.of('other'), group === 3 ? { token: 0 } : undefined, 'it is no guard');
      }
      const none = new GuardTable();
      await load(pool, 4, none);
      t.equal(none.count, 0);
      const keys = async (options: ListOptions): Promise<number> =>
        (await pool.list(options)).entries.length;
      t.equal(await keys({}), 2);
      t.equal(await keys({ kind: OBJECT_KIND.guard }), 0);
    }
    await pair.ours.delete(guardRef('vm', 3, 16));
    await follower.settled();
    const table = new GuardTable();
    await load(pair.theirs, 3, table);
    t.equal(table.of('vm'), undefined, 'what was removed is removed everywhere');
  });
}

async function announceStories(story: PairStory): Promise<void> {
  for (const seed of [1, 2, 3])
    await story(`after random operations both are the same (seed ${seed})`, async (t, pair) => {
      const { tap, follower } = follow(pair);
      for (let round = 0; round < 3; round += 1) {
        await playRandomly(pair.ours, new SimRandom(seed, round), 120);
        await follower.settled();
        await isEqual(t, pair);
      }
      const versions = tap.changes.map(({ version }) => version);
      t.equal(new Set(versions).size, versions.length, 'no version comes twice');
      for (const object of OBJECTS) {
        const stat = await pair.ours.stat(object);
        if (stat === null) continue;
        const own = tap.changes.filter((change) => change.object.place === object.place);
        const grows = own.every(({ version }, at) => version > (own[at - 1]?.version ?? 0));
        t.ok(grows, 'versions of an object grow');
        const last = own.at(-1);
        t.equal(stat.version, last?.version, 'the version is that of the last change');
        const user = new PoolUser(pair.theirs);
        const seen = await user.read(object, 0, stat.length);
        t.ok(seen.equals(await new PoolUser(pair.ours).read(object, 0, stat.length)));
      }
      t.same(tap.notMadeOf, []);
    });

  await story(
    'a write is one change, which says whether it must be durable',
    async (t, { ours }) => {
      const tap = new RecordingTap();
      ours.announceTo(tap);
      const user = new PoolUser(ours);
      const bytes = Buffer.alloc(10_000, 7);
      for (const flags of [WRITE_FLAGS.none, WRITE_FLAGS.durable]) {
        await user.write(PIECE, 100, bytes, flags);
        await user.write(PIECE, 65_536 * 3 - 100, bytes, flags);
      }
      const said = tap.changes.map((change) => change.op === 'write' && change.isDurable);
      t.same(said, [false, false, true, true]);
    },
  );

  await story('what changes nothing is not announced', async (t, { ours }) => {
    const tap = new RecordingTap();
    ours.announceTo(tap);
    const user = new PoolUser(ours);
    t.equal(await ours.delete(PIECE), false);
    await user.zero(PIECE, 0, 65_536);
    await user.read(PIECE, 0, 4096);
    t.equal(await codeOf(ours.compareAndSwap(NOTE, 7, Buffer.from('x'))), 'E_VERSION');
    t.same(tap.changes, []);
  });
}

async function applyStories(story: PairStory): Promise<void> {
  await story('blocks that were damaged on their way change nothing', async (t, { theirs }) => {
    const write = writeOf(PIECE, 5, 0, 2);
    const checks = write.checks.map((check, index) => (index === 1 ? check ^ 1 : check));
    t.equal(await codeOf(applied(theirs, { ...write, checks })), 'E_CHECKSUM');
    t.equal(await theirs.stat(PIECE), null);
  });

  await story(
    'versions and lengths are those of the last change, made in any order',
    async (t, { theirs }) => {
      await Promise.all([
        applied(theirs, { ...writeOf(PIECE, 5, 0, 300), length: 2_000_000 }),
        applied(theirs, { ...writeOf(PIECE, 7, 500, 1), length: 2_052_096 }),
        applied(theirs, { ...writeOf(PIECE, 6, 600, 1), length: 2_461_696 }),
      ]);
      const { version, length } = (await theirs.stat(PIECE)) ?? { version: 0, length: 0 };
      t.same([version, length], [6, 2_461_696], 'of another copy, also smaller ones');
    },
  );

  await story('what no object can have is refused', async (t, { theirs }) => {
    const write = writeOf(PIECE, 5, 0, 2);
    const changes: Change[] = [
      { ...write, first: 1023 },
      { ...write, first: -1 },
      { ...write, length: 5_000_000 },
      { ...write, checks: write.checks.subarray(1) },
      { ...write, blocks: [], checks: new Uint32Array() },
      { ...statesOf(PIECE, 5), first: 1024, count: 0 },
      { op: 'whole', object: PIECE, version: 5, content: Buffer.from('x') },
    ];
    for (const change of changes) t.equal(await codeOf(applied(theirs, change)), 'E_INVALID');
    t.equal(await theirs.stat(PIECE), null);
  });

  await story('whole and delete replace what is of another kind', async (t, { theirs }) => {
    const image = new ObjectRef(OBJECT_KIND.imageData, 'thing');
    const plain = new ObjectRef(OBJECT_KIND.plain, 'thing');
    for (const size of [10, 100_000]) {
      await applied(theirs, writeOf(image, 5, 0, 3));
      const content = Buffer.alloc(size, 'x');
      await applied(theirs, { op: 'whole', object: plain, version: 6, content });
      t.equal((await theirs.stat(plain))?.version, 6);
      t.equal(await codeOf(applied(theirs, writeOf(image, 7, 0, 1))), 'E_INVALID');
      t.ok((await new PoolUser(theirs).read(plain, 0, size)).equals(content));
      await Promise.all([
        applied(theirs, { op: 'delete', object: image, version: 8 }),
        applied(theirs, writeOf(image, 9, 0, 1)),
      ]);
      t.equal((await theirs.stat(image))?.version, 9, 'in the order of calls');
    }
  });

  await story('what is erased is not announced', async (t, { ours }) => {
    const tap = new RecordingTap();
    ours.announceTo(tap);
    for (const object of [PIECE, NOTE]) {
      await new PoolUser(ours).write(object, 0, Buffer.from('x'));
      tap.changes.length = 0;
      await promised((done) => ours.erase(object, done));
      t.equal(await ours.stat(object), null);
      await promised((done) => ours.erase(object, done));
      t.same(tap.changes, []);
    }
  });
}

async function differenceStories(story: PairStory): Promise<void> {
  for (const seed of [1, 2, 3])
    await story(`the difference makes any copy the same (seed ${seed})`, async (t, pair) => {
      const { ours, theirs } = pair;
      const tap = new RecordingTap(7);
      ours.announceTo(tap);
      await playRandomly(ours, new SimRandom(seed, 10), 150);
      const changes = tap.changes.length;
      const isEmpty = seed === 1;
      if (!isEmpty) await playRandomly(theirs, new SimRandom(seed, 11), 150);
      for (const object of OBJECTS) await bringUp(ours, theirs, object);
      await isEqual(t, pair);
      for (const object of OBJECTS) t.same(await bringUp(ours, theirs, object), [], 'no more');
      t.equal(tap.changes.length, changes, 'it is emitted, and not announced');
    });

  await story('the difference of a copy that missed some changes is small', async (t, pair) => {
    const { ours, theirs } = pair;
    const { tap, follower } = follow(pair);
    const user = new PoolUser(ours);
    await user.write(PIECE, 0, Buffer.alloc(3_000_000, 'a'));
    await follower.settled();
    tap.onChange = () => undefined;
    await user.write(PIECE, 40_960, Buffer.alloc(4096, 'b'));
    await user.zero(PIECE, 2_048_000, 8192);
    const [write, states, last, ...others] = await bringUp(ours, theirs, PIECE);
    t.match(write, { op: 'write', first: 10, checks: { length: 1 } });
    t.match(states, { op: 'states', first: 500, count: 2 });
    t.match(last, { op: 'states', count: 0 }, 'the last one tells of the version');
    t.same(others, []);
    await isEqual(t, pair);
    // The same bytes again: another version.
    await user.write(PIECE, 40_960, Buffer.alloc(4096, 'b'));
    t.match(await bringUp(ours, theirs, PIECE), [{ op: 'states', count: 0 }]);
    await isEqual(t, pair);
  });

  await story(
    'blocks that carry their own checksum are told apart by their bytes',
    async (t, pair) => {
      const { ours, theirs } = pair;
      const { tap, follower } = follow(pair);
      const user = new PoolUser(ours);
      await user.write(PIECE, 0, ownChecked(1));
      await user.write(NOTE, 0, ownChecked(1));
      await follower.settled();
      tap.onChange = () => undefined;
      t.equal(
        crc32c(ownChecked(1)),
        crc32c(ownChecked(2)),
        'their CRC-32C is the same whatever they hold',
      );
      await user.write(PIECE, 0, ownChecked(2));
      await user.write(NOTE, 0, ownChecked(2));
      t.match(await bringUp(ours, theirs, PIECE), [{ op: 'write' }, { op: 'states', count: 0 }]);
      t.match(await bringUp(ours, theirs, NOTE), [{ op: 'whole' }]);
      for (const object of [PIECE, NOTE])
        t.ok((await new PoolUser(theirs).read(object, 0, 4096)).equals(ownChecked(2)));
    },
  );

  await story('the difference of what is only there, or of another kind', async (t, pair) => {
    const { ours, theirs } = pair;
    ours.announceTo(new RecordingTap());
    const image = new ObjectRef(OBJECT_KIND.imageData, 'thing');
    const plain = new ObjectRef(OBJECT_KIND.plain, 'thing');
    for (const [here, there] of [
      [image, plain],
      [plain, image],
    ] as const)
      for (const size of [5000, 100_000]) {
        await new PoolUser(ours).write(here, 0, Buffer.alloc(size, 'a'));
        await new PoolUser(theirs).write(there, 0, Buffer.alloc(size + 9000, 'b'));
        await bringUp(ours, theirs, here);
        await isEqual(t, pair, [here]);
        await ours.delete(here);
        await bringUp(ours, theirs, here);
        t.equal(await theirs.stat(here), null);
      }
  });

  await story('the difference while clients go on', async (t, pair) => {
    const { ours, theirs } = pair;
    await playRandomly(theirs, new SimRandom(1, 21), 100);
    const { follower, tap } = follow(pair);
    tap.onChange = () => undefined;
    await playRandomly(ours, new SimRandom(1, 22), 100);
    // From now on it hears of all that changes, and catches up with the rest. What it cannot make of a
    // thing of another kind it learns when that is compared.
    for (const object of OBJECTS) await promised((done) => theirs.erase(object, done));
    tap.onChange = follower.follow;
    const playing = playRandomly(ours, new SimRandom(1, 23), 300);
    for (const object of OBJECTS) {
      const theirDigest = await digestOf(theirs, object);
      await promisedWith((done) => ours.difference(object, theirDigest, follower.follow, done));
    }
    await playing;
    await follower.settled();
    await isEqual(t, pair);
  });
}

async function presentStories(story: PairStory): Promise<void> {
  await story('what is presented, others are', async (t, pair) => {
    const { ours, theirs } = pair;
    ours.announceTo(new RecordingTap());
    await playRandomly(ours, new SimRandom(4, 1), 150);
    await playRandomly(theirs, new SimRandom(4, 2), 150);
    for (const object of NOTES) await ours.delete(object);
    await new PoolUser(ours).write(NOTE, 100_000, Buffer.alloc(50_000, 'n'));
    await new PoolUser(ours).zero(NOTE, 8192, 50_000);
    const follower = new Follower(theirs);
    for (const object of OBJECTS)
      await promised((done) => ours.present(object, 0, 0xffff, follower.follow, done));
    await follower.settled();
    await isEqual(t, pair);
  });

  await story('a few blocks of a piece can be presented', async (t, { ours, theirs }) => {
    ours.announceTo(new RecordingTap());
    await new PoolUser(ours).write(PIECE, 0, Buffer.alloc(40_960, 'a'));
    await new PoolUser(ours).zero(PIECE, 8192, 4096);
    await new PoolUser(theirs).write(PIECE, 0, Buffer.alloc(40_960, 'b'));
    const follower = new Follower(theirs);
    await promised((done) => ours.present(PIECE, 1, 3, follower.follow, done));
    await follower.settled();
    const seen = await new PoolUser(theirs).read(PIECE, 0, 40_960);
    const letters = Array.from({ length: 10 }, (_, block) => seen[block * BLOCK_BYTES] ?? 0);
    t.equal(Buffer.from(letters).toString(), 'ba\0abbbbbb');
  });
}

async function listStories(story: PairStory): Promise<void> {
  await story(
    'ranges are listed, and taken stock of, in the order of hashes',
    async (t, { ours }) => {
      const tap = new RecordingTap();
      ours.announceTo(tap);
      const refs = Array.from({ length: 40 }, (_, index) =>
        index % 2 === 0
          ? new ObjectRef(OBJECT_KIND.imageData, `piece_${index}`, `family_${index}`)
          : new ObjectRef(OBJECT_KIND.plain, `note-${index}`),
      );
      const user = new PoolUser(ours);
      for (const [index, ref] of refs.entries()) {
        await user.write(ref, 0, Buffer.from('x'));
        if (index === 20) await user.flush(); // the others are in memory only
      }
      const places = refs.map(({ place }) => place).toSorted(byBytes);
      const half = { from: 0x40000000, to: 0xbfffffff };
      const inHalf = refs.filter(({ hash }) => hash.high >= half.from && hash.high <= half.to);
      for (const limit of [1, 7, 1000]) {
        const seen = (await pagesOf(ours, ALL, limit)).map(({ object }) => object.place);
        t.same(seen, places, `pages of ${limit}`);
        const part = (await pagesOf(ours, half, limit)).map(({ object }) => object.place);
        t.same(part, inHalf.map(({ place }) => place).toSorted(byBytes));
      }
      const edges = { from: inHalf[0]?.hash.high ?? 0, to: inHalf[0]?.hash.high ?? 0 };
      t.equal((await inventoryOf(ours, edges)).length, 1, 'both ends belong to a range');
      const rest = [
        { from: 0xc0000000, to: 0xffffffff },
        { from: 0, to: 0x3fffffff },
      ];
      const listed: string[] = [];
      let cursor: Buffer | undefined;
      do {
        const page = await ours.listIn(
          rest,
          cursor === undefined ? { limit: 3 } : { limit: 3, cursor },
        );
        listed.push(...page.entries.map(({ key }) => key.toString()));
        cursor = page.cursor;
      } while (cursor !== undefined);
      const outside = refs.filter((ref) => !inHalf.includes(ref)).map(({ id }) => id);
      t.same(listed.toSorted(), outside.toSorted());
      for (const ref of refs) await ours.delete(ref);
      t.same(await inventoryOf(ours), []);
    },
  );

  await story('what is under way is taken stock of', async (t, { ours }) => {
    ours.announceTo(new RecordingTap());
    const swap = ours.compareAndSwap(HEADER, 0, Buffer.from('header'));
    const write = new PoolUser(ours).write(PIECE, 10, Buffer.alloc(2_000_000, 'x'));
    const entries = await inventoryOf(ours);
    t.same(
      entries.map(({ object, isClosed }) => [object.place, isClosed]).toSorted(),
      [HEADER, PIECE].map(({ place }) => [place, false]).toSorted(),
    );
    const digest = await digestOf(ours, HEADER);
    t.match(digest, { length: 6, isInline: true }, 'and waited for by whoever asks what it is');
    await Promise.all([swap, write]);
  });
}

async function mendStories(story: PairStory): Promise<void> {
  await story('blocks that rot are found, and mended with the same bytes only', async (t, pair) => {
    const { ours, theirs } = pair;
    const { follower } = follow(pair);
    const good = new SimRandom(1, 1).bytes(500_000);
    await new PoolUser(ours).write(PIECE, 0, good);
    await follower.settled();
    t.equal(await promisedWith((done) => ours.verify(OTHER_PIECE, done)), null);
    t.same(await promisedWith((done) => ours.verify(PIECE, done)), []);
    for (const block of [3, 70]) await pair.rot(PIECE, block);
    t.same(await promisedWith((done) => ours.verify(PIECE, done)), [3, 70]);
    const theirDigest = await digestOf(theirs, OTHER_PIECE);
    const emitted: Change[] = [];
    const { unverified } = await promisedWith<{ readonly unverified: readonly number[] }>((done) =>
      ours.difference(PIECE, theirDigest, (change) => emitted.push(change), done),
    );
    t.same(unverified, [3, 70]);
    t.notOk(
      emitted.some(
        (change) =>
          change.op === 'write' && change.first <= 3 && change.first + change.checks.length > 3,
      ),
      'what cannot be verified goes nowhere',
    );
    const blockOf = (block: number): Buffer =>
      Buffer.from(good.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
    const mend = (block: number, bytes: Buffer): Promise<boolean> =>
      promisedWith((done) => ours.mend(PIECE, block, bytes, done));
    t.equal(await mend(3, blockOf(4)), false);
    t.equal(
      await codeOf(new PoolUser(ours).read(PIECE, 3 * BLOCK_BYTES, BLOCK_BYTES)),
      'E_CHECKSUM',
    );
    t.equal(await mend(3, blockOf(3)), true);
    t.equal(await mend(70, blockOf(70)), true);
    t.equal(await mend(5, blockOf(6)), true, 'what is good stays');
    t.same(await promisedWith((done) => ours.verify(PIECE, done)), []);
    t.ok((await new PoolUser(ours).read(PIECE, 0, good.length)).equals(good));
    await isEqual(t, pair, [PIECE]);
  });
}

function writeOf(object: ObjectPlace, version: number, first: number, count: number) {
  const bytes = Buffer.alloc(count * BLOCK_BYTES, `${version}`);
  const length = (first + count) * BLOCK_BYTES;
  const checks = pieceChecksOf(0, [bytes]);
  return { op: 'write', object, version, first, blocks: [bytes], checks, length } as const;
}

function statesOf(object: ObjectPlace, version: number) {
  return { op: 'states', object, version, first: 0, count: 1, state: 2, length: 0 } as const;
}

function applied(pool: ReplicaPool, change: Change): Promise<void> {
  return promised((done) => pool.apply(change, done));
}

function byBytes(left: string, right: string): number {
  return Buffer.from(left, 'latin1').compare(Buffer.from(right, 'latin1'));
}

/** A block that ends in the CRC-32C of what is before it, as file systems write them. */
function ownChecked(fill: number): Buffer {
  const bytes = Buffer.alloc(4096, fill);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 4092)), 4092);
  return bytes;
}
