import { BLOCK_BYTES } from '../util/limits.js';
import {
  BLOCK_STATE,
  WRITE_FLAGS,
  type BlockState,
  type ObjectKind,
  type ObjectStat,
} from './object-pool.js';

/** One object: a block index is in `data`, in `zeros`, or absent. */
export class MemObject {
  kind: ObjectKind;
  length = 0;
  version = 0;
  readonly data = new Map<number, Buffer>();
  /** The value is true where space is kept reserved. */
  readonly zeros = new Map<number, boolean>();

  constructor(kind: ObjectKind) {
    this.kind = kind;
  }

  stateOf(block: number): BlockState {
    if (this.data.has(block)) return BLOCK_STATE.data;
    return this.zeros.has(block) ? BLOCK_STATE.zero : BLOCK_STATE.absent;
  }

  /** The bytes of a block for changing, zeros if it held none. */
  writable(block: number): Buffer {
    let bytes = this.data.get(block);
    if (bytes === undefined) {
      bytes = Buffer.alloc(BLOCK_BYTES);
      this.data.set(block, bytes);
      this.zeros.delete(block);
    }
    return bytes;
  }

  zero(block: number, start: number, end: number, flags: number): void {
    const layered = (flags & WRITE_FLAGS.layered) !== 0;
    const allocate = (flags & WRITE_FLAGS.allocate) !== 0;
    if (start === 0 && end === BLOCK_BYTES) {
      this.data.delete(block);
      if (layered || allocate) this.zeros.set(block, allocate);
      else this.zeros.delete(block);
      return;
    }
    const state = this.stateOf(block);
    if (state === BLOCK_STATE.data || (state === BLOCK_STATE.absent && (layered || allocate)))
      this.writable(block).fill(0, start, end);
    else if (state === BLOCK_STATE.zero && allocate) this.zeros.set(block, true);
  }

  stat(): ObjectStat {
    let blocks = this.data.size;
    for (const reserved of this.zeros.values()) if (reserved) blocks += 1;
    const { kind, length, version } = this;
    return { kind, length, version, allocatedBytes: blocks * BLOCK_BYTES };
  }
}

/** Cuts a range into blocks: `[start, end)` within each block, `at` from the start of the range. */
export function eachBlock(
  offset: number,
  bytes: number,
  visit: (block: number, start: number, end: number, at: number) => void,
): void {
  let at = 0;
  while (at < bytes) {
    const start = (offset + at) % BLOCK_BYTES;
    const end = Math.min(BLOCK_BYTES, start + bytes - at);
    visit((offset + at - start) / BLOCK_BYTES, start, end, at);
    at += end - start;
  }
}
