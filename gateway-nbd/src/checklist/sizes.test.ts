// Block sizes, the largest payload, and lengths that carry none.
import t, { type Test } from 'tap';
import { StoreError } from '@store/core';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_ERROR, NBD_OPT } from '../protocol/constants.js';
import { serveNbd } from '../server.js';
import { exportRequest, option, RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { compactRequest, fields, optionReply, simpleReply } from '../testing/wire.js';

const { READ, WRITE, TRIM, CACHE, WRITE_ZEROES } = NBD_CMD;
const { EINVAL, ENOSPC } = NBD_ERROR;
const { INFO, EXPORT_NAME } = NBD_OPT;
const MIB = 2 ** 20;
const PAYLOAD_MAX = 32 * MIB;
const BLOCK_SIZE = 3;

async function serve(t: Test, bytes: number, blockBytesMin = 1) {
  const catalog = memoryCatalog({ disk: new MemoryBackend(bytes) });
  const { server, stop } = await startServer(catalog, { blockBytesMin });
  t.teardown(stop);
  return server.address;
}

t.test('S1: without negotiation any byte and 32 MiB at once work', async (t) => {
  const client = await RawClient.go(await serve(t, 64 * MIB));
  for (const [offset, bytes] of [
    [1, 1],
    [4095, 2],
    [511, 1025],
    [MIB - 1, PAYLOAD_MAX],
  ] as const) {
    const payload = Buffer.alloc(bytes, `${offset} `);
    client.send(compactRequest({ type: WRITE, cookie: 1, offset, payload }));
    await client.expect(simpleReply(0, 1));
    client.send(compactRequest({ type: READ, cookie: 2, offset: offset - 1, length: bytes }));
    await client.expect(simpleReply(0, 2));
    const found = await client.read(bytes);
    t.ok(found.subarray(1).equals(payload.subarray(0, bytes - 1)), `${bytes} at ${offset}`);
  }
  client.close();
});

t.test('S1: 32 MiB of payload for a smaller export are drained, not cut off', async (t) => {
  const client = await RawClient.go(await serve(t, MIB));
  client.send(compactRequest({ type: WRITE, cookie: 1, payload: Buffer.alloc(PAYLOAD_MAX) }));
  await client.expect(simpleReply(ENOSPC, 1));
  t.equal(await client.ask({ type: READ, cookie: 2, length: PAYLOAD_MAX }), EINVAL);
  client.close();
});

t.test(
  'S2, S8: smallest block 1 or what the operator says; 4096 and 32 MiB beside it',
  async (t) => {
    for (let min = 1; min <= 4096; min *= 2) {
      const client = await RawClient.greeted(await serve(t, MIB, min));
      client.send(option(INFO, exportRequest('', [BLOCK_SIZE])));
      await client.optionReply();
      const sizes = fields([BLOCK_SIZE, 2], [min, 4], [4096, 4], [PAYLOAD_MAX, 4]);
      await client.expect(optionReply(INFO, 3, sizes), optionReply(INFO, 1));
      client.close();
    }
    for (const blockBytesMin of [0, 3, 0.5, -1, 8192, 65_536, NaN])
      await t.rejects(
        serveNbd(new MemoryBackend(MIB), {
          address: { host: '127.0.0.1', port: 0 },
          blockBytesMin,
        }),
        StoreError,
        `${blockBytesMin}`,
      );
  },
);

t.test('S3, S4, M2: who asked for block sizes in GO is bound, nobody else', async (t) => {
  const address = await serve(t, MIB, 4096);
  const odd = compactRequest({ type: WRITE, cookie: 1, offset: 512, payload: Buffer.from('odd') });
  const bound = await RawClient.greeted(address);
  await bound.enter('', [], [BLOCK_SIZE]);
  bound.send(odd);
  await bound.expect(simpleReply(EINVAL, 1));

  const fromInfo = await RawClient.greeted(address);
  await fromInfo.opt(INFO, exportRequest('', [BLOCK_SIZE]));
  await fromInfo.enter();
  const never = await RawClient.go(address);
  const old = await RawClient.greeted(address);
  old.send(option(EXPORT_NAME));
  await old.read(10);
  for (const client of [fromInfo, never, old]) {
    t.equal(await client.ask({ type: WRITE, cookie: 2, payload: Buffer.alloc(4096, 'n') }), 0);
    client.send(odd);
    await client.expect(simpleReply(0, 1));
    client.send(compactRequest({ type: READ, cookie: 3, offset: 511, length: 5 }));
    await client.expect(simpleReply(0, 3, Buffer.from('noddn')));
  }
});

t.test('S5, M2, S3: unaligned to an agreed block is EINVAL, for every command', async (t) => {
  const client = await RawClient.greeted(await serve(t, MIB + 512, 512));
  await client.enter('', [], [BLOCK_SIZE]);
  for (const type of [READ, WRITE, TRIM, CACHE, WRITE_ZEROES])
    for (const [offset, length] of [
      [1, 512],
      [512, 511],
      [MIB + 1, 510],
    ] as const) {
      const payload = type === WRITE ? { payload: Buffer.alloc(length) } : {};
      client.send(compactRequest({ type, cookie: type, offset, length, ...payload }));
      await client.expect(simpleReply(EINVAL, type));
    }
  t.equal(await client.ask({ type: TRIM, cookie: 1, offset: MIB, length: 512 }), 0);
  client.close();
});

t.test('S6, TRAP5, M7: what has no payload may be as long as the field allows', async (t) => {
  const client = await RawClient.go(await serve(t, 2 ** 40));
  const length = 0xffffffff;
  const mark = Buffer.from('mark');
  for (const type of [TRIM, WRITE_ZEROES, CACHE]) {
    t.equal(await client.ask({ type: WRITE, cookie: 1, offset: length - 4, payload: mark }), 0);
    t.equal(await client.ask({ type: WRITE, cookie: 1, offset: length, payload: mark }), 0);
    t.equal(await client.ask({ type, cookie: 2, length }), 0, `command ${type}`);
    client.send(compactRequest({ type: READ, cookie: 3, offset: length - 4, length: 8 }));
    const kept = type === CACHE ? mark : Buffer.alloc(4);
    await client.expect(simpleReply(0, 3, Buffer.concat([kept, mark])));
  }
  client.close();
});

t.test(
  'S8: parts of one block, written at once by many, leave their neighbours alone',
  async (t) => {
    const address = await serve(t, MIB);
    const clients = await Promise.all(Array.from({ length: 8 }, () => RawClient.go(address)));
    for (let at = 0; at < 4096; at += 16) {
      const client = clients[(at / 16) % clients.length];
      const payload = Buffer.alloc(16, (at / 16) % 251);
      client?.send(compactRequest({ type: WRITE, cookie: at, offset: at, payload }));
    }
    for (const client of clients)
      for (let count = 0; count < 32; count += 1) t.equal((await client.reply()).error, 0);
    const [reader] = clients;
    reader?.send(compactRequest({ type: READ, cookie: 1, length: 4096 }));
    const expected = Buffer.alloc(4096).map((_, at) => Math.floor(at / 16) % 251);
    await reader?.expect(simpleReply(0, 1, Buffer.from(expected)));
    for (const client of clients) client.close();
  },
);
