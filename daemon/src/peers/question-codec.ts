/**
 * The bodies of what daemons say now and then: when a group changes hands, a member joins, copies are compared, maps are
 * handed on. Lists are payload, with one checksum for all of it.
 */
import { BLOCK_BYTES, BodyReader, crc32c, partsBytes, type ByteParts } from '@store/core';
import { PRINT_NUMBERS } from '../replication/block-print.js';
import type * as Messages from '../replication/peer-message.js';
import type { InventoryEntry } from '../replication/replica-pool.js';
import { flagByte } from './change-codec.js';
import {
  badFrame,
  BodyWriter,
  cursorBytes,
  flagsIn,
  GROUP_BYTES,
  groupIn,
  objectBytes,
  readCursor,
  readNumbers,
  readObject,
  wholePayload,
} from './message-fields.js';
import { BLOCKS_MAX, CHANGE_BLOCKS_MAX, CURSOR_BYTES_MAX } from './peer-ops.js';

/** Body and payload of a frame. */
export interface Encoded {
  readonly body: Buffer;
  readonly payload: ByteParts;
}

const NOTHING: ByteParts = [];

/** Every message that is not in `change-codec.ts`. */
export type Question = Exclude<
  Messages.PeerMessage,
  { type: 'heartbeat' | 'grant' | 'prepare' | 'ack' | 'refusal' | 'behind' }
>;

export function encodeQuestion(message: Question): Encoded {
  switch (message.type) {
    // SYNC: 8 id, 4 pool
    case 'sync':
      return plain(new BodyWriter(12).u64(message.id).u32(message.pool));
    // SYNCED: 8 id, 1 it is done
    case 'synced':
      return plain(new BodyWriter(9).u64(message.id).u8(message.isDone ? 1 : 0));
    // ASK_TAIL: group
    case 'askTail':
      return plain(new BodyWriter(GROUP_BYTES).group(message));
    case 'tail':
      return encodeTail(message);
    // ASK_INVENTORY: group, 8 id, 4 from, 4 to, 4 limit, cursor
    case 'askInventory': {
      const { id, range, after, limit } = message;
      const body = new BodyWriter(GROUP_BYTES + 20 + cursorBytes(after)).group(message).u64(id);
      return plain(body.u32(range.from).u32(range.to).u32(limit).cursor(after));
    }
    case 'inventory':
      return encodeInventory(message);
    // ASK_DIGEST, ASK_VERIFY: group, 8 id, object
    case 'askDigest':
    case 'askVerify': {
      const body = new BodyWriter(GROUP_BYTES + 8 + objectBytes(message.object));
      return plain(body.group(message).u64(message.id).object(message.object));
    }
    case 'digest':
      return encodeDigest(message);
    // ASK_BLOCKS: group, 8 id, 4 first, 4 count, object
    case 'askBlocks': {
      const { id, first, count, object } = message;
      const body = new BodyWriter(GROUP_BYTES + 16 + objectBytes(object)).group(message).u64(id);
      return plain(body.u32(first).u32(count).object(object));
    }
    case 'blocks':
      return encodeBlocks(message);
    case 'verified':
      return encodeVerified(message);
    // ASK_MAP: 8 version
    case 'askMap':
      return plain(new BodyWriter(8).u64(message.version));
    // NEWER_MAP: 4 checksum of the payload
    case 'newerMap':
      return withPayload(new BodyWriter(4), message.bytes);
    // LEAVING: nothing
    case 'leaving':
      return plain(new BodyWriter(0));
    // DONE_WITHOUT: 8 map version
    case 'doneWithout':
      return plain(new BodyWriter(8).u64(message.mapVersion));
  }
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeQuestion(type: Question['type'], body: Buffer, payload: ByteParts): Question {
  const reader = new BodyReader(body);
  const message = READERS[type](reader, body, payload);
  reader.end();
  return message;
}

const READERS: Readonly<
  Record<Question['type'], (reader: BodyReader, body: Buffer, payload: ByteParts) => Question>
> = {
  leaving: () => ({ type: 'leaving' }),
  doneWithout: (reader) => ({ type: 'doneWithout', mapVersion: reader.u64() }),
  sync: (reader) => ({ type: 'sync', id: reader.u64(), pool: reader.u32() }),
  synced: (reader) => ({ type: 'synced', id: reader.u64(), isDone: flagByte(reader.u8()) }),
  askTail: (reader, body) => ({ type: 'askTail', ...readGroup(reader, body, 0) }),
  tail: readTail,
  askInventory: (reader, body) => ({
    type: 'askInventory',
    ...readGroup(reader, body, 0),
    id: reader.u64(),
    range: { from: reader.u32(), to: reader.u32() },
    limit: reader.u32(),
    after: readCursor(reader),
  }),
  inventory: readInventory,
  askDigest: (reader, body) => ({
    type: 'askDigest',
    ...readGroup(reader, body, 0),
    id: reader.u64(),
    object: readObject(reader),
  }),
  digest: readDigest,
  askBlocks: (reader, body) => {
    const group = readGroup(reader, body, 0);
    const id = reader.u64();
    const [first, count] = [reader.u32(), reader.u32()];
    if (count < 1 || count > CHANGE_BLOCKS_MAX || first + count > BLOCKS_MAX)
      throw badFrame(`A frame asks for ${count} blocks from ${first}`);
    return { type: 'askBlocks', ...group, id, first, count, object: readObject(reader) };
  },
  blocks: readBlocks,
  askVerify: (reader, body) => ({
    type: 'askVerify',
    ...readGroup(reader, body, 0),
    id: reader.u64(),
    object: readObject(reader),
  }),
  verified: readVerified,
  askMap: (reader) => ({ type: 'askMap', version: reader.u64() }),
  newerMap: (reader, _body, payload) => ({
    type: 'newerMap',
    bytes: wholePayload(payload, reader.u32()),
  }),
};

/** Flags of a group that say something is there. */
const PRESENT = 1;
const INLINE = 2;

/** The caller looks at the flags. @throws StoreError `E_BAD_FRAME` if there are some beyond `flagsMax` */
function readGroup(reader: BodyReader, body: Buffer, flagsMax: number): Messages.GroupEpoch {
  reader.bytes(GROUP_BYTES);
  flagsIn(body, flagsMax);
  return groupIn(body);
}

// TAIL: group, 4 entries, 4 checksum of the payload. An entry: 4 first, 4 last, object.
function encodeTail(message: Messages.Tail): Encoded {
  const { entries } = message;
  const bytes = entries.reduce((sum, { object }) => sum + 8 + objectBytes(object), 0);
  const list = new BodyWriter(bytes);
  for (const { object, first, last } of entries) list.u32(first).u32(last).object(object);
  return withPayload(new BodyWriter(20).group(message).u32(entries.length), list.bytes);
}

function readTail(reader: BodyReader, body: Buffer, payload: ByteParts): Messages.Tail {
  const group = readGroup(reader, body, 0);
  const count = reader.u32();
  const list = new BodyReader(wholePayload(payload, reader.u32()));
  const entries: Messages.TailEntry[] = [];
  for (let index = 0; index < count; index += 1) {
    const [first, last] = [list.u32(), list.u32()];
    if (first > last || last >= BLOCKS_MAX)
      throw badFrame(`An entry of a tail is about blocks ${first} to ${last}`);
    entries.push({ object: readObject(list), first, last });
  }
  list.end();
  return { type: 'tail', ...group, entries };
}

// INVENTORY: group, 8 id, 4 entries, cursor, 4 checksum of the payload. An entry: 8 version, 4 length,
// 1 (1 closed, 2 broken), object.
const CLOSED = 1;
const BROKEN = 2;

function encodeInventory(message: Messages.Inventory): Encoded {
  const { entries, id, next } = message;
  const bytes = entries.reduce((sum, { object }) => sum + 13 + objectBytes(object), 0);
  const list = new BodyWriter(bytes);
  for (const { object, version, length, isClosed, isBroken } of entries) {
    const flags = (isClosed ? CLOSED : 0) + (isBroken ? BROKEN : 0);
    list.u64(version).u32(length).u8(flags).object(object);
  }
  const body = new BodyWriter(GROUP_BYTES + 16 + cursorBytes(next)).group(message).u64(id);
  return withPayload(body.u32(entries.length).cursor(next), list.bytes);
}

function readInventory(reader: BodyReader, body: Buffer, payload: ByteParts): Messages.Inventory {
  const group = readGroup(reader, body, 0);
  const id = reader.u64();
  const count = reader.u32();
  const next = readCursor(reader);
  if (next !== null && next.length > CURSOR_BYTES_MAX) throw badFrame('A page ends too far away');
  const list = new BodyReader(wholePayload(payload, reader.u32()));
  const entries: InventoryEntry[] = [];
  for (let index = 0; index < count; index += 1) {
    const version = list.u64();
    const length = list.u32();
    const flags = list.u8();
    if (flags > CLOSED + BROKEN) throw badFrame('An entry of an inventory has unknown flags');
    const [isClosed, isBroken] = [(flags & CLOSED) !== 0, (flags & BROKEN) !== 0];
    entries.push({ object: readObject(list), version, length, isClosed, isBroken });
  }
  list.end();
  return { type: 'inventory', ...group, id, entries, next };
}

// DIGEST: group (flags PRESENT, INLINE), 8 id, 8 version, 4 length, 4 states, 4 checksums, 4 blocks unknown, 4 checksum
// of the payload, which is all of these one after the other: 1 byte a state, 4 each of the others, then 8 bytes of print
// for each checksum. Without PRESENT all but the id is zero.
const DIGEST_BYTES = 48;

function encodeDigest(message: Messages.Digest): Encoded {
  const { id, digest } = message;
  const body = new BodyWriter(DIGEST_BYTES);
  if (digest === null) {
    body.group(message).u64(id).u64(0).u32(0).u32(0).u32(0).u32(0);
    return withPayload(body, new BodyWriter(0).bytes);
  }
  const { version, length, isInline, states, checks, unknown, prints } = digest;
  body
    .group(message, PRESENT + (isInline ? INLINE : 0))
    .u64(id)
    .u64(version)
    .u32(length);
  body.u32(states.length).u32(checks.length).u32(unknown.length);
  const numbers = checks.length + unknown.length + prints.length;
  const list = new BodyWriter(states.length + 4 * numbers);
  list.raw(states).numbers(checks).numbers(unknown).numbers(prints);
  return withPayload(body, list.bytes);
}

function readDigest(reader: BodyReader, body: Buffer, payload: ByteParts): Messages.Digest {
  const group = readGroup(reader, body, PRESENT + INLINE);
  const flags = flagsIn(body, PRESENT + INLINE);
  const id = reader.u64();
  const version = reader.u64();
  const length = reader.u32();
  const counts = [reader.u32(), reader.u32(), reader.u32()] as const;
  const bytes = wholePayload(payload, reader.u32());
  if (counts.some((count) => count > BLOCKS_MAX)) throw badFrame('A digest has too many blocks');
  const list = new BodyReader(bytes);
  const states = Uint8Array.from(list.bytes(counts[0]));
  const checks = readNumbers(list, counts[1]);
  const unknown = [...readNumbers(list, counts[2])];
  const prints = readNumbers(list, counts[1] * PRINT_NUMBERS);
  list.end();
  if ((flags & PRESENT) === 0) {
    if (flags !== 0 || bytes.length > 0 || version !== 0 || length !== 0)
      throw badFrame('A digest of nothing holds something');
    return { type: 'digest', ...group, id, digest: null };
  }
  if (states.some((state) => state > 2)) throw badFrame('A digest has a state that there is not');
  const isInline = (flags & INLINE) !== 0;
  const digest = { version, length, isInline, states, checks, unknown, prints };
  return { type: 'digest', ...group, id, digest };
}

// BLOCKS: group (flags PRESENT), 8 id, a checksum of each block. Payload: the blocks.
function encodeBlocks(message: Messages.Blocks): Encoded {
  const { id, blocks, checks } = message;
  const count = blocks === null ? 0 : checks.length;
  const flags = blocks === null ? 0 : PRESENT;
  const body = new BodyWriter(GROUP_BYTES + 8 + count * 4).group(message, flags).u64(id);
  if (blocks !== null) body.numbers(checks);
  return { body: body.bytes, payload: blocks ?? NOTHING };
}

function readBlocks(reader: BodyReader, body: Buffer, payload: ByteParts): Messages.Blocks {
  const group = readGroup(reader, body, PRESENT);
  const isPresent = flagsIn(body, PRESENT) === PRESENT;
  const id = reader.u64();
  const checks = readNumbers(reader, isPresent ? Math.floor(reader.left / 4) : 0);
  if (partsBytes(payload) !== checks.length * BLOCK_BYTES)
    throw badFrame('A frame has other than its blocks as payload');
  return { type: 'blocks', ...group, id, blocks: isPresent ? payload : null, checks };
}

// VERIFIED: group (flags PRESENT), 8 id, 4 blocks, 4 checksum of the payload: their numbers, 4 bytes each.
function encodeVerified(message: Messages.Verified): Encoded {
  const { id, bad } = message;
  const list = new BodyWriter(4 * (bad?.length ?? 0)).numbers(bad ?? []);
  const body = new BodyWriter(28).group(message, bad === null ? 0 : PRESENT).u64(id);
  return withPayload(body.u32(bad?.length ?? 0), list.bytes);
}

function readVerified(reader: BodyReader, body: Buffer, payload: ByteParts): Messages.Verified {
  const group = readGroup(reader, body, PRESENT);
  const isPresent = flagsIn(body, PRESENT) === PRESENT;
  const id = reader.u64();
  const count = reader.u32();
  const list = new BodyReader(wholePayload(payload, reader.u32()));
  const bad = [...readNumbers(list, count)];
  list.end();
  if (!isPresent && count > 0) throw badFrame('An object that is not here has bad blocks');
  return { type: 'verified', ...group, id, bad: isPresent ? bad : null };
}

function plain(body: BodyWriter): Encoded {
  return { body: body.bytes, payload: NOTHING };
}

/** @param body - Whose last field is the checksum of `payload`. */
function withPayload(body: BodyWriter, payload: Buffer): Encoded {
  body.u32(crc32c(payload));
  return { body: body.bytes, payload: payload.length === 0 ? NOTHING : [payload] };
}
