/**
 * An open image: a range of bytes striped over data objects. It keeps no data and no promises: every call becomes
 * calls of the pool, answered when they all are, and a request within one object (nearly all of them) is handed
 * on as it came. Nothing is copied; a request that spans objects is cut into views of the caller's buffers.
 *
 * Names of data objects are remembered in two generations of bounded size: a hit costs one lookup, and forgetting
 * costs nothing until a generation is full, which matters because a random reader of 1 TiB never hits. Objects that
 * the pool knows to be absent get no name at all.
 */
import {
  BLOCK_STATE,
  WRITE_FLAGS,
  type Extent,
  type ObjectPool,
  type ObjectRef,
} from '../pool/object-pool.js';
import { StoreError, type Done, type DoneWith } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { BLOCK_BYTES } from '../util/limits.js';
import { imageExtents, type ImageObjects } from './image-extents.js';
import type { ImageHeader } from './image-header.js';
import { JointChanges } from './joint-changes.js';
import { PartsCutter } from './parts-cutter.js';
import { runPieces } from './piece-run.js';
import { dataKeyPrefix, dataRef, type Stripes } from './striping.js';

/** Refs kept in each of the two generations: 8 GiB of image at 4 MiB an object. */
const REFS_MAX = 2048;
/** How many layers deep a block lies. */
const DEPTH_CONTEXT = 'x-store:depth';
const IMAGE_WRITE_FLAGS = WRITE_FLAGS.durable | WRITE_FLAGS.allocate;

/** What every image can do, known without opening one. */
export const IMAGE_ABILITIES: {
  /** Blocks of this size are unmapped when they are zeroed. */
  readonly fastZeroBytes: number;
  /** Metadata contexts that `status` knows. */
  readonly contexts: readonly string[];
} = { fastZeroBytes: BLOCK_BYTES, contexts: [DEPTH_CONTEXT] };

/** Structurally the `Backend` of the NBD gateway. Made by `ImageCatalog.open`. */
export class Image {
  readonly name: string;
  /** Size; constant while it is open. */
  readonly bytes: number;
  readonly readOnly: boolean;
  /** Of the writer that changes it; 0: it has none. */
  readonly token: number;
  readonly fastZeroBytes: number = IMAGE_ABILITIES.fastZeroBytes;
  readonly contexts: readonly string[] = IMAGE_ABILITIES.contexts;
  readonly #pool: ObjectPool;
  readonly #stripes: Stripes;
  readonly #keyPrefix: string;
  readonly #objectBytes: number;
  /** For what is told of them elsewhere. */
  readonly #objects: ImageObjects;
  readonly #joint = new JointChanges();
  #refs = new Map<number, ObjectRef>();
  #olderRefs = new Map<number, ObjectRef>();

  /** @throws StoreError `E_FORMAT` if it needs what this version cannot do */
  constructor(
    pool: ObjectPool,
    name: string,
    header: ImageHeader,
    options: { readonly readOnly: boolean; readonly token?: number },
  ) {
    const stripes = stripesOf(name, header);
    if (header.objectBytes > pool.objectBytes)
      throw new StoreError(
        'E_FORMAT',
        `Image '${name}' has objects of ${header.objectBytes} bytes and the pool takes ${pool.objectBytes}`,
      );
    this.name = name;
    this.bytes = header.size;
    this.readOnly = options.readOnly;
    this.token = options.token ?? 0;
    this.#pool = pool;
    this.#stripes = stripes;
    this.#keyPrefix = dataKeyPrefix(stripes.layer).toString('latin1');
    this.#objectBytes = header.objectBytes;
    this.#objects = {
      pool,
      stripes,
      objectBytes: header.objectBytes,
      keyPrefix: this.#keyPrefix,
      ref: (index) => this.#ref(index),
    };
  }

  read(offset: number, target: Buffer, done: Done): void {
    const bytes = target.length;
    const refusal = this.#refusal(offset, bytes, false);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const index = Math.floor(offset / this.#objectBytes);
    const start = offset - index * this.#objectBytes;
    if (start + bytes <= this.#objectBytes) {
      this.#readPiece(index, start, target, done);
      return;
    }
    this.#eachPiece(offset, bytes, done, (index, from, size, at, pieceDone) => {
      this.#readPiece(index, from, target.subarray(at, at + size), pieceDone);
    });
  }

  /** `flags`: `WRITE_FLAGS.durable`. */
  write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const refusal = this.#refusal(offset, bytes, true);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const index = Math.floor(offset / this.#objectBytes);
    const start = offset - index * this.#objectBytes;
    if (start + bytes <= this.#objectBytes) {
      this.#pool.write(this.#ref(index), start, parts, flags, done);
      return;
    }
    const cutter = new PartsCutter(parts);
    this.#eachPiece(offset, bytes, this.joined(done), (index, from, size, _at, pieceDone) => {
      this.#pool.write(this.#ref(index), from, cutter.next(size), flags, pieceDone);
    });
  }

  /** The range reads as zeros afterwards. `flags`: `durable`, `allocate`. */
  zero(offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes, true);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const zeroFlags = flags & IMAGE_WRITE_FLAGS;
    const isOnePiece = (offset % this.#objectBytes) + bytes <= this.#objectBytes;
    const ended = isOnePiece ? done : this.joined(done);
    this.#eachPiece(offset, bytes, ended, (index, from, size, at, pieceDone) => {
      // Nothing to do, nothing to make durable.
      if (zeroFlags === WRITE_FLAGS.none && this.#isAbsent(index)) {
        pieceDone(null);
        return;
      }
      // A block that the image's end cuts short can go as a whole: nobody reaches what lies behind the end.
      const isLast = offset + at + size === this.bytes;
      const whole = isLast ? Math.ceil((from + size) / BLOCK_BYTES) * BLOCK_BYTES - from : size;
      const zeroed = Math.min(whole, this.#objectBytes - from);
      this.#pool.zero(this.#ref(index), from, zeroed, zeroFlags, pieceDone);
    });
  }

  flush(done: Done): void {
    this.#pool.flush(this.#joint.flush(done));
  }

  /**
   * For whoever makes one change by several calls: it is lost as a whole or not at all, as far as flushes can tell.
   * @returns What ends it, in place of `done`
   */
  joined(done: Done): Done {
    return this.#joint.begin(done);
  }

  prefetch(offset: number, bytes: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes, false);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    this.#eachPiece(offset, bytes, done, (index, from, size, _at, pieceDone) => {
      if (this.#isAbsent(index)) pieceDone(null);
      else this.#pool.prefetch(this.#ref(index), from, size, pieceDone);
    });
  }

  /**
   * Runs of data, zeros and nothing, from the start of the range; where it is very long they may end before it does.
   */
  extents(offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(offset, bytes, false);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    imageExtents(this.#objects, offset, bytes, done);
  }

  /**
   * Which layer the bytes come from, the newest being 1; 0: from none, they are zeros.
   * @param context - One of `contexts`.
   */
  status(
    context: string,
    offset: number,
    bytes: number,
    done: DoneWith<{ bytes: number; status: number }[]>,
  ): void {
    invariant(context === DEPTH_CONTEXT, 'only what `contexts` lists is asked for');
    this.extents(offset, bytes, (error, extents) => {
      const depth = ({ bytes, state }: Extent): { bytes: number; status: number } => ({
        bytes,
        status: state === BLOCK_STATE.absent ? 0 : 1,
      });
      done(error, extents?.map(depth));
    });
  }

  /** Cuts a range at object boundaries: `from` and `size` within the object, `at` from the start of the range. */
  #eachPiece(
    offset: number,
    bytes: number,
    done: Done,
    start: (index: number, from: number, size: number, at: number, pieceDone: Done) => void,
  ): void {
    if (bytes === 0) {
      done(null);
      return;
    }
    const objectBytes = this.#objectBytes;
    const first = Math.floor(offset / objectBytes);
    const last = Math.floor((offset + bytes - 1) / objectBytes);
    runPieces(
      last - first + 1,
      (piece, pieceDone) => {
        const index = first + piece;
        const begin = Math.max(offset, index * objectBytes);
        const end = Math.min(offset + bytes, (index + 1) * objectBytes);
        const from = begin - index * objectBytes;
        start(index, from, end - begin, begin - offset, pieceDone);
      },
      done,
    );
  }

  #readPiece(index: number, from: number, target: Buffer, done: Done): void {
    // Who has a name was there a moment ago, most likely; the question would be for nothing.
    const ref = this.#refs.get(index);
    if (ref !== undefined) this.#pool.read(ref, from, target, done);
    else if (this.#isAbsent(index)) {
      target.fill(0);
      done(null);
    } else this.#pool.read(this.#ref(index), from, target, done);
  }

  /** Certainly, and after everything called before. */
  #isAbsent(index: number): boolean {
    return this.#pool.absentRun(this.#keyPrefix, index, 1) === 1;
  }

  #ref(index: number): ObjectRef {
    let ref = this.#refs.get(index);
    if (ref !== undefined) return ref;
    ref = this.#olderRefs.get(index) ?? dataRef(this.#stripes, index);
    if (this.#refs.size === REFS_MAX) {
      this.#olderRefs = this.#refs;
      this.#refs = new Map();
    }
    this.#refs.set(index, ref);
    return ref;
  }

  #refusal(offset: number, bytes: number, changes: boolean): StoreError | null {
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes);
    if (!valid || offset < 0 || bytes < 0 || offset + bytes > this.bytes)
      return new StoreError(
        'E_INVALID',
        `Bytes ${offset} to ${offset + bytes} lie outside image '${this.name}' of ${this.bytes} bytes`,
      );
    if (changes && this.readOnly)
      return new StoreError('E_READ_ONLY', `Image '${this.name}' was opened for reading only`);
    return null;
  }
}

/**
 * Names of the data objects of an image.
 * @throws StoreError `E_FORMAT` if it has several layers, which this version cannot resolve
 */
export function stripesOf(name: string, header: ImageHeader): Stripes {
  if (header.layers.length !== 1)
    throw new StoreError(
      'E_FORMAT',
      `Image '${name}' has ${header.layers.length} layers and this version handles one; use a newer one`,
    );
  return { layer: header.layers[0].id, family: header.family };
}
