/**
 * CRC-32C (Castagnoli), as in iSCSI and ext4. `fast-crc32c` uses the processor's instruction when its native
 * part could be built and JavaScript otherwise; which one it is matters for speed, so programs log it.
 */
import { createRequire } from 'node:module';
import { invariant } from './invariant.js';

interface Crc32cModule {
  readonly calculate: (bytes: Buffer, initial?: number) => number;
}

const require = createRequire(import.meta.url);
const { calculate } = require('fast-crc32c') as Crc32cModule; // a CommonJS module without types

/** The checksum of `bytes`, continuing from `initial` (a checksum of what came before). Unsigned 32 bit. */
export const crc32c: (bytes: Buffer, initial?: number) => number = calculate;

/** `sse4.2` when the processor's instruction is used, else `javascript`. */
export const crc32cImplementation: 'sse4.2' | 'javascript' = calculate
  .toString()
  .includes('[native code]')
  ? 'sse4.2'
  : 'javascript';

// RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and rising; and the same in two steps.
const RISING = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
invariant(crc32c(Buffer.alloc(32)) === 0x8a9136aa, 'CRC-32C of zeros');
invariant(crc32c(Buffer.alloc(32, 0xff)) === 0x62a8ab43, 'CRC-32C of ones');
invariant(crc32c(RISING) === 0x46dd794e, 'CRC-32C of rising bytes');
invariant(
  crc32c(RISING.subarray(7), crc32c(RISING.subarray(0, 7))) === 0x46dd794e,
  'CRC-32C in two steps',
);
