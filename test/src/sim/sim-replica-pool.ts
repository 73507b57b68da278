/**
 * A model of the engine's pool: `ReplicaPool` over a {@link SimDisk}, as fast as can be. Operations take time, and take
 * their places in the order of their blocks as the engine's do (`BlockLocks`). A change is announced while its blocks are
 * held and before it is made; whole objects and deletes when they are made.
 *
 * Only image data lies in blocks; objects of other kinds are kept as a whole, whatever their size.
 */
import {
  arrivedDamaged,
  BLOCK_BYTES,
  BLOCK_STATE,
  crc32c,
  ifAbsentRefusal,
  invariant,
  LIST_PAGE_MAX,
  OBJECT_KIND,
  partsBytes,
  pieceChecksOf,
  StoreError,
  swapRefusal,
  WRITE_FLAGS,
  wrongCheckCount,
  type BlockState,
  type ByteParts,
  type Done,
  type DoneWith,
  type Extent,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type ObjectStat,
  type PieceChecks,
} from '@store/core';
import type {
  BlockLock,
  Change,
  ChangeTap,
  HashRange,
  InventoryPage,
  DifferenceOptions,
  ObjectDigest,
  ObjectPlace,
  ReplicaPool,
} from '@store/daemon/testing';
import {
  copyImage,
  emptyImage,
  landBlock,
  landSome,
  SIM_BLOCKS,
  SIM_OBJECT_BYTES,
  ZEROS,
  type BlockEdit,
  type SimDisk,
  type SimObject,
  type SimShelf,
} from './sim-disk.js';
import type { SimProcess } from './sim-process.js';
import { exponential, type SimWorld } from './sim-world.js';

const LAST_BLOCK: number = SIM_BLOCKS - 1;
const READ_MS = 0.15;
const WRITE_MS = 0.2;
const SYNC_MS = 1.5;

export interface SimPoolOptions {
  readonly world: SimWorld;
  readonly disk: SimDisk;
  readonly poolId: number;
  readonly process: SimProcess;
  /** The disk has failed: the process stops. */
  readonly failed: () => void;
}

/** New content of a run of blocks, before it is announced. */
interface Plan {
  readonly first: number;
  readonly state: BlockState;
  readonly blocks: readonly (Buffer | null)[];
  readonly checks: Uint32Array;
}

export class SimReplicaPool implements ReplicaPool {
  readonly name: string;
  readonly objectBytes: number = SIM_OBJECT_BYTES;
  readonly disk: SimDisk;
  /** For planted bugs: what a sync does not wait for, and the like. */
  readonly hooks = { skipSync: false, skipOrder: false, skipChecks: false };
  readonly #world: SimWorld;
  readonly #shelf: SimShelf;
  readonly #poolId: number;
  readonly #process: SimProcess;
  readonly #failed: () => void;
  #tap: ChangeTap | null = null;

  constructor({ world, disk, poolId, process, failed }: SimPoolOptions) {
    this.name = `pool-${poolId}`;
    this.disk = disk;
    this.#world = world;
    this.#shelf = disk.shelf(poolId);
    this.#poolId = poolId;
    this.#process = process;
    this.#failed = failed;
  }

  get isFull(): boolean {
    return this.disk.isFull;
  }

  announceTo(tap: ChangeTap): void {
    invariant(this.#tap === null, 'changes are announced to one');
    this.#tap = tap;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    this.readChecked(ref, offset, target, (error) => done(error));
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    const refusal = this.#refusal(offset, target.length);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const object = this.#shelf.objectAt(ref);
    const [first, last] = this.#span(object, offset, target.length);
    this.#locked(object, first, last, false, (release) => {
      this.#later(READ_MS, () => {
        const error = this.#copyOut(object, ref, offset, target);
        release();
        if (error !== null) done(error);
        else done(null, pieceChecksOf(offset, [target]));
      });
    });
  }

  write(ref: ObjectRef, offset: number, parts: ByteParts, flags: number, done: Done): void {
    this.#write(ref, offset, parts, null, flags, done);
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: ByteParts,
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    this.#write(ref, offset, parts, checks, flags, done);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null || bytes === 0) {
      done(refusal);
      return;
    }
    const object = this.#shelf.objectAt(ref);
    const creates = (flags & (WRITE_FLAGS.layered | WRITE_FLAGS.allocate)) !== 0;
    const [first, last] = this.#span(object, offset, bytes);
    this.#locked(object, first, last, true, (release) => {
      const end = this.#ending(release, flags, done);
      if (!object.now.exists && !creates) end(null);
      else if (object.isInline) this.#zeroInline(object, offset, bytes, end);
      else
        this.#withEdges(object, offset, bytes, end, (edge) => {
          const state = creates ? BLOCK_STATE.zero : BLOCK_STATE.absent;
          this.#make(object, zeroPlans(object, offset, bytes, state, edge), 0, end);
        });
    });
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const object = this.#shelf.objectAt(ref);
    const [first, last] = this.#span(object, offset, bytes);
    this.#locked(object, first, last, false, (release) => {
      const runs: { bytes: number; state: BlockState }[] = [];
      for (let at = offset; at < offset + bytes;) {
        const end = Math.min(offset + bytes, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES);
        const state = stateAt(object, at);
        const before = runs.at(-1);
        if (before?.state === state) before.bytes += end - at;
        else runs.push({ bytes: end - at, state });
        at = end;
      }
      const isMissing = object.isInline && !object.now.exists;
      release();
      if (isMissing) done(notFound(ref));
      else done(null, runs);
    });
  }

  absentRun(): null {
    return null;
  }

  forUser(): this {
    return this;
  }

  /** Covers what has reached the disk when it begins. */
  flush(done: Done): void {
    const taken = [...this.#shelf.objects.values()]
      .filter(({ isDirty }) => isDirty)
      .map((object) => ({ object, image: copyImage(object.now), count: object.changeCount }));
    this.#later(SYNC_MS, () => {
      if (this.disk.takes('syncError')) this.#fail();
      if (this.disk.isFailed) {
        done(diskFailed());
        return;
      }
      for (const { object, image, count } of taken)
        if (!this.hooks.skipSync) this.#settle(object, image, count);
      done(null);
    });
  }

  prefetch(_ref: ObjectRef, _offset: number, _bytes: number, done: Done): void {
    done(null);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#promised((done) => {
      const object = this.#shelf.objectAt(ref);
      this.#locked(object, 0, LAST_BLOCK, false, (release) => {
        const { exists, length, version } = object.now;
        release();
        done(null, exists ? { kind: ref.kind, length, version, allocatedBytes: length } : null);
      });
    });
  }

  list(options: ListOptions): Promise<ListPage> {
    return this.listIn([{ from: 0, to: 0xffff_ffff }], options);
  }

  listIn(ranges: readonly HashRange[], options: ListOptions): Promise<ListPage> {
    return this.#promised((done) => {
      const { limit = LIST_PAGE_MAX, cursor, kind, prefix } = options;
      const after = cursor?.toString('latin1') ?? '';
      const start = prefix?.toString('latin1') ?? '';
      const found = this.#shelf.sorted().filter(({ object, now }) => {
        if (!now.exists || object.place <= after) return false;
        if (object.kind === OBJECT_KIND.guard) return false;
        if (kind !== undefined && object.kind !== kind) return false;
        if (!object.key.toString('latin1').startsWith(start)) return false;
        return ranges.some(({ from, to }) => object.hash.high >= from && object.hash.high <= to);
      });
      const page = found.slice(0, limit);
      const entries = page.map(({ object: { key, kind: its }, now: { length, version } }) => ({
        key,
        stat: { kind: its, length, version, allocatedBytes: length },
      }));
      const last = page.at(-1);
      const isMore = last !== undefined && found.length > limit;
      done(
        null,
        isMore ? { entries, cursor: Buffer.from(last.object.place, 'latin1') } : { entries },
      );
    });
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    return this.#promised((done) => {
      const refusal = swapRefusal(ref.kind, bytes.length, this.objectBytes);
      if (refusal !== null) {
        done(refusal);
        return;
      }
      const object = this.#shelf.objectAt(ref);
      this.#locked(object, 0, LAST_BLOCK, true, (release) => {
        const { exists, version } = object.now;
        const before = exists ? version : 0;
        if (before !== expectedVersion) {
          release();
          done(new StoreError('E_VERSION', `Expected ${expectedVersion}, found ${before}`));
          return;
        }
        this.#makeWhole(object, Buffer.from(bytes), (error) => {
          const made = object.now.version;
          release();
          if (error === null) done(null, made);
          else done(error);
        });
      });
    });
  }

  delete(ref: ObjectRef, version = 0): Promise<boolean> {
    return this.#promised((done) => {
      const object = this.#shelf.objectAt(ref);
      this.#locked(object, 0, LAST_BLOCK, true, (release) => {
        if (!object.now.exists || (version !== 0 && object.now.version !== version)) {
          release();
          done(null, false);
          return;
        }
        this.#makeDelete(object, (error) => {
          release();
          if (error === null) done(null, true);
          else done(error);
        });
      });
    });
  }

  apply(change: Change, done: Done): void {
    const object = this.#shelf.objectAt(change.object);
    switch (change.op) {
      case 'write': {
        const blocks = wholeBlocks(change.blocks, change.checks.length);
        const bad = blocks.findIndex(
          (bytes, at) => crc32c(bytes) !== change.checks[at] && !this.hooks.skipChecks,
        );
        const isLost = change.isLost === true;
        if (bad >= 0 && !isLost) {
          done(arrivedDamaged(change.object.key.toString(), 0, change.first + bad));
          return;
        }
        const checks = change.checks.slice();
        const { first } = change;
        const plan = { first, state: BLOCK_STATE.data, blocks, checks };
        this.#apply(change, object, plan, (error) => {
          if (error !== null) object.isIncomplete = true;
          else if (isLost) for (let at = 0; at < checks.length; at += 1) object.bad.add(first + at);
          done(error);
        });
        return;
      }
      case 'states': {
        const { first, count, state } = change;
        const blocks = new Array<Buffer | null>(count).fill(null);
        const checks = new Uint32Array(count);
        this.#apply(change, object, { first, state, blocks, checks }, (error) => {
          if (error !== null) object.isIncomplete = true;
          else if (count === 0) object.compared();
          done(error);
        });
        return;
      }
      case 'whole': {
        const content = Buffer.from(change.content);
        this.#locked(object, 0, LAST_BLOCK, true, (release) => {
          this.#landLater(
            () => landWhole(object, content, change.version),
            (error) => {
              release();
              done(error);
            },
          );
        });
        return;
      }
      case 'delete':
        this.#locked(object, 0, LAST_BLOCK, true, (release) => {
          this.#landLater(
            () => landDelete(object),
            (error) => {
              release();
              done(error);
            },
          );
        });
    }
  }

  inventory(
    range: HashRange,
    after: Buffer | null,
    limit: number,
    done: DoneWith<InventoryPage>,
  ): void {
    this.#later(READ_MS, () => {
      const from = after?.toString('latin1') ?? '';
      const found = this.#shelf.sorted().filter(({ object, now, locks }) => {
        const { high } = object.hash;
        if (high < range.from || high > range.to || object.place <= from) return false;
        return now.exists || !locks.idle;
      });
      const page = found.slice(0, limit);
      const last = page.at(-1);
      done(null, {
        entries: page.map(({ object, now, isOpen, isDirty, isUnsure, isIncomplete, locks }) => ({
          object,
          version: now.exists ? now.version : 0,
          length: now.exists ? now.length : 0,
          isClosed: !isOpen && !isDirty && !isUnsure && !isIncomplete && locks.idle,
          isBroken: false,
        })),
        next:
          last !== undefined && found.length > limit
            ? Buffer.from(last.object.place, 'latin1')
            : null,
      });
    });
  }

  digest(place: ObjectPlace, done: DoneWith<ObjectDigest | null>): void {
    const object = this.#shelf.objectAt(place);
    this.#locked(object, 0, LAST_BLOCK, false, (release) => {
      this.#later(READ_MS, () => {
        const digest = digestOf(object);
        release();
        done(null, digest);
      });
    });
  }

  difference(
    place: ObjectPlace,
    theirs: ObjectDigest | null,
    emit: (change: Change, isLast: boolean) => void,
    done: DoneWith<{ readonly unverified: readonly number[] }>,
    { between = (next) => next(), marksLost = false }: DifferenceOptions = {},
  ): void {
    // Objects are one piece here: whoever makes it wait does so before the first.
    between(() => {
      const object = this.#shelf.objectAt(place);
      this.#locked(object, 0, LAST_BLOCK, false, (release) => {
        this.#later(READ_MS, () => {
          this.#settleVersion(object);
          const unverified = emitDifference(object, theirs, emit, marksLost);
          release();
          done(null, { unverified });
        });
      });
    });
  }

  present(
    place: ObjectPlace,
    first: number,
    last: number,
    emit: (change: Change) => void,
    done: Done,
  ): void {
    const object = this.#shelf.objectAt(place);
    const [from, to] = object.isInline ? [0, LAST_BLOCK] : [first, Math.min(last, LAST_BLOCK)];
    this.#locked(object, from, to, false, (release) => {
      this.#later(READ_MS, () => {
        this.#settleVersion(object);
        const bad = emitAll(object, from, to, emit);
        release();
        done(bad === null ? null : badBlock(object, bad));
      });
    });
  }

  verify(place: ObjectPlace, done: DoneWith<readonly number[] | null>): void {
    const object = this.#shelf.objectAt(place);
    this.#locked(object, 0, LAST_BLOCK, false, (release) => {
      this.#later(READ_MS * 2, () => {
        const bad = badBlocks(object);
        const isThere = object.now.exists;
        release();
        done(null, isThere ? bad : null);
      });
    });
  }

  mend(place: ObjectPlace, block: number, bytes: Buffer, done: DoneWith<boolean>): void {
    const object = this.#shelf.objectAt(place);
    this.#locked(object, block, block, true, (release) => {
      this.#later(WRITE_MS, () => {
        const isBad = object.now.exists && object.goodBytes(block) === null;
        if (isBad && crc32c(bytes) === object.now.checks[block]) {
          object.now.blocks[block] = Buffer.from(bytes);
          if (object.durable.checks[block] === object.now.checks[block])
            object.durable.blocks[block] = object.now.blocks[block];
          object.bad.delete(block);
          this.#world.sometimes('a bad block was mended');
        }
        const isGood = object.goodBytes(block) !== null;
        release();
        done(null, isGood);
      });
    });
  }

  erase(place: ObjectPlace, done: Done): void {
    const object = this.#shelf.objectAt(place);
    this.#locked(object, 0, LAST_BLOCK, true, (release) => {
      this.#landLater(
        () => landDelete(object),
        (error) => {
          release();
          done(error);
        },
      );
    });
  }

  #write(
    ref: ObjectRef,
    offset: number,
    parts: ByteParts,
    checks: PieceChecks | null,
    flags: number,
    done: Done,
  ): void {
    const bytes = partsBytes(parts);
    const isIfAbsent = (flags & WRITE_FLAGS.ifAbsent) !== 0;
    const refusal =
      this.#refusal(offset, bytes) ??
      (isIfAbsent ? ifAbsentRefusal(ref.kind, offset, bytes) : null) ??
      (checks === null ? null : damage(ref, offset, parts, checks));
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const object = this.#shelf.objectAt(ref);
    const [first, last] = this.#span(object, offset, bytes);
    this.#locked(object, first, last, true, (release) => {
      const end = this.#ending(release, flags, done);
      if (this.disk.isFull && takesRoom(object, first, last)) {
        end(new StoreError('E_NO_SPACE', 'The simulated disk is full'));
        return;
      }
      if (object.isInline) {
        const length = Math.max(object.now.length, offset + bytes);
        const content = Buffer.alloc(length);
        object.now.content?.copy(content);
        copyInto(parts, content, offset);
        this.#makeWhole(object, content, end);
        return;
      }
      this.#withEdges(object, offset, bytes, end, (edge) => {
        const plans = writePlans(object, offset, bytes, parts, isIfAbsent, edge);
        const length = plans.length === 0 ? 0 : offset + bytes;
        this.#make(object, plans, length, end, (flags & WRITE_FLAGS.durable) !== 0);
      });
    });
  }

  /** The blocks that a range begins and ends within are read and verified before they are merged. */
  #withEdges(
    object: SimObject,
    offset: number,
    bytes: number,
    end: Done,
    merge: (edge: (block: number) => Buffer) => void,
  ): void {
    const edges = new Set<number>();
    if (offset % BLOCK_BYTES !== 0) edges.add(Math.floor(offset / BLOCK_BYTES));
    if ((offset + bytes) % BLOCK_BYTES !== 0) edges.add(Math.floor((offset + bytes) / BLOCK_BYTES));
    const check = (): void => {
      for (const block of edges)
        if (object.goodBytes(block) === null) {
          object.bad.add(block);
          end(badBlock(object, block));
          return;
        }
      merge((block) => object.goodBytes(block) ?? ZEROS);
    };
    if (edges.size === 0) check();
    else this.#later(READ_MS, check);
  }

  /** Gives it a version that says something about its bytes, if this one has none: others are told of it next. */
  #settleVersion(object: SimObject): void {
    const { now, isInline } = object;
    if (!object.isUnsure || this.#tap === null || !now.exists || isInline) return;
    const version = this.#nextVersion(object);
    if (version === 0) return;
    object.stamp(object.nextOrder(), version, now.length, true);
    object.touched();
    const nothing = { first: 0, count: 0, state: BLOCK_STATE.absent };
    const { length } = now;
    this.#tap.changed({ op: 'states', object: object.object, version, ...nothing, length });
  }

  #zeroInline(object: SimObject, offset: number, bytes: number, end: Done): void {
    const length = object.now.length;
    const content = Buffer.alloc(length);
    object.now.content?.copy(content);
    content.fill(0, Math.min(offset, length), Math.min(offset + bytes, length));
    this.#makeWhole(object, content, end);
  }

  /** Announces changes of blocks that are held, and makes them. */
  #make(
    object: SimObject,
    plans: readonly Plan[],
    length: number,
    end: Done,
    isDurable = false,
  ): void {
    if (plans.length === 0) {
      end(null);
      return;
    }
    let left = plans.length;
    let failure: StoreError | null = null;
    for (const plan of plans) {
      const { now } = object;
      const version = this.#nextVersion(object);
      if (version === 0) {
        failure ??= notPrimary();
        left -= 1;
        if (left === 0) end(failure);
        continue;
      }
      const lengthBefore = now.exists ? now.length : 0;
      now.exists = true;
      object.stamp(object.nextOrder(), version, Math.max(lengthBefore, length), true);
      this.#tap?.changed(changeOf(object, plan, isDurable));
      this.#land(object, plan, (error) => {
        failure ??= error;
        if (error?.code === 'E_NO_SPACE') {
          object.isIncomplete = true;
          this.#tap?.notMade(object.object, true);
        }
        left -= 1;
        if (left === 0) end(failure);
      });
    }
  }

  #apply(
    change: Extract<Change, { op: 'write' | 'states' }>,
    object: SimObject,
    plan: Plan,
    done: Done,
  ): void {
    const last = plan.first + Math.max(plan.blocks.length, 1) - 1;
    const order = object.nextOrder();
    this.#locked(object, plan.first, last, true, (release) => {
      const { now } = object;
      if (plan.state !== BLOCK_STATE.absent || now.exists) now.exists = true;
      object.stamp(order, change.version, change.length, false);
      object.isOpen = true;
      object.touched();
      this.#land(object, plan, (error) => {
        release();
        done(error);
      });
    });
  }

  #land(object: SimObject, plan: Plan, done: Done): void {
    const edit: BlockEdit = { object, ...plan };
    object.isOpen = true;
    object.touched();
    const orphan = (): void => {
      landSome(edit, this.disk.random);
      object.isDirty = true;
    };
    this.disk.inFlight.add(orphan);
    this.#later(WRITE_MS, () => {
      this.disk.inFlight.delete(orphan);
      if (this.disk.takes('writeError')) this.#fail();
      if (this.disk.isFailed) {
        done(diskFailed());
        return;
      }
      if (this.#tap !== null && this.disk.takes('notMade')) {
        done(new StoreError('E_NO_SPACE', 'The simulated disk is full'));
        return;
      }
      object.touched();
      for (let at = 0; at < plan.blocks.length; at += 1) this.#landBlock(edit, at);
      object.now.exists = object.now.states.some((state) => state !== BLOCK_STATE.absent);
      done(null);
    });
  }

  /** As it should, or as a disk does that lies. */
  #landBlock(edit: BlockEdit, at: number): void {
    const { object, first, state } = edit;
    const block = first + at;
    const { now } = object;
    const before = now.blocks[block] ?? ZEROS;
    landBlock(edit, at);
    if (state !== BLOCK_STATE.data) return;
    const isLost = this.disk.takes('lostWrite');
    const isMisdirected = !isLost && this.disk.takes('misdirectedWrite');
    if (!isLost && !isMisdirected) return;
    if (!this.disk.mayDamage(this.#poolId, object, block)) return;
    const bytes = now.blocks[block] ?? null;
    now.blocks[block] = before;
    const elsewhere = (block + 1) % SIM_BLOCKS;
    if (!isMisdirected || now.states[elsewhere] !== BLOCK_STATE.data) return;
    if (this.disk.mayDamage(this.#poolId, object, elsewhere)) now.blocks[elsewhere] = bytes;
  }

  #makeWhole(object: SimObject, content: Buffer, end: Done): void {
    const version = this.#nextVersion(object);
    if (version === 0) {
      end(notPrimary());
      return;
    }
    this.#landLater(() => {
      landWhole(object, content, version);
      this.#tap?.changed({ op: 'whole', object: object.object, version, content });
    }, end);
  }

  #makeDelete(object: SimObject, end: Done): void {
    const version = this.#nextVersion(object);
    if (version === 0) {
      end(notPrimary());
      return;
    }
    this.#landLater(() => {
      landDelete(object);
      this.#tap?.changed({ op: 'delete', object: object.object, version });
    }, end);
  }

  #nextVersion(object: SimObject): number {
    const before = object.now.version;
    return this.#tap?.nextVersion(object.object, before) ?? before + 1;
  }

  /** A change of the metadata: durable when it is made, and made or not if the process dies before. */
  #landLater(land: () => void, done: Done): void {
    const tap = this.#tap;
    const orphan = (): void => {
      this.#tap = null;
      if (this.disk.random.chance(0.5)) land();
      this.#tap = tap;
    };
    this.disk.inFlight.add(orphan);
    this.#later(SYNC_MS, () => {
      this.disk.inFlight.delete(orphan);
      if (this.disk.isFailed) {
        done(diskFailed());
        return;
      }
      land();
      done(null);
    });
  }

  /** What a sync covered is durable, unless something newer already is. */
  #settle(object: SimObject, image: ReturnType<typeof copyImage>, count: number): void {
    if (object.isInline) return; // durable already
    // Another sync that began later may have ended before.
    if (count < object.durableCount) return;
    object.durable = image;
    object.durableCount = count;
    if (object.changeCount !== count || !object.locks.idle) return;
    object.isDirty = false;
    if (this.disk.random.chance(0.5)) object.isOpen = false;
  }

  #copyOut(object: SimObject, ref: ObjectRef, offset: number, target: Buffer): StoreError | null {
    const { now } = object;
    if (object.isInline) {
      if (!now.exists) return notFound(ref);
      target.fill(0);
      now.content?.copy(target, 0, offset, offset + target.length);
      return null;
    }
    for (let at = 0; at < target.length;) {
      const block = Math.floor((offset + at) / BLOCK_BYTES);
      const start = (offset + at) % BLOCK_BYTES;
      const bytes = Math.min(BLOCK_BYTES - start, target.length - at);
      const isUnreadable = now.states[block] === BLOCK_STATE.data && this.disk.takes('readError');
      const source = this.hooks.skipChecks
        ? (now.blocks[block] ?? ZEROS)
        : isUnreadable
          ? null
          : object.goodBytes(block);
      if (source === null) {
        if (!isUnreadable) object.bad.add(block);
        return badBlock(object, block);
      }
      source.copy(target, at, start, start + bytes);
      at += bytes;
    }
    return null;
  }

  #locked(
    object: SimObject,
    first: number,
    last: number,
    exclusive: boolean,
    work: (release: () => void) => void,
  ): void {
    if (this.hooks.skipOrder) {
      work(() => undefined);
      return;
    }
    object.locks.acquire(first, last, exclusive, (lock: BlockLock) => {
      work(() => object.locks.release(lock));
    });
  }

  /** Ends an operation of a client: with a sync if it must be durable. */
  #ending(release: () => void, flags: number, done: Done): Done {
    return (error) => {
      release();
      if (error !== null || (flags & WRITE_FLAGS.durable) === 0) done(error);
      else this.flush(done);
    };
  }

  #later(meanMs: number, work: () => void): void {
    const { slowness, random } = this.disk;
    this.#process.later(slowness * (meanMs * 0.3 + exponential(random, meanMs * 0.7)), work);
  }

  #fail(): void {
    if (this.disk.isFailed) return;
    this.disk.isFailed = true;
    this.#world.sometimes('a disk failed');
    this.#process.later(0.1, this.#failed);
  }

  #span(object: SimObject, offset: number, bytes: number): [number, number] {
    if (object.isInline) return [0, LAST_BLOCK];
    const first = Math.min(LAST_BLOCK, Math.floor(offset / BLOCK_BYTES));
    return [first, Math.max(first, Math.floor((offset + bytes - 1) / BLOCK_BYTES))];
  }

  #refusal(offset: number, bytes: number): StoreError | null {
    if (this.disk.isFailed) return diskFailed();
    const isValid = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes);
    if (isValid && offset >= 0 && bytes >= 0 && offset + bytes <= this.objectBytes) return null;
    return new StoreError(
      'E_INVALID',
      `Bytes ${offset} to ${offset + bytes} lie outside an object`,
    );
  }

  #promised<T>(work: (done: DoneWith<T>) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.disk.isFailed) {
        reject(diskFailed());
        return;
      }
      work((error, result) => {
        if (error === null)
          resolve(result as T); // a callback without an error carries its result
        else reject(error);
      });
    });
  }
}

function landWhole(object: SimObject, content: Buffer, version: number): void {
  object.now = { ...emptyImage(), exists: true, version, length: content.length, content };
  object.durable = copyImage(object.now);
  object.changeCount += 1;
  object.isDirty = false;
}

function landDelete(object: SimObject): void {
  object.now = emptyImage();
  object.durable = emptyImage();
  object.changeCount += 1;
  object.durableCount = object.changeCount; // a sync that began before says nothing of it
  object.isDirty = false;
  object.isOpen = false;
  object.compared();
  object.bad.clear();
}

function takesRoom(object: SimObject, first: number, last: number): boolean {
  if (object.isInline || !object.now.exists) return true;
  for (let block = first; block <= last; block += 1)
    if (object.now.states[block] === BLOCK_STATE.absent) return true;
  return false;
}

function changeOf(
  object: SimObject,
  { first, state, blocks, checks }: Plan,
  isDurable: boolean,
): Change {
  const { version, length } = object.now;
  const place = object.object;
  if (state !== BLOCK_STATE.data)
    return { op: 'states', object: place, version, first, count: blocks.length, state, length };
  const bytes = blocks.map((block) => block ?? ZEROS);
  return { op: 'write', object: place, version, first, blocks: bytes, checks, length, isDurable };
}

function writePlans(
  object: SimObject,
  offset: number,
  bytes: number,
  parts: ByteParts,
  isIfAbsent: boolean,
  edge: (block: number) => Buffer,
): Plan[] {
  if (bytes === 0) return [];
  const first = Math.floor(offset / BLOCK_BYTES);
  const last = Math.floor((offset + bytes - 1) / BLOCK_BYTES);
  const all = Buffer.alloc((last - first + 1) * BLOCK_BYTES);
  const start = offset - first * BLOCK_BYTES;
  if (start > 0) edge(first).copy(all);
  if ((offset + bytes) % BLOCK_BYTES !== 0) edge(last).copy(all, (last - first) * BLOCK_BYTES);
  copyInto(parts, all, start);
  const plans: Plan[] = [];
  let run: Buffer[] = [];
  const end = (next: number): void => {
    if (run.length > 0) plans.push(dataPlan(next - run.length, run));
    run = [];
  };
  for (let block = first; block <= last; block += 1) {
    const at = (block - first) * BLOCK_BYTES;
    if (isIfAbsent && object.now.states[block] !== BLOCK_STATE.absent) end(block);
    else run.push(all.subarray(at, at + BLOCK_BYTES));
  }
  end(last + 1);
  return plans;
}

function zeroPlans(
  object: SimObject,
  offset: number,
  bytes: number,
  state: BlockState,
  edge: (block: number) => Buffer,
): Plan[] {
  const plans: Plan[] = [];
  let whole = 0;
  const end = (next: number): void => {
    if (whole > 0)
      plans.push({
        first: next - whole,
        state,
        blocks: new Array<Buffer | null>(whole).fill(null),
        checks: new Uint32Array(whole),
      });
    whole = 0;
  };
  const last = Math.floor((offset + bytes - 1) / BLOCK_BYTES);
  for (let block = Math.floor(offset / BLOCK_BYTES); block <= last; block += 1) {
    const from = Math.max(0, offset - block * BLOCK_BYTES);
    const to = Math.min(BLOCK_BYTES, offset + bytes - block * BLOCK_BYTES);
    if (from === 0 && to === BLOCK_BYTES) {
      whole += 1;
      continue;
    }
    end(block);
    const before = object.now.states[block];
    const isData =
      before === BLOCK_STATE.data || (before === BLOCK_STATE.absent && state === BLOCK_STATE.zero);
    if (!isData) continue;
    const merged = Buffer.from(edge(block));
    merged.fill(0, from, to);
    plans.push(dataPlan(block, [merged]));
  }
  end(last + 1);
  return plans;
}

function dataPlan(first: number, blocks: readonly Buffer[]): Plan {
  const checks = Uint32Array.from(blocks, (bytes) => crc32c(bytes));
  return { first, state: BLOCK_STATE.data, blocks, checks };
}

function digestOf(object: SimObject): ObjectDigest | null {
  const { now, isInline } = object;
  if (!now.exists) return null;
  const { version, length } = now;
  if (isInline) {
    const checks = Uint32Array.of(crc32c(now.content ?? ZEROS));
    const prints = new Uint32Array(2);
    return { version, length, isInline, states: new Uint8Array(), checks, prints, unknown: [] };
  }
  let end = SIM_BLOCKS;
  while (end > 0 && now.states[end - 1] === BLOCK_STATE.absent) end -= 1;
  const unknown = [...object.bad].sort((a, b) => a - b);
  const checks = now.checks.slice(0, end);
  for (const block of unknown) checks[block] = 0;
  const states = now.states.slice(0, end);
  // What is written here is told apart by its checksums.
  const prints = new Uint32Array(2 * end);
  return { version, length, isInline, states, checks, prints, unknown };
}

/** @returns blocks of ours that are bad */
function emitDifference(
  object: SimObject,
  theirs: ObjectDigest | null,
  emit: (change: Change, isLast: boolean) => void,
  marksLost: boolean,
): number[] {
  const { now, object: place, isInline } = object;
  const { version } = now;
  if (!now.exists) {
    if (theirs !== null) emit({ op: 'delete', object: place, version: 0 }, true);
    return [];
  }
  if (isInline) {
    const content = now.content ?? Buffer.alloc(0);
    const isSame = theirs?.version === version && theirs.checks[0] === crc32c(content);
    if (!isSame) emit({ op: 'whole', object: place, version, content: Buffer.from(content) }, true);
    return [];
  }
  const unknown = new Set(theirs?.unknown ?? []);
  const differs = (block: number): boolean => {
    const state = now.states[block] ?? 0;
    if (state !== (theirs?.states[block] ?? BLOCK_STATE.absent)) return true;
    if (state !== BLOCK_STATE.data) return false;
    return unknown.has(block) || theirs?.checks[block] !== now.checks[block];
  };
  const unverified = badBlocks(object);
  const blocks: number[] = [];
  for (let block = 0; block < SIM_BLOCKS; block += 1)
    if (differs(block) && !unverified.includes(block)) blocks.push(block);
  const isBehind = theirs?.version !== version || theirs.length !== now.length;
  if (blocks.length === 0 && isBehind) blocks.push(firstGood(unverified));
  for (const [at, block] of blocks.entries())
    emitBlock(object, block, (change) =>
      emit(change, at === blocks.length - 1 && unverified.length === 0),
    );
  if (!marksLost || unverified.length === 0) return unverified;
  const { length } = now;
  for (const block of unverified) {
    const checks = Uint32Array.of(now.checks[block] ?? 0);
    const lost = { object: place, version, first: block, blocks: [ZEROS], checks, length };
    emit({ op: 'write', ...lost, isLost: true }, false);
  }
  const nothing = { first: 0, count: 0, state: BLOCK_STATE.absent };
  emit({ op: 'states', object: place, version, ...nothing, length }, true);
  return [];
}

/** A block that can be sent, to tell of nothing but the version. */
function firstGood(unverified: readonly number[]): number {
  for (let block = 0; block < SIM_BLOCKS; block += 1) if (!unverified.includes(block)) return block;
  return 0;
}

/** @returns a block that is bad, and was left out; null: there is none */
function emitAll(
  object: SimObject,
  first: number,
  last: number,
  emit: (change: Change) => void,
): number | null {
  const { now, object: place, isInline } = object;
  const { version } = now;
  let bad: number | null = null;
  if (!now.exists) emit({ op: 'delete', object: place, version: 0 });
  else if (isInline)
    emit({ op: 'whole', object: place, version, content: Buffer.from(now.content ?? '') });
  else
    for (let block = first; block <= last; block += 1)
      if (object.goodBytes(block) === null) bad ??= block;
      else emitBlock(object, block, emit);
  return bad;
}

/** Nothing, if the block is bad. */
function emitBlock(object: SimObject, block: number, emit: (change: Change) => void): void {
  const { now, object: place } = object;
  const { version, length } = now;
  const state = stateAt(object, block * BLOCK_BYTES);
  if (state !== BLOCK_STATE.data) {
    emit({ op: 'states', object: place, version, first: block, count: 1, state, length });
    return;
  }
  const bytes = object.goodBytes(block);
  if (bytes === null) return;
  const checks = Uint32Array.of(now.checks[block] ?? 0);
  const blocks = [Buffer.from(bytes)];
  emit({ op: 'write', object: place, version, first: block, blocks, checks, length });
}

function badBlocks(object: SimObject): number[] {
  const bad: number[] = [];
  for (let block = 0; block < SIM_BLOCKS; block += 1)
    if (object.goodBytes(block) === null) {
      object.bad.add(block);
      bad.push(block);
    }
  return bad;
}

function stateAt(object: SimObject, offset: number): BlockState {
  return (object.now.states[Math.floor(offset / BLOCK_BYTES)] ?? BLOCK_STATE.absent) as BlockState; // only states are put there
}

function wholeBlocks(parts: ByteParts, count: number): Buffer[] {
  const all = Buffer.alloc(count * BLOCK_BYTES);
  copyInto(parts, all, 0);
  return Array.from({ length: count }, (_, at) =>
    all.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES),
  );
}

function copyInto(parts: ByteParts, target: Buffer, offset: number): void {
  let at = offset;
  for (const part of parts) at += part.copy(target, at);
}

function damage(
  ref: ObjectRef,
  offset: number,
  parts: ByteParts,
  checks: PieceChecks,
): StoreError | null {
  const sums = pieceChecksOf(offset, parts);
  if (checks.length !== sums.length) return wrongCheckCount(checks.length, sums.length);
  const bad = sums.findIndex((sum, piece) => sum !== checks[piece]);
  return bad < 0 ? null : arrivedDamaged(ref.key.toString(), offset, bad);
}

function badBlock(object: SimObject, block: number): StoreError {
  return new StoreError('E_CHECKSUM', `Block ${block} of '${object.object.key.toString()}' is bad`);
}

function notFound(ref: ObjectRef): StoreError {
  const kind = ref.kind === OBJECT_KIND.plain ? 'object' : 'header';
  return new StoreError('E_NOT_FOUND', `There is no ${kind} '${ref.key.toString()}'`);
}

function notPrimary(): StoreError {
  return new StoreError('E_STALE_MAP', 'Nothing may be changed here any more');
}

function diskFailed(): StoreError {
  return new StoreError('E_DISK_FAILED', 'The simulated disk has failed');
}
