/** What both clients tell of a piece of work. */
export interface ClientReport {
  /** In the row's unit. */
  readonly value: number;
  /** Reads and writes; a flush counts with its write. Null if the client does not tell. */
  readonly requests: number | null;
  readonly bytes: number;
  readonly seconds: number;
  /** From sending a request to its answer; null if the client does not tell. */
  readonly latencyUs: { readonly p50: number; readonly p99: number } | null;
  /** CPU seconds per second: 1 is one core. */
  readonly clientCores: number;
  /** The client could not have asked for more: it used 90 % of what its threads can use. */
  readonly clientSaturated: boolean;
}

/** Of one core, from which on a client counts as saturated. */
export const SATURATED = 0.9;
