import { isDeepStrictEqual } from 'node:util';
import { FrameReader, HEADER_BYTES, putU32le, StoreError, writeRequestHeader } from '@store/core';
import fc from 'fast-check';
import t from 'tap';
import type { PeerMessage } from '../replication/peer-message.js';
import { decodePeerMessage, PeerEncoder } from './peer-codec.js';
import { ACKS_MAX, BLOCKS_MAX, checkPeerFrame, PEER } from './peer-ops.js';
import { anyMessage, sampleMessages } from './testing/sample-messages.js';

function frames(messages: readonly PeerMessage[]): Buffer {
  const encoder = new PeerEncoder();
  for (const message of messages) encoder.add(message);
  const { bytes } = encoder;
  const out = Buffer.concat(encoder.take());
  if (out.length !== bytes) throw new Error('the encoder counts its bytes');
  return out;
}

/** Reads what comes in these chunks, of either connection. */
function read(chunks: readonly Buffer[]): PeerMessage[] {
  const found: PeerMessage[] = [];
  const reader = new FrameReader({
    admit: (header) => {
      const isControl = outcome(() => checkPeerFrame(header, 'control')) === 'taken';
      checkPeerFrame(header, isControl ? 'control' : 'data');
      return true;
    },
    target: () => null,
  });
  for (const chunk of chunks) {
    reader.push(Buffer.from(chunk));
    while (reader.next())
      found.push(decodePeerMessage(reader.header.op, reader.body, reader.payload));
  }
  return found;
}

/** The same, whatever pieces its blocks are in. */
function joined(message: PeerMessage): PeerMessage {
  if (message.type === 'blocks' && message.blocks !== null)
    return { ...message, blocks: [Buffer.concat(message.blocks)] };
  if (message.type !== 'prepare' || message.change.op !== 'write') return message;
  const { change } = message;
  return { ...message, change: { ...change, blocks: [Buffer.concat(change.blocks)] } };
}

function flip(bytes: Buffer, bit: number): void {
  bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
}

function outcome(run: () => unknown): string {
  try {
    run();
    return 'taken';
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}

t.test('every message arrives as it was sent, whatever it is', async (t) => {
  fc.assert(
    fc.property(fc.array(anyMessage, { maxLength: 4 }), (messages) => {
      t.strictSame(read([frames(messages)]).map(joined), messages.map(joined));
    }),
    { numRuns: 300 },
  );
});

t.test('messages may be cut anywhere on the way', async (t) => {
  const messages = sampleMessages().filter(
    (message) => message.type !== 'prepare' || message.change.op !== 'write',
  );
  const bytes = frames(messages.filter(({ type }) => type !== 'blocks'));
  const whole = read([bytes]).map(joined);
  for (let at = 0; at <= bytes.length; at += 1)
    if (!isDeepStrictEqual(read([bytes.subarray(0, at), bytes.subarray(at)]), whole))
      t.fail(`cut at ${at}`);
  const single = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
  t.strictSame(read(single), whole, 'byte by byte');
  const write = frames(sampleMessages().filter(({ type }) => type === 'prepare'));
  const changes = read([write]).map(joined);
  for (let at = 0; at <= write.length; at += 37)
    t.strictSame(read([write.subarray(0, at), write.subarray(at)]).map(joined), changes);
});

t.test('a body that is cut short or too long is refused, its checksum or not', async (t) => {
  for (const message of sampleMessages()) {
    const bytes = frames([message]);
    const op = bytes.readUInt16LE(6);
    const body = bytes.subarray(HEADER_BYTES, HEADER_BYTES + bytes.readUInt32LE(32));
    const payload = bytes.subarray(HEADER_BYTES + body.length);
    const parts = payload.length === 0 ? [] : [payload];
    // One with fewer acks is one.
    const isWhole = (end: number): boolean => message.type === 'ack' && end % 8 === 4 && end >= 12;
    const taken = Array.from(body, (_, end) => end).filter(
      (end) => outcome(() => decodePeerMessage(op, body.subarray(0, end), parts)) === 'taken',
    );
    t.strictSame(taken, Array.from(body, (_, end) => end).filter(isWhole), message.type);
    const longer = Buffer.concat([body, Buffer.from([0])]);
    t.equal(
      outcome(() => decodePeerMessage(op, longer, parts)),
      'E_BAD_FRAME',
      `${message.type} with a byte more`,
    );
  }
});

t.test('a flipped bit is found, but for those of blocks, which have their checksums', async (t) => {
  for (const message of sampleMessages()) {
    const bytes = frames([message]);
    const hasBlocks = bytes.length > 4096;
    const end = hasBlocks ? bytes.length - 4096 : bytes.length;
    const taken: number[] = [];
    for (let bit = 0; bit < end * 8; bit += 1) {
      flip(bytes, bit);
      if (outcome(() => read([bytes])) === 'taken') taken.push(bit);
      flip(bytes, bit);
    }
    t.strictSame(taken, [], message.type);
  }
});

t.test(
  'what was changed on purpose, with good checksums, is refused or is a message',
  async (t) => {
    for (const message of sampleMessages()) {
      const bytes = frames([message]);
      const bodyBytes = bytes.readUInt32LE(32);
      const payload = bytes.subarray(HEADER_BYTES + bodyBytes);
      for (let bit = 0; bit < bodyBytes * 8; bit += 1) {
        const changed = Buffer.from(bytes);
        flip(changed, HEADER_BYTES * 8 + bit);
        writeRequestHeader(changed, 0, bytes.readUInt16LE(6), 0, 0, bodyBytes, payload.length);
        const end = outcome(() => read([changed]));
        if (end !== 'taken' && end !== 'E_BAD_FRAME') t.fail(`${message.type}, bit ${bit}: ${end}`);
      }
      t.pass(message.type);
    }
  },
);

t.test('nothing is longer than it may be, and numbers beyond 2^53 are none', async (t) => {
  const head = (op: number, bodyBytes: number, payloadBytes: number): Buffer => {
    const out = Buffer.alloc(HEADER_BYTES);
    writeRequestHeader(out, 0, op, 0, 0, bodyBytes, payloadBytes);
    return out;
  };
  for (const op of Object.values(PEER)) {
    t.equal(
      outcome(() => read([head(op, 65_536, 0)])),
      'E_BAD_FRAME',
      `body of ${op}`,
    );
    t.equal(
      outcome(() => read([head(op, 4, 2 ** 31)])),
      'E_BAD_FRAME',
      `payload of ${op}`,
    );
  }
  for (const op of [0, 19, 64, 95, 120, 65_535])
    t.equal(
      outcome(() => read([head(op, 0, 0)])),
      'E_BAD_FRAME',
      `operation ${op}`,
    );
  const version = Buffer.alloc(8, 0xff);
  t.equal(
    outcome(() => decodePeerMessage(PEER.askMap, version, [])),
    'E_BAD_FRAME',
  );
  const never = Buffer.alloc(16, 0xff); // not a number
  putU32le(never, 0, 8);
  putU32le(never, 0, 12);
  t.equal(
    outcome(() => decodePeerMessage(PEER.heartbeat, never, [])),
    'E_BAD_FRAME',
  );
});

t.test('a list that claims more than there is allocates nothing', async (t) => {
  const body = Buffer.alloc(48);
  body.writeUInt16LE(1, 10); // there is a digest
  body.writeUInt32LE(0xffff_ffff, 32); // of so many blocks
  t.equal(
    outcome(() => decodePeerMessage(PEER.digest, body, [])),
    'E_BAD_FRAME',
  );
  const tail = Buffer.alloc(20);
  tail.writeUInt32LE(0xffff_ffff, 12);
  t.equal(
    outcome(() => decodePeerMessage(PEER.tail, tail, [])),
    'E_BAD_FRAME',
  );
});

t.test('a change is about blocks that an object can have', async (t) => {
  const [, , write] = sampleMessages();
  if (write?.type !== 'prepare' || write.change.op !== 'write') throw new Error('a write');
  for (const first of [BLOCKS_MAX, 0xffff_ffff])
    t.equal(
      outcome(() => read([frames([{ ...write, change: { ...write.change, first } as never }])])),
      'E_BAD_FRAME',
    );
  const fewer = { ...write.change, blocks: [Buffer.alloc(4095)] };
  t.equal(
    outcome(() => read([frames([{ ...write, change: fewer as never }])])),
    'E_BAD_FRAME',
  );
});

t.test('acks beyond what fits into a frame go in the next', async (t) => {
  const indexes = Array.from({ length: ACKS_MAX + 3 }, (_, index) => index * 1000);
  const found = read([frames([{ type: 'ack', pool: 1, group: 2, epoch: 3, indexes }])]);
  t.equal(found.length, 2);
  t.strictSame(
    found.flatMap((message) => (message.type === 'ack' ? message.indexes : [])),
    indexes,
  );
});

t.test('blocks and contents are passed on, not copied', async (t) => {
  const encoder = new PeerEncoder();
  const messages = sampleMessages();
  for (const message of messages) encoder.add(message);
  const parts = encoder.take();
  for (const message of messages) {
    if (message.type !== 'prepare') continue;
    const { change } = message;
    if (change.op === 'write') for (const block of change.blocks) t.ok(parts.includes(block));
    if (change.op === 'whole' && change.content.length > 0) t.ok(parts.includes(change.content));
  }
});

t.test('the bytes of an ack and of a heartbeat are these', async (t) => {
  const ack = frames([{ type: 'ack', pool: 7, group: 258, epoch: 3, indexes: [4, 2 ** 33] }]);
  t.equal(ack.toString('hex', 0, 40), `73746f72010065000${'0'.repeat(47)}1c00000000000000`);
  t.equal(ack.toString('hex', 48), '07000000030000000201000004000000000000000000000002000000');
  const heartbeat = frames([{ type: 'heartbeat', sentAt: 1234.5, mapVersion: 17 }]);
  t.equal(heartbeat.toString('hex', 48), '00000000004a93401100000000000000');
});
