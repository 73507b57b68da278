/**
 * An open image: a range of bytes striped over data objects. It keeps no data and no promises: every call becomes
 * calls of the pool, answered when they all are, and a request within one object (nearly all of them) is handed
 * on as it came. Nothing is copied; a request that spans objects is cut into views of the caller's buffers.
 *
 * Names of data objects are remembered in two generations of bounded size: a hit costs one lookup, and forgetting
 * costs nothing until a generation is full, which matters because a random reader of 1 TiB never hits.
 */
import {
  BLOCK_STATE,
  WRITE_FLAGS,
  type Extent,
  type ObjectPool,
  type ObjectRef,
} from '../pool/object-pool.js';
import { promisedWith, StoreError, type Done, type DoneWith } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { BLOCK_BYTES } from '../util/limits.js';
import { dataIndexes } from './data-remover.js';
import type { ImageHeader } from './image-header.js';
import { mergeExtents } from './merge-extents.js';
import { PartsCutter } from './parts-cutter.js';
import { runPieces } from './piece-run.js';
import { dataRef, type Stripes } from './striping.js';

/** Refs kept in each of the two generations: 8 GiB of image at 4 MiB an object. */
const REFS_MAX = 2048;
/** Extents of more objects than this ask the pool once which of them exist. */
const EXTENT_OBJECTS_MAX = 1024;
/** A very long range is described up to about so many extents. */
const EXTENTS_MAX = 4096;
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
  readonly fastZeroBytes: number = IMAGE_ABILITIES.fastZeroBytes;
  readonly contexts: readonly string[] = IMAGE_ABILITIES.contexts;
  readonly #pool: ObjectPool;
  readonly #stripes: Stripes;
  readonly #objectBytes: number;
  #refs = new Map<number, ObjectRef>();
  #olderRefs = new Map<number, ObjectRef>();

  /** @throws StoreError `E_FORMAT` if it needs what this version cannot do */
  constructor(pool: ObjectPool, name: string, header: ImageHeader, options: { readOnly: boolean }) {
    const stripes = stripesOf(name, header);
    if (header.objectBytes > pool.objectBytes)
      throw new StoreError(
        'E_FORMAT',
        `Image '${name}' has objects of ${header.objectBytes} bytes and the pool takes ${pool.objectBytes}`,
      );
    this.name = name;
    this.bytes = header.size;
    this.readOnly = options.readOnly;
    this.#pool = pool;
    this.#stripes = stripes;
    this.#objectBytes = header.objectBytes;
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
      this.#pool.read(this.#ref(index), start, target, done);
      return;
    }
    this.#eachPiece(offset, bytes, done, (ref, from, size, at, pieceDone) => {
      this.#pool.read(ref, from, target.subarray(at, at + size), pieceDone);
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
    this.#eachPiece(offset, bytes, done, (ref, from, size, _at, pieceDone) => {
      this.#pool.write(ref, from, cutter.next(size), flags, pieceDone);
    });
  }

  /** The range reads as zeros afterwards. `flags`: `durable`, `allocate`. */
  zero(offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes, true);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    this.#eachPiece(offset, bytes, done, (ref, from, size, at, pieceDone) => {
      // A block that the image's end cuts short can go as a whole: nobody reaches what lies behind the end.
      const isLast = offset + at + size === this.bytes;
      const whole = isLast ? Math.ceil((from + size) / BLOCK_BYTES) * BLOCK_BYTES - from : size;
      const zeroed = Math.min(whole, this.#objectBytes - from);
      this.#pool.zero(ref, from, zeroed, flags & IMAGE_WRITE_FLAGS, pieceDone);
    });
  }

  flush(done: Done): void {
    this.#pool.flush(done);
  }

  prefetch(offset: number, bytes: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes, false);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    this.#eachPiece(offset, bytes, done, (ref, from, size, _at, pieceDone) => {
      this.#pool.prefetch(ref, from, size, pieceDone);
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
    if (bytes <= EXTENT_OBJECTS_MAX * this.#objectBytes) {
      const pieces: Extent[][] = [];
      const finished: Done = (error) => {
        if (error !== null) done(error);
        else done(null, mergeExtents(pieces.flat()));
      };
      this.#eachPiece(offset, bytes, finished, (ref, from, size, _at, pieceDone) => {
        const slot = pieces.push([]) - 1;
        this.#pool.extents(ref, from, size, (error, extents) => {
          if (extents !== undefined) pieces[slot] = extents;
          pieceDone(error);
        });
      });
      return;
    }
    this.#extentsOfExisting(offset, bytes).then(
      (extents) => {
        done(null, extents);
      },
      (error: unknown) => {
        invariant(error instanceof StoreError, 'a pool fails with StoreErrors');
        done(error);
      },
    );
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

  /** Extents of a range too large to ask every object that could be in it. */
  async #extentsOfExisting(offset: number, bytes: number): Promise<Extent[]> {
    const objectBytes = this.#objectBytes;
    const first = Math.floor(offset / objectBytes);
    const last = Math.floor((offset + bytes - 1) / objectBytes);
    const extents: Extent[] = [];
    let at = offset;
    for (const index of await this.#existing(first, last)) {
      const begin = Math.max(offset, index * objectBytes);
      const end = Math.min(offset + bytes, (index + 1) * objectBytes);
      if (begin > at) extents.push({ bytes: begin - at, state: BLOCK_STATE.absent });
      const found = await promisedWith<Extent[]>((done) => {
        this.#pool.extents(this.#ref(index), begin - index * objectBytes, end - begin, done);
      });
      extents.push(...found);
      at = end;
      if (extents.length >= EXTENTS_MAX) break;
    }
    if (at < offset + bytes && extents.length < EXTENTS_MAX)
      extents.push({ bytes: offset + bytes - at, state: BLOCK_STATE.absent });
    return mergeExtents(extents);
  }

  /** Indexes of the data objects there are, ascending. */
  async #existing(first: number, last: number): Promise<number[]> {
    const found: number[] = [];
    for await (const page of dataIndexes(this.#pool, this.#stripes))
      for (const { index } of page) if (index >= first && index <= last) found.push(index);
    return found.sort((a, b) => a - b);
  }

  /** Cuts a range at object boundaries: `from` and `size` within the object, `at` from the start of the range. */
  #eachPiece(
    offset: number,
    bytes: number,
    done: Done,
    start: (ref: ObjectRef, from: number, size: number, at: number, pieceDone: Done) => void,
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
        start(this.#ref(index), from, end - begin, begin - offset, pieceDone);
      },
      done,
    );
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
