/**
 * How many copies each daemon should hold: its part by weight, as far as that can be. No failure domain holds more than
 * one copy of a group, so a heavy one is given all groups and no more, and the others share what is left (water-filling).
 */
import { invariant } from '../util/invariant.js';
import { REPLICAS_MAX } from './map-limits.js';

/**
 * One copy, as a fixed-point number: the least common multiple of 1 to 16, so that it divides evenly among the members
 * of a group.
 */
export const COPY = 720_720;
/** Weights are scaled so that their sum is about this at most: all products stay below 2^53. */
const WEIGHTS_SUM: number = 2 ** 32;

for (let parts = 1; parts <= REPLICAS_MAX; parts += 1)
  invariant(COPY % parts === 0, 'a copy divides among the members of a group');

/** A daemon that may hold copies. */
export interface Bearer {
  /** Number of its failure domain, from 0 on. */
  readonly domain: number;
  /** 1 to 2^32 - 1. */
  readonly weight: number;
}

/**
 * @param groups - Up to 65,536.
 * @param replicas - Up to 16; with fewer domains than that, groups have a copy in each.
 * @returns for each bearer its share, in units of {@link COPY}, rounded down
 */
export function sharesOf(
  groups: number,
  replicas: number,
  bearers: readonly Bearer[],
  domains: number,
): Float64Array {
  const weights = scaled(bearers.map(({ weight }) => weight));
  const sums = new Float64Array(domains);
  bearers.forEach(({ domain }, index) => {
    sums[domain] = (sums[domain] ?? 0) + (weights[index] ?? 0);
  });
  const isFull = new Uint8Array(domains);
  let left = Math.min(replicas, domains);
  let weightLeft = sums.reduce((sum, weight) => sum + weight, 0);
  for (const domain of [...sums.keys()].sort((a, b) => (sums[b] ?? 0) - (sums[a] ?? 0))) {
    const weight = sums[domain] ?? 0;
    if (left === 0 || weight * left < weightLeft) break;
    isFull[domain] = 1;
    left -= 1;
    weightLeft -= weight;
  }
  return Float64Array.from(bearers, ({ domain }, index) => {
    const weight = weights[index] ?? 0;
    return isFull[domain] === 1
      ? part(groups, weight, sums[domain] ?? 0)
      : part(groups * left, weight, weightLeft);
  });
}

/** `share * copies / allCopies` for whole numbers, rounded down; `share` is at most `allCopies` copies. */
export function portion(share: number, copies: number, allCopies: number): number {
  const whole = Math.floor(share / allCopies);
  return whole * copies + Math.floor(((share - whole * allCopies) * copies) / allCopies);
}

/** `copies * weight / sum`, in units of COPY. */
function part(copies: number, weight: number, sum: number): number {
  const product = copies * weight;
  const whole = Math.floor(product / sum);
  return whole * COPY + Math.floor(((product - whole * sum) * COPY) / sum);
}

function scaled(weights: readonly number[]): number[] {
  const sum = weights.reduce((all, weight) => all + weight, 0);
  let unit = 1;
  while (sum / unit > WEIGHTS_SUM) unit *= 2;
  return weights.map((weight) => Math.ceil(weight / unit));
}
