/**
 * CRC-32C (Castagnoli), as in iSCSI and ext4. `fast-crc32c` uses the processor's instruction when its native part
 * could be built and JavaScript otherwise. Where Intel's ISA-L is installed it does the long ones: it keeps three
 * instructions in flight (measured here: 22 against 8 GB/s, and half the time for a block of 4 KiB). Which of them is
 * active matters for speed, so programs log it.
 */
import { createRequire } from 'node:module';
import { invariant } from './invariant.js';
import { addressOf, loadLibrary } from './native-library.js';

interface Crc32cModule {
  readonly calculate: (bytes: Buffer, initial?: number) => number;
}

/** `initial` and the result are not inverted. */
type IsalCrc = (address: number, bytes: number, initial: number) => number;

/** Below this the call costs more than it saves. */
const ISAL_BYTES_MIN = 1024;

const require = createRequire(import.meta.url);
const { calculate } = require('fast-crc32c') as Crc32cModule; // a CommonJS module without types
const isal = loadIsal();

/** What computes checksums: `isa-l`, the processor's instruction one at a time (`sse4.2`), or `javascript`. */
export const crc32cImplementation: 'isa-l' | 'sse4.2' | 'javascript' =
  isal !== null
    ? 'isa-l'
    : calculate.toString().includes('[native code]')
      ? 'sse4.2'
      : 'javascript';

/** The checksum of `bytes`, continuing from `initial` (a checksum of what came before). Unsigned 32 bit. */
export function crc32c(bytes: Buffer, initial = 0): number {
  if (isal === null || bytes.length < ISAL_BYTES_MIN) return calculate(bytes, initial);
  return ~isal(addressOf(bytes), bytes.length, ~initial >>> 0) >>> 0;
}

/**
 * The checksum of `bytes[start, end)`, continuing from `initial`: as of a `subarray`, without making one where that can
 * be avoided.
 */
export function crc32cOf(bytes: Buffer, start: number, end: number, initial = 0): number {
  const isLong = end - start >= ISAL_BYTES_MIN;
  if (isal === null || !isLong) {
    const isAll = start === 0 && end === bytes.length;
    return calculate(isAll ? bytes : bytes.subarray(start, end), initial);
  }
  return ~isal(addressOf(bytes) + start, end - start, ~initial >>> 0) >>> 0;
}

function loadIsal(): IsalCrc | null {
  const library = loadLibrary('libisal.so.2');
  if (library === null) return null;
  // koffi has no types for functions made from a declaration; this is its
  return library.func('uint32_t crc32_iscsi(uint64_t, int, uint32_t)');
}

// RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and rising; and the same in two steps.
const RISING = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
invariant(crc32c(Buffer.alloc(32)) === 0x8a9136aa, 'CRC-32C of zeros');
invariant(crc32c(Buffer.alloc(32, 0xff)) === 0x62a8ab43, 'CRC-32C of ones');
invariant(crc32c(RISING) === 0x46dd794e, 'CRC-32C of rising bytes');
invariant(
  crc32c(RISING.subarray(7), crc32c(RISING.subarray(0, 7))) === 0x46dd794e,
  'CRC-32C in two steps',
);
// Whoever computes the long ones must agree with who computes the short ones.
const LONG = Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 31) & 0xff));
const EXPECTED = calculate(LONG);
invariant(crc32c(LONG) === EXPECTED, 'CRC-32C of a long buffer');
invariant(crc32cOf(LONG, 0, LONG.length) === EXPECTED, 'CRC-32C of a range');
invariant(
  crc32c(LONG.subarray(2345), crc32c(LONG.subarray(0, 2345))) === EXPECTED,
  'CRC-32C of a long buffer in two steps',
);
invariant(
  crc32cOf(LONG, 2345, LONG.length, crc32cOf(LONG, 0, 2345)) === EXPECTED,
  'CRC-32C of two ranges',
);
