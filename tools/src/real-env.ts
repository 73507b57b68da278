import {
  openRealDisk,
  realClock,
  realNetwork,
  realRandom,
  realTimers,
  type Env,
  type Log,
} from '@store/core';

/** The machine this runs on. */
export function realEnv(log: Log): Env {
  return {
    clock: realClock(),
    timers: realTimers,
    random: realRandom,
    log,
    network: realNetwork(log),
    openDisk: (path, options) => openRealDisk(path, options, log),
  };
}
