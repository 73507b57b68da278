/** One of each message between daemons, and what makes them at random. */
import { crc32c, OBJECT_KIND, ObjectRef, placeOf } from '@store/core';
import fc from 'fast-check';
import type { Change, ObjectPlace } from '../../replication/change.js';
import type { PeerMessage } from '../../replication/peer-message.js';

const GROUP = { pool: 7, group: 258, epoch: 3 } as const;

function sampleObject(): ObjectPlace {
  const { kind, key, hash, place } = new ObjectRef(OBJECT_KIND.imageData, 'd7_3', 'd7_0');
  return { kind, key, hash, place };
}

/** Every message, with short lists, so that it can be read. */
export function sampleMessages(): readonly PeerMessage[] {
  const object = sampleObject();
  const block = Buffer.alloc(4096, 'block');
  const write: Change = {
    op: 'write',
    object,
    version: 12_884_901_893,
    first: 2,
    blocks: [block.subarray(0, 1000), block.subarray(1000)],
    checks: Uint32Array.of(crc32c(block)),
    length: 12_288,
    isDurable: true,
  };
  const prepare = {
    type: 'prepare',
    ...GROUP,
    index: 4,
    number: 12_884_901_893,
    committed: 12_884_901_892,
    isPartial: false,
  } as const;
  const digest = {
    version: 9,
    length: 12_288,
    isInline: false,
    states: Uint8Array.of(0, 1, 2),
    checks: Uint32Array.of(0, 0x01020304, 0),
    prints: Uint32Array.of(0, 0, 0x05060708, 0x090a0b0c, 0, 0),
    unknown: [1],
  };
  return [
    { type: 'heartbeat', sentAt: 1234.5, mapVersion: 17 },
    { type: 'grant', sentAt: 1234.5, mapVersion: 17, isFull: true },
    { ...prepare, change: write },
    {
      ...prepare,
      isPartial: true,
      change: { op: 'states', object, version: 8, first: 1, count: 3, state: 2, length: 16_384 },
    },
    {
      ...prepare,
      change: { op: 'states', object, version: 8, first: 0, count: 0, state: 0, length: 16_384 },
    },
    {
      ...prepare,
      change: { op: 'whole', object, version: 8, content: Buffer.from('hello') },
    },
    { ...prepare, change: { op: 'whole', object, version: 8, content: Buffer.alloc(0) } },
    { ...prepare, change: { op: 'delete', object, version: 8 } },
    { type: 'ack', ...GROUP, indexes: [4, 5] },
    { type: 'refusal', ...GROUP, index: 6, reason: 'full' },
    { type: 'behind', ...GROUP, index: 4, mapVersion: 17 },
    { type: 'sync', id: 5, pool: 7 },
    { type: 'synced', id: 5, isDone: true },
    { type: 'askTail', ...GROUP },
    { type: 'tail', ...GROUP, entries: [{ object, first: 2, last: 2 }] },
    {
      type: 'askInventory',
      ...GROUP,
      id: 6,
      range: { from: 0x01020000, to: 0x0102ffff },
      after: null,
      limit: 1000,
    },
    {
      type: 'inventory',
      ...GROUP,
      id: 6,
      entries: [{ object, version: 9, length: 12_288, isClosed: true, isBroken: false }],
      next: Buffer.from('next'),
    },
    { type: 'askDigest', ...GROUP, id: 7, object },
    { type: 'digest', ...GROUP, id: 7, digest },
    { type: 'digest', ...GROUP, id: 7, digest: null },
    { type: 'askBlocks', ...GROUP, id: 8, object, first: 1, count: 1 },
    { type: 'blocks', ...GROUP, id: 8, blocks: [block], checks: Uint32Array.of(crc32c(block)) },
    { type: 'blocks', ...GROUP, id: 8, blocks: null, checks: new Uint32Array(0) },
    { type: 'askVerify', ...GROUP, id: 9, object },
    { type: 'verified', ...GROUP, id: 9, bad: [1, 2] },
    { type: 'verified', ...GROUP, id: 9, bad: null },
    { type: 'askMap', version: 17 },
    { type: 'newerMap', bytes: Buffer.from('a map') },
    { type: 'leaving' },
    { type: 'doneWithout', mapVersion: 17 },
  ];
}

/** Objects as programs make them. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u64 = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const length = fc.nat({ max: 2 ** 30 });
const group = { pool: u32, group: fc.nat({ max: 0xffff }), epoch: u32 };
const bytes = (max: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength: max }).map((array) => Buffer.from(array));
const cursor = fc.option(bytes(520));
const object: fc.Arbitrary<ObjectPlace> = record({
  kind: fc.constantFrom(...Object.values(OBJECT_KIND)),
  key: fc.uint8Array({ minLength: 1, maxLength: 512 }).map((array) => Buffer.from(array)),
  hash: record({ high: u32, low: u32 }),
}).map((parts) => ({ ...parts, place: placeOf(parts.hash, parts.key) }));
const blocks = fc
  .array(fc.nat({ max: 255 }), { minLength: 1, maxLength: 3 })
  .map((fills) => fills.map((fill) => Buffer.alloc(4096, fill)));
const first = fc.nat({ max: 1000 });

const change: fc.Arbitrary<Change> = fc.oneof(
  record({ object, version: u64, first, blocks, length, isDurable: fc.boolean() }).map(
    (fields) => ({
      ...fields,
      op: 'write' as const,
      checks: checksOf(fields.blocks),
    }),
  ),
  record({
    op: fc.constant('states' as const),
    ...{ object, version: u64, first, length },
    count: fc.nat({ max: 1024 }),
    state: fc.constantFrom(0 as const, 2 as const),
  }),
  record({ op: fc.constant('whole' as const), object, version: u64, content: bytes(100) }),
  record({ op: fc.constant('delete' as const), object, version: u64 }),
);

function checksOf(parts: readonly Buffer[]): Uint32Array {
  return Uint32Array.from(parts.map((block) => crc32c(block)));
}

const type = <T extends string>(name: T): fc.Arbitrary<T> => fc.constant(name);
const time = fc.double({ noDefaultInfinity: true, noNaN: true });

/** Any message. */
export const anyMessage: fc.Arbitrary<PeerMessage> = fc.oneof(
  record({ type: type('heartbeat'), sentAt: time, mapVersion: u64 }),
  record({ type: type('grant'), sentAt: time, mapVersion: u64, isFull: fc.boolean() }),
  record({
    type: type('prepare'),
    ...group,
    ...{ index: u64, number: u64, committed: u64, isPartial: fc.boolean(), change },
  }),
  record({ type: type('ack'), ...group, indexes: fc.array(u64, { minLength: 1 }) }),
  record({
    type: type('refusal'),
    ...group,
    index: u64,
    reason: fc.constantFrom('full' as const, 'damaged' as const, 'leaving' as const),
  }),
  record({ type: type('behind'), ...group, index: u64, mapVersion: u64 }),
  record({ type: type('sync'), id: u64, pool: u32 }),
  record({ type: type('synced'), id: u64, isDone: fc.boolean() }),
  fc.constant({ type: 'leaving' as const }),
  record({ type: type('doneWithout'), mapVersion: u64 }),
  record({ type: type('askTail'), ...group }),
  record({
    type: type('tail'),
    ...group,
    entries: fc.array(record({ object, first, last: fc.integer({ min: 1000, max: 0xffff }) })),
  }),
  record({
    type: type('askInventory'),
    ...group,
    ...{ id: u64, range: record({ from: u32, to: u32 }), after: cursor, limit: u32 },
  }),
  record({
    type: type('inventory'),
    ...group,
    id: u64,
    entries: fc.array(
      record({
        ...{ object, version: u64, length: u32 },
        ...{ isClosed: fc.boolean(), isBroken: fc.boolean() },
      }),
    ),
    next: cursor,
  }),
  record({ type: type('askDigest'), ...group, id: u64, object }),
  record({
    type: type('digest'),
    ...group,
    id: u64,
    digest: fc.option(
      record({
        ...{ version: u64, length: u32, isInline: fc.boolean() },
        states: fc.uint8Array({ max: 2 }),
        checks: fc.uint32Array(),
        unknown: fc.array(u32),
      }).chain((digest) =>
        fc
          .uint32Array({ minLength: digest.checks.length * 2, maxLength: digest.checks.length * 2 })
          .map((prints) => ({ ...digest, prints })),
      ),
    ),
  }),
  record({
    type: type('askBlocks'),
    ...group,
    ...{ id: u64, object, first, count: fc.integer({ min: 1, max: 1025 }) },
  }),
  record({ type: type('blocks'), ...group, id: u64, blocks: fc.option(blocks) }).map((fields) => ({
    ...fields,
    checks: checksOf(fields.blocks ?? []),
  })),
  record({ type: type('askVerify'), ...group, id: u64, object }),
  record({ type: type('verified'), ...group, id: u64, bad: fc.option(fc.array(u32)) }),
  record({ type: type('askMap'), version: u64 }),
  record({ type: type('newerMap'), bytes: bytes(200) }),
);
