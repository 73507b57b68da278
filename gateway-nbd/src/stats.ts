/**
 * What an export or a connection did: operations, bytes, errors and how long answers took. Counting costs a few
 * additions for each request; everything else happens when somebody asks.
 */
import { NBD_CMD } from './protocol/constants.js';

/** Upper ends of the latency histogram, in milliseconds; the last bucket has none. */
export const LATENCY_BOUNDS_MS: readonly number[] = [
  0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000,
];

/** Counts of one kind of operation. */
export class OperationStats {
  count = 0;
  errors = 0;
  /** Payload moved, or, of operations without one, nothing. */
  bytes = 0;
  totalMs = 0;
  /** Answers per bucket of `LATENCY_BOUNDS_MS`, and one more bucket for the rest. */
  readonly buckets: Float64Array = new Float64Array(LATENCY_BOUNDS_MS.length + 1);

  add(ms: number, bytes: number, failed: boolean): void {
    this.count += 1;
    this.bytes += bytes;
    this.totalMs += ms;
    if (failed) this.errors += 1;
    let bucket = 0;
    while (bucket < LATENCY_BOUNDS_MS.length && ms > (LATENCY_BOUNDS_MS[bucket] ?? 0)) bucket += 1;
    this.buckets[bucket] = (this.buckets[bucket] ?? 0) + 1;
  }
}

/** Operations by their protocol name, lower case: `read`, `write_zeroes`, … */
export type OperationName = Lowercase<Exclude<keyof typeof NBD_CMD, 'DISC' | 'RESIZE'>>;

const NAMES: readonly (OperationName | null)[] = [
  'read',
  'write',
  null, // DISC has no answer
  'flush',
  'trim',
  'cache',
  'write_zeroes',
  'block_status',
];

export class Stats {
  /** Requests that are not answered yet. */
  inFlight = 0;
  /** Requests that never ran: malformed, out of range, not allowed. */
  refused = 0;
  readonly operations: Readonly<Record<OperationName, OperationStats>> = {
    read: new OperationStats(),
    write: new OperationStats(),
    flush: new OperationStats(),
    trim: new OperationStats(),
    cache: new OperationStats(),
    write_zeroes: new OperationStats(),
    block_status: new OperationStats(),
  };

  /** One answer to an admitted request of `type`, an NBD_CMD. */
  add(type: number, ms: number, bytes: number, failed: boolean): void {
    const name = NAMES[type] ?? null;
    if (name !== null) this.operations[name].add(ms, bytes, failed);
  }

  /** Sums for the log: requests, errors, bytes read and written. */
  totals(): { requests: number; errors: number; bytesRead: number; bytesWritten: number } {
    const all = Object.values(this.operations);
    return {
      requests: all.reduce((sum, { count }) => sum + count, this.refused),
      errors: all.reduce((sum, { errors }) => sum + errors, this.refused),
      bytesRead: this.operations.read.bytes,
      bytesWritten: this.operations.write.bytes,
    };
  }
}
