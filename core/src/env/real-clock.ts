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
  const time = new Uint32Array(4); // seconds and nanoseconds, 8 bytes each
  const timeAddress = addressOf(new Uint8Array(time.buffer));
  const now = (): number => {
    const result = clockGettime(CLOCK_BOOTTIME, timeAddress);
    invariant(result === 0, 'CLOCK_BOOTTIME can be read');
    // By index: taking the array apart would need an iterator each time.
    const seconds = (time[1] ?? 0) * 2 ** 32 + (time[0] ?? 0);
    return seconds * 1000 + (time[2] ?? 0) / 1e6;
  };
  return now;
}
