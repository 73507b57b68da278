/**
 * Time and chance of the real machine. The clock is CLOCK_BOOTTIME, through `koffi`: it goes on while the machine
 * sleeps, so that whoever slept knows for how long. Where that cannot be had it is Node's monotonic clock.
 */
import { randomBytes } from 'node:crypto';
import { invariant } from '../util/invariant.js';
import { addressOf, loadLibrary } from '../util/native-library.js';
import type { Clock, Random, Timers } from './env.js';

const CLOCK_BOOTTIME = 7;
/** What Node's timers can count to; they fire at once beyond it. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** A clock that started at the machine's boot. */
export function realClock(): Clock {
  const now = bootTime() ?? (() => performance.now());
  return { now, wallTime: () => new Date().toISOString(), wallSeconds: () => Date.now() / 1000 };
}

/** Timers that do not keep the process alive. */
export const realTimers: Timers = {
  after(ms, callback) {
    invariant(ms >= 0 && ms <= TIMER_MS_MAX, 'a timer waits 0 to 2^31-1 ms');
    const timer = setTimeout(callback, ms);
    timer.unref();
    return {
      cancel: () => {
        clearTimeout(timer);
      },
    };
  },
  sleep(ms) {
    return new Promise((resolve) => {
      setTimeout(resolve, ms);
    });
  },
};

/** The system's source of random bytes. */
export const realRandom: Random = { bytes: (count) => randomBytes(count) };

function bootTime(): (() => number) | null {
  if (process.platform !== 'linux') return null;
  const libc = loadLibrary('libc.so.6');
  if (libc === null) return null;
  // koffi has no types for functions made from a declaration; this is its
  type ClockCall = (clock: number, time: number) => number;
  const clockGettime = libc.func('int clock_gettime(int, uint64_t)') as unknown as ClockCall;
  const time = Buffer.alloc(16); // seconds and nanoseconds, 8 bytes each
  const timeAddress = addressOf(time);
  const now = (): number => {
    const result = clockGettime(CLOCK_BOOTTIME, timeAddress);
    invariant(result === 0, 'CLOCK_BOOTTIME can be read');
    return (
      (time.readUInt32LE(4) * 2 ** 32 + time.readUInt32LE(0)) * 1000 + time.readUInt32LE(8) / 1e6
    );
  };
  return now;
}
