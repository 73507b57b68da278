/**
 * One long life of a folder in virtual time: random operations, kills, power cuts and restarts, each compared with a
 * model. The same seed gives the same run.
 */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  INLINE_BYTES_MAX,
  OBJECT_KIND,
  ObjectRef,
  StoreError,
  WRITE_FLAGS,
  pieceChecksOf,
  promised,
  promisedWith,
  verifyPieces,
  type CheckedPool,
  type Extent,
  type ObjectPool,
  type PieceChecks,
} from '@store/core';
import { SimDisk, SimRandom, SimScheduler, simEnv } from '@store/core/sim';
import { FAILED_FILE } from '../engine.js';
import { openFileStore, type FileStore } from '../file-store.js';
import { BlockHistory } from './block-history.js';

/** Blocks that operations touch: around the edges of parts and of checksum chunks. */
const WINDOWS = [
  { first: 0, count: 40 },
  { first: 250, count: 12 },
  { first: 1016, count: 8 },
] as const;
const OBJECTS = 5;
const IN_FLIGHT_MAX = 12;

export interface CrashRunOptions {
  readonly seed: number;
  /** Times the folder is opened. */
  readonly starts: number;
  /** Steps between two crashes, at most. */
  readonly stepsMax: number;
  /** Plants a bug in a freshly opened store. */
  readonly sabotage?: (store: FileStore, disk: SimDisk) => void;
  /** Changes the disk before the first start. */
  readonly prepare?: (disk: SimDisk) => void;
}

/** What happened, to see that the rare paths were taken. */
export interface CrashRunCounts {
  kills: number;
  failures: number;
  killedRecoveries: number;
  powerCuts: number;
  cleanCloses: number;
  operations: number;
  flushes: number;
  deletes: number;
  largeSwaps: number;
  parked: number;
  damagedArrivals: number;
  filledBlocks: number;
  lineages: number;
  opens: number;
  closes: number;
}

/** The promise that was broken, with what helps to see why. */
export class BrokenPromise extends Error {
  override name = 'BrokenPromise';
}

class ModelObject {
  readonly ref: ObjectRef;
  readonly blocks = new Map<number, BlockHistory>();

  constructor(index: number) {
    this.ref = new ObjectRef(OBJECT_KIND.imageData, `layer_${index}`, `family_${index}`);
    for (const { first, count } of WINDOWS)
      for (let block = first; block < first + count; block += 1)
        this.blocks.set(block, new BlockHistory());
  }
}

/** An object that is replaced as a whole by compare-and-swap: durable when answered. */
class ModelWhole {
  readonly ref: ObjectRef;
  /** How long it may become, one of them at each change. */
  readonly sizes: readonly number[];
  /** What a reader may find: the last answered value, and one that is on its way. */
  answered: Buffer | null = null;
  pending: Buffer | null = null;
  /** Null: it must be asked for. */
  version: number | null = 0;
  busy = false;
  /** What is on its way is a plain write, which may be done in part when the process dies. */
  isWriting = false;
  /** Written but not flushed: a power cut may leave any of it. */
  isUnflushed = false;

  constructor(ref: ObjectRef, sizes: readonly number[]) {
    this.ref = ref;
    this.sizes = sizes;
  }
}

/** @throws BrokenPromise @throws StoreError if the store does not open */
export async function crashRun(options: CrashRunOptions): Promise<CrashRunCounts> {
  return new CrashRun(options).run();
}

class CrashRun {
  readonly #options: CrashRunOptions;
  readonly #scheduler = new SimScheduler();
  readonly #random: SimRandom;
  readonly #disk: SimDisk;
  readonly #objects = Array.from({ length: OBJECTS }, (_, index) => new ModelObject(index));
  readonly #header = new ModelWhole(new ObjectRef(OBJECT_KIND.imageHeader, 'header'), [20]);
  /** Moves between the metadata store and slots. */
  readonly #document = new ModelWhole(
    new ObjectRef(OBJECT_KIND.plain, 'document'),
    [20, 40_000, 65_536, 65_537, 150_000],
  );
  readonly #counts: CrashRunCounts = {
    kills: 0,
    failures: 0,
    killedRecoveries: 0,
    powerCuts: 0,
    cleanCloses: 0,
    operations: 0,
    flushes: 0,
    deletes: 0,
    largeSwaps: 0,
    parked: 0,
    damagedArrivals: 0,
    filledBlocks: 0,
    lineages: 0,
    opens: 0,
    closes: 0,
  };
  #tag = 0;
  #inFlight = 0;
  #start = 0;
  #opens = 0;
  #broken: BrokenPromise | null = null;

  constructor(options: CrashRunOptions) {
    this.#options = options;
    this.#random = new SimRandom(options.seed, 1);
    this.#disk = new SimDisk(this.#scheduler, new SimRandom(options.seed, 2));
    options.prepare?.(this.#disk);
  }

  async run(): Promise<CrashRunCounts> {
    for (this.#start = 1; this.#start <= this.#options.starts; this.#start += 1) {
      const faults = this.#disk.suspendFaults();
      const { store, pool } = await this.#open();
      faults.resume();
      this.#options.sabotage?.(store, this.#disk);
      const steps = 1 + this.#random.below(this.#options.stepsMax);
      for (let step = 0; step < steps && store.engine.failure === null; step += 1) {
        if (this.#inFlight < IN_FLIGHT_MAX && this.#random.chance(0.4)) this.#act(pool);
        await this.#step();
      }
      const { counters } = store.engine;
      this.#counts.parked += counters.parkedWrites;
      this.#counts.opens += counters.opens;
      this.#counts.closes += counters.closes;
      await this.#end(store);
    }
    return this.#counts;
  }

  #open(): Promise<{ store: FileStore; pool: CheckedPool }> {
    return this.#wait(() => this.#openStore());
  }

  async #openStore(): Promise<{ store: FileStore; pool: CheckedPool }> {
    this.#opens += 1;
    const random = new SimRandom(this.#options.seed, 100 + this.#opens);
    const env = simEnv(this.#scheduler, random, this.#disk);
    const store = await openFileStore(env, 'simulated', {
      create: true,
      ignoreFailure: true,
      onFailure: () => undefined,
      limits: {
        liveBytesSwitch: 64 * 1024,
        openObjectsMax: 4,
        cachedObjectsMax: 4,
        parkedBytesMax: 128 * 1024,
        openMsMax: 50,
      },
    });
    return { store, pool: await store.openPool('pool', { create: true }) };
  }

  async #openAndKill(): Promise<void> {
    // What becomes of it nobody will know: it dies on the way.
    this.#openStore().catch(() => undefined);
    for (let steps = this.#random.below(60); steps > 0; steps -= 1) await this.#step();
    this.#disk.kill();
    this.#counts.killedRecoveries += 1;
  }

  /** One event of the world, and everything that follows from it. */
  async #step(): Promise<void> {
    this.#scheduler.step();
    await new Promise(setImmediate);
    if (this.#broken !== null) throw this.#broken;
  }

  /** Lets the world go on until the work is done. */
  async #wait<T>(work: () => Promise<T>): Promise<T> {
    let outcome: { value: T } | { error: unknown } | null = null;
    const settled = (): { value: T } | { error: unknown } | null => outcome;
    work().then(
      (value) => (outcome = { value }),
      (error: unknown) => (outcome = { error }),
    );
    await new Promise(setImmediate);
    for (let step = 0; settled() === null; step += 1) {
      if (step > 200_000) throw this.#break('An operation is never answered');
      await this.#step();
    }
    const result = settled();
    if (result !== null && 'error' in result) throw result.error;
    return (result as { value: T }).value; // not null: the loop ended
  }

  async #end(store: FileStore): Promise<void> {
    const hasFailed = store.engine.failure !== null;
    // A process whose disk fails stops; what it had not synced may be gone, as after a power cut.
    const fate = hasFailed ? 4 : this.#random.below(10);
    if (fate < 4) {
      this.#disk.kill();
      this.#counts.kills += 1;
    } else if (fate < 8) {
      this.#disk.powerCut();
      this.#counts.powerCuts += 1;
    } else {
      // Operations may still be on their way: answered or refused, never answered and lost.
      const faults = this.#disk.suspendFaults();
      await this.#wait(() => store.close());
      faults.resume();
      for (let step = 0; this.#inFlight > 0; step += 1) {
        if (step > 200_000) throw this.#break('An operation is never answered');
        await this.#step();
      }
      this.#disk.kill();
      this.#counts.cleanCloses += 1;
    }
    this.#inFlight = 0;
    if (hasFailed) this.#counts.failures += 1;
    await this.#compare(fate, store.lineage);
  }

  /**
   * Opens the folder again and compares all of it with the model.
   * @param lineage - What it was before.
   */
  async #compare(fate: number, lineage: Buffer): Promise<void> {
    const faults = this.#disk.suspendFaults();
    // A process that is killed while it recovers leaves no less to the next one.
    for (let kills = this.#random.below(3); kills > 0; kills -= 1) await this.#openAndKill();
    const { pool, store } = await this.#open();
    const isPowerCut = fate >= 4 && fate < 8;
    this.#compareLineage(lineage, store.lineage, isPowerCut);
    for (const object of this.#objects)
      for (const [block, history] of object.blocks) {
        const seen = await this.#read(pool, object.ref, block);
        const explained = isPowerCut
          ? history.explainsAfterPowerCut(seen)
          : history.explainsAfterKill(seen);
        if (!explained)
          throw this.#break(
            `Block ${block} of ${object.ref.id} after ${isPowerCut ? 'a power cut' : fate < 4 ? 'a kill' : 'a clean stop'} holds what it never may: ${seen.toString('latin1', 0, 16)}, newest ${history.newest.toString('latin1', 0, 16)}`,
          );
        history.observe(seen, isPowerCut);
        history.isAbsent = await this.#isAbsent(pool, object.ref, block);
      }
    for (const whole of [this.#header, this.#document])
      await this.#compareWhole(pool, whole, isPowerCut);
    // This start ends as a kill: nothing was changed.
    this.#disk.kill();
    faults.resume();
  }

  /** It changes with a loss, however often the starts after it died, and with nothing else. */
  #compareLineage(before: Buffer, after: Buffer, isPowerCut: boolean): void {
    const isKept = after.equals(before);
    if (isPowerCut && isKept) throw this.#break('The lineage hides a loss');
    // A disk that has failed may have lost something, whatever came after.
    if (!isPowerCut && !isKept && !this.#disk.smallFiles.has(FAILED_FILE))
      throw this.#break('The lineage tells of a loss that was none');
    if (!isKept) this.#counts.lineages += 1;
  }

  async #read(pool: ObjectPool, ref: ObjectRef, block: number): Promise<Buffer> {
    const target = Buffer.alloc(BLOCK_BYTES, 0xdd);
    await this.#wait(
      () =>
        new Promise<void>((resolve, reject) => {
          pool.read(ref, block * BLOCK_BYTES, target, (error) => {
            if (error === null) resolve();
            else reject(this.#break(`Reading block ${block} of ${ref.id}: ${error.message}`));
          });
        }),
    );
    return target;
  }

  async #isAbsent(pool: CheckedPool, ref: ObjectRef, block: number): Promise<boolean> {
    const extents = await this.#wait(() =>
      promisedWith<Extent[]>((done) => pool.extents(ref, block * BLOCK_BYTES, BLOCK_BYTES, done)),
    );
    return extents[0]?.state === BLOCK_STATE.absent;
  }

  async #compareWhole(pool: ObjectPool, whole: ModelWhole, isPowerCut: boolean): Promise<void> {
    const stat = await this.#wait(() => pool.stat(whole.ref));
    let seen: Buffer | null = null;
    if (stat !== null) {
      const target = Buffer.alloc(stat.length);
      await this.#wait(() => promised((done) => pool.read(whole.ref, 0, target, done)));
      seen = target;
    }
    const allowed = whole.busy ? [whole.answered, whole.pending] : [whole.answered];
    const isExplained =
      allowed.some((value) =>
        value === null || seen === null ? value === seen : value.equals(seen),
      ) ||
      (whole.busy && whole.isWriting && isPartlyWritten(seen, whole.answered, whole.pending));
    if (!isExplained && !(isPowerCut && whole.isUnflushed))
      throw this.#break(
        `'${whole.ref.id}' is ${nameOf(seen)} and not one of ${allowed.map(nameOf).join(', ')}`,
      );
    if (isPowerCut) whole.isUnflushed = false;
    whole.answered = seen;
    whole.version = null; // the next start may give another to what was left open
    whole.busy = false;
  }

  #break(message: string): BrokenPromise {
    return new BrokenPromise(`${message} (seed ${this.#options.seed}, start ${this.#start})`);
  }

  /** Starts one random operation. */
  #act(pool: CheckedPool): void {
    const object = this.#random.pick(this.#objects);
    this.#counts.operations += 1;
    const dice = this.#random.below(100);
    if (dice < 50) this.#write(pool, object);
    else if (dice < 55) this.#fill(pool, object);
    else if (dice < 67) this.#zero(pool, object);
    else if (dice < 79) this.#readBack(pool, object);
    else if (dice < 91) this.#flush(pool);
    else if (dice < 94) this.#swapWhole(pool, this.#header);
    else if (dice < 96) this.#changeDocument(pool);
    else if (dice < 98) this.#delete(pool, object);
    else this.#list(pool);
  }

  #range(): { offset: number; bytes: number } {
    const { first, count } = this.#random.pick(WINDOWS);
    const block = first + this.#random.below(count);
    const blocks =
      1 + this.#random.below(Math.min(first + count - block, this.#random.pick([1, 4, 40])));
    if (this.#random.chance(0.6))
      return { offset: block * BLOCK_BYTES, bytes: blocks * BLOCK_BYTES };
    const skip = this.#random.below(BLOCK_BYTES);
    const bytes = 1 + this.#random.below(blocks * BLOCK_BYTES - skip);
    return { offset: block * BLOCK_BYTES + skip, bytes };
  }

  /**
   * Changes the model by `bytes` at `offset`.
   * @param isHole - Blocks that are covered become absent.
   * @returns what to call when it is answered
   */
  #issue(
    object: ModelObject,
    offset: number,
    bytes: Buffer,
    isHole = false,
  ): (isDurable: boolean) => void {
    const issued: { history: BlockHistory; index: number }[] = [];
    for (let at = 0; at < bytes.length;) {
      const block = Math.floor((offset + at) / BLOCK_BYTES);
      const inBlock = (offset + at) % BLOCK_BYTES;
      const history = object.blocks.get(block);
      if (history === undefined) throw new Error('operations stay inside the windows');
      const version = Buffer.from(history.newest);
      const copied = bytes.copy(version, inBlock, at);
      at += copied;
      if (!isHole) history.isAbsent = false;
      else if (copied === BLOCK_BYTES) history.isAbsent = true;
      issued.push({ history, index: history.issue(version) });
    }
    return (isDurable) => {
      for (const { history, index } of issued) {
        history.answer(index);
        if (isDurable) history.flush(index);
      }
    };
  }

  #write(pool: CheckedPool, object: ModelObject): void {
    const { offset, bytes } = this.#range();
    this.#tag += 1;
    const content = Buffer.alloc(bytes, `<${this.#start}.${this.#tag}>`);
    const flags = this.#random.chance(0.05) ? WRITE_FLAGS.durable : 0;
    const parts = this.#cut(content);
    const checks = this.#random.chance(0.4) ? pieceChecksOf(offset, parts) : null;
    if (checks !== null && this.#random.chance(0.1)) {
      this.#writeDamaged(pool, object, offset, parts, checks);
      return;
    }
    const answered = this.#issue(object, offset, content);
    this.#begin((done) => {
      const finish = (error: StoreError | null): void => {
        for (const part of parts) part.fill(0xee); // it is the caller's again
        checks?.fill(0xeeeeeeee);
        if (error === null) answered(flags === WRITE_FLAGS.durable);
        done(error);
      };
      if (checks === null) pool.write(object.ref, offset, parts, flags, finish);
      else pool.writeChecked(object.ref, offset, parts, checks, flags, finish);
    });
  }

  #cut(content: Buffer): Buffer[] {
    const cut = this.#random.below(content.length + 1);
    return [Buffer.from(content.subarray(0, cut)), Buffer.from(content.subarray(cut))];
  }

  /** A bit flips between the client and us: the write must be refused, and the model does not change. */
  #writeDamaged(
    pool: CheckedPool,
    object: ModelObject,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
  ): void {
    const part = this.#random.pick(parts.filter(({ length }) => length > 0));
    const at = this.#random.below(part.length);
    part[at] = (part[at] ?? 0) ^ (1 << this.#random.below(8));
    this.#counts.damagedArrivals += 1;
    this.#begin((done) => {
      pool.writeChecked(object.ref, offset, parts, checks, 0, (error) => {
        if (error === null) this.#broken = this.#break('Damaged bytes were taken for good ones');
        done(error?.code === 'E_CHECKSUM' ? null : error);
      });
    });
  }

  /** Blocks that are absent get the bytes; what was written, or zeroed over a layer, stays. */
  #fill(pool: ObjectPool, object: ModelObject): void {
    const { offset, bytes } = this.#range();
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + bytes - 1) / BLOCK_BYTES);
    this.#tag += 1;
    const content = Buffer.alloc((last - first + 1) * BLOCK_BYTES, `<${this.#start}.${this.#tag}>`);
    const expected = Buffer.from(content);
    for (let block = first; block <= last; block += 1) {
      const history = object.blocks.get(block);
      const at = (block - first) * BLOCK_BYTES;
      if (history === undefined || history.isAbsent) this.#counts.filledBlocks += 1;
      else history.newest.copy(expected, at);
    }
    const answered = this.#issue(object, first * BLOCK_BYTES, expected);
    const parts = this.#cut(content);
    this.#begin((done) => {
      pool.write(object.ref, first * BLOCK_BYTES, parts, WRITE_FLAGS.ifAbsent, (error) => {
        for (const part of parts) part.fill(0xee);
        if (error === null) answered(false);
        done(error);
      });
    });
  }

  #zero(pool: ObjectPool, object: ModelObject): void {
    const { offset, bytes } = this.#range();
    const flags = this.#random.pick([
      0,
      0,
      WRITE_FLAGS.layered,
      WRITE_FLAGS.allocate,
      WRITE_FLAGS.durable,
    ]);
    const isHole = (flags & (WRITE_FLAGS.layered | WRITE_FLAGS.allocate)) === 0;
    const answered = this.#issue(object, offset, Buffer.alloc(bytes), isHole);
    this.#begin((done) => {
      pool.zero(object.ref, offset, bytes, flags, (error) => {
        if (error === null) answered(flags === WRITE_FLAGS.durable);
        done(error);
      });
    });
  }

  #readBack(pool: CheckedPool, object: ModelObject): void {
    const { offset, bytes } = this.#range();
    const expected = Buffer.alloc(bytes);
    for (let at = 0; at < bytes;) {
      const history = object.blocks.get(Math.floor((offset + at) / BLOCK_BYTES));
      const inBlock = (offset + at) % BLOCK_BYTES;
      at += history?.newest.copy(expected, at, inBlock, inBlock + bytes - at) ?? bytes;
    }
    const target = Buffer.alloc(bytes, 0xdd);
    const finish = (error: StoreError | null): void => {
      if (error === null && !target.equals(expected))
        this.#broken = this.#break(
          `A read of ${object.ref.id} at ${offset} is not what was written last`,
        );
    };
    const isChecked = this.#random.chance(0.5);
    this.#begin((done) => {
      if (isChecked)
        pool.readChecked(object.ref, offset, target, (error, checks = new Uint32Array()) => {
          finish(error);
          if (error === null && verifyPieces(offset, [target], checks) >= 0)
            this.#broken = this.#break(`A read of ${object.ref.id} has wrong checksums`);
          done(error);
        });
      else
        pool.read(object.ref, offset, target, (error) => {
          finish(error);
          done(error);
        });
    });
  }

  #flush(pool: ObjectPool): void {
    const promised: [BlockHistory, number][] = [];
    for (const object of this.#objects)
      for (const history of object.blocks.values()) promised.push([history, history.answered]);
    this.#counts.flushes += 1;
    this.#begin((done) => {
      pool.flush((error) => {
        if (error === null) for (const [history, index] of promised) history.flush(index);
        done(error);
      });
    });
  }

  #delete(pool: ObjectPool, object: ModelObject): void {
    const answers: ((isDurable: boolean) => void)[] = [];
    for (const { first, count } of WINDOWS)
      answers.push(
        this.#issue(object, first * BLOCK_BYTES, Buffer.alloc(count * BLOCK_BYTES), true),
      );
    this.#counts.deletes += 1;
    this.#begin((done) => {
      pool.delete(object.ref).then(
        () => {
          for (const answered of answers) answered(true);
          done(null);
        },
        (error: unknown) => done(error as StoreError), // pools reject with nothing else
      );
    });
  }

  /** Replaces or removes it. */
  #swapWhole(pool: ObjectPool, whole: ModelWhole): void {
    if (whole.busy) return;
    this.#tag += 1;
    const value =
      whole.answered !== null && this.#random.chance(0.15)
        ? null
        : Buffer.alloc(this.#random.pick(whole.sizes), `{"tag":${this.#tag}}`);
    if (value !== null && value.length > INLINE_BYTES_MAX) this.#counts.largeSwaps += 1;
    this.#changeWhole(whole, value, false, async () => {
      whole.version ??= (await pool.stat(whole.ref))?.version ?? 0;
      if (value !== null) return pool.compareAndSwap(whole.ref, whole.version, value);
      await pool.delete(whole.ref);
      return 0;
    });
  }

  #changeDocument(pool: ObjectPool): void {
    const whole = this.#document;
    if (this.#random.chance(0.6)) this.#swapWhole(pool, whole);
    else if (!whole.busy) {
      this.#tag += 1;
      const bytes = Buffer.alloc(this.#random.pick(whole.sizes), `{"tag":${this.#tag}}`);
      const rest = whole.answered?.subarray(bytes.length) ?? Buffer.alloc(0);
      this.#changeWhole(whole, Buffer.concat([bytes, rest]), true, async () => {
        await promised((done) => pool.write(whole.ref, 0, [bytes], WRITE_FLAGS.none, done));
        return null;
      });
    }
  }

  /** @param change - Resolves to the version that it is now, null: not known */
  #changeWhole(
    whole: ModelWhole,
    value: Buffer | null,
    isUnflushed: boolean,
    change: () => Promise<number | null>,
  ): void {
    whole.busy = true;
    whole.pending = value;
    whole.isWriting = isUnflushed;
    if (isUnflushed) whole.isUnflushed = true;
    this.#begin((done) => {
      change().then(
        (version) => {
          whole.answered = value;
          whole.version = version;
          whole.busy = false;
          if (!isUnflushed) whole.isUnflushed = false;
          done(null);
        },
        (error: unknown) => done(error as StoreError), // pools reject with nothing else
      );
    });
  }

  #list(pool: ObjectPool): void {
    this.#begin((done) => {
      pool.list({}).then(
        () => done(null),
        (error: unknown) => done(error as StoreError), // pools reject with nothing else
      );
    });
  }

  /** Counts an operation that belongs to this start. */
  #begin(operation: (done: (error: StoreError | null) => void) => void): void {
    const start = this.#start;
    this.#inFlight += 1;
    operation((error) => {
      if (start !== this.#start) return;
      this.#inFlight -= 1;
      if (error !== null && error.code !== 'E_DISK_FAILED' && error.code !== 'E_CLOSED')
        this.#broken = this.#break(`An operation failed: ${error.code} ${error.message}`);
    });
  }
}

/** A write that nobody has answered may have reached each block, and the length, or not. */
function isPartlyWritten(
  seen: Buffer | null,
  before: Buffer | null,
  after: Buffer | null,
): boolean {
  if (seen === null || before === null || after === null) return false;
  if (seen.length !== before.length && seen.length !== after.length) return false;
  return seen.every((byte, at) => byte === (before[at] ?? 0) || byte === (after[at] ?? 0));
}

/** For a message: where it begins, and how long it is. */
function nameOf(value: Buffer | null): string {
  return value === null ? 'nothing' : `${value.toString('latin1', 0, 16)} (${value.length} bytes)`;
}
