/**
 * MurmurHash3 x86_32 (Austin Appleby, public domain algorithm).
 * @returns unsigned 32 bit
 */
export function murmur3(bytes: Buffer, seed: number): number {
  let hash = seed;
  const whole = bytes.length & ~3;
  for (let at = 0; at < whole; at += 4)
    hash = (Math.imul(rotate(hash ^ scramble(bytes.readInt32LE(at)), 13), 5) + 0xe6546b64) | 0;
  let rest = 0;
  for (let at = bytes.length - 1; at >= whole; at -= 1) rest = (rest << 8) | (bytes[at] ?? 0);
  hash ^= scramble(rest);
  hash ^= bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function scramble(word: number): number {
  return Math.imul(rotate(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

const SEED_HIGH = 0x73746f72;
const SEED_LOW = 0x6c6f6361;

/** Two unsigned 32-bit halves. */
export interface LocatorHash {
  readonly high: number;
  readonly low: number;
}

/**
 * Where a locator belongs: 64 bits, of which the top ones are the group. Stored on disk and agreed on by
 * every machine, so it never changes.
 */
export function locatorHash(locator: Buffer): LocatorHash {
  return { high: murmur3(locator, SEED_HIGH), low: murmur3(locator, SEED_LOW) };
}
