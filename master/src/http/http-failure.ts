/** How a failure is told over HTTP: a status, and JSON with the code and the sentence that the command line would show. */
import type { ErrorCode, StoreError } from '@store/core';

/** A request that HTTP itself refuses: the wrong method, no token, too long. */
export class HttpFailure extends Error {
  override name = 'HttpFailure';
  readonly status: number;
  readonly code: ErrorCode;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    code: ErrorCode,
    message: string,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** 4xx: asking again the same way does not help. 503: it may. */
const STATUS: Readonly<Record<ErrorCode, number>> = {
  E_NOT_FOUND: 404,
  E_EXISTS: 409,
  E_VERSION: 409,
  E_INVALID: 400,
  E_CHECKSUM: 500,
  E_NO_SPACE: 507,
  E_DISK_FAILED: 500,
  E_IN_USE: 409,
  E_FORMAT: 500,
  E_READ_ONLY: 403,
  E_CLOSED: 503,
  E_SYSTEM: 500,
  E_TIMEOUT: 504,
  E_UNREACHABLE: 502,
  E_BAD_FRAME: 400,
  E_PROTOCOL_VERSION: 400,
  E_DENIED: 403,
  E_IN_DOUBT: 500,
  E_LOST_WRITES: 500,
  E_UNKNOWN_CHAIN: 500,
  E_BUSY: 503,
  E_CANCELLED: 503,
  E_STALE_MAP: 409,
  E_NOT_LEADER: 503,
  E_FENCED: 409,
  E_SEALED: 409,
};

/** The HTTP status of an expected failure. */
export function statusOf(error: StoreError): number {
  return STATUS[error.code];
}
