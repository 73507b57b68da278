/**
 * What may be on a device, given what was written to it and answered. Each 4 KiB block has a list of
 * versions, the oldest still possible first. Writes to one block never overlap in time (the writer sees to
 * it), so the list is in order.
 *
 * After a crash of the server alone, a block is its last answered version or a later, unanswered one, whole.
 * After a power cut each 512-byte sector on its own is any version since the last one known to be durable.
 */
import { describeSector, SECTOR_BYTES } from './sector-tag.js';

export const BLOCK_BYTES = 4096;
const SECTORS = BLOCK_BYTES / SECTOR_BYTES;

/** The kinds of crash a device can go through. */
export type Crash = 'process' | 'power';

/** What had been answered when a flush was sent. */
export type FlushPoint = ReadonlyMap<number, number>;

interface BlockVersions {
  /** Contents, oldest first; never empty. */
  contents: Buffer[];
  /** Number of `contents[0]`; numbers only grow. */
  first: number;
  /** Number of the last answered version. */
  answered: number;
  /** For each sector the number of the oldest version a power cut may bring back. */
  readonly floors: number[];
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

export class DeviceHistory {
  readonly blocks: number;
  readonly #versions = new Map<number, BlockVersions>();
  /** Blocks with an answered version that no flush covers yet. */
  readonly #dirty = new Set<number>();

  /** A device full of zeros. */
  constructor(blocks: number) {
    this.blocks = blocks;
  }

  /** The content of a block if only one is possible now, else null. Not to be changed. */
  content(block: number): Buffer | null {
    const versions = this.#versions.get(block);
    if (versions === undefined) return ZEROS;
    return versions.answered === last(versions) ? (versions.contents.at(-1) ?? null) : null;
  }

  /** A write of this content was sent. @returns The number to give to {@link answered} */
  sent(block: number, content: Buffer): number {
    const versions = this.#versionsOf(block);
    versions.contents.push(content);
    return last(versions);
  }

  /**
   * The write was answered. `durable` sectors (FUA) survive a power cut from now on.
   * @param durable - First sector and one past the last, within the block.
   */
  answered(block: number, version: number, durable?: readonly [number, number]): void {
    const versions = this.#versionsOf(block);
    versions.answered = Math.max(versions.answered, version);
    this.#dirty.add(block);
    if (durable === undefined) return;
    for (let sector = durable[0]; sector < durable[1]; sector++)
      versions.floors[sector] = Math.max(versions.floors[sector] ?? 0, version);
    forget(versions);
  }

  /** What a flush sent now will cover. */
  flushPoint(): FlushPoint {
    const point = new Map<number, number>();
    for (const block of this.#dirty) point.set(block, this.#versionsOf(block).answered);
    return point;
  }

  /** The flush was answered. */
  flushed(point: FlushPoint): void {
    for (const [block, version] of point) {
      const versions = this.#versionsOf(block);
      for (let sector = 0; sector < SECTORS; sector++)
        versions.floors[sector] = Math.max(versions.floors[sector] ?? 0, version);
      forget(versions);
      if (versions.answered === version) this.#dirty.delete(block);
    }
  }

  /** Compares what was read while the server runs. @returns Why it is wrong, or null */
  problemOf(block: number, bytes: Buffer): string | null {
    const versions = this.#versions.get(block);
    if (versions === undefined) return bytes.equals(ZEROS) ? null : wrong(block, bytes, [ZEROS]);
    const possible = versions.contents.slice(versions.answered - versions.first);
    return possible.some((content) => content.equals(bytes)) ? null : wrong(block, bytes, possible);
  }

  /**
   * Compares what a block holds after a crash, and takes it as what the block is from now on.
   * @returns Why it is wrong, or null
   */
  recover(block: number, bytes: Buffer, crash: Crash): string | null {
    const versions = this.#versions.get(block);
    if (versions === undefined || crash === 'process') {
      const problem = this.problemOf(block, bytes);
      if (problem === null && versions !== undefined) truncate(versions, bytes);
      return problem;
    }
    for (let sector = 0; sector < SECTORS; sector++) {
      const at = sector * SECTOR_BYTES;
      const found = bytes.subarray(at, at + SECTOR_BYTES);
      const floor = (versions.floors[sector] ?? 0) - versions.first;
      const possible = versions.contents.slice(floor);
      if (!possible.some((content) => content.subarray(at, at + SECTOR_BYTES).equals(found)))
        return wrong(block, bytes, possible, sector);
    }
    this.#versions.set(block, settled(bytes, last(versions)));
    this.#dirty.delete(block);
    return null;
  }

  #versionsOf(block: number): BlockVersions {
    let versions = this.#versions.get(block);
    if (versions === undefined) {
      versions = settled(ZEROS, 0);
      this.#versions.set(block, versions);
    }
    return versions;
  }
}

function settled(content: Buffer, number: number): BlockVersions {
  const floors = Array.from({ length: SECTORS }, () => number);
  return { contents: [Buffer.from(content)], first: number, answered: number, floors };
}

function last(versions: BlockVersions): number {
  return versions.first + versions.contents.length - 1;
}

/** Drops what neither a crash nor a power cut can bring back. */
function forget(versions: BlockVersions): void {
  const keep = Math.min(versions.answered, ...versions.floors);
  versions.contents.splice(0, keep - versions.first);
  versions.first = keep;
}

/** A version that was not answered before a crash either happened or never will. */
function truncate(versions: BlockVersions, bytes: Buffer): void {
  const from = versions.answered - versions.first;
  const index = versions.contents.findIndex((content, at) => at >= from && content.equals(bytes));
  versions.contents.length = index + 1;
  versions.answered = versions.first + index;
}

function wrong(block: number, bytes: Buffer, possible: readonly Buffer[], sector?: number): string {
  const at = sector ?? firstWrongSector(bytes, possible);
  const cut = (content: Buffer): Buffer =>
    content.subarray(at * SECTOR_BYTES, (at + 1) * SECTOR_BYTES);
  const expected = possible.map((content) => describeSector(cut(content)));
  return (
    `block ${block}, sector ${block * SECTORS + at} holds ${describeSector(cut(bytes))}; ` +
    `possible: ${[...new Set(expected)].join(' | ')}`
  );
}

/** The first sector that is in none of the versions; if each is in some, the block is a mixture. */
function firstWrongSector(bytes: Buffer, possible: readonly Buffer[]): number {
  for (let sector = 0; sector < SECTORS; sector++) {
    const at = sector * SECTOR_BYTES;
    const found = bytes.subarray(at, at + SECTOR_BYTES);
    if (!possible.some((content) => content.subarray(at, at + SECTOR_BYTES).equals(found)))
      return sector;
  }
  return 0;
}
