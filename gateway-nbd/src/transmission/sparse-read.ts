/**
 * A READ whose zeros are said instead of sent (chunks of type OFFSET_HOLE). What the backend says is a hole when it
 * is asked, reads as zeros at that moment, which lies within the life of the request; the data is read after that.
 */
import type { StoreError } from '@store/core';
import { BLOCK_STATE, type DoneWith, type Extent } from '@store/core';
import type { Backend } from '../backend.js';
import { SPARSE_READ_PIECES_MAX } from '../protocol/limits.js';
import type { Reply } from './reply.js';
import type { ReadPiece } from './reply-format.js';

/** A hole shorter than this is sent as data: saying it would cost about as much. */
const HOLE_BYTES_MIN = 4096;

export interface SparseRead {
  readonly offset: number;
  readonly bytes: number;
  /** Makes room for one piece of data: `room` for a header in front of `bytes`. */
  readonly allocate: (bytes: number) => Reply;
  /** What `allocate` gave will not be used. */
  readonly abandon: (reply: Reply) => void;
  readonly room: number;
}

/**
 * Reads in pieces.
 * @param done - The pieces in order, or null if the range is better read as a whole.
 */
export function sparseRead(
  backend: Backend,
  read: SparseRead,
  done: DoneWith<ReadPiece[] | null>,
): void {
  backend.extents(read.offset, read.bytes, (error, extents) => {
    if (extents === undefined) {
      done(error);
      return;
    }
    const runs = readRuns(extents, read.bytes);
    if (runs.length > SPARSE_READ_PIECES_MAX || (runs.length === 1 && runs[0]?.isHole !== true))
      done(null, null);
    else readPieces(backend, read, runs, done);
  });
}

interface Run {
  bytes: number;
  readonly isHole: boolean;
}

/** Extents as runs that cover the whole READ; what was not described is data. */
function readRuns(extents: readonly Extent[], readBytes: number): Run[] {
  const runs: Run[] = [];
  let left = readBytes;
  const add = (bytes: number, isHole: boolean): void => {
    const last = runs.at(-1);
    if (last?.isHole === isHole) last.bytes += bytes;
    else if (bytes > 0) runs.push({ bytes, isHole });
    left -= bytes;
  };
  for (const { bytes, state } of extents)
    add(Math.min(bytes, left), state !== BLOCK_STATE.data && bytes >= HOLE_BYTES_MIN);
  add(left, false);
  return runs;
}

function readPieces(
  backend: Backend,
  read: SparseRead,
  runs: readonly Run[],
  done: DoneWith<ReadPiece[]>,
): void {
  const pieces: ReadPiece[] = [];
  let missing = 1;
  let failure: StoreError | null = null;
  const finish = (error: StoreError | null): void => {
    failure ??= error;
    missing -= 1;
    if (missing > 0) return;
    if (failure === null) {
      done(null, pieces);
      return;
    }
    for (const piece of pieces) if (piece.kind === 'data') read.abandon(piece.reply);
    done(failure);
  };
  let offset = read.offset;
  for (const { bytes, isHole } of runs) {
    if (isHole) {
      pieces.push({ kind: 'hole', offset, bytes });
    } else {
      const reply = read.allocate(read.room + bytes);
      pieces.push({ kind: 'data', offset, reply });
      missing += 1;
      backend.read(offset, reply.view(read.room), finish);
    }
    offset += bytes;
  }
  finish(null);
}
