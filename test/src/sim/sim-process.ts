/**
 * A machine with a clock of its own, and the processes that run on it one after the other. A clock runs at its own rate
 * from its own beginning. A machine can be stopped for a while (SIGSTOP, a long collection of garbage): nothing of it
 * happens until it goes on, while time does. What a dead process was waiting for never happens.
 */
import type { Clock, Timer, Timers } from '@store/core';
import type { SimRandom } from '@store/core/sim';
import type { SimWorld } from './sim-world.js';

type Work = () => void;

export class SimHost {
  readonly name: string;
  readonly world: SimWorld;
  readonly #random: SimRandom;
  #offsetMs: number;
  #rate = 1;
  /** It began to run at this rate then, by the world's clock, and showed this. */
  #sinceWorld = 0;
  #sinceLocal: number;
  #stoppedUntil = 0;
  #wallOffset = 0;
  #backlog: { work: Work; isTimer: boolean }[] = [];

  constructor(world: SimWorld, name: string) {
    this.world = world;
    this.name = name;
    this.#random = world.fork(`host ${name}`);
    this.#offsetMs = this.#random.below(1_000_000_000);
    this.#sinceLocal = this.#offsetMs;
  }

  /** By its own clock. */
  now(): number {
    return this.#sinceLocal + (this.world.now - this.#sinceWorld) * this.#rate;
  }

  /** Of the clock on the wall, which somebody sets now and then. */
  wallSeconds(): number {
    return 1_700_000_000 + this.#wallOffset + Math.floor(this.world.now / 1000);
  }

  /** Somebody sets the clock on the wall. */
  setWall(byMs: number): void {
    this.#wallOffset += Math.round(byMs / 1000);
  }

  /** From now on its clock runs so much too fast (below 0: too slow): 0.0002 is what real ones do. */
  skew(error: number): void {
    this.#sinceLocal = this.now();
    this.#sinceWorld = this.world.now;
    this.#rate = 1 + error;
  }

  get isStopped(): boolean {
    return this.world.now < this.#stoppedUntil;
  }

  /** Nothing happens here for so long. */
  stop(ms: number): void {
    const until = this.world.now + ms;
    if (until <= this.#stoppedUntil) return;
    this.#stoppedUntil = until;
    this.world.scheduler.at(ms, () => {
      if (!this.isStopped) this.#goOn();
    });
  }

  /** It goes on now, if it was stopped. */
  wake(): void {
    if (!this.isStopped) return;
    this.#stoppedUntil = this.world.now;
    this.#goOn();
  }

  /** Runs work in so many milliseconds of its own clock, or when it goes on again. */
  at(ms: number, work: Work, isTimer: boolean): { cancel(): void } {
    const { scheduler } = this.world;
    const event = scheduler.at(Math.max(0, ms) / this.#rate, () => {
      if (this.isStopped) this.#backlog.push({ work, isTimer });
      else work();
    });
    return { cancel: () => scheduler.cancel(event) };
  }

  #goOn(): void {
    const backlog = this.#backlog;
    this.#backlog = [];
    // An event loop that was stopped sees its timers first, or what has arrived.
    const timersFirst = this.#random.chance(0.7);
    const rank = ({ isTimer }: { isTimer: boolean }): number => (isTimer === timersFirst ? 0 : 1);
    backlog.sort((a, b) => rank(a) - rank(b));
    for (const { work } of backlog) this.world.scheduler.at(0, work);
  }
}

/** One run of a program. */
export class SimProcess {
  readonly host: SimHost;
  readonly clock: Clock;
  readonly timers: Timers;
  #isAlive = true;
  #timerCount = 0;

  constructor(host: SimHost) {
    this.host = host;
    this.clock = {
      now: () => host.now(),
      wallTime: () => `virtual ${host.world.now.toFixed(1)} ms`,
      wallSeconds: () => host.wallSeconds(),
    };
    this.timers = {
      after: (ms, callback) => this.#timer(ms, callback),
      sleep: (ms) => new Promise((resolve) => void this.#timer(ms, resolve)),
    };
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Timers of its that were neither cancelled nor have fired. */
  get timerCount(): number {
    return this.#timerCount;
  }

  /** It is gone, and nothing that it waits for happens any more. */
  end(): void {
    this.#isAlive = false;
  }

  /** Something that comes from outside, in so many milliseconds of the world. */
  later(ms: number, work: Work): void {
    this.host.at(
      ms,
      () => {
        if (this.#isAlive) this.run(work);
      },
      false,
    );
  }

  /** Runs code of the program: what it throws ends the run of the simulator. */
  run(work: Work): void {
    try {
      work();
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.host.world.fail(`${this.host.name} threw: ${text}`);
    }
  }

  #timer(ms: number, callback: Work): Timer {
    let isPending = true;
    this.#timerCount += 1;
    const end = (): void => {
      if (isPending) this.#timerCount -= 1;
      isPending = false;
    };
    // Never early, often a little late.
    const event = this.host.at(
      ms + 0.01,
      () => {
        if (!isPending || !this.#isAlive) return;
        end();
        this.run(callback);
      },
      true,
    );
    return {
      cancel: () => {
        end();
        event.cancel();
      },
    };
  }
}
