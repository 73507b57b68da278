/** An embedded state on a simulated disk, and time that passes while it works; for tests. */
import { SimDisk, SimRandom, SimScheduler, simEnv } from '@store/core/sim';
import { EmbeddedState } from './embedded-state.js';

const STEPS_MAX = 20_000;

export class SimState {
  readonly scheduler = new SimScheduler();
  readonly random: SimRandom;
  readonly disk: SimDisk;
  #opens = 0;

  constructor(seed: number) {
    this.random = new SimRandom(seed, 1);
    this.disk = new SimDisk(this.scheduler, new SimRandom(seed, 2));
  }

  open(): Promise<EmbeddedState> {
    return this.wait(this.start());
  }

  /** As `open`, while time stands still. */
  start(): Promise<EmbeddedState> {
    this.#opens += 1;
    const env = simEnv(this.scheduler, new SimRandom(this.#opens, 3), this.disk);
    return EmbeddedState.open(env, 'simulated', { create: true });
  }

  /** Lets virtual time pass until the work is done. */
  async wait<T>(work: Promise<T>): Promise<T> {
    let isSettled = false;
    const result = work.finally(() => {
      isSettled = true;
    });
    result.catch(() => undefined); // reported below, when it is awaited
    const settled = (): boolean => isSettled;
    for (let step = 0; step < STEPS_MAX; step += 1) {
      await this.pass(1);
      if (settled()) return result;
    }
    throw new Error('An operation is never answered');
  }

  /** The next events happen. */
  async pass(steps: number): Promise<void> {
    await new Promise(setImmediate);
    for (let step = 0; step < steps; step += 1) {
      this.scheduler.step();
      await new Promise(setImmediate);
    }
  }

  /** Lets so much virtual time pass. */
  async passMs(ms: number): Promise<void> {
    let isOver = false;
    this.scheduler.at(ms, () => {
      isOver = true;
    });
    const over = (): boolean => isOver;
    while (!over()) await this.pass(1);
  }
}
