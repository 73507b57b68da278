import { parseSize, StoreError, WEIGHT_MAX } from '@store/core';

const MIB: number = 1024 * 1024;

/**
 * The weight of a daemon as people give it: a number; a size (`500G`), which weighs as much as so much capacity; or
 * `auto`, which is null: by its capacity.
 * @throws StoreError `E_INVALID`
 */
export function parseWeight(text: string): number | null {
  if (text === 'auto') return null;
  const isNumber = /^\d+$/.test(text);
  const weight = isNumber ? Number(text) : Math.floor(sizeOf(text) / MIB);
  if (weight > WEIGHT_MAX)
    throw new StoreError('E_INVALID', `A weight is at most ${WEIGHT_MAX} (MiB), not ${text}`);
  if (weight === 0 && !isNumber)
    throw new StoreError(
      'E_INVALID',
      `${text} is less than 1 MiB; a daemon of weight 0 gets nothing`,
    );
  return weight;
}

function sizeOf(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw new StoreError(
      'E_INVALID',
      `'${text}' is not a weight: write a number, a size like 500G, or auto`,
      { cause: error },
    );
  }
}
