/** Waits of tests, all with an end. */
import { realTimers } from '@store/core';

export function sleep(ms: number): Promise<void> {
  return realTimers.sleep(ms);
}

/** @throws Error if `condition` does not hold within `ms` */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = 30_000,
): Promise<void> {
  const giveUp = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > giveUp) throw new Error(`it never happened: ${what}`);
    await sleep(2);
  }
}
