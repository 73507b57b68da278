/**
 * The world of one simulated cluster: virtual time, randomness, what was seen. One seed makes one world, and the same
 * seed makes the same world again, to the last event; a hash over all that happens says so.
 *
 * Each component draws from a generator of its own, forked from the seed by name, so that one more draw in one place
 * shifts nothing elsewhere.
 */
import { locatorHash, silentLog, type Log } from '@store/core';
import { SimRandom, SimScheduler } from '@store/core/sim';

/** So many of the newest lines are kept. */
const LINES_MAX = 20_000;

export interface WorldOptions {
  readonly seed: number;
  /** Keep readable lines of what happens. They cost more than the events. */
  readonly isTraced: boolean;
  /** Write each line as it comes as well. */
  readonly print?: (line: string) => void;
}

export class SimWorld {
  readonly scheduler = new SimScheduler();
  readonly seed: number;
  readonly isTraced: boolean;
  /** How often something that should be rare has happened: see {@link SimWorld.sometimes}. */
  readonly counters = new Map<string, number>();
  /** What is wrong; null: nothing so far. The first finding stays, those after it follow from it. */
  failure: string | null = null;
  /** Operations under way that end with a promise: their jobs must be run after each event. */
  promiseCount = 0;
  readonly #print: ((line: string) => void) | null;
  readonly #lines: string[] = [];
  #lineAt = 0;
  #hash = 0x811c9dc5;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.isTraced = options.isTraced;
    this.#print = options.print ?? null;
  }

  /** Virtual milliseconds. */
  get now(): number {
    return this.scheduler.now;
  }

  /** Of all events so far. */
  get hash(): number {
    return this.#hash >>> 0;
  }

  /** A generator for one component. */
  fork(name: string): SimRandom {
    return new SimRandom(this.seed, locatorHash(Buffer.from(name)).low);
  }

  /** Adds an event to the hash. */
  fold(what: number): void {
    this.#hash = Math.imul(this.#hash ^ what, 0x01000193);
    this.#hash = Math.imul(this.#hash ^ ((this.now * 1000) | 0), 0x01000193);
  }

  /** Notes a line. Whoever makes one with any effort asks {@link SimWorld.isTraced} first. */
  trace(who: string, text: string): void {
    if (!this.isTraced) return;
    const line = `${this.now.toFixed(2).padStart(10)} ${who.padEnd(4)} ${text}`;
    this.#lines[this.#lineAt % LINES_MAX] = line;
    this.#lineAt += 1;
    this.#print?.(line);
  }

  /** The newest lines, in order. */
  lines(): string[] {
    const at = this.#lineAt % LINES_MAX;
    return this.#lineAt <= LINES_MAX
      ? [...this.#lines]
      : [...this.#lines.slice(at), ...this.#lines.slice(0, at)];
  }

  /** A promise is broken. */
  fail(what: string): void {
    if (this.failure !== null) return;
    this.failure = what;
    this.trace('!!!!', what);
  }

  /** Something has happened that must happen now and then, or nobody has tried it. */
  sometimes(name: string): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1);
  }
}

/** A moment drawn so that on average one comes each `meanMs`. */
export function exponential(random: SimRandom, meanMs: number): number {
  return -Math.log(1 - random.uint32() / 2 ** 32) * meanMs;
}

/** What a process logs, as lines of the trace. */
export function traceLog(world: SimWorld, who: string): Log {
  if (!world.isTraced) return silentLog;
  const say = (level: string) => (fields: object, message: string) => {
    world.trace(who, `${level}: ${message} ${JSON.stringify(fields)}`);
  };
  const log: Log = {
    debug: say('debug'),
    info: say('info'),
    warn: say('warn'),
    error: say('error'),
    fatal: say('fatal'),
    child: () => log,
  };
  return log;
}
