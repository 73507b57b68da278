/** Work per second, from what daemons count, and its history over the last hour. */
import type { DaemonReport, Env, Traffic, TrafficHistory } from '@store/core';

export const NO_TRAFFIC: Traffic = {
  readsPerSecond: 0,
  writesPerSecond: 0,
  readBytesPerSecond: 0,
  writeBytesPerSecond: 0,
  readMs: 0,
  writeMs: 0,
};

const STEP_SECONDS = 10;
const SAMPLES_MAX: number = 3600 / STEP_SECONDS;

/** Between two reports of one start of a daemon. */
export function trafficBetween(before: DaemonReport, now: DaemonReport, ms: number): Traffic {
  if (ms <= 0) return NO_TRAFFIC;
  const since = (field: 'reads' | 'writes' | 'readBytes' | 'writeBytes' | 'readMs' | 'writeMs') =>
    Math.max(0, now[field] - before[field]);
  const perSecond = 1000 / ms;
  const [reads, writes] = [since('reads'), since('writes')];
  return {
    readsPerSecond: reads * perSecond,
    writesPerSecond: writes * perSecond,
    readBytesPerSecond: since('readBytes') * perSecond,
    writeBytesPerSecond: since('writeBytes') * perSecond,
    readMs: reads === 0 ? 0 : since('readMs') / reads,
    writeMs: writes === 0 ? 0 : since('writeMs') / writes,
  };
}

/** Of several daemons together; times are means over all requests. */
export function sumOf(all: readonly Traffic[]): Traffic {
  let [reads, writes, readBytes, writeBytes, readMs, writeMs] = [0, 0, 0, 0, 0, 0];
  for (const one of all) {
    reads += one.readsPerSecond;
    writes += one.writesPerSecond;
    readBytes += one.readBytesPerSecond;
    writeBytes += one.writeBytesPerSecond;
    readMs += one.readMs * one.readsPerSecond;
    writeMs += one.writeMs * one.writesPerSecond;
  }
  return {
    readsPerSecond: reads,
    writesPerSecond: writes,
    readBytesPerSecond: readBytes,
    writeBytesPerSecond: writeBytes,
    readMs: reads === 0 ? 0 : readMs / reads,
    writeMs: writes === 0 ? 0 : writeMs / writes,
  };
}

/** Remembers a sample every ten seconds, for an hour. */
export class TrafficRecorder {
  readonly #env: Env;
  readonly #samples: ({ time: number } & Traffic)[] = [];
  #nextAt: number;

  constructor(env: Env) {
    this.#env = env;
    this.#nextAt = env.clock.now() + STEP_SECONDS * 1000;
  }

  /** To be called about once a second. @returns true if there is a new sample */
  look(traffic: () => Traffic): boolean {
    const { clock } = this.#env;
    if (clock.now() < this.#nextAt) return false;
    this.#nextAt = clock.now() + STEP_SECONDS * 1000;
    this.#samples.push({ time: Math.floor(clock.wallSeconds()), ...traffic() });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
    return true;
  }

  history(): TrafficHistory {
    return { stepSeconds: STEP_SECONDS, samples: [...this.#samples] };
  }
}
