// Extended headers: requests and replies with 64-bit lengths.
import { BLOCK_STATE } from '@store/core';
import t, { type Test } from 'tap';
import type { Backend, StatusRun } from '../backend.js';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_ERROR, NBD_OPT } from '../protocol/constants.js';
import { option, RawClient } from '../testing/raw-client.js';
import { startServer, timelessEnv } from '../testing/test-server.js';
import {
  contextRequest,
  DONE,
  errorPayload,
  extendedChunk,
  extendedRequest,
  fields,
  type WireRequest,
} from '../testing/wire.js';
import type { DoneWith, Extent } from '@store/core';

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = NBD_CMD;
const { EINVAL, EOVERFLOW, ENOSPC } = NBD_ERROR;
const PAYLOAD_LEN = 32;
const MIB = 2 ** 20;
const TIB = 2 ** 40;
const ERROR = 0x8001;

/** Empty, and 7 everywhere. */
class DeepBackend extends MemoryBackend {
  readonly contexts = ['x-test:depth'];

  override extents(_offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    done(null, [{ bytes, state: BLOCK_STATE.absent }]);
  }

  status(_context: string, _offset: number, bytes: number, done: DoneWith<StatusRun[]>): void {
    done(null, [{ bytes, status: 7 }]);
  }
}

async function extended(
  t: Test,
  backend: Backend = new MemoryBackend(MIB),
  contexts: string[] = [],
): Promise<RawClient> {
  const catalog = memoryCatalog({ disk: backend });
  const { server, stop } = await startServer(catalog, { env: timelessEnv() });
  t.teardown(stop);
  const client = await RawClient.greeted(server.address);
  const select = option(NBD_OPT.SET_META_CONTEXT, contextRequest('disk', contexts));
  await client.enter('disk', [option(NBD_OPT.EXTENDED_HEADERS), select]);
  return client;
}

/** The error number of the one error chunk that answers `request`. */
async function errorOf(client: RawClient, request: WireRequest): Promise<number> {
  client.send(extendedRequest(request));
  const header = await client.read(32);
  const payload = await client.read(Number(header.readBigUInt64BE(24)));
  const offset = BigInt(request.offset ?? 0);
  const expected = fields([0x6e8a278c, 4], [DONE, 2], [ERROR, 2], [request.cookie, 8], [offset, 8]);
  t.strictSame(header.subarray(0, 24), expected);
  return payload.readUInt32BE(0);
}

t.test('E1, E2, E5: without structured replies first; golden bytes both ways', async (t) => {
  const client = await extended(t);
  client.send(
    Buffer.from('21e41c71' + '0020' + '0001' + '0102030405060708', 'hex'),
    Buffer.from('0000000000000009' + '0000000000000003' + '616263', 'hex'),
  );
  await client.expect(
    Buffer.from('6e8a278c' + '0001' + '0000' + '0102030405060708', 'hex'),
    Buffer.from('0000000000000009' + '0000000000000000', 'hex'),
  );
  client.send(
    Buffer.from('21e41c71' + '0000' + '0000' + 'ffffffffffffffff', 'hex'),
    Buffer.from('0000000000000008' + '0000000000000005', 'hex'),
  );
  await client.expect(
    Buffer.from('6e8a278c' + '0001' + '0001' + 'ffffffffffffffff', 'hex'),
    Buffer.from('0000000000000008' + '000000000000000d', 'hex'),
    Buffer.from('0000000000000008' + '0061626300', 'hex'),
  );
  for (const type of [FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
    client.send(extendedRequest({ type, cookie: 3 }));
    await client.expect(extendedChunk(DONE, 0, 3, 0));
  }
  client.close();
});

t.test('E5, R2: a sparse READ: every chunk repeats the offset of the request', async (t) => {
  const client = await extended(t);
  const bytes = Buffer.alloc(65_536, 'data');
  const write = { type: WRITE, cookie: 1, offset: 65_536, payload: bytes, flags: PAYLOAD_LEN };
  client.send(extendedRequest(write));
  await client.expect(extendedChunk(DONE, 0, 1, 65_536));
  client.send(extendedRequest({ type: READ, cookie: 2, offset: 512, length: 200_000 }));
  await client.expect(
    extendedChunk(0, 2, 2, 512, fields([512, 8], [65_024, 4])),
    extendedChunk(0, 1, 2, 512, Buffer.concat([fields([65_536, 8]), bytes])),
    extendedChunk(DONE, 2, 2, 512, fields([131_072, 8], [69_440, 4])),
  );
  client.close();
});

t.test('E2, S6: lengths of 64 bits: a whole TiB is trimmed and zeroed at once', async (t) => {
  const client = await extended(t, new MemoryBackend(TIB));
  const payload = Buffer.from('end');
  for (const type of [TRIM, WRITE_ZEROES, CACHE]) {
    const write = { type: WRITE, cookie: 1, offset: TIB - 3, payload, flags: PAYLOAD_LEN };
    client.send(extendedRequest(write), extendedRequest({ type, cookie: 2, length: TIB }));
    await client.expect(extendedChunk(DONE, 0, 1, TIB - 3), extendedChunk(DONE, 0, 2, 0));
    client.send(extendedRequest({ type: READ, cookie: 3, offset: TIB - 3, length: 3 }));
    const kept = Buffer.concat([fields([TIB - 3, 8]), type === CACHE ? payload : Buffer.alloc(3)]);
    await client.expect(extendedChunk(DONE, 1, 3, TIB - 3, kept));
  }
  client.close();
});

t.test(
  'E3, M4, X8: WRITE needs PAYLOAD_LEN; who must not have it is drained and EINVAL',
  async (t) => {
    const client = await extended(t, new MemoryBackend(MIB), ['base:allocation']);
    t.equal(await errorOf(client, { type: WRITE, cookie: 1, length: 512 }), EINVAL);
    const looksLikeRequests = Buffer.alloc(3200, extendedRequest({ type: FLUSH, cookie: 666 }));
    for (const type of [READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, 8, 99]) {
      const request = { type, cookie: type, payload: looksLikeRequests, flags: PAYLOAD_LEN };
      t.equal(await errorOf(client, request), EINVAL, `command ${type}`);
    }
    client.send(extendedRequest({ type: WRITE, cookie: 5, flags: PAYLOAD_LEN }));
    await client.expect(extendedChunk(DONE, 0, 5, 0));
    client.close();
  },
);

t.test('E4: a payload above 32 MiB ends the connection, any smaller one is drained', async (t) => {
  const limit = 32 * MIB;
  const drained = await extended(t);
  const payload = Buffer.alloc(limit);
  const read = { type: READ, cookie: 1, payload, flags: PAYLOAD_LEN };
  t.equal(await errorOf(drained, read), EINVAL);
  const write = { type: WRITE, cookie: 2, payload, flags: PAYLOAD_LEN };
  t.equal(await errorOf(drained, write), ENOSPC);
  drained.close();
  for (const length of [limit + 1, 2 ** 32, 2n ** 53n + 1n, 2n ** 64n - 1n])
    for (const type of [READ, WRITE, BLOCK_STATUS, 99]) {
      const client = await extended(t);
      client.send(extendedRequest({ type, cookie: 1, length, flags: PAYLOAD_LEN }));
      t.equal((await client.rest()).length, 0, `command ${type}, ${length}`);
    }
});

t.test('E5, W7: an error repeats an offset no number can hold', async (t) => {
  const client = await extended(t);
  for (const offset of [2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n])
    t.equal(await errorOf(client, { type: TRIM, cookie: 1, offset, length: 1 }), EINVAL);
  client.close();
});

function status(flags: number, offset: number, id: number, ...runs: [number, number][]): Buffer {
  const head = fields([id, 4], [runs.length, 4]);
  const pairs = runs.map(([bytes, value]) => fields([bytes, 8], [value, 8]));
  return extendedChunk(flags, 6, 1, offset, Buffer.concat([head, ...pairs]));
}

t.test('E6, R13: extents of 64 bits, the status too, its upper half zero', async (t) => {
  const client = await extended(t, new DeepBackend(TIB), ['base:allocation', 'x-test:depth']);
  client.send(extendedRequest({ type: BLOCK_STATUS, cookie: 1, offset: 1, length: TIB - 1 }));
  await client.expect(status(0, 1, 1, [TIB - 1, 3]), status(DONE, 1, 2, [TIB - 1, 7]));
  client.close();
});

t.test(
  'E7: a payload names contexts: only these are answered, wrong ones are EINVAL',
  async (t) => {
    const client = await extended(t, new DeepBackend(TIB), ['base:allocation', 'x-test:depth']);
    const ask = (bytes: number | bigint, ids: number[], offset = 0): WireRequest => ({
      type: BLOCK_STATUS,
      cookie: 1,
      offset,
      flags: PAYLOAD_LEN,
      payload: fields([bytes, 8], ...ids.map((id) => [id, 4] as const)),
    });
    client.send(extendedRequest(ask(TIB, [2])));
    await client.expect(status(DONE, 0, 2, [TIB, 7]));
    client.send(extendedRequest(ask(100, [2, 1], 5)));
    await client.expect(status(0, 5, 2, [100, 7]), status(DONE, 5, 1, [100, 3]));
    const bad = [
      ask(512, [3]),
      ask(512, [0]),
      ask(512, [1, 1]),
      ask(512, [1, 2, 1]),
      ask(512, []),
      ask(0, [1]),
      ask(TIB + 1, [1]),
      ask(1, [1], TIB),
      ask(2n ** 53n + 1n, [1]),
      ask(2n ** 64n - 1n, [1]),
      { ...ask(512, [1]), payload: Buffer.alloc(13) },
      { ...ask(512, [1]), payload: Buffer.alloc(3) },
    ];
    for (const request of bad) t.equal(await errorOf(client, request), EINVAL);
    client.send(extendedRequest(ask(1, [1], TIB - 1)));
    await client.expect(status(DONE, TIB - 1, 1, [1, 3]));
    client.close();
  },
);

t.test('E7, M2: a payload obeys the agreed block', async (t) => {
  const catalog = memoryCatalog({ disk: new DeepBackend(MIB) });
  const { server, stop } = await startServer(catalog, { blockBytesMin: 4096 });
  t.teardown(stop);
  const client = await RawClient.greeted(server.address);
  const select = option(NBD_OPT.SET_META_CONTEXT, contextRequest('disk', ['base:allocation']));
  await client.enter('disk', [option(NBD_OPT.EXTENDED_HEADERS), select], [3]);
  const ask = (offset: number, bytes: number): WireRequest => {
    const payload = fields([bytes, 8], [1, 4]);
    return { type: BLOCK_STATUS, cookie: 1, offset, flags: PAYLOAD_LEN, payload };
  };
  t.equal(await errorOf(client, ask(0, 4095)), EINVAL);
  t.equal(await errorOf(client, ask(512, 4096)), EINVAL);
  client.send(extendedRequest(ask(4096, 8192)));
  await client.expect(status(DONE, 4096, 1, [8192, 3]));
  client.close();
});

t.test('E8: a READ of more than 32 MiB is EOVERFLOW at once, whatever its length', async (t) => {
  const client = await extended(t, new MemoryBackend(Number.MAX_SAFE_INTEGER));
  for (const length of [32 * MIB + 1, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 52]) {
    client.send(extendedRequest({ type: READ, cookie: 1, length }));
    const payload = errorPayload(EOVERFLOW, 'A READ has at most 32 MiB');
    await client.expect(extendedChunk(DONE, ERROR, 1, 0, payload));
  }
  client.close();
});

t.test('E10, EXPORT_NAME: after extended headers it ends the connection', async (t) => {
  const { server, stop } = await startServer(memoryCatalog({ disk: new MemoryBackend(MIB) }));
  t.teardown(stop);
  const client = await RawClient.greeted(server.address);
  t.equal(await client.opt(NBD_OPT.EXTENDED_HEADERS), 1);
  client.send(option(NBD_OPT.EXPORT_NAME, 'disk'));
  t.equal((await client.rest()).length, 0);
});
