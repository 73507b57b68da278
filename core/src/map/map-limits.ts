import { invariant } from '../util/invariant.js';

/** Of one map, whoever sent it. */
export const MAP_BYTES_MAX: number = 32 * 1024 * 1024;
export const DAEMONS_MAX = 65_536;
export const POOLS_MAX = 65_536;
/** Of one pool. */
export const GROUPS_MAX = 65_536;
/** Of all pools together: bounds what a short map can ask for in memory. */
export const ALL_GROUPS_MAX: number = 2 ** 20;
export const REPLICAS_MAX = 16;
/** Of one group: all its replicas, and as many that join before those leave. */
export const MEMBERS_MAX: number = 2 * REPLICAS_MAX;
/** Clients, and tickets as well. */
export const BLOCKED_MAX = 65_536;
/** Ids of daemons and pools. */
export const MAP_ID_MAX: number = 2 ** 32 - 1;
/** What fits into the head of a frame. */
export const EPOCH_MAX: number = 2 ** 32 - 1;
/** In MiB these are 4 PiB; placement computes with 32 bits. */
export const WEIGHT_MAX: number = 2 ** 32 - 1;
/** A host's name has at most 253. */
export const LABEL_BYTES_MAX = 255;
/** A name of 253 bytes, and a port. */
export const ADDRESS_BYTES_MAX = 262;
/** Objects of 1 GiB. */
export const OBJECT_BYTES_MAX: number = 2 ** 30;

invariant(MEMBERS_MAX * 4 + 3 <= 0xff, 'the head of a group is a byte');
invariant(Number.isInteger(Math.log2(GROUPS_MAX)), 'groups are a power of two');
invariant(GROUPS_MAX * REPLICAS_MAX <= ALL_GROUPS_MAX, 'copies of a pool stay below 2^20 + 1');
