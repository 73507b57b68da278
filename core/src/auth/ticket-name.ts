import { POOL_NAME_BYTES_MAX } from '../util/limits.js';
import { nameProblem } from '../util/name-problem.js';

/** As long as a pool's name may be; a ticket counts both in a byte. */
export const CLIENT_NAME_BYTES_MAX: number = POOL_NAME_BYTES_MAX;

/**
 * Why `name` cannot be a client's or a pool's in secrets, tickets and blocklists, as the end of a sentence; null: it
 * can. See {@link nameProblem}; at most 128 bytes.
 */
export function ticketNameProblem(name: string): string | null {
  return nameProblem(name, CLIENT_NAME_BYTES_MAX);
}
