/**
 * Finds the extents that answer a BLOCK_STATUS, for each context the client asks about. It goes on from one bounded
 * question to the next until the range is described, enough extents are found or enough time has passed: an answer
 * may end before the range does, and the client asks on from there. So neither a terabyte nor a shredded image keeps
 * the event loop, or the memory of the server, for long.
 */
import {
  BLOCK_STATE,
  invariant,
  type BlockState,
  type Clock,
  type DoneWith,
  type StoreError,
} from '@store/core';
import type { Backend, StatusRun } from '../backend.js';
import { BASE_ALLOCATION } from '../handshake/metadata-contexts.js';
import type { HeaderKind, SelectedContext } from '../handshake/negotiated.js';
import { NBD_STATE_HOLE, NBD_STATE_ZERO } from '../protocol/constants.js';
import { STATUS_RUNS_MAX, STATUS_SLICE_BYTES, STATUS_TURN_MS_MAX } from '../protocol/limits.js';
import type { ContextStatus } from './reply-format.js';

/** What reads as zeros need not stay allocated, so writing there may need space. */
const ALLOCATION: Readonly<Record<BlockState, number>> = {
  [BLOCK_STATE.absent]: NBD_STATE_HOLE | NBD_STATE_ZERO,
  [BLOCK_STATE.data]: 0,
  [BLOCK_STATE.zero]: NBD_STATE_HOLE | NBD_STATE_ZERO,
};

const STATUS_SLICE_GROWTH = 16;

export interface StatusQuestion {
  readonly offset: number;
  /** At least 1. */
  readonly bytes: number;
  /** REQ_ONE: one extent for each context. */
  readonly onlyOne: boolean;
  readonly contexts: readonly SelectedContext[];
}

/** Answers `question`; every context gets at least one run. */
export function blockStatus(
  backend: Backend,
  clock: Clock,
  question: StatusQuestion,
  done: DoneWith<ContextStatus[]>,
): void {
  const found: ContextStatus[] = [];
  const next = (): void => {
    const context = question.contexts[found.length];
    if (context === undefined) {
      done(null, found);
      return;
    }
    new Collector(backend, clock, question, context.name, (error, runs) => {
      if (runs === undefined) {
        done(error);
        return;
      }
      found.push({ id: context.id, runs });
      next();
    }).start();
  };
  next();
}

/** The extents of one context. */
class Collector {
  readonly #backend: Backend;
  readonly #clock: Clock;
  readonly #context: string;
  readonly #end: number;
  readonly #runsMax: number;
  readonly #done: DoneWith<StatusRun[]>;
  readonly #runs: { bytes: number; status: number }[] = [];
  readonly #until: number;
  #at: number;
  #sliceBytes = STATUS_SLICE_BYTES;

  constructor(
    backend: Backend,
    clock: Clock,
    question: StatusQuestion,
    context: string,
    done: DoneWith<StatusRun[]>,
  ) {
    this.#backend = backend;
    this.#clock = clock;
    this.#context = context;
    this.#at = question.offset;
    this.#end = question.offset + question.bytes;
    this.#runsMax = question.onlyOne ? 1 : STATUS_RUNS_MAX;
    this.#until = clock.now() + STATUS_TURN_MS_MAX;
    this.#done = done;
  }

  /** Answers that come before the call returns are taken in a loop, not by recursion. */
  start(): void {
    let answered = true;
    let looping = true;
    while (answered) {
      answered = false;
      this.#ask((goOn) => {
        if (!goOn) return;
        if (looping) answered = true;
        else this.start();
      });
    }
    looping = false;
  }

  #ask(then: (goOn: boolean) => void): void {
    const at = this.#at;
    const bytes = Math.min(this.#end - at, this.#sliceBytes);
    const done: DoneWith<StatusRun[]> = (error, runs) => {
      if (runs === undefined) {
        then(false);
        this.#done(error);
        return;
      }
      for (const run of runs) this.#add(run);
      // Where there is nothing at all, there is often nothing for long.
      const isEmpty = runs.length === 1 && runs[0]?.bytes === bytes && runs[0].status !== 0;
      this.#sliceBytes = isEmpty ? this.#sliceBytes * STATUS_SLICE_GROWTH : STATUS_SLICE_BYTES;
      const enough = this.#runs.length > this.#runsMax || this.#clock.now() >= this.#until;
      const goOn = this.#at < this.#end && !enough;
      then(goOn);
      if (!goOn) this.#done(null, this.#runs.slice(0, this.#runsMax));
    };
    if (this.#context !== BASE_ALLOCATION) {
      invariant(this.#backend.status !== undefined, 'a backend knows its own contexts');
      this.#backend.status(this.#context, at, bytes, done);
    } else
      this.#backend.extents(at, bytes, (error: StoreError | null, extents) => {
        done(
          error,
          extents?.map((extent) => ({ bytes: extent.bytes, status: ALLOCATION[extent.state] })),
        );
      });
  }

  /** Neighbours of equal status become one run. */
  #add(run: StatusRun): void {
    this.#at += run.bytes;
    const last = this.#runs.at(-1);
    if (last?.status === run.status) last.bytes += run.bytes;
    else this.#runs.push({ bytes: run.bytes, status: run.status });
  }
}

/** Bytes of reply that one context may take. */
export function statusBytesMax(headers: HeaderKind): number {
  return STATUS_RUNS_MAX * (headers === 'extended' ? 16 : 8);
}
