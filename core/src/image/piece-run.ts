/**
 * Does one request that spans several objects: a bounded number of pieces at a time, one answer after the last
 * piece has answered, with the first error if there was one. Pieces may answer before the call that starts them
 * returns; the loop then goes on without growing the stack. After an error no further piece is started.
 */
import type { Done, StoreError } from '../util/errors.js';

/** A discard of a terabyte is many pieces; this many at a time keep any disk busy. */
const PIECES_IN_FLIGHT_MAX = 64;

/**
 * @param count - Pieces, at least 1.
 * @param start - Starts piece `index` (rising from 0); calls `done` exactly once.
 */
export function runPieces(
  count: number,
  start: (index: number, done: Done) => void,
  done: Done,
): void {
  let started = 0;
  let inFlight = 0;
  let failure: StoreError | null = null;
  let looping = false;

  const pieceDone: Done = (error) => {
    inFlight -= 1;
    failure ??= error;
    proceed();
  };
  const proceed = (): void => {
    if (looping) return;
    looping = true;
    while (inFlight < PIECES_IN_FLIGHT_MAX && started < count && failure === null) {
      inFlight += 1;
      started += 1;
      start(started - 1, pieceDone);
    }
    looping = false;
    if (inFlight === 0) done(failure);
  };
  proceed();
}
