import type { Env } from '../env/env.js';
import type { Log } from '../env/log.js';
import { silentLog } from '../env/silent-log.js';
import { StoreError } from '../util/errors.js';
import type { SimDisk } from './sim-disk.js';
import type { SimRandom } from './sim-random.js';
import type { SimEvent, SimScheduler } from './sim-scheduler.js';

/** The world of one simulated process: virtual time, seeded randomness, a disk that can fail. */
export function simEnv(
  scheduler: SimScheduler,
  random: SimRandom,
  disk: SimDisk,
  log: Log = silentLog,
): Env {
  // Timers of a process that is dead never fire.
  let isAlive = (): boolean => true;
  const at = (ms: number, callback: () => void): SimEvent =>
    scheduler.at(ms, () => {
      if (isAlive()) callback();
    });
  return {
    clock: {
      now: () => scheduler.now,
      wallTime: () => `virtual ${scheduler.now} ms`,
      wallSeconds: () => scheduler.now / 1000,
    },
    timers: {
      after: (ms, callback) => {
        const event = at(ms, callback);
        return { cancel: () => scheduler.cancel(event) };
      },
      sleep: (ms) => new Promise((resolve) => void at(ms, resolve)),
    },
    random: { bytes: (count) => random.bytes(count) },
    log,
    network: {
      listen: () => Promise.reject(noNetwork()),
      listenOn: () => Promise.reject(noNetwork()),
      adopt: () => {
        throw noNetwork();
      },
      connect: () => Promise.reject(noNetwork()),
      openDatagrams: () => Promise.reject(noNetwork()),
    },
    openDisk: () => {
      const folder = disk.open();
      const { process } = disk;
      isAlive = () => disk.process === process;
      return folder;
    },
  };
}

function noNetwork(): StoreError {
  return new StoreError('E_SYSTEM', 'The simulation of one disk has no network');
}
