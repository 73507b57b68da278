/**
 * Why nobody could work with `name`, as the end of a sentence; null: one can. 1 to `bytesMax` bytes of UTF-8 without
 * control characters, and no space at either end: who reads a list of names must see what stands there.
 */
export function nameProblem(name: string, bytesMax: number): string | null {
  const bytes = Buffer.from(name);
  if (bytes.length === 0) return 'is empty';
  if (bytes.length > bytesMax) return `has ${bytes.length} bytes; ${bytesMax} are allowed`;
  // Half of a surrogate pair does not survive the way to UTF-8 and back.
  if (bytes.toString() !== name) return 'is not valid UTF-8';
  if (/\p{Cc}/u.test(name)) return 'contains a control character';
  if (name.trim() !== name) return 'begins or ends with a space';
  return null;
}
