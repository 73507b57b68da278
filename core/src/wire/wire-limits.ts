/** What either end of the protocol allows, checked before anything is allocated. */
import { invariant } from '../util/invariant.js';
import { BLOCK_BYTES, KEY_BYTES_MAX, OBJECT_BYTES, POOL_NAME_BYTES_MAX } from '../util/limits.js';

/** Spoken by this program; `hello` finds out what both ends speak. */
export const PROTOCOL_VERSION = 1;

/** Body of a request or an answer: fields, names, checksums. */
export const BODY_BYTES_MAX: number = 64 * 1024;
/** Body of what comes before a session has begun. */
export const GREETING_BYTES_MAX: number = 4 * 1024;
/** Data of one request. */
export const PAYLOAD_BYTES_MAX: number = OBJECT_BYTES;
/** Text of a failure. */
export const MESSAGE_BYTES_MAX = 1024;
/** Chains that a daemon remembers for one connection. */
export const CHAINS_MAX = 256;
/** Extents in one answer; an object has fewer. */
export const EXTENTS_MAX: number = OBJECT_BYTES / BLOCK_BYTES;
/** Ids between the oldest request without an answer and the newest. */
export const REQUEST_SPAN_MAX = 4096;
/** Request ids and everything else in 64 bits fits exactly into a number. */
export const U64_MAX: number = Number.MAX_SAFE_INTEGER;

/** Groups that one request names. */
export const NAMED_GROUPS_MAX = 4096;

/** A datagram, with its header and seal: what fits into the frames of most networks in at most two of them. */
export const DATAGRAM_BYTES_DEFAULT: number = 8 * 1024;
/** Any answer without data fits. */
export const DATAGRAM_BYTES_MIN = 1280;

invariant(
  BODY_BYTES_MAX >= 4 * (EXTENTS_MAX + 1) + 2 * KEY_BYTES_MAX + 64,
  'checksums or extents of a whole object fit into a body',
);
invariant(POOL_NAME_BYTES_MAX < GREETING_BYTES_MAX, 'a pool name fits into a body');
