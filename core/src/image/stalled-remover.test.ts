/** Who shrinks or removes an image is stopped in the middle, others finish the work and use the range again, it wakes up. */
import t from 'tap';
import { randomBytes } from 'node:crypto';
import type { Random } from '../env/env.js';
import { MemStore } from '../pool/mem-store.js';
import { OBJECT_KIND, ObjectRef, type ListOptions, type ObjectPool } from '../pool/object-pool.js';
import { PoolUser } from '../pool/pool-user.js';
import { PoolWrapper } from '../pool/pool-wrapper.js';
import { promised } from '../util/errors.js';
import { OBJECT_BYTES } from '../util/limits.js';
import { ImageCatalog } from './image-catalog.js';

const OBJECT = 64 * 1024;
const OLD = Buffer.alloc(4 * OBJECT, 0xee);
const NEW = Buffer.alloc(3 * OBJECT, 0x11);
const random: Random = { bytes: (count) => randomBytes(count) };

type Step = 'list' | 'stat' | 'delete';

/** Stops like a process that got SIGSTOP: before each call of a kind, from the moment it is told. */
class StoppingPool extends PoolWrapper {
  #step: Step | null = null;
  #calls = 0;
  #stopped: () => void = () => undefined;
  #wake: () => void = () => undefined;
  readonly #awake = new Promise<void>((resolve) => (this.#wake = resolve));

  /** @returns when it has stopped before the `call`th call of that kind from now on (1: the first) */
  stopBefore(step: Step, call: number): Promise<void> {
    this.#step = step;
    this.#calls = call;
    return new Promise((resolve) => (this.#stopped = resolve));
  }

  goOn(): void {
    this.#step = null;
    this.#wake();
  }

  async #pass(step: Step): Promise<void> {
    if (step !== this.#step) return;
    this.#calls -= 1;
    if (this.#calls > 0) return;
    this.#stopped();
    await this.#awake;
  }

  override async list(options: ListOptions) {
    await this.#pass('list');
    return super.list(options);
  }

  override async stat(ref: ObjectRef) {
    await this.#pass('stat');
    return super.stat(ref);
  }

  override async delete(ref: ObjectRef, version?: number) {
    await this.#pass('delete');
    return super.delete(ref, version);
  }
}

/** Two catalogs over one pool: that of the process that is stopped, and the other. */
async function world(objectBytes = OBJECT) {
  const pool = await new MemStore({ objectBytes }).openPool('pool', { create: true });
  const stopping = new StoppingPool(pool);
  return {
    pool,
    stopping,
    a: new ImageCatalog(stopping, random),
    b: new ImageCatalog(pool, random),
  };
}

async function write(catalog: ImageCatalog, offset: number, bytes: Buffer): Promise<void> {
  const image = await catalog.open('vm1', { readOnly: false });
  await promised((done) => image.write(offset, [bytes], 0, done));
}

async function read(catalog: ImageCatalog, offset: number, bytes: number): Promise<Buffer> {
  const image = await catalog.open('vm1', { readOnly: true });
  const target = Buffer.alloc(bytes);
  await promised((done) => image.read(offset, target, done));
  return target;
}

// Before the listing that is deleted from; between it and the look at the header; between that and each delete.
const MOMENTS: readonly [Step, number][] = [
  ['list', 2],
  ['stat', 5],
  ['delete', 1],
  ['delete', 2],
  ['delete', 3],
];

for (const [step, call] of MOMENTS) {
  await t.test(
    `a shrink stopped before ${step} ${call} leaves what is written later`,
    async (t) => {
      const { stopping, a, b } = await world();
      await a.create('vm1', 4 * OBJECT);
      await write(a, 0, OLD);
      const stopped = stopping.stopBefore(step, call);
      const stalled = a.resize('vm1', OBJECT);
      await stopped;
      t.equal((await b.info('vm1')).state, 'shrinking', 'stopped in the middle of it');
      await b.resize('vm1', 4 * OBJECT);
      await write(b, OBJECT, NEW);
      stopping.goOn();
      t.match(await stalled, { size: 4 * OBJECT, state: 'ready' }, 'it tells what there is now');
      t.ok((await read(b, OBJECT, NEW.length)).equals(NEW));
    },
  );

  await t.test(`opening stopped before ${step} ${call} leaves what is written later`, async (t) => {
    const { pool, stopping, a, b } = await world();
    await b.create('vm1', 4 * OBJECT);
    await write(b, 0, OLD);
    // A first one dies when all that it has done is to say that it shrinks.
    const died = new StoppingPool(pool);
    const dead = died.stopBefore('delete', 1);
    void new ImageCatalog(died, random).resize('vm1', OBJECT);
    await dead;
    const stopped = stopping.stopBefore(step, step === 'stat' ? 3 : call);
    const opening = a.open('vm1', { readOnly: false });
    await stopped;
    await b.resize('vm1', 4 * OBJECT);
    await write(b, OBJECT, NEW);
    stopping.goOn();
    t.equal((await opening).bytes, 4 * OBJECT);
    t.ok((await read(b, OBJECT, NEW.length)).equals(NEW));
  });
}

await t.test(
  'a shrink that another one went on from there leaves a smaller image alone',
  async (t) => {
    const { stopping, a, b } = await world();
    await a.create('vm1', 4 * OBJECT);
    await write(a, 0, OLD);
    const stopped = stopping.stopBefore('delete', 1);
    const stalled = a.resize('vm1', 3 * OBJECT);
    await stopped;
    await b.resize('vm1', OBJECT);
    await b.resize('vm1', 4 * OBJECT);
    stopping.goOn();
    await stalled;
    const expected = Buffer.alloc(4 * OBJECT);
    expected.fill(0xee, 0, OBJECT);
    t.ok((await read(b, 0, expected.length)).equals(expected), 'and everything old is gone');
  },
);

/** The ancestor has no identity: a second image of a name has the data objects of the first. */
async function makeAncestor(pool: ObjectPool): Promise<void> {
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(BigInt(4 * OBJECT_BYTES));
  await new PoolUser(pool).write(new ObjectRef(OBJECT_KIND.plain, 'vm1'), 0, size);
}

for (const [step, call] of [
  ['list', 2],
  ['delete', 1],
  ['delete', 4],
  ['delete', 5],
] as const)
  // prettier-ignore
  for (const isAncestor of [false, true])
    await t.test(
      `a removal stopped before ${step} ${call} leaves a new image of that name, ${isAncestor ? 'of the ancestor' : 'of ours'}`,
      async (t) => {
        const objectBytes = isAncestor ? OBJECT_BYTES : OBJECT; // the ancestor knows one size
        const { pool, stopping, a, b } = await world(objectBytes);
        const make = () => (isAncestor ? makeAncestor(pool) : b.create('vm1', 4 * OBJECT));
        const writeEach = async (bytes: Buffer): Promise<void> => {
          for (let index = 0; index < 4; index += 1) await write(b, index * objectBytes, bytes);
        };
        await make();
        await writeEach(Buffer.alloc(512, 'old'));
        const stopped = stopping.stopBefore(step, call);
        const stalled = a.remove('vm1');
        await stopped;
        await b.remove('vm1');
        await make();
        await writeEach(Buffer.alloc(512, 'new'));
        stopping.goOn();
        await stalled;
        for (let index = 0; index < 4; index += 1)
          t.ok((await read(b, index * objectBytes, 512)).equals(Buffer.alloc(512, 'new')));
      },
    );
