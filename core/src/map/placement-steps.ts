/**
 * A long computation in steps. Whoever runs it decides whether anything else may happen between two of them; what comes
 * out is the same.
 */
import type { Env } from '../env/env.js';

/** Each `yield` ends a step, which takes far less than a millisecond but for large pools. */
export type Steps<T> = Generator<undefined, T, undefined>;

/** All steps at once. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/**
 * Gives way to others after each slice of steps.
 * @param sliceMs - How long others wait at most, plus one step.
 */
export async function finishInSlices<T>(
  { clock, timers }: Pick<Env, 'clock' | 'timers'>,
  steps: Steps<T>,
  sliceMs: number,
): Promise<T> {
  for (let endMs = clock.now() + sliceMs; ;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    if (clock.now() < endMs) continue;
    await timers.sleep(0);
    endMs = clock.now() + sliceMs;
  }
}
