/** What a daemon's server counts, for metrics and for people. */
import { opNames } from '@store/core';

/** Upper ends of the buckets of a latency histogram, in ms. */
export const LATENCY_BUCKETS_MS: readonly number[] = [
  0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000,
];

/** Of one operation. */
export interface OpCounters {
  count: number;
  bytes: number;
  sumMs: number;
  /** By bucket; the last is for all that took longer. */
  readonly buckets: number[];
  readonly errors: Map<string, number>;
}

export class ServerCounters {
  readonly operations: ReadonlyMap<string, OpCounters> = new Map(
    opNames().map((name) => [name, emptyOp()]),
  );
  connections = 0;
  /** Connections and datagrams that were turned away, by why. */
  readonly refused = new Map<string, number>();
  /** Requests that came again and were answered from what was kept. */
  repeated = 0;
  /** Requests that nobody waited for any more. */
  dropped = 0;
  datagramsIn = 0;
  datagramsOut = 0;

  refuse(why: string): void {
    this.refused.set(why, (this.refused.get(why) ?? 0) + 1);
  }

  ended(op: string, ms: number, bytes: number, error: string | null): void {
    const counters = this.operations.get(op);
    if (counters === undefined) return;
    counters.count += 1;
    counters.bytes += bytes;
    counters.sumMs += ms;
    let bucket = 0;
    while (bucket < LATENCY_BUCKETS_MS.length && ms > (LATENCY_BUCKETS_MS[bucket] ?? 0))
      bucket += 1;
    counters.buckets[bucket] = (counters.buckets[bucket] ?? 0) + 1;
    if (error !== null) counters.errors.set(error, (counters.errors.get(error) ?? 0) + 1);
  }
}

function emptyOp(): OpCounters {
  const buckets = Array.from({ length: LATENCY_BUCKETS_MS.length + 1 }, () => 0);
  return { count: 0, bytes: 0, sumMs: 0, buckets, errors: new Map() };
}
