/** What tells the bytes of two copies apart where their checksums cannot: 64 bits of a hash that nobody writes into a block. */
import { hash } from 'node:crypto';

/** Numbers in a print. */
export const PRINT_NUMBERS = 2;

/** Writes the print of `bytes` into `prints` at `index`, counted in prints. */
export function putPrint(prints: Uint32Array, index: number, bytes: Buffer): void {
  const digest = hash('sha256', bytes, 'buffer');
  prints[index * PRINT_NUMBERS] = digest.readUInt32LE(0);
  prints[index * PRINT_NUMBERS + 1] = digest.readUInt32LE(4);
}

/** Whether two lists have the same print at an index. */
export function samePrint(
  a: Uint32Array,
  b: Uint32Array,
  index: number,
  indexOfB = index,
): boolean {
  const [at, atB] = [index * PRINT_NUMBERS, indexOfB * PRINT_NUMBERS];
  return a[at] === b[atB] && a[at + 1] === b[atB + 1];
}
