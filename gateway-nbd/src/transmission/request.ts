/** What has to be known of a request until it is answered. */
export interface Request {
  /** NBD_CMD */
  readonly type: number;
  readonly flags: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Extended replies repeat it to the bit, also if it is too large for a number. */
  readonly offsetHigh: number;
  readonly offsetLow: number;
  readonly offset: number;
  readonly length: number;
}

/** A request that was admitted. */
export interface Admitted extends Request {
  /** Bytes of the budget it holds; less with each piece of its answer. */
  charge: number;
  /** When it was admitted, in milliseconds of the clock. */
  readonly startedAt: number;
}

/** Copies the fields that the reader overwrites with the next request. */
export function admit(request: Request, charge: number, startedAt: number): Admitted {
  const { type, flags, cookieHigh, cookieLow, offsetHigh, offsetLow, offset, length } = request;
  return {
    type,
    flags,
    cookieHigh,
    cookieLow,
    offsetHigh,
    offsetLow,
    offset,
    length,
    charge,
    startedAt,
  };
}
