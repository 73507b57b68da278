/**
 * Refuses to allocate while little is free, so that commits and deletes always have room.
 */
import type { Clock, Disk } from '@store/core';

const RESERVE_BYTES = 256 * 1024 * 1024;
const RECHECK_MS = 250;

export class SpaceGuard {
  readonly #disk: Disk;
  readonly #clock: Clock;
  #allowance = 0;
  #checkedAt = -Infinity;

  constructor(disk: Disk, clock: Clock) {
    this.#disk = disk;
    this.#clock = clock;
  }

  /** May `bytes` more be allocated? Counts them if so. */
  admit(bytes: number): boolean {
    const now = this.#clock.now();
    if (bytes > this.#allowance || now - this.#checkedAt >= RECHECK_MS) {
      const { totalBytes, freeBytes } = this.#disk.space();
      this.#allowance = freeBytes - reserveBytes(totalBytes);
      this.#checkedAt = now;
    }
    if (bytes > this.#allowance) return false;
    this.#allowance -= bytes;
    return true;
  }
}

/** 1 % of the disk and at least 256 MiB, but never more than an eighth: tiny disks are for tests, and work. */
export function reserveBytes(totalBytes: number): number {
  return Math.min(Math.max(totalBytes / 100, RESERVE_BYTES), totalBytes / 8);
}
