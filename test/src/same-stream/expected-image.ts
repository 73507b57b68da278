import type { NbdRequest } from '../nbd-client/nbd-client.js';
import { NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../nbd-client/nbd-constants.js';
import { NBD_CMD_FLAG, type StatusExtent } from '../nbd-client/chunk-client.js';

export const BLOCK_BYTES = 4096;
const HOLE = 1;
const ZERO = 2;

/** What a block of an image was made by. */
type Origin = 'nothing' | 'data' | 'reserved';

/** The image as it has to be after the requests that succeeded. A TRIM makes zeros, as our server promises. */
export class ExpectedImage {
  readonly content: Buffer;
  /** For each block. */
  readonly #origins: Origin[];

  constructor(bytes: number) {
    this.content = Buffer.alloc(bytes);
    this.#origins = Array<Origin>(Math.ceil(bytes / BLOCK_BYTES)).fill('nothing');
  }

  /** Takes a request that succeeded. */
  apply(request: NbdRequest): void {
    const offset = Number(request.offset ?? 0);
    if (request.type === NBD_CMD_WRITE && request.payload !== undefined) {
      request.payload.copy(this.content, offset);
      this.#mark(offset, request.payload.length, 'data', { whole: false });
    } else if (request.type === NBD_CMD_TRIM || request.type === NBD_CMD_WRITE_ZEROES) {
      const bytes = request.length ?? 0;
      const keeps = ((request.flags ?? 0) & NBD_CMD_FLAG.NO_HOLE) !== 0;
      this.content.fill(0, offset, offset + bytes);
      if (keeps) this.#mark(offset, bytes, 'reserved', { whole: false });
      else this.#mark(offset, bytes, 'nothing', { whole: true });
    }
  }

  /** What is wrong with a description of the image from `offset` on; null if it may be described so. */
  problemOf(extents: readonly StatusExtent[], request: NbdRequest): string | null {
    const offset = Number(request.offset ?? 0);
    const length = request.length ?? 0;
    const one = ((request.flags ?? 0) & NBD_CMD_FLAG.REQ_ONE) !== 0;
    let at = offset;
    for (const [index, { bytes, status }] of extents.entries()) {
      if (bytes === 0 || (status & ~(HOLE | ZERO)) !== 0) return `extent of ${bytes}: ${status}`;
      if (index > 0 && at >= offset + length) return 'an extent begins past the request';
      const end = Math.min(at + bytes, this.content.length);
      if ((status & ZERO) !== 0 && !isZero(this.content.subarray(at, end)))
        return `bytes ${at} to ${end} are called zeros`;
      at += bytes;
    }
    if (extents.length === 0) return 'no extent';
    if (one && (extents.length > 1 || at > offset + length)) return 'more than REQ_ONE asks for';
    return null;
  }

  /**
   * The status each whole block inside the extents must have: HOLE and ZERO where nothing is, neither where bytes
   * other than 0 are. Blocks for which both are right (zeros that were written, space that was reserved) are left out.
   */
  certainStatus(block: number): number | null {
    const start = block * BLOCK_BYTES;
    const content = this.content.subarray(start, start + BLOCK_BYTES);
    if (!isZero(content)) return 0;
    return this.#origins[block] === 'nothing' ? HOLE | ZERO : null;
  }

  /** @param whole - Only blocks that lie wholly in the range; else all it touches. */
  #mark(offset: number, bytes: number, origin: Origin, { whole }: { whole: boolean }): void {
    if (bytes === 0) return;
    const end = offset + bytes;
    const first = whole ? Math.ceil(offset / BLOCK_BYTES) : Math.floor(offset / BLOCK_BYTES);
    const isToTheEnd = end === this.content.length;
    const last =
      whole && !isToTheEnd ? Math.floor(end / BLOCK_BYTES) : Math.ceil(end / BLOCK_BYTES);
    for (let block = first; block < last; block++) this.#origins[block] = origin;
  }
}

/** The status of each block that lies wholly in the extents; the last block of an image may be a short one. */
export function statusOfBlocks(
  extents: readonly StatusExtent[],
  offset: number,
  imageBytes: number,
): Map<number, number> {
  const found = new Map<number, number>();
  let at = offset;
  const last = extents.reduce((sum, { bytes }) => sum + bytes, offset);
  for (const { bytes, status } of extents) {
    const end = at + bytes;
    for (let block = Math.floor(at / BLOCK_BYTES); block * BLOCK_BYTES < end; block++) {
      const from = block * BLOCK_BYTES;
      const to = Math.min(from + BLOCK_BYTES, imageBytes);
      if (from < offset || to > last) continue;
      // Of a block with two extents the weaker word counts: it is zeros only if both say so.
      found.set(block, (found.get(block) ?? status) & status);
    }
    at = end;
  }
  return found;
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}
