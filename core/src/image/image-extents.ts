/**
 * Finds out what a range of an image is made of. Where the pool can tell at once which objects are absent, the rest is
 * asked one by one, and the emptiest terabyte costs nothing. A pool that cannot tell is asked for each object while
 * they are few, and else lists once which objects exist.
 */
import { BLOCK_STATE, type Extent, type ObjectPool, type ObjectRef } from '../pool/object-pool.js';
import { promisedWith, StoreError, type Done, type DoneWith } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { dataIndexes } from './data-remover.js';
import { mergeExtents } from '../pool/merge-extents.js';
import { runPieces } from './piece-run.js';
import type { Stripes } from './striping.js';

/** Objects asked for one answer, unless a pool that cannot tell what is absent lists them. */
const OBJECTS_MAX = 1024;
/** A list is followed up to about so many extents. */
const EXTENTS_MAX = 4096;

/** The data objects of an image. */
export interface ImageObjects {
  readonly pool: ObjectPool;
  readonly stripes: Stripes;
  readonly objectBytes: number;
  /** What their keys begin with, one character a byte. */
  readonly keyPrefix: string;
  readonly ref: (index: number) => ObjectRef;
}

/** A part of the range. */
interface Piece {
  /** The object; null: objects that do not exist. */
  readonly index: number | null;
  /** Where the part begins in the object. */
  readonly from: number;
  readonly bytes: number;
}

/**
 * Runs of data, zeros and nothing, from `offset` on; of a range of more than 1,024 objects they may end before it does.
 * @param bytes - The range lies within the image.
 */
export function imageExtents(
  objects: ImageObjects,
  offset: number,
  bytes: number,
  done: DoneWith<Extent[]>,
): void {
  const pieces = piecesOf(objects, offset, bytes);
  if (pieces !== null) {
    ask(objects, pieces, done);
    return;
  }
  extentsOfListed(objects, offset, bytes).then(
    (extents) => {
      done(null, extents);
    },
    (error: unknown) => {
      invariant(error instanceof StoreError, 'a pool fails with StoreErrors');
      done(error);
    },
  );
}

/** Null: too many objects may be there, and the pool cannot tell which. */
function piecesOf(
  { pool, keyPrefix, objectBytes }: ImageObjects,
  offset: number,
  bytes: number,
): Piece[] | null {
  const end = offset + bytes;
  const objectEnd = Math.ceil(end / objectBytes);
  const pieces: Piece[] = [];
  let asked = 0;
  let index = Math.floor(offset / objectBytes);
  for (let at = offset; at < end && asked < OBJECTS_MAX;) {
    const absent = pool.absentRun(keyPrefix, index, objectEnd - index);
    if (absent === null && objectEnd - index > OBJECTS_MAX) return null;
    const isAbsent = absent !== null && absent > 0;
    const count = isAbsent ? absent : 1;
    const next = Math.min(end, (index + count) * objectBytes);
    const from = at - index * objectBytes;
    pieces.push({ index: isAbsent ? null : index, from, bytes: next - at });
    if (!isAbsent) asked += 1;
    index += count;
    at = next;
  }
  return pieces;
}

function ask(
  { pool, ref }: ImageObjects,
  pieces: readonly Piece[],
  done: DoneWith<Extent[]>,
): void {
  if (pieces.length === 0) {
    done(null, []);
    return;
  }
  const found: Extent[][] = [];
  const start = (at: number, pieceDone: Done): void => {
    const piece = pieces[at];
    invariant(piece !== undefined, 'as many pieces are started as there are');
    const { index, from, bytes } = piece;
    if (index === null) {
      found[at] = [{ bytes, state: BLOCK_STATE.absent }];
      pieceDone(null);
      return;
    }
    pool.extents(ref(index), from, bytes, (error, extents) => {
      found[at] = extents ?? [];
      pieceDone(error);
    });
  };
  runPieces(pieces.length, start, (error) => {
    if (error !== null) done(error);
    else done(null, mergeExtents(found.flat()));
  });
}

async function extentsOfListed(
  objects: ImageObjects,
  offset: number,
  bytes: number,
): Promise<Extent[]> {
  const { pool, objectBytes, ref } = objects;
  const first = Math.floor(offset / objectBytes);
  const last = Math.floor((offset + bytes - 1) / objectBytes);
  const extents: Extent[] = [];
  let at = offset;
  for (const index of await listed(objects, first, last)) {
    const begin = Math.max(offset, index * objectBytes);
    const end = Math.min(offset + bytes, (index + 1) * objectBytes);
    if (begin > at) extents.push({ bytes: begin - at, state: BLOCK_STATE.absent });
    const found = await promisedWith<Extent[]>((done) => {
      pool.extents(ref(index), begin - index * objectBytes, end - begin, done);
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
async function listed(
  { pool, stripes }: ImageObjects,
  first: number,
  last: number,
): Promise<number[]> {
  const found: number[] = [];
  for await (const page of dataIndexes(pool, stripes))
    for (const { index } of page) if (index >= first && index <= last) found.push(index);
  return found.sort((a, b) => a - b);
}
