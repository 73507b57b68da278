/** A client that writes, flushes and reads back all the time, whatever happens around it, and notes what goes wrong. */
import { messageOf, ObjectRef, OBJECT_KIND, type ObjectPool } from '@store/core';
import { PoolUser } from '@store/core/testing';
import { liveEnv } from './live-cluster.js';

const KEYS = 32;
const FLUSH_EVERY = 16;
const PROBLEMS_MAX = 20;
const PAUSE_MS = 5;

export class PoolTraffic {
  /** Errors, and reads that returned something else than was written. */
  readonly problems: string[] = [];
  /** Writes that were read back. */
  rounds = 0;
  /** The longest time that one of them took. */
  roundMsMax = 0;
  readonly #user: PoolUser;
  #isOver = false;
  readonly #running: Promise<void>;

  constructor(pool: ObjectPool) {
    this.#user = new PoolUser(pool);
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isOver && this.problems.length < PROBLEMS_MAX) {
      const start = liveEnv.clock.now();
      try {
        await this.#round();
        this.rounds += 1;
      } catch (error) {
        this.problems.push(messageOf(error));
      }
      this.roundMsMax = Math.max(this.roundMsMax, liveEnv.clock.now() - start);
      await liveEnv.timers.sleep(PAUSE_MS);
    }
  }

  async #round(): Promise<void> {
    const key = `traffic${this.rounds % KEYS}`;
    const ref = new ObjectRef(OBJECT_KIND.plain, key);
    const text = Buffer.from(`${key} of round ${this.rounds}`.padEnd(64));
    await this.#user.write(ref, 0, text);
    if (this.rounds % FLUSH_EVERY === 0) await this.#user.flush();
    const found = await this.#user.read(ref, 0, text.length);
    if (!found.equals(text))
      this.problems.push(`${key} is '${found.toString()}', not '${text.toString()}'`);
  }
}
