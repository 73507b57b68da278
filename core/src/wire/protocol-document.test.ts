/**
 * The examples in PROTOCOL.md are the bytes that this code makes. A change that fails this test changes the protocol: it
 * needs a new PROTOCOL_VERSION. `STORE_WRITE_EXAMPLES=1` writes the examples into the document anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { deriveDatagramKeys } from '../auth/datagram-keys.js';
import { PlainSealer } from '../auth/datagram-plain.js';
import { Sealer } from '../auth/datagram-seal.js';
import { makeProof, type Meeting } from '../auth/proof.js';
import { BLOCK_STATE, OBJECT_KIND, ObjectRef, WRITE_FLAGS } from '../pool/object-pool.js';
import { crc32c } from '../util/crc32c.js';
import { ERRORS } from '../util/errors.js';
import { pieceChecksOf } from '../util/piece-checks.js';
import { HEADER_BYTES, writeAnswerHeader, writeRequestHeader, writeU64 } from './frame-header.js';
import { encodeChain } from './chain-message.js';
import { encodeFlush } from './flush-request.js';
import {
  encodeBegin,
  encodeBeginAnswer,
  encodeHello,
  encodeHelloAnswer,
  encodeListPools,
  encodeOpenPool,
  encodeOpenPoolAnswer,
  encodePoolNames,
} from './greeting.js';
import {
  encodeExtents,
  encodeListPage,
  encodeListRequest,
  STAT_BYTES,
  writeStat,
} from './object-answers.js';
import { encodeGuardRequest } from './guard-request.js';
import { objectRequestBytes, writeChecks, writeObjectRequest } from './object-request.js';
import { OP } from './ops.js';

const DOCUMENT = new URL('../../PROTOCOL.md', import.meta.url);
const NOTHING: Buffer = Buffer.alloc(0);
const counted = (count: number, from: number): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, index) => from + index));

const clientNonce = counted(32, 0x00);
const daemonNonce = counted(32, 0x20);
const diskId = counted(16, 0x40);
const startId = counted(16, 0x50);
const lineage = counted(16, 0x60);
const session = counted(16, 0x70);
const association = counted(8, 0x80);
const key = counted(32, 0x90);
const ticketBytes = Buffer.from('a ticket');
const meeting: Meeting = {
  clientNonce,
  daemonNonce,
  diskId,
  startId,
  ticketBytes,
  exporter: NOTHING,
};
const keys = deriveDatagramKeys(key, clientNonce, daemonNonce);

function request(
  op: number,
  requestId: number,
  floor: number,
  body = NOTHING,
  payload = NOTHING,
  epoch = 0,
): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + body.length);
  body.copy(out, HEADER_BYTES);
  writeRequestHeader(out, 0, op, requestId, floor, body.length, payload.length, epoch);
  return Buffer.concat([out, payload]);
}

function answer(
  op: number,
  requestId: number,
  status: number,
  body = NOTHING,
  payload = NOTHING,
): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + body.length);
  body.copy(out, HEADER_BYTES);
  writeAnswerHeader(out, 0, op, requestId, status, body.length, payload.length);
  return Buffer.concat([out, payload]);
}

interface ObjectFields {
  readonly flags?: number;
  readonly offset?: number;
  readonly bytes?: number;
  readonly extra?: number;
  readonly checks?: Uint32Array;
}

function object(ref: ObjectRef, fields: ObjectFields = {}): Buffer {
  const { flags = 0, offset = 0, bytes = 0, extra = 0, checks = new Uint32Array(0) } = fields;
  const out = Buffer.alloc(objectRequestBytes(ref) + checks.length * 4);
  writeChecks(out, writeObjectRequest(out, 0, 0, ref, flags, offset, bytes, extra), checks);
  return out;
}

const data = new ObjectRef(OBJECT_KIND.imageData, 'd7_3', 'd7_0');
const image = new ObjectRef(OBJECT_KIND.imageHeader, 'vm1');
const hello = Buffer.from('hello');
const stat = { kind: OBJECT_KIND.imageHeader, length: 5, version: 9, allocatedBytes: 4096 };
const checksOf = (offset: number, bytes: Buffer): Uint32Array => pieceChecksOf(offset, [bytes]);
const u32 = (value: number): Buffer => {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
};
const u64 = (value: number): Buffer => {
  const out = Buffer.alloc(8);
  writeU64(out, 0, value);
  return out;
};
const statBody = Buffer.alloc(STAT_BYTES);
writeStat(statBody, 0, stat);

const EXAMPLES: Readonly<Record<string, Buffer>> = {
  'start-tls': request(OP.startTls, 1, 0),
  hello: request(
    OP.hello,
    1,
    0,
    encodeHello({
      versionMin: 1,
      versionMax: 1,
      name: 'store-nbd vm1',
      nonce: clientNonce,
      ticket: NOTHING,
    }),
  ),
  'hello-answer': answer(
    OP.hello,
    1,
    0,
    encodeHelloAnswer({ version: 1, diskId, startId, nonce: daemonNonce, proof: NOTHING }),
  ),
  begin: request(
    OP.begin,
    2,
    0,
    encodeBegin({ session, incarnation: 1, proof: NOTHING, datagramBytes: 8192 }),
  ),
  'begin-answer': answer(
    OP.begin,
    2,
    0,
    encodeBeginAnswer({
      resumed: false,
      lineage,
      requestsMax: 512,
      bytesMax: 33_554_432,
      association,
      datagramBytes: 8192,
      isSealed: false,
    }),
  ),
  'open-pool': request(OP.openPool, 1, 1, encodeOpenPool({ name: 'pool', create: true })),
  'open-pool-answer': answer(
    OP.openPool,
    1,
    0,
    encodeOpenPoolAnswer({ pool: 0, objectBytes: 4_194_304 }),
  ),
  'list-pools': request(OP.listPools, 2, 2, encodeListPools('')),
  'list-pools-answer': answer(
    OP.listPools,
    2,
    0,
    encodePoolNames({ names: ['pool'], isLast: true }),
  ),
  write: request(
    OP.write,
    3,
    2,
    object(data, {
      flags: WRITE_FLAGS.durable,
      offset: 4093,
      bytes: 5,
      checks: checksOf(4093, hello),
    }),
    hello,
  ),
  'write-answer': answer(OP.write, 3, 0),
  read: request(OP.read, 4, 4, object(data, { offset: 4093, bytes: 5 })),
  'read-answer': answer(
    OP.read,
    4,
    0,
    Buffer.concat([...checksOf(4093, hello)].map((check) => u32(check))),
    hello,
  ),
  'read-at-epoch': request(OP.read, 4, 4, object(data, { offset: 4093, bytes: 5 }), NOTHING, 12),
  zero: request(
    OP.zero,
    5,
    5,
    object(data, { flags: WRITE_FLAGS.allocate, offset: 0, bytes: 4096 }),
  ),
  extents: request(OP.extents, 6, 6, object(data, { bytes: 12_288 })),
  'extents-answer': answer(
    OP.extents,
    6,
    0,
    encodeExtents([
      { bytes: 4096, state: BLOCK_STATE.zero },
      { bytes: 4096, state: BLOCK_STATE.data },
      { bytes: 4096, state: BLOCK_STATE.absent },
    ]),
  ),
  flush: request(OP.flush, 7, 7, encodeFlush(0, [])),
  'flush-of-groups': request(
    OP.flush,
    14,
    14,
    encodeFlush(0, [
      { group: 3, epoch: 12 },
      { group: 5, epoch: 1 },
    ]),
  ),
  'compare-and-swap': request(
    OP.compareAndSwap,
    8,
    8,
    object(image, { bytes: 5, extra: 8, checks: Uint32Array.of(crc32c(hello)) }),
    hello,
  ),
  'compare-and-swap-answer': answer(OP.compareAndSwap, 8, 0, u64(9)),
  stat: request(OP.stat, 9, 9, object(image)),
  'stat-answer': answer(OP.stat, 9, 0, statBody),
  list: request(
    OP.list,
    10,
    10,
    encodeListRequest(0, { kind: OBJECT_KIND.imageHeader, limit: 100, prefix: Buffer.from('vm') }),
  ),
  'list-answer': answer(
    OP.list,
    10,
    0,
    encodeListPage({ entries: [{ key: Buffer.from('vm1'), stat }], cursor: Buffer.from('here') }),
  ),
  'register-chain': request(
    OP.registerChain,
    16,
    16,
    encodeChain({
      layers: [{ id: 'd7', overlap: 0 }],
      claim: { image: 'a5', token: 7, layer: 0 },
    }),
  ),
  'raise-guard': request(
    OP.raiseGuard,
    17,
    17,
    encodeGuardRequest(
      0,
      { kind: 'raise', guard: { image: 'a5', token: 7, layer: 0, layerId: 'd7' } },
      [{ group: 3, epoch: 12 }],
    ),
  ),
  'list-of-groups': request(
    OP.list,
    15,
    15,
    encodeListRequest(0, { limit: 100 }, [{ group: 3, epoch: 12 }]),
  ),
  delete: request(OP.delete, 11, 11, object(image, { extra: 9 })),
  'delete-answer': answer(OP.delete, 11, 0, Buffer.from([1])),
  cancel: request(OP.cancel, 12, 11, u64(11)),
  'error-answer': answer(OP.stat, 13, ERRORS.E_DENIED.status, Buffer.from('No, you may not')),
  'proof-of-daemon': makeProof(key, 'daemon', meeting),
  'proof-of-client': makeProof(key, 'client', meeting),
  'key-to-daemon': keys.toDaemon,
  'key-to-client': keys.toClient,
  'plain-datagram': new PlainSealer(association).seal([request(OP.flush, 7, 7, u32(0))]),
  'sealed-datagram': new Sealer(keys.toDaemon, association).seal([request(OP.flush, 7, 7, u32(0))]),
};

/** As `hexdump -C` shows bytes. */
function dump(bytes: Buffer): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.subarray(at, at + 16);
    const hex = line.toString('hex').replace(/(..)/g, '$1 ').padEnd(48);
    const text = line.toString('latin1').replace(/[^ -_a-~]/g, '.'); // nor the character that ends code
    lines.push(`${at.toString(16).padStart(4, '0')}  ${hex} |${text}|`);
  }
  return lines.join('\n');
}

const BLOCK = /```hex ([a-z-]+)\n([^`]*)```/g;

t.test('every example in PROTOCOL.md is what the code makes', async (t) => {
  let text = readFileSync(DOCUMENT, 'utf8');
  if (process.env['STORE_WRITE_EXAMPLES'] === '1') {
    text = text.replace(BLOCK, (whole, name: string) => {
      const bytes = EXAMPLES[name];
      return bytes === undefined ? whole : `\`\`\`hex ${name}\n${dump(bytes)}\n\`\`\``;
    });
    writeFileSync(DOCUMENT, text);
  }
  const shown = new Map(
    [...text.matchAll(BLOCK)].map(([, name = '', bytes = '']) => [name, bytes]),
  );
  for (const [name, bytes] of Object.entries(EXAMPLES))
    t.equal(shown.get(name), `${dump(bytes)}\n`, name);
  t.strictSame([...shown.keys()].sort(), Object.keys(EXAMPLES).sort(), 'no example is unknown');
});

t.test('every operation, status and limit is in PROTOCOL.md with its number', async (t) => {
  const text = readFileSync(DOCUMENT, 'utf8');
  const constant = (name: string): string => name.replace(/[A-Z]/g, '_$&').toUpperCase();
  for (const [name, number] of Object.entries(OP))
    t.match(text, new RegExp(`\\| *${number} *\\| *${constant(name)} *\\|`), name);
  for (const [code, { status, retry }] of Object.entries(ERRORS))
    t.match(text, new RegExp(`\\| *${status} *\\| *${code} *\\| *${retry} *\\|`), code);
});
