// How answers look: simple replies and chunks, to the byte.
import { StoreError, type Done } from '@store/core';
import t, { type Test } from 'tap';
import type { Backend } from '../backend.js';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_ERROR, NBD_OPT } from '../protocol/constants.js';
import { READ_PIECE_BYTES_MAX } from '../protocol/limits.js';
import { option, RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { chunk, compactRequest, DONE, errorPayload, fields, simpleReply } from '../testing/wire.js';

const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES } = NBD_CMD;
const { EINVAL, EIO, EOVERFLOW, ENOSPC } = NBD_ERROR;
const MIB = 2 ** 20;
const KIB64 = 65_536;
const DF = 4;
const NONE = 0;
const DATA = 1;
const HOLE = 2;
const ERROR = 0x8001;
const ERROR_OFFSET = 0x8002;

async function structured(t: Test, backend: Backend = new MemoryBackend(MIB)): Promise<RawClient> {
  const { server, stop } = await startServer(memoryCatalog({ disk: backend }));
  t.teardown(stop);
  const client = await RawClient.greeted(server.address);
  await client.enter('', [option(NBD_OPT.STRUCTURED_REPLY)]);
  return client;
}

const data = (flags: number, offset: number, bytes: Buffer): Buffer =>
  chunk(flags, DATA, 1, Buffer.concat([fields([offset, 8]), bytes]));
const hole = (flags: number, offset: number, bytes: number): Buffer =>
  chunk(flags, HOLE, 1, fields([offset, 8], [bytes, 4]));
const pastEnd = (command: string, bytes: number, offset: number): string =>
  `${command} of ${bytes} bytes at ${offset} goes past the end of the export, ${MIB} bytes`;

t.test('R1, R2: nothing negotiated: simple replies, and data only on success', async (t) => {
  const { server, stop } = await startServer(memoryCatalog({ disk: new MemoryBackend(MIB) }));
  t.teardown(stop);
  const client = await RawClient.go(server.address);
  client.send(compactRequest({ type: WRITE, cookie: 1, payload: Buffer.from('abc') }));
  client.send(compactRequest({ type: READ, cookie: 2, length: 3 }));
  client.send(compactRequest({ type: READ, cookie: 3, offset: MIB, length: 3 }));
  client.send(compactRequest({ type: 99, cookie: 4, length: 3 }));
  await client.expect(
    Buffer.from('67446698' + '00000000' + '0000000000000001', 'hex'),
    Buffer.from('67446698' + '00000000' + '0000000000000002' + '616263', 'hex'),
    Buffer.from('67446698' + '00000016' + '0000000000000003', 'hex'),
    Buffer.from('67446698' + '00000016' + '0000000000000004', 'hex'),
  );
  client.close();
});

t.test('R2, R3, R5, R10: structured: every READ and every error has chunks', async (t) => {
  const client = await structured(t);
  client.send(compactRequest({ type: WRITE, cookie: 1, offset: 5, payload: Buffer.from('abc') }));
  await client.expect(simpleReply(0, 1));
  client.send(compactRequest({ type: READ, cookie: 1, offset: 5, length: 3 }));
  await client.expect(
    Buffer.from('668e33ef' + '0001' + '0001' + '0000000000000001' + '0000000b', 'hex'),
    Buffer.from('0000000000000005' + '616263', 'hex'),
  );
  client.send(compactRequest({ type: READ, cookie: 1, length: 0 }));
  await client.expect(chunk(DONE, NONE, 1));
  client.send(compactRequest({ type: READ, cookie: 1, offset: MIB - 1, length: 2 }));
  const message = pastEnd('READ', 2, MIB - 1);
  await client.expect(chunk(DONE, ERROR, 1, errorPayload(EINVAL, message)));
  client.send(compactRequest({ type: WRITE_ZEROES, cookie: 1, offset: MIB, length: 9 }));
  const more = pastEnd('WRITE_ZEROES', 9, MIB);
  await client.expect(chunk(DONE, ERROR, 1, errorPayload(ENOSPC, more)));
  for (const type of [FLUSH, TRIM]) {
    client.send(compactRequest({ type, cookie: 1 }));
    await client.expect(simpleReply(0, 1));
  }
  client.close();
});

t.test(
  'R3, R4, R6, R7, R8: a sparse READ is data and holes that cover it, DONE on the last',
  async (t) => {
    const client = await structured(t);
    const bytes = Buffer.alloc(KIB64, 'data');
    await client.ask({ type: WRITE, cookie: 1, offset: KIB64, payload: bytes });
    client.send(compactRequest({ type: READ, cookie: 1, length: 4 * KIB64 }));
    await client.expect(hole(0, 0, KIB64), data(0, KIB64, bytes), hole(DONE, 2 * KIB64, 2 * KIB64));
    client.send(compactRequest({ type: READ, cookie: 1, offset: 1000, length: 2 * KIB64 - 2000 }));
    await client.expect(hole(0, 1000, KIB64 - 1000), data(DONE, KIB64, bytes.subarray(1000)));
    client.send(compactRequest({ type: READ, cookie: 1, offset: 8 * KIB64, length: KIB64 }));
    await client.expect(hole(DONE, 8 * KIB64, KIB64));
    client.send(compactRequest({ type: READ, cookie: 1, offset: KIB64, length: KIB64 }));
    await client.expect(data(DONE, KIB64, bytes));
    client.close();
  },
);

t.test('R8: a READ of many small pieces is sent as plain data, in few chunks', async (t) => {
  const client = await structured(t, new MemoryBackend(4 * MIB));
  const expected = Buffer.alloc(4 * MIB);
  for (let at = 0; at < 4 * MIB; at += 2 * KIB64) {
    await client.ask({ type: WRITE, cookie: 1, offset: at, payload: Buffer.from('x') });
    expected[at] = 0x78;
  }
  client.send(compactRequest({ type: READ, cookie: 1, length: 4 * MIB }));
  for (let at = 0; at < 4 * MIB; at += READ_PIECE_BYTES_MAX) {
    const piece = expected.subarray(at, at + READ_PIECE_BYTES_MAX);
    await client.expect(data(at + piece.length === 4 * MIB ? DONE : 0, at, piece));
  }
  client.close();
});

t.test('R12, M8: DF is one chunk of data, zeros and all, up to 32 MiB', async (t) => {
  const client = await structured(t, new MemoryBackend(64 * MIB));
  await client.ask({ type: WRITE, cookie: 1, offset: KIB64, payload: Buffer.from('x') });
  for (const bytes of [1, KIB64, 4 * KIB64, 32 * MIB]) {
    client.send(compactRequest({ type: READ, cookie: 1, length: bytes, flags: DF }));
    const expected = Buffer.alloc(bytes);
    if (bytes > KIB64) expected[KIB64] = 0x78;
    await client.expect(data(DONE, 0, expected));
  }
  client.send(compactRequest({ type: READ, cookie: 1, length: 32 * MIB + 1, flags: DF }));
  await client.expect(chunk(DONE, ERROR, 1, errorPayload(EOVERFLOW, 'A READ has at most 32 MiB')));
  client.close();
});

/** Every READ that touches `badOffset` fails; writes fail always. */
class DamagedBackend extends MemoryBackend {
  readonly #badOffset: number;
  readonly #message: string;

  constructor(bytes: number, badOffset: number, message: string) {
    super(bytes);
    this.#badOffset = badOffset;
    this.#message = message;
  }

  override read(offset: number, target: Buffer, done: Done): void {
    if (offset <= this.#badOffset && this.#badOffset < offset + target.length)
      setImmediate(() => done(new StoreError('E_CHECKSUM', this.#message)));
    else super.read(offset, target, done);
  }

  override flush(done: Done): void {
    done(new StoreError('E_DISK_FAILED', this.#message));
  }
}

t.test(
  'R9, R11: when one piece fails the last chunk is the error and its place, and no data says DONE',
  async (t) => {
    const client = await structured(t, new DamagedBackend(MIB, 5 * KIB64, 'It is damaged'));
    for (const at of [KIB64, 3 * KIB64, 5 * KIB64])
      await client.ask({ type: WRITE, cookie: 1, offset: at, payload: Buffer.alloc(KIB64, 1) });
    client.send(compactRequest({ type: READ, cookie: 1, offset: 512, length: 8 * KIB64 }));
    const good = Buffer.alloc(KIB64, 1);
    await client.expect(hole(0, 512, KIB64 - 512), data(0, KIB64, good), hole(0, 2 * KIB64, KIB64));
    await client.expect(data(0, 3 * KIB64, good), hole(0, 4 * KIB64, KIB64));
    await client.expect(hole(0, 6 * KIB64, 2 * KIB64 + 512));
    await client.expect(chunk(DONE, ERROR_OFFSET, 1, errorPayload(EIO, 'It is damaged', 512)));
    client.send(compactRequest({ type: READ, cookie: 1, offset: KIB64, length: 4 }));
    await client.expect(data(DONE, KIB64, Buffer.alloc(4, 1)));
    client.close();
  },
);

t.test('R10: messages have at most 4096 bytes of UTF-8; FLUSH has no place to name', async (t) => {
  const client = await structured(t, new DamagedBackend(MIB, 0, 'ü'.repeat(5000)));
  client.send(compactRequest({ type: FLUSH, cookie: 1 }));
  await client.expect(chunk(DONE, ERROR, 1, errorPayload(EIO, 'ü'.repeat(2048))));
  client.send(compactRequest({ type: READ, cookie: 1, length: 1 }));
  await client.expect(chunk(DONE, ERROR_OFFSET, 1, errorPayload(EIO, 'ü'.repeat(2048), 0)));
  client.close();
});
