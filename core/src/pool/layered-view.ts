/**
 * A pool as the newest layer of a chain: reads fall through to the layers below, and a write of a piece of a block that
 * only a layer below has copies that block up first. Layers below are never changed.
 *
 * Copying up is a write of the block *if it is absent*, decided under the block's order by the pool itself, so whatever was
 * written meanwhile stays. Two operations on the same bytes of one image must not be called before the first is answered:
 * the client over the network sees to that.
 */
import { StoreError, type Done, type DoneWith } from '../util/errors.js';
import { BLOCK_BYTES } from '../util/limits.js';
import { partsBytes } from '../util/byte-parts.js';
import { oneByOne } from '../util/one-by-one.js';
import { firstDifference, pieceChecksOf, pieceCount } from '../util/piece-checks.js';
import { checkChain, indexInChain, refsBelow, type Chain } from './chain.js';
import {
  arrivedDamaged,
  wrongCheckCount,
  type CheckedPool,
  type PieceChecks,
} from './checked-pool.js';
import { atEpoch } from './epoched-pool.js';
import { mergeExtents } from './merge-extents.js';
import {
  BLOCK_STATE,
  WRITE_FLAGS,
  type Extent,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type ObjectStat,
} from './object-pool.js';

/** The objects of one index, newest first, each with how much of the object it shows. */
interface Stack {
  readonly refs: readonly ObjectRef[];
  readonly shownBytes: readonly number[];
}

/** Names of objects that are remembered, in all stacks of a view. */
const REFS_MAX = 8192;
const NO_EXTENT: Extent = { bytes: 0, state: BLOCK_STATE.absent };

/** What a chain makes of the names of objects: found once, and used by the views of it in all epochs. */
class Stacks {
  readonly chain: Chain;
  readonly #objectBytes: number;
  #stacks = new Map<string, Stack>();
  #refCount = 0;

  /** @throws StoreError `E_INVALID` if it is no chain */
  constructor(chain: Chain, objectBytes: number) {
    checkChain(chain);
    this.chain = chain;
    this.#objectBytes = objectBytes;
  }

  /** @throws StoreError `E_INVALID` if the object is none of the newest layer */
  of(ref: ObjectRef): Stack {
    const known = this.#stacks.get(ref.place);
    if (known !== undefined) return known;
    const index = indexInChain(this.chain, ref);
    const start = index * this.#objectBytes;
    const shownBytes = this.chain.map(({ overlap }, level) =>
      level === 0 ? this.#objectBytes : Math.min(this.#objectBytes, Math.max(0, overlap - start)),
    );
    const stack = { refs: [ref, ...refsBelow(this.chain, ref, index)], shownBytes };
    if (this.#refCount + stack.refs.length > REFS_MAX) {
      this.#stacks = new Map();
      this.#refCount = 0;
    }
    this.#refCount += stack.refs.length;
    this.#stacks.set(ref.place, stack);
    return stack;
  }
}

export class LayeredView implements CheckedPool {
  readonly name: string;
  readonly objectBytes: number;
  readonly #pool: CheckedPool;
  readonly #stacks: Stacks;
  /** The last one that was asked for. */
  #atEpoch: LayeredView | null = null;

  /**
   * @param stacks - Of another view of the same chain in a pool with objects of the same size
   * @throws StoreError `E_INVALID` if it is no chain
   */
  constructor(pool: CheckedPool, chain: Chain, stacks: Stacks | null = null) {
    this.#pool = pool;
    this.#stacks = stacks ?? new Stacks(chain, pool.objectBytes);
    this.name = pool.name;
    this.objectBytes = pool.objectBytes;
  }

  /** This view, with each operation on the pool below meant for one epoch. See `EpochedPool`. */
  at(epoch: number): LayeredView {
    const pool = atEpoch(this.#pool, epoch);
    if (pool === this.#pool) return this;
    if (this.#atEpoch !== null && this.#atEpoch.#pool === pool) return this.#atEpoch;
    this.#atEpoch = new LayeredView(pool, this.#stacks.chain, this.#stacks);
    return this.#atEpoch;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    this.readChecked(ref, offset, target, (error) => done(error));
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.#withStack(ref, done, (stack) => {
      if (stack.refs.length === 1) this.#pool.readChecked(ref, offset, target, done);
      else
        this.#readFrom(stack, 0, offset, target, (error) => {
          if (error !== null) done(error);
          else done(null, pieceChecksOf(offset, [target]));
        });
    });
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    this.writeChecked(ref, offset, parts, pieceChecksOf(offset, parts), flags, done);
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    const bytes = partsBytes(parts);
    this.#withStack(ref, done, (stack) => {
      const write = (): void => this.#pool.writeChecked(ref, offset, parts, checks, flags, done);
      if (stack.refs.length === 1 || isWhole(offset, bytes)) {
        write();
        return;
      }
      // Nothing may change because of bytes that arrived damaged.
      if (checks.length !== pieceCount(offset, bytes)) {
        done(wrongCheckCount(checks.length, pieceCount(offset, bytes)));
        return;
      }
      const bad = firstDifference(pieceChecksOf(offset, parts), checks);
      if (bad >= 0) {
        done(arrivedDamaged(ref.key.toString(), offset, bad));
        return;
      }
      this.#copyUpEdges(stack, offset, bytes, done, write);
    });
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    this.#withStack(ref, done, (stack) => {
      if (stack.refs.length === 1) {
        this.#pool.zero(ref, offset, bytes, flags, done);
        return;
      }
      const zero = (): void =>
        this.#pool.zero(ref, offset, bytes, flags | WRITE_FLAGS.layered, done);
      if (isWhole(offset, bytes)) zero();
      else this.#copyUpEdges(stack, offset, bytes, done, zero);
    });
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    this.#withStack(ref, done, (stack) => {
      this.#extentsFrom(stack, 0, offset, bytes, (error, extents) => {
        if (error !== null || extents === undefined) done(error);
        else done(null, mergeExtents(extents));
      });
    });
  }

  forUser(): this {
    return this;
  }

  /** What is absent in the newest layer may be in another. */
  absentRun(prefix: string, first: number, count: number): number | null {
    return this.#stacks.chain.length === 1 ? this.#pool.absentRun(prefix, first, count) : null;
  }

  flush(done: Done): void {
    this.#pool.flush(done);
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    this.#withStack(ref, done, ({ refs, shownBytes }) => {
      const step = (level: number, error: StoreError | null): void => {
        const next = refs[level];
        const end = Math.min(offset + bytes, shownBytes[level] ?? 0);
        if (error !== null || next === undefined || end <= offset) done(error);
        else this.#pool.prefetch(next, offset, end - offset, (failed) => step(level + 1, failed));
      };
      step(0, null);
    });
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#pool.stat(ref);
  }

  list(options: ListOptions): Promise<ListPage> {
    return this.#pool.list(options);
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    return this.#pool.compareAndSwap(ref, expectedVersion, bytes);
  }

  delete(ref: ObjectRef, version?: number): Promise<boolean> {
    return this.#pool.delete(ref, version);
  }

  #withStack(
    ref: ObjectRef,
    refuse: (error: StoreError) => void,
    use: (stack: Stack) => void,
  ): void {
    let stack: Stack;
    try {
      stack = this.#stacks.of(ref);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      refuse(error);
      return;
    }
    use(stack);
  }

  /** Fills `target` with what layers from `level` on show at `offset`. */
  #readFrom(stack: Stack, level: number, offset: number, target: Buffer, done: Done): void {
    const ref = stack.refs[level];
    const shown = Math.max(0, Math.min(target.length, (stack.shownBytes[level] ?? 0) - offset));
    target.fill(0, shown);
    if (ref === undefined || shown === 0) {
      done(null);
      return;
    }
    this.#pool.extents(ref, offset, shown, (error, extents = []) => {
      if (error !== null) {
        done(error);
        return;
      }
      let at = 0;
      const step = (index: number, next: Done): void => {
        const extent = extents[index] ?? NO_EXTENT;
        const from = at;
        at += extent.bytes;
        const piece = target.subarray(from, at);
        if (extent.state === BLOCK_STATE.absent)
          this.#readFrom(stack, level + 1, offset + from, piece, next);
        else this.#pool.read(ref, offset + from, piece, next);
      };
      oneByOne(extents.length, step, done);
    });
  }

  #extentsFrom(
    stack: Stack,
    level: number,
    offset: number,
    bytes: number,
    done: DoneWith<Extent[]>,
  ): void {
    const ref = stack.refs[level];
    const shown = Math.max(0, Math.min(bytes, (stack.shownBytes[level] ?? 0) - offset));
    const hidden = shown < bytes ? [{ bytes: bytes - shown, state: BLOCK_STATE.absent }] : [];
    if (ref === undefined || shown === 0) {
      done(null, hidden);
      return;
    }
    this.#pool.extents(ref, offset, shown, (error, extents = []) => {
      if (error !== null) {
        done(error);
        return;
      }
      const found: Extent[] = [];
      let at = offset;
      const step = (index: number, next: Done): void => {
        const extent = extents[index] ?? NO_EXTENT;
        const from = at;
        at += extent.bytes;
        if (extent.state !== BLOCK_STATE.absent) {
          found.push(extent);
          next(null);
          return;
        }
        this.#extentsFrom(stack, level + 1, from, extent.bytes, (failed, below = []) => {
          for (const one of below) found.push(one);
          next(failed);
        });
      };
      oneByOne(extents.length, step, (failed) => {
        if (failed !== null) done(failed);
        else done(null, [...found, ...hidden]);
      });
    });
  }

  /** The blocks that a range begins and ends within are the newest layer's own afterwards. */
  #copyUpEdges(stack: Stack, offset: number, bytes: number, refuse: Done, then: () => void): void {
    const edges = new Set<number>();
    if (offset % BLOCK_BYTES !== 0) edges.add(Math.floor(offset / BLOCK_BYTES));
    if ((offset + bytes) % BLOCK_BYTES !== 0) edges.add(Math.floor((offset + bytes) / BLOCK_BYTES));
    const blocks = [...edges];
    const step = (index: number): void => {
      const block = blocks[index];
      if (block === undefined) then();
      else
        this.#copyUp(stack, block, (error) => {
          if (error !== null) refuse(error);
          else step(index + 1);
        });
    };
    step(0);
  }

  #copyUp({ refs, shownBytes }: Stack, block: number, done: Done): void {
    const [top] = refs;
    if (top === undefined) {
      done(null);
      return;
    }
    const offset = block * BLOCK_BYTES;
    this.#pool.extents(top, offset, BLOCK_BYTES, (error, extents = []) => {
      if (error !== null || extents[0]?.state !== BLOCK_STATE.absent) {
        done(error);
        return;
      }
      const below = { refs: refs.slice(1), shownBytes: shownBytes.slice(1) };
      const bytes = Buffer.alloc(BLOCK_BYTES);
      this.#readFrom(below, 0, offset, bytes, (failed) => {
        if (failed !== null) done(failed);
        else this.#pool.write(top, offset, [bytes], WRITE_FLAGS.ifAbsent, done);
      });
    });
  }
}

function isWhole(offset: number, bytes: number): boolean {
  return offset % BLOCK_BYTES === 0 && bytes % BLOCK_BYTES === 0;
}
