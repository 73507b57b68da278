import { POOL_NAME_BYTES_MAX } from '../util/limits.js';

/** As long as a pool's name may be; a ticket counts both in a byte. */
export const CLIENT_NAME_BYTES_MAX: number = POOL_NAME_BYTES_MAX;

/**
 * Why `name` cannot be a client's or a pool's in secrets, tickets and blocklists, as the end of a sentence; null: it
 * can. 1 to 128 bytes of UTF-8 without control characters, and no space at either end: who reads a list of revoked
 * clients must see what stands there.
 */
export function ticketNameProblem(name: string): string | null {
  const bytes = Buffer.from(name);
  if (bytes.length === 0) return 'is empty';
  if (bytes.length > CLIENT_NAME_BYTES_MAX)
    return `has ${bytes.length} bytes; ${CLIENT_NAME_BYTES_MAX} are allowed`;
  // Half of a surrogate pair does not survive the way to UTF-8 and back.
  if (bytes.toString() !== name) return 'is not valid UTF-8';
  if (/\p{Cc}/u.test(name)) return 'contains a control character';
  if (name.trim() !== name) return 'begins or ends with a space';
  return null;
}
