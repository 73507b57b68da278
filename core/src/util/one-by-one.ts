/** Steps that are taken one after the other, and may each be over before it returns or much later. */
import type { Done, StoreError } from './errors.js';

/**
 * Takes `step` for each number below `count`; the next one begins when `next` is called, and an error ends it. Steps that
 * are over at once do not nest, so there may be any number of them.
 */
export function oneByOne(
  count: number,
  step: (index: number, next: Done) => void,
  done: Done,
): void {
  let index = 0;
  let isRunning = false;
  let isOver = true;
  const next = (error: StoreError | null): void => {
    if (error !== null) {
      done(error);
      return;
    }
    isOver = true;
    if (isRunning) return;
    isRunning = true;
    while (isOver) {
      if (index === count) {
        done(null);
        return;
      }
      isOver = false;
      index += 1;
      step(index - 1, next);
    }
    isRunning = false;
  };
  next(null);
}
