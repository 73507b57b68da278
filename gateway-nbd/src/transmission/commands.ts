/**
 * Carries out requests that passed the door. Each ends in exactly one call of `Answers`, at once or later.
 */
import { invariant, WRITE_FLAGS, type Clock, type Done, type StoreError } from '@store/core';
import type { Backend } from '../backend.js';
import type { SelectedContext } from '../handshake/negotiated.js';
import { NBD_CMD, NBD_CMD_FLAG } from '../protocol/constants.js';
import {
  PREFETCH_SLICE_BYTES,
  CHUNKED_READ_BYTES_MIN,
  ZERO_SLICE_BYTES,
} from '../protocol/limits.js';
import { blockStatus } from './block-status.js';
import { chunkedRead } from './chunked-read.js';
import { FlushHabit } from './flush-habit.js';
import type { ContextStatus, ReadPiece, ReplyFormat } from './reply-format.js';
import type { Reply } from '@store/core';
import type { ReplyOutbox } from '@store/core';
import type { Admitted } from './request.js';
import type { SliceQueue } from './slices.js';

/** Takes the results; every request gets one. */
export interface Answers {
  success(request: Admitted): void;
  failure(request: Admitted, error: StoreError): void;
  /** `reply` is what the outbox allocated, with the data in its place. */
  data(request: Admitted, reply: Reply): void;
  /** One of several pieces of the answer to a READ; after the last it is answered. */
  piece(request: Admitted, piece: ReadPiece, isLast: boolean): void;
  status(request: Admitted, contexts: readonly ContextStatus[]): void;
}

export interface CommandsOptions {
  readonly backend: Backend;
  readonly clock: Clock;
  readonly slices: SliceQueue;
  readonly format: ReplyFormat;
  readonly outbox: ReplyOutbox;
  readonly answers: Answers;
  /** The connection is gone: nobody waits for answers. */
  readonly isGone: () => boolean;
}

export class Commands {
  readonly #backend: Backend;
  readonly #clock: Clock;
  readonly #slices: SliceQueue;
  readonly #format: ReplyFormat;
  readonly #outbox: ReplyOutbox;
  readonly #answers: Answers;
  readonly #isGone: () => boolean;
  readonly #habit: FlushHabit = new FlushHabit();

  constructor(options: CommandsOptions) {
    this.#backend = options.backend;
    this.#clock = options.clock;
    this.#slices = options.slices;
    this.#format = options.format;
    this.#outbox = options.outbox;
    this.#answers = options.answers;
    this.#isGone = options.isGone;
  }

  /** Anything but a WRITE with data and a BLOCK_STATUS. */
  run(request: Admitted): void {
    const { type, offset, length } = request;
    if (type === NBD_CMD.READ && length > 0) {
      this.#read(request);
      return;
    }
    const done = this.#done(request);
    if (type === NBD_CMD.FLUSH) {
      this.#habit.flushed();
      this.#backend.flush(done);
    } else if (length === 0) done(null);
    else if (type === NBD_CMD.CACHE) this.#prefetch(offset, length, done);
    else {
      invariant(type === NBD_CMD.TRIM || type === NBD_CMD.WRITE_ZEROES, 'the door let it in');
      this.#zero(request, done);
    }
  }

  /** @param release - Called before the answer: after an error the backend may still be busy with `parts`. */
  write(request: Admitted, parts: readonly Buffer[], release: Done): void {
    const asked = durability(request.flags);
    const given = this.#habit.changed() ? WRITE_FLAGS.durable : asked;
    this.#write(request, parts, given, release, given !== asked);
  }

  #write(
    request: Admitted,
    parts: readonly Buffer[],
    flags: number,
    release: Done,
    isGuess: boolean,
  ): void {
    this.#backend.write(request.offset, parts, flags, (error) => {
      if (isGuess && error?.code === 'E_NO_SPACE') {
        // There may be room for it and none to make it durable: that is for the flush to say.
        this.#write(request, parts, WRITE_FLAGS.none, release, false);
        return;
      }
      release(error);
      this.#finish(request, error);
    });
  }

  /** BLOCK_STATUS of `bytes` for `contexts`. */
  status(request: Admitted, bytes: number, contexts: readonly SelectedContext[]): void {
    const onlyOne = (request.flags & NBD_CMD_FLAG.REQ_ONE) !== 0;
    const question = { offset: request.offset, bytes, onlyOne, contexts };
    blockStatus(this.#backend, this.#clock, question, (error, found) => {
      if (found !== undefined) this.#answers.status(request, found);
      else this.#finish(request, error);
    });
  }

  #done(request: Admitted): Done {
    return (error) => this.#finish(request, error);
  }

  #finish(request: Admitted, error: StoreError | null): void {
    if (error === null) this.#answers.success(request);
    else this.#answers.failure(request, error);
  }

  #read(request: Admitted): void {
    const { offset, length, flags } = request;
    const inChunks =
      this.#format.hasChunks && length >= CHUNKED_READ_BYTES_MIN && (flags & NBD_CMD_FLAG.DF) === 0;
    if (!inChunks) {
      this.#readWhole(request);
      return;
    }
    chunkedRead(this.#backend, {
      offset,
      bytes: length,
      room: this.#format.dataRoom,
      allocate: (bytes) => this.#outbox.allocate(bytes),
      abandon: (reply) => this.#outbox.abandon(reply),
      discard: (reply) => this.#outbox.discard(reply),
      isGone: this.#isGone,
      piece: (piece, isLast) => this.#answers.piece(request, piece, isLast),
      failed: (error) => this.#finish(request, error),
      whole: () => this.#readWhole(request),
    });
  }

  #readWhole(request: Admitted): void {
    const room = this.#format.dataRoom;
    const reply = this.#outbox.allocate(room + request.length);
    this.#backend.read(request.offset, reply.view(room), (error) => {
      if (error === null) {
        this.#answers.data(request, reply);
        return;
      }
      this.#outbox.abandon(reply);
      this.#answers.failure(request, error);
    });
  }

  #prefetch(offset: number, bytes: number, done: Done): void {
    this.#slices.run({
      offset,
      bytes,
      sliceBytes: PREFETCH_SLICE_BYTES,
      step: (at, count, next) => this.#backend.prefetch(at, count, next),
      done,
    });
  }

  /** TRIM and WRITE_ZEROES. What takes several pieces is made durable once, at the end. */
  #zero({ offset, length, flags }: Admitted, done: Done): void {
    const last = offset + length - 1;
    const whole = Math.floor(offset / ZERO_SLICE_BYTES) === Math.floor(last / ZERO_SLICE_BYTES);
    const allocate = (flags & NBD_CMD_FLAG.NO_HOLE) !== 0 ? WRITE_FLAGS.allocate : WRITE_FLAGS.none;
    const durable = durability(flags);
    const ended = whole ? done : (this.#backend.joined?.(done) ?? done);
    this.#habit.changed();
    this.#slices.run({
      offset,
      bytes: length,
      sliceBytes: ZERO_SLICE_BYTES,
      step: (at, count, next) =>
        this.#backend.zero(at, count, allocate | (whole ? durable : 0), next),
      done: (error) => {
        if (error !== null || whole || durable === WRITE_FLAGS.none) ended(error);
        else this.#backend.flush(ended);
      },
    });
  }
}

function durability(flags: number): number {
  return (flags & NBD_CMD_FLAG.FUA) !== 0 ? WRITE_FLAGS.durable : WRITE_FLAGS.none;
}
