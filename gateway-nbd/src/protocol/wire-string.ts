import { STRING_BYTES_MAX } from './limits.js';

/** W2: text as the protocol carries it: at most 4096 bytes, cut between characters, and no NUL. */
export function wireString(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('\0', '\ufffd'));
  if (bytes.length <= STRING_BYTES_MAX) return bytes;
  let end = STRING_BYTES_MAX;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
}
