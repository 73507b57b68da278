import { UsageError } from './usage-error.js';

/** Leaves room for what is put behind it: names of files have up to 255 bytes. */
const NAME_BYTES_MAX = 200;

/**
 * The file that is called after the name of something. Names may be nearly anything; one that could lead to another
 * folder, hide the file or be taken for a flag chooses no place.
 * @param what - For the message: `pool`.
 * @param remedy - For the message: what to do instead.
 * @throws UsageError if the name is not fit for that
 */
export function fileNameOf(what: string, name: string, suffix: string, remedy: string): string {
  const isFit =
    /^[\p{L}\p{N}_][^/\\\p{Cc}]*$/u.test(name) &&
    name.trim() === name &&
    Buffer.byteLength(name) <= NAME_BYTES_MAX;
  if (!isFit)
    throw new UsageError(
      `The name of the ${what}, ${JSON.stringify(name)}, is not fit for the name of a file; ${remedy}`,
    );
  return `${name}${suffix}`;
}
