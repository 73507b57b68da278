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
  /** Of the reserve, what is left to changes that others have made already. */
  #slack = 0;
  #checkedAt = -Infinity;

  constructor(disk: Disk, clock: Clock) {
    this.#disk = disk;
    this.#clock = clock;
  }

  /**
   * May `bytes` more be allocated? Counts them if so.
   * @param isApplied - for a change of another member: what it has answered has to be made here too, so it may have half
   * of the reserve
   */
  admit(bytes: number, isApplied = false): boolean {
    const now = this.#clock.now();
    if (bytes > this.#allowance || now - this.#checkedAt >= RECHECK_MS) this.#check(now);
    if (bytes > this.#allowance + (isApplied ? this.#slack : 0)) return false;
    this.#allowance -= bytes;
    return true;
  }

  /** Only what others have made already is admitted. */
  get isFull(): boolean {
    const now = this.#clock.now();
    if (now - this.#checkedAt >= RECHECK_MS) this.#check(now);
    return this.#allowance <= 0;
  }

  #check(now: number): void {
    const { totalBytes, freeBytes } = this.#disk.space();
    const reserve = reserveBytes(totalBytes);
    this.#allowance = freeBytes - reserve;
    this.#slack = reserve / 2;
    this.#checkedAt = now;
  }
}

/** 1 % of the disk and at least 256 MiB, but never more than an eighth: tiny disks are for tests, and work. */
export function reserveBytes(totalBytes: number): number {
  return Math.min(Math.max(totalBytes / 100, RESERVE_BYTES), totalBytes / 8);
}
