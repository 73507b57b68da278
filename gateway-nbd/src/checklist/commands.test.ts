// Command by command: what it does to the data, and what it answers.
import { BLOCK_STATE, StoreError, type Done, type DoneWith, type Extent } from '@store/core';
import t, { type Test } from 'tap';
import type { Backend, StatusRun } from '../backend.js';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_ERROR, NBD_OPT } from '../protocol/constants.js';
import { exportRequest, option, RawClient } from '../testing/raw-client.js';
import { FORMATS, Session } from '../testing/session.js';
import { HeldBackend, pause, startServer, timelessEnv } from '../testing/test-server.js';
import {
  chunk,
  compactRequest,
  contextRequest,
  DONE,
  fields,
  simpleReply,
} from '../testing/wire.js';

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = NBD_CMD;
const { EINVAL, EIO, ENOTSUP } = NBD_ERROR;
const { GO, STRUCTURED_REPLY, SET_META_CONTEXT } = NBD_OPT;
const MIB = 2 ** 20;
const KIB64 = 65_536;
const NO_HOLE = 2;
const REQ_ONE = 8;
const FAST_ZERO = 16;
const HOLE_AND_ZERO = 3;

async function serve(t: Test, backend: Backend) {
  const { server, stop } = await startServer(memoryCatalog({ disk: backend }));
  t.teardown(stop);
  return server.address;
}

async function heldClient(t: Test, backend: HeldBackend): Promise<RawClient> {
  const { server, stop } = await startServer(backend.catalog());
  t.teardown(stop);
  return RawClient.go(server.address);
}

t.test('READ, TRAP7, D2: a READ that fails sends its error and no byte of data', async (t) => {
  const backend = new HeldBackend(MIB);
  const client = await heldClient(t, backend);
  client.send(compactRequest({ type: READ, cookie: 1, length: 4096 }));
  const read = await backend.next();
  read.target.fill(0x67); // half of it was good
  await pause(20);
  t.equal(client.available, 0, 'no header before the backend has answered');
  read.done(new StoreError('E_CHECKSUM', 'Bytes 512 to 1023 are damaged'));
  await client.expect(simpleReply(EIO, 1));
  client.send(compactRequest({ type: READ, cookie: 2, length: 4 }));
  const second = await backend.next();
  second.target.write('good');
  second.done(null);
  await client.expect(simpleReply(0, 2, Buffer.from('good')));
});

t.test('WRITE: the payload as it was sent, and no answer before it is taken', async (t) => {
  const backend = new HeldBackend(MIB);
  const client = await heldClient(t, backend);
  const payload = Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 251));
  const bytes = compactRequest({ type: WRITE, cookie: 1, offset: 77, payload });
  for (const cut of [0, 27, 28, 29, 3000])
    client.send(
      bytes.subarray(
        cut,
        [27, 28, 29, 3000, bytes.length].find((end) => end > cut),
      ),
    );
  const write = await backend.next();
  t.strictSame([write.offset, Buffer.concat(write.parts)], [77, payload]);
  await pause(20);
  t.equal(client.available, 0);
  write.done(null);
  await client.expect(simpleReply(0, 1));
});

t.test('DISC: no answer, and the connection ends', async (t) => {
  const address = await serve(t, new MemoryBackend(MIB));
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'disk');
    session.client.send(session.encode({ type: DISC, cookie: 1 }));
    session.client.send(session.encode({ type: FLUSH, cookie: 2 }));
    t.equal((await session.client.rest()).length, 0, format);
  }
});

t.test('FLUSH: offset and length are zero, anything else is EINVAL', async (t) => {
  const address = await serve(t, new MemoryBackend(MIB));
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'disk');
    t.equal((await session.ask({ type: FLUSH, cookie: 1 })).error, 0);
    t.equal((await session.ask({ type: FLUSH, cookie: 2, length: 1 })).error, EINVAL);
    t.equal((await session.ask({ type: FLUSH, cookie: 3, offset: 1 })).error, EINVAL);
    const far = 0xffffffff00000000n;
    t.equal((await session.ask({ type: FLUSH, cookie: 4, offset: far })).error, EINVAL);
  }
});

t.test('TRIM, WRITE_ZEROES: exactly the range reads as zeros, with each flag', async (t) => {
  const client = await RawClient.go(await serve(t, new MemoryBackend(MIB)));
  for (const [type, flags] of [
    [TRIM, 0],
    [WRITE_ZEROES, 0],
    [WRITE_ZEROES, NO_HOLE],
    [WRITE_ZEROES, FAST_ZERO],
  ] as const)
    for (const [offset, length] of [
      [1, 1],
      [KIB64 - 1, KIB64 + 2],
      [5, 3 * KIB64],
    ] as const) {
      const payload = Buffer.alloc(4 * KIB64, 0xa5);
      t.equal(await client.ask({ type: WRITE, cookie: 1, payload }), 0);
      t.equal(await client.ask({ type, cookie: 2, offset, length, flags }), 0);
      payload.fill(0, offset, offset + length);
      client.send(compactRequest({ type: READ, cookie: 3, length: payload.length }));
      await client.expect(simpleReply(0, 3, payload));
    }
});

t.test('CACHE: the backend reads ahead, in pieces; its failure changes nothing', async (t) => {
  const backend = new HeldBackend(64 * MIB);
  const client = await heldClient(t, backend);
  client.send(compactRequest({ type: CACHE, cookie: 1, offset: 512, length: 40 * MIB }));
  for (const [offset, bytes] of [
    [512, 32 * MIB - 512],
    [32 * MIB, 8 * MIB + 512],
  ]) {
    const piece = await backend.next();
    t.strictSame([piece.kind, piece.offset, piece.bytes], ['prefetch', offset, bytes]);
    piece.done(null);
  }
  await client.expect(simpleReply(0, 1));
  client.send(compactRequest({ type: CACHE, cookie: 2, length: 4096 }));
  (await backend.next()).done(new StoreError('E_DISK_FAILED', 'no luck'));
  await client.expect(simpleReply(EIO, 2));
  client.send(compactRequest({ type: READ, cookie: 3, length: 1 }));
  (await backend.next()).done(null);
  t.equal((await client.reply()).error, 0);
});

t.test(
  'WRITE_ZEROES, M9: FAST_ZERO that would be slow is ENOTSUP and touches nothing',
  async (t) => {
    const backend = new HeldBackend(64 * MIB + 512); // fast for whole blocks of 4096
    const client = await heldClient(t, backend);
    const slow = [
      { offset: 1, length: 4096, flags: FAST_ZERO },
      { offset: 0, length: 4095, flags: FAST_ZERO },
      { offset: 0, length: 64 * MIB + 1, flags: FAST_ZERO },
      { offset: 0, length: 4096, flags: FAST_ZERO | NO_HOLE },
    ];
    for (const request of slow)
      t.equal(await client.ask({ type: WRITE_ZEROES, cookie: 1, ...request }), ENOTSUP);
    t.equal(backend.arrivedCount, 0);
    const fast = [
      { offset: 4096, length: 8192, flags: FAST_ZERO },
      { offset: 64 * MIB, length: 512, flags: FAST_ZERO },
      { offset: 1, length: 1, flags: 0 },
      { offset: 1, length: 1, flags: NO_HOLE },
    ];
    for (const request of fast) {
      client.send(compactRequest({ type: WRITE_ZEROES, cookie: 2, ...request }));
      (await backend.next()).done(null);
      await client.expect(simpleReply(0, 2));
    }
  },
);

/** A disk that zeroes no faster than it writes. */
class SlowZeroes extends MemoryBackend {
  override readonly fastZeroBytes = 0;
}

t.test(
  'WRITE_ZEROES, FLAGS: where nothing is fast, FAST_ZERO is not offered and EINVAL',
  async (t) => {
    const client = await RawClient.greeted(await serve(t, new SlowZeroes(MIB)));
    client.send(option(GO, exportRequest('')));
    t.equal((await client.optionReply()).data.readUInt16BE(10), 0x056d);
    await client.optionReply();
    const request = { type: WRITE_ZEROES, cookie: 1, length: 4096 };
    t.equal(await client.ask({ ...request, flags: FAST_ZERO }), EINVAL);
    t.equal(await client.ask(request), 0);
  },
);

/** Extents as a test wants them: [bytes, state]. */
class MappedBackend extends MemoryBackend {
  readonly contexts = ['x-test:depth'];
  readonly #map: readonly Extent[];

  constructor(bytes: number, map: readonly Extent[]) {
    super(bytes);
    this.#map = map;
  }

  override extents(offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const found: Extent[] = [];
    let at = 0;
    for (const extent of this.#map) {
      const from = Math.max(offset, at);
      at += extent.bytes;
      const to = Math.min(offset + bytes, at);
      if (from < to) found.push({ ...extent, bytes: to - from });
    }
    done(null, found);
  }

  status(_context: string, offset: number, bytes: number, done: DoneWith<StatusRun[]>): void {
    done(null, [{ bytes: Math.min(bytes, 1000), status: offset >= KIB64 ? 0xfffffffe : 7 }]);
  }
}

async function statusClient(t: Test, backend: Backend, contexts: string[]): Promise<RawClient> {
  const catalog = memoryCatalog({ disk: backend });
  const { server, stop } = await startServer(catalog, { env: timelessEnv() });
  t.teardown(stop);
  const client = await RawClient.greeted(server.address);
  const select = option(SET_META_CONTEXT, contextRequest('disk', contexts));
  await client.enter('disk', [option(STRUCTURED_REPLY), select]);
  return client;
}

function status(flags: number, id: number, ...runs: (readonly [number, number])[]): Buffer {
  const pairs = runs.map(([bytes, value]) => fields([bytes, 4], [value, 4]));
  return chunk(flags, 5, 1, Buffer.concat([fields([id, 4]), ...pairs]));
}

t.test(
  'BLOCK_STATUS, R13, TRAP8: one chunk for each context; only taken space is no hole',
  async (t) => {
    const { absent, data, zero } = BLOCK_STATE;
    const map = [
      { bytes: 4096, state: data },
      { bytes: 4096, state: data },
      { bytes: 8192, state: zero },
      { bytes: 8192, state: absent },
      { bytes: MIB, state: data },
    ];
    const backend = new MappedBackend(MIB, map);
    const client = await statusClient(t, backend, ['base:allocation', 'x-test:depth']);
    const ask = (offset: number, length: number, flags = 0): void =>
      client.send(compactRequest({ type: BLOCK_STATUS, cookie: 1, offset, length, flags }));
    ask(0, KIB64);
    await client.expect(
      status(0, 1, [8192, 0], [16_384, HOLE_AND_ZERO], [KIB64 - 24_576, 0]),
      status(DONE, 2, [KIB64, 7]),
    );
    ask(4097, 10_000);
    await client.expect(
      status(0, 1, [4095, 0], [5905, HOLE_AND_ZERO]),
      status(DONE, 2, [10_000, 7]),
    );
    ask(0, MIB, REQ_ONE);
    await client.expect(status(0, 1, [8192, 0]), status(DONE, 2, [66_000, 7]));
    ask(8192, 100, REQ_ONE);
    await client.expect(status(0, 1, [100, HOLE_AND_ZERO]), status(DONE, 2, [100, 7]));
    ask(MIB - 1, 1);
    await client.expect(status(0, 1, [1, 0]), status(DONE, 2, [1, 0xfffffffe]));
  },
);

t.test(
  'TRAP9, CVE-2025-47711, CVE-2025-47712: 32-bit extents at every end of a huge disk',
  async (t) => {
    const bytes = 2 ** 52;
    const client = await statusClient(t, new MappedBackend(bytes, [{ bytes, state: 1 }]), [
      'base:allocation',
    ]);
    const sparse = await statusClient(t, new MappedBackend(bytes, [{ bytes, state: 0 }]), [
      'base:allocation',
    ]);
    for (const [one, value] of [
      [client, 0],
      [sparse, HOLE_AND_ZERO],
    ] as const)
      for (const offset of [0, 1, 511, 2 ** 32 - 1, 2 ** 32, bytes - 0xffffffff])
        for (const length of [1, 511, 0x7fffffff, 0x80000000, 0xfffffe00, 0xfffffe01, 0xffffffff])
          for (const flags of [0, REQ_ONE]) {
            one.send(compactRequest({ type: BLOCK_STATUS, cookie: 1, offset, length, flags }));
            await one.expect(status(DONE, 1, [length, value]));
          }
  },
);

/** A disk in which everything is torn to pieces. */
class ShreddedBackend extends MemoryBackend {
  override extents(_offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const { data, absent } = BLOCK_STATE;
    const count = Math.min(10_000, Math.floor(bytes / 512));
    done(
      null,
      Array.from({ length: count }, (_, at) => ({
        bytes: 512,
        state: at % 2 === 0 ? data : absent,
      })),
    );
  }
}

t.test(
  'BLOCK_STATUS: a shredded disk is described in part; the client asks on from there',
  async (t) => {
    const client = await statusClient(t, new ShreddedBackend(2 ** 32), ['base:allocation']);
    client.send(compactRequest({ type: BLOCK_STATUS, cookie: 1, length: 2 ** 30 }));
    const runs = Array.from({ length: 2048 }, (_, at) => [512, at % 2 === 0 ? 0 : 3] as const);
    await client.expect(status(DONE, 1, ...runs));
  },
);

/** Answers nothing but errors. */
class BrokenBackend extends MemoryBackend {
  override extents(_offset: number, _bytes: number, done: DoneWith<Extent[]>): void {
    done(new StoreError('E_DISK_FAILED', 'The map is lost'));
  }

  override flush(done: Done): void {
    done(new StoreError('E_NO_SPACE', 'The pool is full'));
  }
}

t.test(
  'BLOCK_STATUS, M6, M10: a map that cannot be read is EIO, a full FLUSH is ENOSPC',
  async (t) => {
    const address = await serve(t, new BrokenBackend(MIB));
    for (const format of ['structured', 'extended'] as const) {
      const session = await Session.begin(address, format, 'disk');
      const failed = await session.ask({ type: BLOCK_STATUS, cookie: 1, length: 4096 });
      t.match(failed, { error: EIO, message: 'The map is lost', types: [0x8002] });
      const full = await session.ask({ type: FLUSH, cookie: 2 });
      t.match(full, { error: NBD_ERROR.ENOSPC, message: 'The pool is full', types: [0x8001] });
      t.equal((await session.ask({ type: BLOCK_STATUS, cookie: 3, length: 0 })).error, EINVAL);
    }
  },
);
