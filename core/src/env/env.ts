import type { Disk } from './disk.js';
import type { Log } from './log.js';
import type { Network } from './network.js';

export interface Clock {
  /** Monotonic milliseconds since some fixed moment; goes on while the machine sleeps. */
  now(): number;
  /** Wall-clock time for people: log lines and dates in `info`. Decides nothing. */
  wallTime(): string;
  /** Wall-clock time in seconds since 1970, for when tickets expire; it may jump. */
  wallSeconds(): number;
}

export interface Timer {
  cancel(): void;
}

export interface Timers {
  /** Runs `callback` once, `ms` milliseconds from now at the earliest. Does not keep the process alive. */
  after(ms: number, callback: () => void): Timer;
  /** Resolves `ms` milliseconds from now at the earliest, 0: in a later turn. Keeps the process alive. */
  sleep(ms: number): Promise<void>;
}

export interface Random {
  /** `count` random bytes, fit for identities and keys. */
  bytes(count: number): Buffer;
}

/**
 * The only door to the world. Everything between here and the edges is deterministic given its `Env`,
 * so that tests and the simulator run the very code that ships.
 */
export interface Env {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly network: Network;
  /** Opens the folder at `path`, creating it if `create`. */
  openDisk(path: string, options: { create: boolean }): Disk;
}
