import { StoreError } from './errors.js';
import { POOL_NAME_BYTES_MAX } from './limits.js';
import { nameProblem } from './name-problem.js';

/**
 * Checks that `name` can be a pool's name: 1 to 128 bytes of UTF-8 without control characters; no `-` in front, which
 * a command line takes for a flag; and no space at either end, which nobody sees.
 * @throws StoreError `E_INVALID`
 */
export function checkPoolName(name: string): void {
  checkName('pool', name, POOL_NAME_BYTES_MAX);
}

/**
 * Checks what the names of all things that people name on a command line have in common.
 * @param what - For messages: `pool`.
 * @throws StoreError `E_INVALID`
 */
export function checkName(what: string, name: string, bytesMax: number): void {
  if (name === '') throw new StoreError('E_INVALID', `The ${what} name is empty`);
  const problem = nameProblem(name, bytesMax);
  if (problem !== null) throw nameRefusal(what, name, problem);
  if (name.startsWith('-')) throw nameRefusal(what, name, "begins with '-'");
}

/** The error that says why a name is refused; it shows at most the first 60 characters of it. */
export function nameRefusal(what: string, name: string, why: string): StoreError {
  const shown = JSON.stringify(name.length > 60 ? `${name.slice(0, 57)}...` : name);
  return new StoreError('E_INVALID', `The ${what} name ${shown} ${why}`);
}
