/**
 * A READ answered in chunks: zeros are said instead of sent (OFFSET_HOLE), and long data leaves piece by piece, each as
 * soon as it is read and verified. While the client takes one piece the next is read, into memory that is still warm.
 *
 * What the backend says is a hole when it is asked, reads as zeros at that moment, which lies within the life of the
 * request; the data is read after that. Pieces leave in the order in which they are ready (R8). An error after some of
 * them left is a chunk of its own at the end (R11).
 */
import type { StoreError } from '@store/core';
import { BLOCK_STATE, type Extent } from '@store/core';
import type { Backend } from '../backend.js';
import { READ_PIECE_BYTES_MAX, SPARSE_READ_PIECES_MAX } from '../protocol/limits.js';
import type { Reply } from '@store/core';
import type { ReadPiece } from './reply-format.js';

/** A hole shorter than this is sent as data: saying it would cost about as much. */
const HOLE_BYTES_MIN = 4096;
/** A disk does better with several requests. */
const PIECES_IN_FLIGHT_MAX = 4;
/** After so much that needed no waiting, others have their turn. */
const TURN_BYTES_MAX = 4 * 1024 * 1024;

export interface ChunkedRead {
  readonly offset: number;
  readonly bytes: number;
  /** Room for a header in front of each piece of data. */
  readonly room: number;
  /** Makes room for one piece of data and its header. */
  readonly allocate: (bytes: number) => Reply;
  /** What `allocate` gave will not be used; who failed may still be writing to it. */
  readonly abandon: (reply: Reply) => void;
  /** It will not be used, and nobody writes to it. */
  readonly discard: (reply: Reply) => void;
  /** Nobody waits for the answer any more. */
  readonly isGone: () => boolean;
  /** A piece of the answer; called until `isLast`, or until `failed`. */
  readonly piece: (piece: ReadPiece, isLast: boolean) => void;
  /** The READ has failed, whatever was answered before. Null: nobody waits for it. */
  readonly failed: (error: StoreError | null) => void;
  /** Instead of all that: the range is one piece. */
  readonly whole: () => void;
}

interface Run {
  bytes: number;
  readonly isHole: boolean;
}

/** Asks the backend what the range is made of, then reads it. */
export function chunkedRead(backend: Backend, read: ChunkedRead): void {
  backend.extents(read.offset, read.bytes, (error, extents) => {
    if (extents === undefined) {
      read.failed(error);
      return;
    }
    const found = readRuns(extents, read.bytes);
    const runs =
      found.length > SPARSE_READ_PIECES_MAX ? [{ bytes: read.bytes, isHole: false }] : found;
    const pieces = runs.flatMap(cutRun);
    if (pieces.length === 1 && pieces[0]?.isHole !== true) read.whole();
    else readPieces(backend, read, pieces);
  });
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

/** Long data as several pieces. */
function cutRun({ bytes, isHole }: Run): Run[] {
  if (isHole) return [{ bytes, isHole }];
  const pieces: Run[] = [];
  for (let at = 0; at < bytes; at += READ_PIECE_BYTES_MAX)
    pieces.push({ bytes: Math.min(READ_PIECE_BYTES_MAX, bytes - at), isHole });
  return pieces;
}

function readPieces(backend: Backend, read: ChunkedRead, pieces: readonly Run[]): void {
  let next = 0;
  let offset = read.offset;
  let inFlight = 0;
  let missing = pieces.length;
  let failure: StoreError | null = null;
  let isLooping = false;

  const deliver = (piece: ReadPiece): void => {
    missing -= 1;
    read.piece(piece, missing === 0);
  };
  const start = (bytes: number): void => {
    const from = offset;
    const reply = read.allocate(read.room + bytes);
    inFlight += 1;
    backend.read(from, reply.view(read.room), (error) => {
      inFlight -= 1;
      failure ??= error;
      if (error === null && failure === null) deliver({ kind: 'data', offset: from, reply });
      else if (error === null) read.discard(reply);
      else read.abandon(reply);
      proceed();
    });
  };
  const proceed = (): void => {
    if (isLooping) return;
    isLooping = true;
    let turnBytes = 0;
    while (failure === null && inFlight < PIECES_IN_FLIGHT_MAX && !read.isGone()) {
      const piece = pieces[next];
      if (piece === undefined) break;
      if (turnBytes >= TURN_BYTES_MAX && inFlight === 0) {
        isLooping = false;
        setImmediate(proceed);
        return;
      }
      next += 1;
      if (piece.isHole) deliver({ kind: 'hole', offset, bytes: piece.bytes });
      else start(piece.bytes);
      offset += piece.bytes;
      turnBytes += piece.isHole ? 0 : piece.bytes;
    }
    isLooping = false;
    if (inFlight > 0 || missing === 0) return;
    read.failed(failure);
  };
  proceed();
}
