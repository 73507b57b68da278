/** An ordered map whose commits are atomic and, when answered, durable. A kill may leave one applied but unsynced. */
import type { DiskDone, MetaChange, MetaStore } from '../env/disk.js';
import { DiskError } from '../env/disk.js';
import type { SimRandom } from './sim-random.js';

export interface SimMetaFaults {
  /** Probability that the sync of a commit fails: nothing of it is durable. */
  commitError: number;
  /** As in LMDB's default mode: the error is swallowed, and what was not synced is lost at the next power cut. */
  swallowCommitError: boolean;
}

export interface SimMetaHost {
  readonly random: SimRandom;
  readonly metaFaults: SimMetaFaults;
  later(run: () => void, orphan?: () => void): void;
  /** Is there room for a commit? */
  admitCommit(changes: readonly MetaChange[]): boolean;
}

/** What is stored, as a process sees it and as it is after a power cut. Keys are strings of one character a byte. */
export class SimMetaMedium {
  visible = new Map<string, Buffer>();
  durable = new Map<string, Buffer>();
  /** Of `visible`; null after a change. */
  sortedKeys: string[] | null = null;

  apply(changes: readonly MetaChange[]): void {
    for (const { key, value } of changes) {
      if (value === null) this.visible.delete(key.toString('latin1'));
      else this.visible.set(key.toString('latin1'), Buffer.from(value));
    }
    this.sortedKeys = null;
  }

  settle(): void {
    this.durable = new Map(this.visible);
  }

  powerCut(): void {
    this.visible = new Map(this.durable);
    this.sortedKeys = null;
  }
}

export class SimMetaStore implements MetaStore {
  readonly #medium: SimMetaMedium;
  readonly #host: SimMetaHost;

  constructor(medium: SimMetaMedium, host: SimMetaHost) {
    this.#medium = medium;
    this.#host = host;
  }

  get(key: Buffer): Buffer | null {
    return this.#medium.visible.get(key.toString('latin1')) ?? null;
  }

  range(start: Buffer, end: Buffer, limit: number): { key: Buffer; value: Buffer }[] {
    const [from, to] = [start.toString('latin1'), end.toString('latin1')];
    this.#medium.sortedKeys ??= [...this.#medium.visible.keys()].sort();
    const entries: { key: Buffer; value: Buffer }[] = [];
    for (const key of this.#medium.sortedKeys) {
      if (key < from || entries.length === limit) continue;
      if (key >= to) break;
      const value = this.#medium.visible.get(key) ?? Buffer.alloc(0);
      entries.push({ key: Buffer.from(key, 'latin1'), value: Buffer.from(value) });
    }
    return entries;
  }

  commit(changes: readonly MetaChange[], done: DiskDone): void {
    const { random, metaFaults } = this.#host;
    this.#host.later(
      () => {
        if (!this.#host.admitCommit(changes)) {
          done(new DiskError('ENOSPC', 'simulated metadata is full'));
          return;
        }
        if (random.chance(metaFaults.commitError)) {
          if (metaFaults.swallowCommitError) {
            this.#medium.apply(changes);
            done(null);
          } else done(new DiskError('EIO', 'simulated commit error'));
          return;
        }
        this.#medium.apply(changes);
        this.#medium.settle();
        done(null);
      },
      () => {
        const fate = random.below(3);
        if (fate > 0) this.#medium.apply(changes);
        if (fate === 2) this.#medium.settle();
      },
    );
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
