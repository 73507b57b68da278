/**
 * What one 4 KiB block may hold: every version it was given, in order, and how far that is promised. A sector is one of
 * the versions since the last flush; after a mere kill, a whole version not older than the last answered one.
 */
import { BLOCK_BYTES } from '@store/core';
import { SECTOR_BYTES } from '@store/core/sim';

const ZEROS = Buffer.alloc(BLOCK_BYTES);

export class BlockHistory {
  #versions: Buffer[] = [ZEROS];
  /** Index of the version that a flush has promised. */
  #flushed = 0;
  /** Index of the newest version that was answered. */
  #answered = 0;
  /** The newest version is a hole: a write that fills only what is absent changes it. */
  isAbsent = true;

  get newest(): Buffer {
    return this.#versions.at(-1) ?? ZEROS;
  }

  get answered(): number {
    return this.#answered;
  }

  /** The next version, issued now. @returns its index */
  issue(bytes: Buffer): number {
    this.#versions.push(bytes);
    return this.#versions.length - 1;
  }

  answer(index: number): void {
    this.#answered = Math.max(this.#answered, index);
  }

  flush(index: number): void {
    this.#flushed = Math.max(this.#flushed, index);
  }

  /** Was it a crash of the process only? Then nothing answered is missing. */
  explainsAfterKill(seen: Buffer): boolean {
    return this.#versions.slice(this.#answered).some((version) => version.equals(seen));
  }

  explainsAfterPowerCut(seen: Buffer): boolean {
    const candidates = this.#versions.slice(this.#flushed);
    for (let at = 0; at < BLOCK_BYTES; at += SECTOR_BYTES) {
      const end = at + SECTOR_BYTES;
      const matches = candidates.some((version) => version.compare(seen, at, end, at, end) === 0);
      if (!matches) return false;
    }
    return true;
  }

  /** Goes on from what was seen. After a power cut that is on the medium; after a kill it may still be lost. */
  observe(seen: Buffer, isOnMedium: boolean): void {
    const copy = Buffer.from(seen);
    if (isOnMedium) {
      this.#versions = [copy];
      this.#flushed = 0;
    } else {
      this.#versions = [...this.#versions.slice(this.#flushed), copy];
      this.#flushed = 0;
    }
    this.#answered = this.#versions.length - 1;
  }
}
