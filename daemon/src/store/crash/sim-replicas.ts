/** Two copies of a pool on simulated disks that live in the same time; either can crash and come back. */
import { SimStory } from './sim-story.js';
import type { FilePool } from '../file-pool.js';
import type { FileStore } from '../file-store.js';
import { REPLICATED_PREFIX } from '../file-store.js';

const POOL = `${REPLICATED_PREFIX}pool of two`;
/** Small, so that objects are closed, evicted and read again all the time. */
const LIMITS = {
  liveBytesSwitch: 64 * 1024,
  openObjectsMax: 4,
  cachedObjectsMax: 4,
  parkedBytesMax: 128 * 1024,
  openMsMax: 50,
};

export interface SimReplica {
  readonly world: SimStory;
  readonly store: FileStore;
  readonly pool: FilePool;
}

export class SimReplicas {
  readonly #worlds: readonly SimStory[];

  constructor(seed: number) {
    this.#worlds = [new SimStory(2 * seed), new SimStory(2 * seed + 1)];
  }

  /** @param index - Which of the two. */
  async open(index: 0 | 1): Promise<SimReplica> {
    const world = this.#worlds[index];
    if (world === undefined) throw new Error('There are two');
    const { store } = await this.wait(() => world.start({ limits: LIMITS }));
    const pool = await this.wait(() => store.openPool(POOL, { create: true }));
    return { world, store, pool };
  }

  /** Lets virtual time pass until the work is done. */
  async wait<T>(work: () => Promise<T>): Promise<T> {
    let isSettled = false;
    const result = work().finally(() => {
      isSettled = true;
    });
    result.catch(() => undefined); // reported below, when it is awaited
    const settled = (): boolean => isSettled;
    await new Promise(setImmediate);
    for (let step = 0; !settled(); step += 1) {
      if (step > 200_000) throw new Error('An operation is never answered');
      await this.step();
    }
    return result;
  }

  /** One event of either world, and what follows from it. */
  async step(): Promise<void> {
    for (const { scheduler } of this.#worlds) scheduler.step();
    await new Promise(setImmediate);
  }
}
