/**
 * How much a daemon is wanted for a group: weighted rendezvous hashing, in integers, so that every machine and every
 * JavaScript engine computes the same.
 *
 * For a hash that is uniform in (0, 1], `-ln(u) / w` is exponentially distributed with rate `w`. The least of several
 * such numbers is that of daemon d with probability `w(d) / sum of w`, whatever the others are; and the order of the
 * rest is what would come if d were not there. So the daemons in ascending order of it are the weighted rendezvous
 * order: weights are met, and who comes or goes changes no order among the others. A logarithm to base 2 differs by a
 * factor that all have in common. Here `u` is `(hash + 1) / 2^32`, and
 *
 *     score = floor((32 - log2(hash + 1)) * 2^24 * 2^23 / weight)
 *
 * with the logarithm to 24 binary digits, by repeated squaring. All steps are on whole numbers below 2^53; a division
 * of such is exact after `Math.floor`, because the quotient differs from the next whole number by more than it is
 * rounded. Equal scores are decided by the smaller id.
 * @see Schindelhauer & Schomaker, "Weighted Distributed Hash Tables", SPAA 2005
 */

/** Digits of the logarithm after the point. */
const LOG_BITS = 24;
const MANTISSA_BITS = 26;
const MANTISSA_ONE: number = 2 ** (MANTISSA_BITS - 1);
const SQUARE_TWO: number = 2 * MANTISSA_ONE * MANTISSA_ONE;
/** Powers of two: to multiply by them is exact, and quicker than to divide. */
const UNIT: number = 1 / MANTISSA_ONE;
const HALF_UNIT: number = UNIT / 2;
/** The largest that keeps the dividend below 2^53. */
const SCALE: number = 2 ** 23;
const SEED = 0x706c6163;

/** The last steps of MurmurHash3 x86_32: each bit of the result depends on each of `word`. Signed 32 bit. */
function mix(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** Of a group, for {@link placementScore}: unlike for groups of one number in different pools. */
export function groupSeed(pool: number, group: number): number {
  return mix(mix(pool ^ SEED) ^ Math.imul(group + 1, 0x9e3779b1));
}

/** What chance says about a daemon and a group: unsigned 32 bit. */
export function placementHash(seed: number, daemon: number): number {
  return mix(mix(Math.imul(daemon, 0x85ebca77) ^ seed) ^ daemon) >>> 0;
}

/**
 * The score of a daemon for a group: the least is wanted most. It falls as hash or weight grow, or stays the same.
 * @param hash - {@link placementHash}
 * @param weight - 1 to 2^32 - 1.
 * @returns whole number below 2^53
 */
export function scoreOfHash(hash: number, weight: number): number {
  return Math.floor((negativeLog2(hash + 1) * SCALE) / weight);
}

/** As {@link scoreOfHash}, of a daemon's id and a {@link groupSeed}. */
export function placementScore(seed: number, daemon: number, weight: number): number {
  return scoreOfHash(placementHash(seed, daemon), weight);
}

/**
 * `(32 - log2(value)) * 2^24`, at most a few units too large.
 * @param value - Whole, 1 to 2^32.
 */
export function negativeLog2(value: number): number {
  if (value >= 2 ** 32) return 0;
  let digits = 31 - Math.clz32(value);
  let mantissa = Math.floor(value * 2 ** (MANTISSA_BITS - 1 - digits));
  for (let bit = 0; bit < LOG_BITS; bit += 1) {
    // As a fixed-point number the mantissa is in [1, 2): if its square is 2 or more, the next digit is 1.
    const square = mantissa * mantissa;
    const one = square >= SQUARE_TWO;
    digits = digits * 2 + (one ? 1 : 0);
    mantissa = Math.floor(square * (one ? HALF_UNIT : UNIT));
  }
  return 32 * 2 ** LOG_BITS - digits;
}
