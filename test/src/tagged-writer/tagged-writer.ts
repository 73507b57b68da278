/**
 * Writes tagged sectors to a device through many requests in flight, in every shape a client can choose
 * (whole blocks, many blocks, parts of a sector, zeroes, trims of whole objects, FUA, flushes), and keeps the
 * history of what was sent and answered. Most requests go to few blocks, so that histories get deep; requests
 * in flight never touch the same block.
 */
import type { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_CMD_FLAG_FUA } from '../nbd-client/nbd-constants.js';
import { ConnectionLost } from '../nbd-client/raw-connection.js';
import { BLOCK_BYTES } from './device-history.js';
import type { Crash, DeviceHistory } from './device-history.js';
import { SECTOR_BYTES, writeSectorTag } from './sector-tag.js';
import type { SeededRandom } from './seeded-random.js';

export interface TaggedWriterOptions {
  readonly history: DeviceHistory;
  readonly random: SeededRandom;
  /** Requests in flight. */
  readonly depth?: number;
}

/** How often a run flushes and uses FUA. */
export type SyncHabit = 'often' | 'rarely' | 'never';

/** An answer that was an error. */
export interface ErrorAnswer {
  readonly request: string;
  readonly error: number;
}

type Shape = 'write' | 'zero' | 'trim' | 'read' | 'flush';

interface Plan {
  readonly shape: Shape;
  readonly offset: number;
  readonly bytes: number;
  readonly fua: boolean;
}

/** Of 100 flushes and FUA flags that could be sent, how many are. */
const SYNC_PERCENT: Readonly<Record<SyncHabit, number>> = { often: 100, rarely: 10, never: 0 };
const HOT_BLOCKS = 96;
const OBJECT_BLOCKS = 1024;
const SHAPES: readonly Shape[] = [
  ...Array<Shape>(80).fill('write'),
  ...Array<Shape>(6).fill('zero'),
  ...Array<Shape>(4).fill('trim'),
  ...Array<Shape>(7).fill('read'),
  ...Array<Shape>(3).fill('flush'),
];

export class TaggedWriter {
  /** Reads that returned what cannot be. */
  readonly problems: string[] = [];
  readonly errors: ErrorAnswer[] = [];
  /** Requests answered without an error. */
  answers = 0;
  flushes = 0;
  /** The longest that a request waited for its answer, ms; may be set to 0. */
  longestMs = 0;
  readonly #history: DeviceHistory;
  readonly #random: SeededRandom;
  readonly #depth: number;
  readonly #hot: number[];
  readonly #busy = new Set<number>();
  #version = 0;
  #stopped = false;
  #syncPercent = 100;

  constructor({ history, random, depth = 16 }: TaggedWriterOptions) {
    this.#history = history;
    this.#random = random;
    this.#depth = depth;
    this.#hot = Array.from({ length: HOT_BLOCKS }, () => random.below(history.blocks));
  }

  /** Keeps writing until {@link stop} is called or the connection is lost; then all is answered or will never be. */
  async run(client: NbdClient, habit: SyncHabit = 'often'): Promise<void> {
    this.#syncPercent = SYNC_PERCENT[habit];
    this.#stopped = false;
    this.#busy.clear();
    await Promise.all(Array.from({ length: this.#depth }, () => this.#lane(client)));
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Sends one flush. @returns Its error number */
  async flush(client: NbdClient): Promise<number> {
    const point = this.#history.flushPoint();
    const { error } = await client.flush();
    if (error === 0) {
      this.#history.flushed(point);
      this.flushes += 1;
    }
    return error;
  }

  async #lane(client: NbdClient): Promise<void> {
    while (!this.#stopped && client.ended === null) {
      const plan = this.#plan();
      if (plan === null) {
        await new Promise(setImmediate);
        continue;
      }
      const blocks = blocksOf(plan);
      for (const block of blocks) this.#busy.add(block);
      const sentAtMs = performance.now();
      try {
        const error = await this.#perform(client, plan, blocks);
        this.longestMs = Math.max(this.longestMs, performance.now() - sentAtMs);
        if (error === 0) this.answers += 1;
        else this.errors.push({ request: JSON.stringify(plan), error });
      } catch (error) {
        if (error instanceof ConnectionLost) return;
        throw error;
      }
      for (const block of blocks) this.#busy.delete(block);
    }
  }

  /** Chooses what to do next; null if the blocks it needs are all in use. */
  #plan(): Plan | null {
    for (let attempt = 0; attempt < 8; attempt++) {
      const plan = this.#draw();
      if (blocksOf(plan).every((block) => this.#isFree(block, plan))) return plan;
    }
    return null;
  }

  #isFree(block: number, { shape, bytes }: Plan): boolean {
    if (this.#busy.has(block)) return false;
    // After an error the block has several possible contents; a part of it cannot be changed in the model.
    return shape === 'read' || bytes % BLOCK_BYTES === 0 || this.#history.content(block) !== null;
  }

  #draw(): Plan {
    const random = this.#random;
    const syncs = random.chance(this.#syncPercent);
    const drawn = random.pick(SHAPES);
    const shape = drawn === 'flush' && !syncs ? 'write' : drawn;
    const fua = shape !== 'flush' && shape !== 'read' && syncs && random.chance(5);
    if (shape === 'flush') return { shape, offset: 0, bytes: 0, fua };
    const hot = random.chance(75);
    const block = hot ? random.pick(this.#hot) : random.below(this.#history.blocks);
    if (shape === 'trim' && random.chance(30)) {
      const first = block - (block % OBJECT_BLOCKS);
      const count = Math.min(OBJECT_BLOCKS, this.#history.blocks - first);
      return { shape, offset: first * BLOCK_BYTES, bytes: count * BLOCK_BYTES, fua };
    }
    const size = random.below(100);
    if (shape !== 'trim' && size < 20) {
      // Some sectors of one or two blocks.
      const sector = block * 8 + random.below(8);
      const count = Math.min(random.between(1, 7), this.#history.blocks * 8 - sector);
      return { shape, offset: sector * SECTOR_BYTES, bytes: count * SECTOR_BYTES, fua };
    }
    if (shape !== 'trim' && size < 27) {
      // Any bytes.
      const offset = block * BLOCK_BYTES + random.below(BLOCK_BYTES - 600);
      return { shape, offset, bytes: random.between(1, 600), fua };
    }
    const many = size < 32 ? random.between(16, 256) : random.between(1, 4);
    const count = Math.min(many, this.#history.blocks - block);
    return { shape, offset: block * BLOCK_BYTES, bytes: count * BLOCK_BYTES, fua };
  }

  async #perform(client: NbdClient, plan: Plan, blocks: readonly number[]): Promise<number> {
    if (plan.shape === 'flush') return this.flush(client);
    if (plan.shape === 'read') return this.#read(client, plan);
    const payload = plan.shape === 'write' ? this.#payload(plan) : Buffer.alloc(plan.bytes);
    const versions = blocks.map((block) =>
      this.#history.sent(block, this.#after(block, plan, payload)),
    );
    const flags = plan.fua ? NBD_CMD_FLAG_FUA : 0;
    const { error } =
      plan.shape === 'write'
        ? await client.write(plan.offset, payload, flags)
        : plan.shape === 'zero'
          ? await client.zero(plan.offset, plan.bytes, flags)
          : await client.trim(plan.offset, plan.bytes, flags);
    if (error !== 0) return error;
    blocks.forEach((block, index) => {
      const durable = plan.fua ? wholeSectors(block, plan) : undefined;
      this.#history.answered(block, versions[index] ?? 0, durable);
    });
    return 0;
  }

  async #read(client: NbdClient, plan: Plan): Promise<number> {
    const first = Math.floor(plan.offset / BLOCK_BYTES);
    const end = Math.ceil((plan.offset + plan.bytes) / BLOCK_BYTES);
    const { error, data } = await client.read(first * BLOCK_BYTES, (end - first) * BLOCK_BYTES);
    if (error !== 0) return error;
    for (let block = first; block < end; block++) {
      const at = (block - first) * BLOCK_BYTES;
      const problem = this.#history.problemOf(block, data.subarray(at, at + BLOCK_BYTES));
      if (problem !== null) this.problems.push(problem);
    }
    return 0;
  }

  /** Whole sectors carry tags, parts of one the low byte of the version. */
  #payload({ offset, bytes }: Plan): Buffer {
    const version = ++this.#version;
    const payload = Buffer.alloc(bytes, version & 0xff);
    if (offset % SECTOR_BYTES !== 0 || bytes % SECTOR_BYTES !== 0) return payload;
    for (let at = 0; at < bytes; at += SECTOR_BYTES)
      writeSectorTag(
        payload.subarray(at, at + SECTOR_BYTES),
        (offset + at) / SECTOR_BYTES,
        version,
      );
    return payload;
  }

  /** What the block holds once the payload is in it. */
  #after(block: number, { offset }: Plan, payload: Buffer): Buffer {
    const content = Buffer.from(this.#history.content(block) ?? Buffer.alloc(BLOCK_BYTES));
    const at = offset - block * BLOCK_BYTES;
    payload.copy(content, Math.max(at, 0), Math.max(-at, 0), Math.max(BLOCK_BYTES - at, 0));
    return content;
  }
}

/** Reads a whole device after a crash and compares. @returns What is wrong, at most 20 lines */
export async function recoverDevice(
  client: NbdClient,
  history: DeviceHistory,
  crash: Crash,
): Promise<string[]> {
  const problems: string[] = [];
  const stepBlocks = 256;
  for (let first = 0; first < history.blocks && problems.length < 20; first += stepBlocks) {
    const count = Math.min(stepBlocks, history.blocks - first);
    const { error, data } = await client.read(first * BLOCK_BYTES, count * BLOCK_BYTES);
    if (error !== 0) {
      problems.push(`reading ${count} blocks from block ${first} failed with ${error}`);
      continue;
    }
    for (let index = 0; index < count; index++) {
      const bytes = data.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
      const problem = history.recover(first + index, bytes, crash);
      if (problem !== null) problems.push(problem);
    }
  }
  return problems;
}

function blocksOf({ offset, bytes }: Plan): number[] {
  const first = Math.floor(offset / BLOCK_BYTES);
  const end = Math.ceil((offset + bytes) / BLOCK_BYTES);
  return Array.from({ length: bytes === 0 ? 0 : end - first }, (_, index) => first + index);
}

/** The sectors of a block that a request covers whole: the first and one past the last. */
function wholeSectors(block: number, { offset, bytes }: Plan): [number, number] {
  const start = Math.max(0, offset - block * BLOCK_BYTES);
  const end = Math.min(BLOCK_BYTES, offset + bytes - block * BLOCK_BYTES);
  return [Math.ceil(start / SECTOR_BYTES), Math.floor(end / SECTOR_BYTES)];
}
