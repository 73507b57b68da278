/** A store on a simulated disk, and time that passes while it works. */
import type { ObjectPool } from '@store/core';
import { SimDisk, SimRandom, SimScheduler, simEnv } from '@store/core/sim';
import { openFileStore, type FileStore } from '../file-store.js';

const STEPS_MAX = 200_000;

export class SimStore {
  readonly scheduler = new SimScheduler();
  readonly disk: SimDisk;
  readonly #seed: number;
  #opens = 0;

  constructor(seed: number) {
    this.#seed = seed;
    this.disk = new SimDisk(this.scheduler, new SimRandom(seed, 2));
  }

  async open(): Promise<{ store: FileStore; pool: ObjectPool }> {
    this.#opens += 1;
    const env = simEnv(this.scheduler, new SimRandom(this.#seed, 100 + this.#opens), this.disk);
    return this.wait(async () => {
      const store = await openFileStore(env, 'simulated', {
        create: true,
        onFailure: () => undefined,
      });
      return { store, pool: await store.openPool('pool', { create: true }) };
    });
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
      if (step > STEPS_MAX) throw new Error('An operation is never answered');
      this.scheduler.step();
      await new Promise(setImmediate);
    }
    return result;
  }
}
