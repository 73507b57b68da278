import { StoreError } from '../util/errors.js';
import { IMAGE_NAME_BYTES_MAX, POOL_NAME_BYTES_MAX } from '../util/limits.js';
import { isDataKey } from './striping.js';

/**
 * Checks that `name` can be an image's name: 1 to 255 bytes of UTF-8 without control characters; no `@`, which
 * separates a snapshot's name; no `-` in front, which a command line takes for a flag; no space at either end,
 * which nobody sees; and nothing that reads like the key of an image's data, because both live in one pool.
 * Slashes and dots are allowed: a name is never a path.
 * @throws StoreError `E_INVALID` saying which of these it breaks
 */
export function checkImageName(name: string): void {
  checkName('image', name, IMAGE_NAME_BYTES_MAX);
  if (name.includes('@')) throw refusal('image', name, "contains '@', which names a snapshot");
  if (isDataKey(name)) throw refusal('image', name, "looks like the key of an image's data");
}

/**
 * Checks that `name` can be a pool's name: as {@link checkImageName}, up to 128 bytes.
 * @throws StoreError `E_INVALID`
 */
export function checkPoolName(name: string): void {
  checkName('pool', name, POOL_NAME_BYTES_MAX);
}

function checkName(what: string, name: string, bytesMax: number): void {
  const bytes = Buffer.from(name);
  if (bytes.length === 0) throw new StoreError('E_INVALID', `The ${what} name is empty`);
  if (bytes.length > bytesMax)
    throw refusal(what, name, `has ${bytes.length} bytes; ${bytesMax} are allowed`);
  // Half of a surrogate pair does not survive the way to UTF-8 and back.
  if (bytes.toString() !== name) throw refusal(what, name, 'is not valid UTF-8');
  if (/\p{Cc}/u.test(name)) throw refusal(what, name, 'contains a control character');
  if (name.startsWith('-')) throw refusal(what, name, "begins with '-'");
  if (name.trim() !== name) throw refusal(what, name, 'begins or ends with a space');
}

function refusal(what: string, name: string, why: string): StoreError {
  const shown = JSON.stringify(name.length > 60 ? `${name.slice(0, 57)}...` : name);
  return new StoreError('E_INVALID', `The ${what} name ${shown} ${why}`);
}
