/** What the suite of `ReplicaPool` plays with: a tap that hands changes on to another copy, and random operations. */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  OBJECT_KIND,
  ObjectRef,
  StoreError,
  WRITE_FLAGS,
  invariant,
  pieceChecksOf,
  promised,
  promisedWith,
  type CheckedPool,
} from '@store/core';
import type { SimRandom } from '@store/core/sim';
import type { Change, ObjectPlace } from './change.js';
import type {
  DifferenceOptions,
  ChangeTap,
  HashRange,
  InventoryEntry,
  InventoryPage,
  ObjectDigest,
  ReplicaPool,
} from './replica-pool.js';

/** Gives out versions as a primary does, and checks that changes come as they must. */
export class RecordingTap implements ChangeTap {
  readonly changes: Change[] = [];
  readonly notMadeOf: ObjectPlace[] = [];
  /** Told of each change, whose bytes are its own. */
  onChange: (change: Change) => void = () => undefined;
  #next: number;
  readonly #given = new Set<number>();

  constructor(epoch = 1) {
    this.#next = epoch * 2 ** 32;
  }

  nextVersion(_object: ObjectPlace, before: number): number {
    this.#next = Math.max(this.#next, before) + 1;
    this.#given.add(this.#next);
    return this.#next;
  }

  changed(change: Change): void {
    invariant(this.#given.delete(change.version), 'each change has a version of its own');
    const own = ownCopy(change);
    this.changes.push(own);
    this.onChange(own);
  }

  notMade(object: ObjectPlace): void {
    this.notMadeOf.push(object);
  }
}

/** Applies changes to a copy in the order they come. */
export class Follower {
  readonly #pool: ReplicaPool;
  #underWay = 0;
  #failed: StoreError | null = null;

  constructor(pool: ReplicaPool) {
    this.#pool = pool;
  }

  /** To be given away: `tap.onChange` and `emit` are one stream. */
  readonly follow = (change: Change): void => {
    this.#underWay += 1;
    this.#pool.apply(change, (error) => {
      this.#underWay -= 1;
      this.#failed ??= error;
    });
  };

  /** When all that was applied is answered. @throws what one of them was refused for */
  async settled(): Promise<void> {
    while (this.#underWay > 0) await new Promise(setImmediate);
    if (this.#failed !== null) throw this.#failed;
  }
}

export const IMAGE: readonly ObjectRef[] = [0, 1, 2].map(
  (index) => new ObjectRef(OBJECT_KIND.imageData, `layer_${index}`, `family_${index}`),
);
export const NOTES: readonly ObjectRef[] = [0, 1].map(
  (index) => new ObjectRef(OBJECT_KIND.plain, `note_${index}`),
);
export const HEADER = new ObjectRef(OBJECT_KIND.imageHeader, 'header');
export const OBJECTS: readonly ObjectRef[] = [...IMAGE, ...NOTES, HEADER];

/** Blocks at the edges of parts and of checksum chunks, where operations meet. */
const WINDOWS = [
  [0, 40],
  [250, 12],
  [1016, 8],
] as const;
const SIZES = [1, 4096, 20_000, 65_536, 65_537, 150_000] as const;

/** Calls `count` random operations on a pool, some at a time. */
export async function playRandomly(
  pool: CheckedPool,
  random: SimRandom,
  count: number,
): Promise<void> {
  const running = new Set<Promise<void>>();
  for (let step = 0; step < count; step += 1) {
    const operation = play(pool, random).finally(() => running.delete(operation));
    running.add(operation);
    if (running.size > random.below(12)) await Promise.race(running);
  }
  await Promise.all(running);
}

async function play(pool: CheckedPool, random: SimRandom): Promise<void> {
  const dice = random.below(100);
  if (dice < 50) return changeImage(pool, random);
  if (dice < 55) return promised((done) => pool.flush(done));
  if (dice < 59) {
    await pool.delete(random.pick(OBJECTS));
    return;
  }
  if (dice < 80) return changeNote(pool, random);
  const ref = random.pick([HEADER, ...NOTES]);
  const stat = await pool.stat(ref);
  const bytes = random.bytes(ref === HEADER ? random.below(5000) : random.pick(SIZES));
  try {
    await pool.compareAndSwap(ref, stat?.version ?? 0, bytes);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'E_VERSION') throw error;
  }
}

function changeImage(pool: CheckedPool, random: SimRandom): Promise<void> {
  const ref = random.pick(IMAGE);
  const [first, blocks] = random.pick(WINDOWS);
  const at = random.below(blocks);
  const count = 1 + random.below(Math.min(blocks - at, random.pick([1, 4, 40])));
  let [offset, bytes] = [(first + at) * BLOCK_BYTES, count * BLOCK_BYTES];
  const dice = random.below(10);
  if (dice < 2) {
    offset += random.below(BLOCK_BYTES);
    bytes = Math.max(1, bytes - random.below(2 * BLOCK_BYTES));
    bytes = Math.min(bytes, BLOCKS_PER_OBJECT * BLOCK_BYTES - offset);
  }
  const { none, layered, ifAbsent } = WRITE_FLAGS;
  if (dice >= 7)
    return promised((done) => pool.zero(ref, offset, bytes, dice === 9 ? layered : none, done));
  const flags = dice === 6 ? ifAbsent : none;
  const content = random.bytes(bytes);
  if (random.chance(0.5))
    return promised((done) => pool.write(ref, offset, [content], flags, done));
  const checks = pieceChecksOf(offset, [content]);
  return promised((done) => pool.writeChecked(ref, offset, [content], checks, flags, done));
}

function changeNote(pool: CheckedPool, random: SimRandom): Promise<void> {
  const ref = random.pick(NOTES);
  const [offset, bytes] = [random.pick(SIZES) - 1, 1 + random.below(9000)];
  if (random.chance(0.2))
    return promised((done) => pool.zero(ref, offset, bytes * 4, WRITE_FLAGS.none, done));
  const content = random.bytes(bytes);
  return promised((done) => pool.write(ref, offset, [content], WRITE_FLAGS.none, done));
}

export const ALL: HashRange = { from: 0, to: 0xffffffff };

export function inventoryOf(pool: ReplicaPool, range = ALL): Promise<InventoryEntry[]> {
  return pagesOf(pool, range, 1000);
}

export async function pagesOf(
  pool: ReplicaPool,
  range: HashRange,
  limit: number,
): Promise<InventoryEntry[]> {
  const entries: InventoryEntry[] = [];
  let after: Buffer | null = null;
  do {
    const from: Buffer | null = after;
    const page: InventoryPage = await promisedWith((done) =>
      pool.inventory(range, from, limit, done),
    );
    invariant(page.entries.length <= limit, 'a page is no longer than asked for');
    entries.push(...page.entries);
    after = page.next;
  } while (after !== null);
  return entries;
}

export function digestOf(pool: ReplicaPool, object: ObjectPlace): Promise<ObjectDigest | null> {
  return promisedWith((done) => pool.digest(object, done));
}

/** Makes `target` equal to `source` by what a difference says. @returns what that was */
export async function bringUp(
  source: ReplicaPool,
  target: ReplicaPool,
  object: ObjectPlace,
  options: DifferenceOptions = {},
): Promise<Change[]> {
  const theirs = await digestOf(target, object);
  const follower = new Follower(target);
  const changes: Change[] = [];
  await promisedWith((done) =>
    source.difference(
      object,
      theirs,
      (change) => {
        changes.push(change);
        follower.follow(change);
      },
      done,
      options,
    ),
  );
  await follower.settled();
  return changes;
}

function ownCopy(change: Change): Change {
  switch (change.op) {
    case 'write':
      return {
        ...change,
        blocks: change.blocks.map((part) => Buffer.from(part)),
        checks: change.checks.slice(),
      };
    case 'whole':
      return { ...change, content: Buffer.from(change.content) };
    default:
      return change;
  }
}
