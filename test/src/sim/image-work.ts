/**
 * What gateways do with a few images, through the image layer that ships: they make them, serve them to a disk's worth of
 * requests, take them from each other with and without asking, give them more room or less, remove them and make them anew
 * by the same names, and die in the middle of it.
 */
import {
  ImageCatalog,
  isGuarding,
  OBJECT_KIND,
  promised,
  promisedWith,
  StoreError,
  WRITE_FLAGS,
  type Chain,
  type Claim,
  type Done,
  type ErrorCode,
  type Extent,
  type Guard,
  type GuardingPool,
  type Image,
  type ObjectPool,
  type ObjectRef,
} from '@store/core';
import { decodeImageHeader, PoolWrapper, type ImageHeader } from '@store/core/testing';
import type { SimRandom } from '@store/core/sim';
import { CELL_BYTES, fillCells, tagsOf, ZERO_TAG } from './history.js';
import type { ImageModel, ModelImage, PieceOp } from './image-model.js';
import type { GatewayProcess } from './sim-gateway.js';
import { POOL_ID, POOL_NAME } from './sim-master.js';
import { POISON } from './sim-messages.js';
import { exponential } from './sim-world.js';

const NAMES = ['vm1', 'vm2'] as const;
/** Of images, in cells: within an object and over several, with ends in the middle of blocks. */
const SIZES = [30, 64, 65, 100, 150, 192, 203] as const;
const LANES = 5;
const WORK_PAUSE_MS = 40;
/** Cells from the beginning that half of all operations are about. */
const HOT_CELLS = 14;
/** What a user of a cluster that has faults may be told. */
const EXPECTED: ReadonlySet<ErrorCode> = new Set([
  ...(['E_TIMEOUT', 'E_UNREACHABLE', 'E_BUSY', 'E_NO_SPACE', 'E_IN_DOUBT'] as const),
  ...(['E_FENCED', 'E_IN_USE', 'E_NOT_FOUND', 'E_EXISTS', 'E_VERSION'] as const),
  ...(['E_LOST_WRITES', 'E_DISK_FAILED', 'E_CHECKSUM'] as const),
]);

/** An image that a gateway has open. */
interface Opened {
  readonly image: Image;
  readonly known: ModelImage;
  readonly cells: number;
}

/** Of one process of a gateway. */
export class ImageWork {
  readonly #model: ImageModel;
  readonly #gateway: GatewayProcess;
  readonly #random: SimRandom;
  readonly #pauseMs: number;
  #isStopped = false;
  #isIdle = false;
  #catalog: ImageCatalog | null = null;
  #seen: ImageHeader | null = null;
  /** Answered, and not flushed, through the image that is open. */
  #unflushed: PieceOp[] = [];

  constructor(model: ImageModel, gateway: GatewayProcess, pauseMs: number) {
    this.#model = model;
    this.#gateway = gateway;
    this.#random = gateway.random;
    this.#pauseMs = pauseMs;
  }

  /** It has come to its end after `stop`. */
  get isIdle(): boolean {
    return this.#isIdle;
  }

  stop(): void {
    this.#isStopped = true;
  }

  start(): void {
    void this.#run(async () => {
      while (!this.#isStopped) {
        await this.#gateway.process.timers.sleep(exponential(this.#random, this.#pauseMs));
        await this.#tolerant(() => this.#act(this.#random.pick(NAMES)));
      }
    });
  }

  /** Finishes what others have left half done, and looks at all that there is. */
  readAll(): void {
    this.#isIdle = false;
    void this.#run(async () => {
      for (const name of NAMES) await this.#untilDone(() => this.#readImage(name));
    });
  }

  async #run(work: () => Promise<void>): Promise<void> {
    const { world } = this.#model;
    try {
      const { name, objectBytes } = await this.#open();
      world.trace(this.#gateway.name, `uses pool '${name}' with objects of ${objectBytes} bytes`);
      await work();
    } catch (error) {
      world.fail(`${this.#gateway.name} threw: ${textOf(error)}`);
    }
    this.#isIdle = true;
  }

  async #open(): Promise<ObjectPool> {
    const pool = await this.#gateway.store.openPool(POOL_NAME, { create: false });
    const watched = new WatchedPool(pool, this.#model, {
      seen: (header) => (this.#seen = header),
      say: (text) => this.#say(text),
    });
    this.#catalog = new ImageCatalog(watched, this.#gateway.env.random);
    return pool;
  }

  get #images(): ImageCatalog {
    if (this.#catalog === null) throw new Error('The pool is opened first');
    return this.#catalog;
  }

  /** A connection that is only half there takes longer to be found than somebody waits for an answer. */
  async #untilDone(work: () => Promise<void>): Promise<void> {
    for (let isDone = false; !isDone;)
      await this.#tolerant(async () => {
        await this.#pause();
        await work();
        isDone = true;
      });
  }

  /** What may be refused is. */
  async #tolerant(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof StoreError) || !EXPECTED.has(error.code)) throw error;
      this.#model.world.trace(this.#gateway.name, `${error.code}: ${error.message}`);
    }
  }

  async #act(name: string): Promise<void> {
    const random = this.#random;
    const dice = random.below(100);
    if (dice < 55) await this.#serve(name);
    else if (dice < 67) await this.#watch(name);
    else if (dice < 80) await this.#create(name);
    else if (dice < 91) await this.#resize(name);
    else if (dice < 95) await this.#remove(name, this.#random.chance(0.5));
    else await this.#images.list();
  }

  async #create(name: string): Promise<void> {
    const { world } = this.#model;
    const size = this.#random.pick(SIZES) * CELL_BYTES;
    world.trace(this.#gateway.name, `creates '${name}' of ${size / CELL_BYTES} cells`);
    const { id } = await this.#images.create(name, size);
    const image = this.#model.images.get(id);
    if (image !== undefined) image.createdAt = world.now;
  }

  /** Sometimes smaller and larger again at once: what lay behind the smaller end must not come back. */
  async #resize(name: string): Promise<void> {
    const isBoth = this.#random.chance(0.4);
    const [smallest] = SIZES;
    const largest = Math.max(...SIZES);
    const sizes = isBoth ? [smallest, largest] : [this.#random.pick(SIZES)];
    const force = isBoth || this.#random.chance(0.5);
    for (const cells of sizes) {
      this.#say(`resizes '${name}' to ${cells} cells`);
      const info = await this.#images.resize(name, cells * CELL_BYTES, { force });
      if (info.size === cells * CELL_BYTES) this.#model.world.sometimes('an image was resized');
    }
  }

  async #remove(name: string, force: boolean): Promise<void> {
    const { world } = this.#model;
    world.trace(this.#gateway.name, `removes '${name}'`);
    await this.#images.remove(name, { force });
    const id = this.#seen?.id ?? '';
    const image = this.#model.images.get(id);
    if (image === undefined || image.removeCalledAt === Infinity) return;
    image.removedAt = Math.min(image.removedAt, world.now);
    world.sometimes('an image was removed');
  }

  /** Reads an image that somebody else may have. */
  async #watch(name: string): Promise<void> {
    const opened = this.#opened(await this.#images.open(name, { readOnly: true }));
    for (let count = this.#random.below(10); count > 0 && !this.#isStopped; count -= 1) {
      await this.#pause();
      await this.#tolerant(async () => {
        await this.#read(opened, ...this.#cells(opened));
      });
    }
  }

  async #serve(name: string): Promise<void> {
    const { world } = this.#model;
    const opened = await this.#take(name, this.#random.chance(0.5));
    const { image } = opened;
    world.trace(this.#gateway.name, `serves '${name}' with token ${image.token}`);
    let left = 10 + this.#random.below(200);
    const lane = async (): Promise<void> => {
      for (; left > 0 && !this.#isStopped; left -= 1) {
        await this.#pause();
        await this.#tolerant(() => this.#request(opened));
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    await this.#tolerant(() => this.#flush(opened));
    this.#unflushed = [];
    if (this.#random.chance(0.7))
      await this.#images.release(name, image.token, this.#gateway.env.clock.wallSeconds());
  }

  async #take(name: string, force: boolean): Promise<Opened> {
    const calledAt = this.#model.world.now;
    const owner = { host: this.#gateway.name, name: 'gateway' };
    const role = {
      ...{ owner, force, held: 0, wasLost: false },
      now: this.#gateway.env.clock.wallSeconds(),
      fenced: (): void => this.#model.world.trace(this.#gateway.name, `lost the role of '${name}'`),
    };
    const image = await this.#images.open(name, { readOnly: false, role });
    const opened = this.#opened(image);
    const taken = { name: this.#gateway.name, token: image.token, calledAt };
    this.#model.ready(opened.known, taken, this.#epochOf);
    return opened;
  }

  #opened(image: Image): Opened {
    const { name, bytes } = image;
    if (this.#seen === null) throw new Error('Nobody opens an image without its header');
    return { image, known: this.#model.imageOf(name, this.#seen), cells: bytes / CELL_BYTES };
  }

  async #request(opened: Opened): Promise<void> {
    const dice = this.#random.below(100);
    const [from, to] = this.#cells(opened);
    if (dice < 45) await this.#write(opened, from, to);
    else if (dice < 55) await this.#zero(opened, from, to);
    else if (dice < 88) await this.#read(opened, from, to);
    else if (dice < 92) await this.#extents(opened, from, to);
    else await this.#flush(opened);
  }

  /** A few, or many; never none. */
  #cells({ cells }: Opened): [number, number] {
    const from = this.#random.below(this.#random.chance(0.5) ? HOT_CELLS : cells);
    const most = this.#random.chance(0.1) ? 80 : 10;
    return [from, Math.min(cells, from + 1 + this.#random.below(most))];
  }

  async #write(opened: Opened, from: number, to: number): Promise<void> {
    const tag = this.#model.nextTag();
    const data = Buffer.allocUnsafe((to - from) * CELL_BYTES);
    fillCells(data, tag);
    const cut = this.#random.below(data.length + 1);
    const parts = [data.subarray(0, cut), data.subarray(cut)].filter(({ length }) => length > 0);
    await this.#change(opened, 'write', from, to, tag, (flags, done) => {
      opened.image.write(from * CELL_BYTES, parts, flags, (error) => {
        data.fill(POISON);
        done(error);
      });
    });
  }

  async #zero(opened: Opened, from: number, to: number): Promise<void> {
    const allocates = this.#random.chance(0.3) ? WRITE_FLAGS.allocate : WRITE_FLAGS.none;
    await this.#change(opened, 'zero', from, to, ZERO_TAG, (flags, done) => {
      const bytes = (to - from) * CELL_BYTES;
      opened.image.zero(from * CELL_BYTES, bytes, flags | allocates, done);
    });
  }

  async #change(
    { image, known }: Opened,
    kind: 'write' | 'zero',
    from: number,
    to: number,
    tag: number,
    change: (flags: number, done: Done) => void,
  ): Promise<void> {
    const isDurable = this.#random.chance(0.15);
    const { token } = image;
    const epochOf = this.#epochOf;
    const what = { kind, client: this.#gateway.name, token, from, to, tag, epochOf };
    const ops = this.#model.called(known, what);
    this.#say(`${kind} ${tag} to '${image.name}' cells ${from}-${to - 1} with token ${token}`);
    try {
      await promised((done) => change(isDurable ? WRITE_FLAGS.durable : WRITE_FLAGS.none, done));
    } catch (error) {
      this.#say(`${kind} ${tag}: ${textOf(error)}`);
      if (error instanceof StoreError && error.code === 'E_FENCED')
        this.#model.fenced(known, token, error);
      throw error;
    }
    this.#say(`${kind} ${tag}: done`);
    this.#model.answered(known, ops, epochOf, null);
    if (isDurable) for (const op of ops) op.isFlushed = true;
    else this.#unflushed.push(...ops);
  }

  async #read({ image, known }: Opened, from: number, to: number): Promise<Uint32Array | null> {
    const target = Buffer.alloc((to - from) * CELL_BYTES, POISON);
    const epochOf = this.#epochOf;
    const { token } = image;
    const what = { kind: 'read', client: this.#gateway.name, token, from, to, tag: 0 } as const;
    const ops = this.#model.called(known, { ...what, epochOf });
    await promised((done) => image.read(from * CELL_BYTES, target, done));
    const tags = tagsOf(target);
    if (tags === null) this.#model.world.fail(`A cell of image '${image.name}' is torn`);
    else this.#model.answered(known, ops, epochOf, tags);
    this.#say(`read '${image.name}' ${from}: ${tags?.join(',') ?? ''}`);
    return tags;
  }

  async #extents({ image }: Opened, from: number, to: number): Promise<Extent[]> {
    this.#say(`extents of '${image.name}' ${from}-${to - 1}`);
    const bytes = (to - from) * CELL_BYTES;
    const extents = await promisedWith<Extent[]>((done) =>
      image.extents(from * CELL_BYTES, bytes, done),
    );
    const sum = extents.reduce((total, extent) => total + extent.bytes, 0);
    if (sum !== bytes)
      this.#model.world.fail(`The extents of '${image.name}' have ${sum} of ${bytes} bytes`);
    return extents;
  }

  async #flush({ image }: Opened): Promise<void> {
    const covered = this.#unflushed;
    this.#unflushed = [];
    this.#say(`flush of ${covered.length} changes`);
    try {
      await promised((done) => image.flush(done));
      this.#say('flush: done');
      for (const op of covered) op.isFlushed = true;
    } catch (error) {
      const isSaid = error instanceof StoreError && error.code === 'E_LOST_WRITES';
      if (isSaid) this.#model.world.sometimes('a gateway was told that writes were lost');
      else this.#unflushed = [...covered, ...this.#unflushed];
      throw error;
    }
  }

  /** To the end, as nothing goes wrong any more. */
  async #readImage(name: string): Promise<void> {
    const { world, images } = this.#model;
    try {
      const { state } = await this.#images.info(name);
      if (state === 'removing') {
        await this.#remove(name, false);
        return;
      }
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_NOT_FOUND') throw error;
      for (const image of images.values())
        if (image.name === name && image.createdAt < Infinity && image.removeCalledAt === Infinity)
          world.fail(`I8: image ${image.header.id} ('${name}') is gone, and nobody has removed it`);
      return;
    }
    const opened = await this.#take(name, true);
    const tags = await this.#read(opened, 0, opened.cells);
    this.#mustBeData(name, await this.#extents(opened, 0, opened.cells), tags);
    await this.#flush(opened);
    await this.#images.release(name, opened.image.token, 0);
  }

  #mustBeData(name: string, extents: readonly Extent[], tags: Uint32Array | null): void {
    let at = 0;
    for (const { bytes, state } of extents) {
      const end = at + bytes / CELL_BYTES;
      for (let cell = at; cell < end && state !== 1; cell += 1)
        if (tags?.[cell] !== ZERO_TAG)
          this.#model.world.fail(
            `Cell ${cell} of '${name}' is in no extent of data, and is none of zeros`,
          );
      at = end;
    }
  }

  readonly #epochOf = (group: number): number =>
    this.#gateway.guide.view.poolById(POOL_ID)?.groups[group]?.epoch ?? 0;

  #pause(): Promise<void> {
    return this.#gateway.process.timers.sleep(exponential(this.#random, WORK_PAUSE_MS));
  }

  #say(text: string): void {
    if (this.#model.world.isTraced) this.#model.world.trace(this.#gateway.name, text);
  }
}

interface HeaderEvents {
  readonly seen: (header: ImageHeader) => void;
  readonly say: (text: string) => void;
}

/** Sees what becomes of the headers of images. */
class WatchedPool extends PoolWrapper implements GuardingPool {
  readonly #model: ImageModel;
  readonly #events: HeaderEvents;
  readonly #guarding: GuardingPool;

  constructor(below: ObjectPool, model: ImageModel, events: HeaderEvents) {
    super(below);
    if (!isGuarding(below)) throw new Error('A pool of a cluster keeps guards');
    this.#guarding = below;
    this.#model = model;
    this.#events = events;
  }

  override read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const calledAt = this.#model.world.now;
    super.read(ref, offset, target, (error) => {
      const isHeader = error === null && ref.kind === OBJECT_KIND.imageHeader;
      const header = isHeader ? decoded(ref.id, target) : null;
      if (header !== null) {
        this.#model.saw(ref.id, header, calledAt);
        this.#events.seen(header);
      }
      done(error);
    });
  }

  override async compareAndSwap(ref: ObjectRef, version: number, bytes: Buffer): Promise<number> {
    const header = decodeImageHeader(ref.id, bytes);
    const { say, seen } = this.#events;
    const { state, size, writer } = header;
    const who = `${writer?.owner?.host ?? 'nobody'} with token ${writer?.token ?? 0} ${writer?.state ?? ''}`;
    say(`wants the header of '${ref.id}': ${state}, ${size / CELL_BYTES} cells, ${who}`);
    this.#model.swaps(ref.id, header);
    try {
      const made = await super.compareAndSwap(ref, version, bytes);
      this.#model.swapped(ref.id, header);
      seen(header);
      say(`has changed the header of '${ref.id}' from version ${version} to ${made}`);
      return made;
    } catch (error) {
      say(`has not changed the header of '${ref.id}': ${textOf(error)}`);
      throw error;
    }
  }

  claimed(layers: Chain, claim: Claim, fenced: (why: StoreError) => void): ObjectPool {
    return this.#guarding.claimed(layers, claim, fenced);
  }

  async raiseGuard(guard: Guard): Promise<void> {
    const image = this.#model.images.get(guard.image);
    if (image === undefined)
      throw new Error('Nobody raises the guards of an image that nobody knows');
    image.openRaises += 1;
    try {
      await this.#guarding.raiseGuard(guard);
      image.openRaises -= 1;
    } catch (error) {
      const isOver = error instanceof StoreError && ['E_FENCED', 'E_NO_SPACE'].includes(error.code);
      if (isOver) image.openRaises -= 1;
      throw error;
    }
  }

  removeGuard(image: string, token: number): Promise<void> {
    return this.#guarding.removeGuard(image, token);
  }

  override forUser(): ObjectPool {
    return this.below.forUser();
  }
}

/** Null: it has changed since somebody asked how long it is; or it is the header of another client's, and no image. */
function decoded(name: string, bytes: Buffer): ImageHeader | null {
  try {
    return decodeImageHeader(name, bytes);
  } catch (error) {
    if (error instanceof StoreError) return null;
    throw error;
  }
}

function textOf(error: unknown): string {
  if (error instanceof StoreError) return `${error.code} ${error.message}`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
