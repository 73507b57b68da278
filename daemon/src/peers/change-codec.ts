/**
 * The bodies of what daemons say all the time: changes and what became of them, and leases. Little-endian; the caller has
 * made sure that `out` has room.
 */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  OBJECT_BYTES_MAX,
  partsBytes,
  putU16le,
  putU32le,
  readChecks,
  readU64,
  u16le,
  u32le,
  writeChecks,
  writeU64,
  type BlockState,
  type ByteParts,
} from '@store/core';
import type { Change, ObjectPlace } from '../replication/change.js';
import type {
  Ack,
  Behind,
  Grant,
  Heartbeat,
  Prepare,
  Refusal,
} from '../replication/peer-message.js';
import {
  badFrame,
  flagsIn,
  GROUP_BYTES,
  groupIn,
  placeIn,
  putGroup,
  wholePayload,
} from './message-fields.js';
import { BLOCKS_MAX, CHANGE_BLOCKS_MAX } from './peer-ops.js';

// PREPARE, after the group, whose flags are PARTIAL, LOST and DURABLE. Fields that a change does not use are zero.
const AT_INDEX = 12; //     8
const AT_NUMBER = 20; //    8
const AT_COMMITTED = 28; // 8
const AT_VERSION = 36; //   8
const AT_CHANGE = 44; //    1  CHANGE
const AT_STATE = 45; //     1  that blocks get (states)
const AT_KIND = 46; //      1
const AT_ZERO = 47; //      1
const AT_HASH_HIGH = 48; // 4
const AT_HASH_LOW = 52; //  4
const AT_FIRST = 56; //     4  (write, states)
const AT_COUNT = 60; //     4  of blocks (write, states)
const AT_LENGTH = 64; //    4  of the object (write, states)
const AT_CRC = 68; //       4  of the payload (whole)
const AT_KEY_BYTES = 72; // 2
const AT_KEY = 74; //          then, of a write, a checksum of each block
const PARTIAL = 1;
/** Of a write: its blocks are to match nothing. */
const LOST = 2;
/** Of a write: it is acknowledged once it is durable. */
const DURABLE = 4;
const CHANGE = { write: 1, states: 2, whole: 3, delete: 4 } as const;

export function prepareBytes({ change }: Prepare): number {
  const checks = change.op === 'write' ? change.checks.length * 4 : 0;
  return AT_KEY + change.object.key.length + checks;
}

/** @param crc - Of the content, of a whole object; else 0. */
export function putPrepare(out: Buffer, at: number, message: Prepare, crc: number): void {
  const { change } = message;
  const { object } = change;
  putGroup(out, at, message, (message.isPartial ? PARTIAL : 0) | flagsOf(change));
  writeU64(out, at + AT_INDEX, message.index);
  writeU64(out, at + AT_NUMBER, message.number);
  writeU64(out, at + AT_COMMITTED, message.committed);
  writeU64(out, at + AT_VERSION, change.version);
  out[at + AT_CHANGE] = CHANGE[change.op];
  out[at + AT_STATE] = change.op === 'states' ? change.state : 0;
  out[at + AT_KIND] = object.kind;
  out[at + AT_ZERO] = 0;
  putU32le(out, object.hash.high, at + AT_HASH_HIGH);
  putU32le(out, object.hash.low, at + AT_HASH_LOW);
  const hasBlocks = change.op === 'write' || change.op === 'states';
  putU32le(out, hasBlocks ? change.first : 0, at + AT_FIRST);
  putU32le(out, hasBlocks ? countOf(change) : 0, at + AT_COUNT);
  putU32le(out, hasBlocks ? change.length : 0, at + AT_LENGTH);
  putU32le(out, crc, at + AT_CRC);
  putU16le(out, object.key.length, at + AT_KEY_BYTES);
  const end = at + AT_KEY + object.key.copy(out, at + AT_KEY);
  if (change.op === 'write') writeChecks(out, end, change.checks);
}

function flagsOf(change: Change): number {
  if (change.op !== 'write') return 0;
  return (change.isLost === true ? LOST : 0) | (change.isDurable === true ? DURABLE : 0);
}

function countOf(change: Extract<Change, { op: 'write' | 'states' }>): number {
  return change.op === 'write' ? change.checks.length : change.count;
}

/** @throws StoreError `E_BAD_FRAME` */
export function readPrepare(body: Buffer, payload: ByteParts): Prepare {
  needBytes(body, AT_KEY);
  const flags = flagsIn(body, PARTIAL | LOST | DURABLE);
  const keyBytes = u16le(body, AT_KEY_BYTES);
  const object = placeIn(
    body,
    AT_KEY,
    keyBytes,
    body[AT_KIND] ?? 0,
    u32le(body, AT_HASH_HIGH),
    u32le(body, AT_HASH_LOW),
  );
  if (body[AT_ZERO] !== 0) throw badFrame('A field of a change that is zero is not');
  const { pool, group, epoch } = groupIn(body);
  return {
    type: 'prepare',
    pool,
    group,
    epoch,
    index: readU64(body, AT_INDEX),
    number: readU64(body, AT_NUMBER),
    committed: readU64(body, AT_COMMITTED),
    isPartial: (flags & PARTIAL) !== 0,
    change: changeIn(body, AT_KEY + keyBytes, object, payload, flags & ~PARTIAL),
  };
}

function changeIn(
  body: Buffer,
  end: number,
  object: ObjectPlace,
  payload: ByteParts,
  flags: number,
): Change {
  const version = readU64(body, AT_VERSION);
  const first = u32le(body, AT_FIRST);
  const count = u32le(body, AT_COUNT);
  const length = u32le(body, AT_LENGTH);
  const crc = u32le(body, AT_CRC);
  const state = body[AT_STATE] ?? 0;
  const op = body[AT_CHANGE];
  if (flags !== 0 && op !== CHANGE.write)
    throw badFrame('Only blocks can be lost, or durable by themselves');
  if (op === CHANGE.write) {
    checkRange(first, count, length, 1, CHANGE_BLOCKS_MAX);
    checkUnused(state | crc);
    checkEnd(body, end + count * 4);
    if (partsBytes(payload) !== count * BLOCK_BYTES)
      throw badFrame('A change has other than its blocks as payload');
    const checks = readChecks(body, end);
    const change = {
      op: 'write',
      object,
      version,
      first,
      blocks: payload,
      checks,
      length,
      isDurable: (flags & DURABLE) !== 0,
    } as const;
    return (flags & LOST) === 0 ? change : { ...change, isLost: true };
  }
  checkEnd(body, end);
  if (op === CHANGE.whole) {
    checkUnused(first | count | length | state);
    return { op: 'whole', object, version, content: wholePayload(payload, crc) };
  }
  if (payload.length > 0) throw badFrame('A change has a payload and needs none');
  checkUnused(crc);
  if (op === CHANGE.states) {
    checkRange(first, count, length, 0, BLOCKS_MAX);
    checkState(state);
    return { op: 'states', object, version, first, count, state, length };
  }
  if (op !== CHANGE.delete) throw badFrame('A change is none that is known');
  checkUnused(first | count | length | state);
  return { op: 'delete', object, version };
}

/** Of states none may change: then only version and length do. */
function checkRange(
  first: number,
  count: number,
  length: number,
  countMin: number,
  countMax: number,
): void {
  const fits = count >= countMin && count <= countMax && first + count <= BLOCKS_MAX;
  if (!fits || length > OBJECT_BYTES_MAX)
    throw badFrame(`A change is about ${count} blocks from ${first} of ${length} bytes`);
}

function checkState(state: number): asserts state is BlockState {
  if (state !== BLOCK_STATE.absent && state !== BLOCK_STATE.zero)
    throw badFrame(`A change gives blocks state ${state} and no bytes`);
}

/** @param fields - All of them, or'ed. */
function checkUnused(fields: number): void {
  if (fields !== 0) throw badFrame('A field of a change that is zero is not');
}

function checkEnd(body: Buffer, end: number): void {
  if (body.length !== end) throw badFrame('A change is longer or shorter than its fields');
}

// ACK, after the group: an index, 8 bytes, of each change.

export function ackBytes(count: number): number {
  return GROUP_BYTES + count * 8;
}

/** Of `indexes[from, to)`. */
export function putAck(out: Buffer, at: number, message: Ack, from: number, to: number): void {
  putGroup(out, at, message, 0);
  for (let index = from; index < to; index += 1)
    writeU64(out, at + GROUP_BYTES + (index - from) * 8, message.indexes[index] ?? 0);
}

/** @throws StoreError `E_BAD_FRAME` */
export function readAck(body: Buffer): Ack {
  needBytes(body, GROUP_BYTES);
  flagsIn(body, 0);
  if ((body.length - GROUP_BYTES) % 8 !== 0) throw badFrame('A frame ends in an index');
  const indexes: number[] = [];
  for (let at = GROUP_BYTES; at < body.length; at += 8) indexes.push(readU64(body, at));
  const { pool, group, epoch } = groupIn(body);
  return { type: 'ack', pool, group, epoch, indexes };
}

// REFUSAL, after the group, whose flags are REASON.
const REFUSAL_AT_INDEX = 12; // 8
export const REFUSAL_BYTES = 20;
const REASON = { full: 1, damaged: 2, leaving: 3 } as const;
const REASONS = Object.keys(REASON) as (keyof typeof REASON)[]; // the table's own keys

export function putRefusal(out: Buffer, at: number, message: Refusal): void {
  putGroup(out, at, message, REASON[message.reason]);
  writeU64(out, at + REFUSAL_AT_INDEX, message.index);
}

/** @throws StoreError `E_BAD_FRAME` */
export function readRefusal(body: Buffer): Refusal {
  exactBytes(body, REFUSAL_BYTES);
  const code = flagsIn(body, REASON.full | REASON.damaged | REASON.leaving);
  const reason = REASONS.find((one) => REASON[one] === code);
  if (reason === undefined) throw badFrame('A refusal has no reason that is known');
  return {
    type: 'refusal',
    ...groupIn(body),
    index: readU64(body, REFUSAL_AT_INDEX),
    reason,
  };
}

// BEHIND, after the group.
const BEHIND_AT_INDEX = 12; //       8
const BEHIND_AT_MAP_VERSION = 20; // 8
export const BEHIND_BYTES = 28;

export function putBehind(out: Buffer, at: number, message: Behind): void {
  putGroup(out, at, message, 0);
  writeU64(out, at + BEHIND_AT_INDEX, message.index);
  writeU64(out, at + BEHIND_AT_MAP_VERSION, message.mapVersion);
}

/** @throws StoreError `E_BAD_FRAME` */
export function readBehind(body: Buffer): Behind {
  exactBytes(body, BEHIND_BYTES);
  flagsIn(body, 0);
  return {
    type: 'behind',
    ...groupIn(body),
    index: readU64(body, BEHIND_AT_INDEX),
    mapVersion: readU64(body, BEHIND_AT_MAP_VERSION),
  };
}

// HEARTBEAT, and GRANT, which has one byte more.
const LEASE_AT_SENT_AT = 0; //     8  IEEE 754, ms by the clock of who sent the heartbeat
const LEASE_AT_MAP_VERSION = 8; // 8
const LEASE_AT_FULL = 16; //       1  1: the disk is full
export const HEARTBEAT_BYTES = 16;
export const GRANT_BYTES = 17;

export function putHeartbeat(out: Buffer, at: number, message: Heartbeat | Grant): void {
  out.writeDoubleLE(message.sentAt, at + LEASE_AT_SENT_AT);
  writeU64(out, at + LEASE_AT_MAP_VERSION, message.mapVersion);
  if (message.type === 'grant') out[at + LEASE_AT_FULL] = message.isFull ? 1 : 0;
}

/** @throws StoreError `E_BAD_FRAME` */
export function readHeartbeat(body: Buffer): Heartbeat {
  exactBytes(body, HEARTBEAT_BYTES);
  return { type: 'heartbeat', ...leaseIn(body) };
}

/** @throws StoreError `E_BAD_FRAME` */
export function readGrant(body: Buffer): Grant {
  exactBytes(body, GRANT_BYTES);
  return { type: 'grant', ...leaseIn(body), isFull: flagByte(body[LEASE_AT_FULL]) };
}

function leaseIn(body: Buffer): { sentAt: number; mapVersion: number } {
  const sentAt = body.readDoubleLE(LEASE_AT_SENT_AT);
  if (!Number.isFinite(sentAt)) throw badFrame('A lease was asked for at no time');
  return { sentAt, mapVersion: readU64(body, LEASE_AT_MAP_VERSION) };
}

/** @throws StoreError `E_BAD_FRAME` */
export function flagByte(byte: number | undefined): boolean {
  if (byte !== 0 && byte !== 1) throw badFrame('A frame has a flag that is neither 0 nor 1');
  return byte === 1;
}

function needBytes(body: Buffer, bytes: number): void {
  if (body.length < bytes) throw badFrame('A frame is shorter than its fields');
}

function exactBytes(body: Buffer, bytes: number): void {
  if (body.length !== bytes) throw badFrame('A frame is longer or shorter than its fields');
}
