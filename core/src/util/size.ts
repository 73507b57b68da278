import { StoreError } from './errors.js';

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'] as const;

/**
 * Reads a size as people write it: `100M`, `4GiB`, `1.5T`, `4096`. Units are powers of 1024.
 * @returns Whole bytes, at most 2^53-1.
 * @throws StoreError `E_INVALID`
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text.trim());
  const bytes =
    match === null
      ? NaN
      : Number(match[1]) * 1024 ** UNITS.findIndex((unit) => unit === match[2]?.toUpperCase());
  if (bytes > Number.MAX_SAFE_INTEGER)
    throw new StoreError('E_INVALID', `'${text}' is too large; sizes go up to 8191T`);
  if (!Number.isSafeInteger(bytes))
    throw new StoreError(
      'E_INVALID',
      `'${text}' is not a size; write for example 100M, 4GiB or 1T`,
    );
  return bytes;
}

/** Writes a size for people: the largest unit that keeps it at least 1, with at most two decimals. */
export function formatSize(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = Number.isInteger(value) ? 0 : 2;
  return unit === 0 ? `${bytes} B` : `${value.toFixed(digits)} ${UNITS[unit] ?? ''}iB`;
}
