/** Memory that replies are cut from. */
export interface Slab {
  readonly memory: Buffer;
  /** How much of it has been cut. */
  cutBytes: number;
  /** Pieces that were cut and have not left. */
  live: number;
  /** Something may still write to a piece that never leaves: its memory must not be used again. */
  isSpoiled: boolean;
}

/**
 * Room for one answer, or a piece of one: bytes `[at, at + bytes)` of `memory`. Headers are written in place, so that
 * an answer costs no view of its own.
 */
export class Reply {
  readonly memory: Buffer;
  readonly at: number;
  readonly bytes: number;
  /** Where it was cut from; null if the memory is its own. */
  readonly slab: Slab | null;

  constructor(memory: Buffer, at: number, bytes: number, slab: Slab | null) {
    this.memory = memory;
    this.at = at;
    this.bytes = bytes;
    this.slab = slab;
  }

  /** Its bytes from `from` on. */
  view(from = 0): Buffer {
    return this.memory.subarray(this.at + from, this.at + this.bytes);
  }
}
