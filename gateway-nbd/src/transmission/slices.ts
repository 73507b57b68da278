import type { Done } from '@store/core';

/** Does one piece of a long operation. */
export type SliceStep = (offset: number, bytes: number, done: Done) => void;

/**
 * Runs a long operation piece by piece, one at a time, each ending on a multiple of `sliceBytes`; so no client can
 * hand the backend a terabyte at once, and whole objects stay whole. Stops at the first error.
 * @param given - Asked before each piece; true ends the operation early, without an error.
 */
export function runSliced(
  offset: number,
  bytes: number,
  sliceBytes: number,
  given: () => boolean,
  step: SliceStep,
  done: Done,
): void {
  const end = offset + bytes;
  let at = offset;
  let running = false;
  let failure: Parameters<Done>[0] = null;
  const run = (): void => {
    // A step that answers at once comes back into this loop instead of growing the stack.
    running = true;
    let answered = true;
    while (answered && at < end && !given()) {
      answered = false;
      const from = at;
      at = Math.min(end, (Math.floor(from / sliceBytes) + 1) * sliceBytes);
      step(from, at - from, (error) => {
        answered = true;
        if (error !== null) {
          at = Infinity;
          failure = error;
        }
        if (!running) run();
      });
    }
    running = false;
    if (answered) done(failure);
  };
  run();
}
