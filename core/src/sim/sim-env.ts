import type { Env } from '../env/env.js';
import type { Log } from '../env/log.js';
import { silentLog } from '../env/silent-log.js';
import { StoreError } from '../util/errors.js';
import type { SimDisk } from './sim-disk.js';
import type { SimRandom } from './sim-random.js';
import type { SimScheduler } from './sim-scheduler.js';

/** The world of one simulated process: virtual time, seeded randomness, a disk that can fail. */
export function simEnv(
  scheduler: SimScheduler,
  random: SimRandom,
  disk: SimDisk,
  log: Log = silentLog,
): Env {
  return {
    clock: { now: () => scheduler.now, wallTime: () => `virtual ${scheduler.now} ms` },
    timers: {
      after: (ms, callback) => {
        const event = scheduler.at(ms, callback);
        return { cancel: () => scheduler.cancel(event) };
      },
    },
    random: { bytes: (count) => random.bytes(count) },
    log,
    network: {
      listen: () =>
        Promise.reject(new StoreError('E_SYSTEM', 'The simulation of one disk has no network')),
    },
    openDisk: () => disk.open(),
  };
}
