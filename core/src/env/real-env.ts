import type { Env } from './env.js';
import type { Log } from './log.js';
import { realClock, realRandom, realTimers } from './real-clock.js';
import { openRealDisk } from './real-disk.js';
import { realNetwork } from './real-network.js';

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
