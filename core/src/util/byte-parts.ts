/** Bytes in several buffers, one after the other: what arrives from a socket, before anybody copies it. */
export type ByteParts = readonly Buffer[];

export function partsBytes(parts: ByteParts): number {
  let bytes = 0;
  for (const part of parts) bytes += part.length;
  return bytes;
}

/** Views of bytes `[from, from + bytes)`; nothing is copied. */
export function sliceParts(parts: ByteParts, from: number, bytes: number): Buffer[] {
  const out: Buffer[] = [];
  let skip = from;
  let left = bytes;
  for (const part of parts) {
    if (left === 0) break;
    if (skip >= part.length) {
      skip -= part.length;
      continue;
    }
    const slice = part.subarray(skip, Math.min(part.length, skip + left));
    out.push(slice);
    left -= slice.length;
    skip = 0;
  }
  return out;
}

/** Copies bytes `[from, from + bytes)` into `target` at `at`. */
export function copyParts(
  parts: ByteParts,
  from: number,
  bytes: number,
  target: Buffer,
  at: number,
): void {
  let offset = at;
  for (const slice of sliceParts(parts, from, bytes)) offset += slice.copy(target, offset);
}
