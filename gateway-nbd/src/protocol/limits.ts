import { invariant, StoreError, type PaceLimits } from '@store/core';

/** W2: the longest string the protocol allows. */
export const STRING_BYTES_MAX = 4096;

/** H11: more option data than this is read, dropped and answered TOO_BIG. */
export const OPTION_BYTES_MAX: number = 64 * 1024;
/** H11: a client that announces more than this is not talking NBD. */
export const OPTION_BYTES_DROP: number = 1024 * 1024;
export const OPTIONS_MAX = 64;

/** Any byte may be addressed, unless the operator says otherwise. */
export const BLOCK_BYTES_MIN = 1;
export const BLOCK_BYTES_PREFERRED = 4096;
/** S1, S7: largest READ and WRITE. A longer WRITE cannot be told from an attack and ends the connection. */
export const PAYLOAD_BYTES_MAX: number = 32 * 1024 * 1024;

/** W7: offsets up to here are exact numbers. */
export const EXPORT_BYTES_MAX: number = Number.MAX_SAFE_INTEGER;

/** TRIM and WRITE_ZEROES of any length reach the backend in pieces of this size, aligned to it. */
export const ZERO_SLICE_BYTES: number = 256 * 1024 * 1024;
/** CACHE likewise. */
export const PREFETCH_SLICE_BYTES: number = 32 * 1024 * 1024;

/** BLOCK_STATUS: the backend is asked about this much at a time, … */
export const STATUS_SLICE_BYTES: number = 4 * 1024 ** 3;
/** … until so many extents are found or so much time has passed; the client asks on from there. */
export const STATUS_RUNS_MAX = 2048;
export const STATUS_TURN_MS_MAX = 10;

/** READs from this length on ask the backend for zeros that can be said instead of sent, … */
export const CHUNKED_READ_BYTES_MIN: number = 64 * 1024;
/** … and are answered in pieces of at most this. */
export const READ_PIECE_BYTES_MAX: number = 128 * 1024;
/** A READ of more pieces than this is sent as it is. */
export const SPARSE_READ_PIECES_MAX = 16;

/** Replies a client has not read: beyond this its further requests stay unread too. */
export const UNSENT_BYTES_MAX: number = 8 * 1024 * 1024;

/**
 * What any request counts for at least: a small payload keeps the chunk alive that it arrived in, and a small
 * reply its slab.
 */
export const REQUEST_BYTES_MIN: number = 16 * 1024;

/** What one server allows; each can be set by its operator. */
export interface ServerLimits extends PaceLimits {
  readonly connectionsMax: number;
  readonly handshakeMs: number;
  /** Requests in flight, and the bytes of their payloads and unsent replies, for each connection. */
  readonly connectionRequestsMax: number;
  readonly connectionBytesMax: number;
  /** The same for all connections together, beyond `guaranteedBytes` of each. */
  readonly serverRequestsMax: number;
  readonly serverBytesMax: number;
  /** Each connection may always have this much in flight, however busy the others are. */
  readonly guaranteedRequests: number;
  readonly guaranteedBytes: number;
}

export const SERVER_LIMITS: ServerLimits = {
  connectionsMax: 256,
  handshakeMs: 10_000,
  connectionRequestsMax: 256,
  connectionBytesMax: 32 * 1024 * 1024 + REQUEST_BYTES_MIN,
  serverRequestsMax: 4096,
  serverBytesMax: 64 * 1024 * 1024,
  guaranteedRequests: 8,
  guaranteedBytes: 128 * 1024,
  stallMs: 30_000,
  payloadBytesPerSecondMin: 256 * 1024,
  stallUnderPressureMs: 10_000,
};

invariant(STRING_BYTES_MAX < OPTION_BYTES_MAX, 'a name of any allowed length fits into an option');
invariant(OPTION_BYTES_MAX < OPTION_BYTES_DROP, 'there is room for options that are only too big');
invariant(UNSENT_BYTES_MAX <= PAYLOAD_BYTES_MAX, 'unsent replies stay within the budget');

/** @throws StoreError `E_INVALID` if the limits contradict each other */
export function checkLimits(limits: ServerLimits): void {
  for (const [name, value] of Object.entries(limits) as [string, number][])
    if (!Number.isSafeInteger(value) || value < 1)
      throw new StoreError('E_INVALID', `Limit ${name} is a whole number from 1 up, not ${value}`);
  const atLeast = (name: keyof ServerLimits, least: number, why: string): void => {
    if (limits[name] < least)
      throw new StoreError('E_INVALID', `Limit ${name} is at least ${least}: ${why}`);
  };
  const longest = PAYLOAD_BYTES_MAX + REQUEST_BYTES_MIN;
  atLeast('connectionBytesMax', longest, 'the longest request has to fit');
  atLeast('serverBytesMax', limits.connectionBytesMax, 'one connection has to fit');
  atLeast('guaranteedBytes', REQUEST_BYTES_MIN, 'everybody may send one small request');
  atLeast('connectionRequestsMax', limits.guaranteedRequests, 'that is what each is guaranteed');
}
