import { IMAGE_NAME_BYTES_MAX } from '../util/limits.js';
import { checkName, nameRefusal } from '../util/pool-name.js';
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
  if (name.includes('@')) throw nameRefusal('image', name, "contains '@', which names a snapshot");
  if (isDataKey(name)) throw nameRefusal('image', name, "looks like the key of an image's data");
}
