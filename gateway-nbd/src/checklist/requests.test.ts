// Requests: what they look like, their order, and what is durable when.
import { spawnSync, type StdioOptions } from 'node:child_process';
import { ERRORS, StoreError, type Connection, type ErrorCode, type Network } from '@store/core';
import t, { type Test } from 'tap';
import type { Backend, ExportCatalog } from '../backend.js';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_ERROR } from '../protocol/constants.js';
import { RawClient } from '../testing/raw-client.js';
import { HeldBackend, startServer, testEnv } from '../testing/test-server.js';
import { VolatileBackend } from '../testing/volatile-backend.js';
import { compactRequest, simpleReply } from '../testing/wire.js';

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = NBD_CMD;
const FUA = 1;
const MIB = 2 ** 20;

async function serve(t: Test, backend: Backend | ExportCatalog) {
  const catalog = 'open' in backend ? backend : memoryCatalog({ disk: backend });
  const { server, stop } = await startServer(catalog);
  t.teardown(stop);
  return server.address;
}

t.test('X1: any magic number but that of a request ends the connection', async (t) => {
  const address = await serve(t, new MemoryBackend(MIB));
  const good = compactRequest({ type: FLUSH, cookie: 1 });
  const magics = [0x12560953, 0x96744668, 0x25609514, 0x67446698, 0x668e33ef, 0x21e41c71, 0];
  for (const magic of magics) {
    const client = await RawClient.go(address);
    client.send(good);
    await client.expect(simpleReply(0, 1));
    const bad = Buffer.from(good);
    bad.writeUInt32BE(magic, 0);
    client.send(bad, good);
    t.equal((await client.rest()).length, 0, magic.toString(16));
  }
});

t.test('X3, X5: FLUSH of one connection makes durable what another was answered', async (t) => {
  const backend = new VolatileBackend(MIB);
  const address = await serve(t, backend);
  const [writer, flusher] = [await RawClient.go(address), await RawClient.go(address)];
  const payload = Buffer.alloc(4096, 7);
  const readBack = async (): Promise<Buffer> => {
    backend.cutPower();
    writer.send(compactRequest({ type: READ, cookie: 9, length: 4096 }));
    await writer.expect(simpleReply(0, 9));
    return writer.read(4096);
  };
  t.equal(await writer.ask({ type: WRITE, cookie: 1, payload }), 0);
  t.strictSame(await readBack(), Buffer.alloc(4096), 'without a FLUSH a power cut takes it');
  t.equal(await writer.ask({ type: WRITE, cookie: 1, payload }), 0);
  t.equal(await flusher.ask({ type: FLUSH, cookie: 2 }), 0);
  t.strictSame(await readBack(), payload);
  t.equal(await writer.ask({ type: WRITE_ZEROES, cookie: 3, length: 4096 }), 0);
  t.equal(await flusher.ask({ type: FLUSH, cookie: 4 }), 0);
  t.strictSame(await readBack(), Buffer.alloc(4096), 'zeroes too');
});

t.test('X4, X5: what was answered with FUA survives a power cut', async (t) => {
  const backend = new VolatileBackend(MIB);
  const address = await serve(t, backend);
  const [client, other] = [await RawClient.go(address), await RawClient.go(address)];
  const payload = Buffer.alloc(512, 9);
  t.equal(await client.ask({ type: WRITE, cookie: 1, payload, flags: FUA }), 0);
  backend.cutPower();
  other.send(compactRequest({ type: READ, cookie: 2, length: 512 }));
  await other.expect(simpleReply(0, 2, payload));
  for (const type of [TRIM, WRITE_ZEROES]) {
    t.equal(await client.ask({ type: WRITE, cookie: 1, payload, flags: FUA }), 0);
    t.equal(await client.ask({ type, cookie: 3, length: 512, flags: FUA }), 0);
    backend.cutPower();
    other.send(compactRequest({ type: READ, cookie: 4, length: 512 }));
    await other.expect(simpleReply(0, 4, Buffer.alloc(512)));
  }
});

t.test('X4, X6: FUA is accepted on every command', async (t) => {
  const client = await RawClient.go(await serve(t, new VolatileBackend(MIB)));
  client.send(compactRequest({ type: READ, cookie: 1, length: 4, flags: FUA }));
  await client.expect(simpleReply(0, 1, Buffer.alloc(4)));
  for (const type of [FLUSH, CACHE, TRIM, WRITE_ZEROES])
    t.equal(await client.ask({ type, cookie: 2, length: type === FLUSH ? 0 : 512, flags: FUA }), 0);
});

t.test('X7: requests of no bytes succeed and reach nobody', async (t) => {
  const backend = new VolatileBackend(MIB);
  const client = await RawClient.go(await serve(t, backend));
  for (const offset of [0, 5, MIB])
    for (const type of [READ, TRIM, CACHE, WRITE_ZEROES]) {
      client.send(compactRequest({ type, cookie: 1, offset, length: 0 }));
      await client.expect(simpleReply(0, 1));
    }
  t.strictSame(backend.calls, []);
  t.equal(await client.ask({ type: WRITE, cookie: 2, offset: MIB }), 0);
  t.equal(await client.ask({ type: READ, cookie: 3, offset: MIB + 1 }), NBD_ERROR.EINVAL);
});

t.test('X8, M4: each flag of each command is taken, or EINVAL and drained', async (t) => {
  const client = await RawClient.go(await serve(t, new MemoryBackend(MIB)));
  const commands = [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, 8, 9, 255, 65535];
  const payload = Buffer.alloc(1000, compactRequest({ type: FLUSH, cookie: 666 }));
  for (const type of commands)
    for (let bit = 0; bit < 16; bit += 1) {
      const isTaken =
        bit === 0 ? type < BLOCK_STATUS : type === WRITE_ZEROES && (bit === 1 || bit === 4);
      const length = type === FLUSH ? 0 : 1000;
      const cookie = type * 16 + bit;
      const request = { type, cookie, flags: 2 ** bit, length };
      client.send(compactRequest(type === WRITE ? { ...request, payload } : request));
      const data = isTaken && type === READ ? Buffer.alloc(1000) : undefined;
      await client.expect(simpleReply(isTaken ? 0 : NBD_ERROR.EINVAL, cookie, data));
      if (isTaken && type === WRITE)
        t.equal(await client.ask({ type: TRIM, cookie, length: 1000 }), 0);
    }
});

t.test('X10: whatever fails, its number is one of the protocol', async (t) => {
  const backend = new HeldBackend(MIB);
  const client = await RawClient.go(await serve(t, backend.catalog()));
  const allowed = new Set<number>(Object.values(NBD_ERROR));
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    // the keys of a table we wrote
    for (const type of [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES]) {
      const payload = type === WRITE ? { payload: Buffer.alloc(9) } : {};
      const length = type === FLUSH ? 0 : 9;
      client.send(compactRequest({ type, cookie: type, length, ...payload }));
      (await backend.next()).done(new StoreError(code, 'broken'));
      const { error, cookie } = await client.reply();
      t.ok(error !== 0 && allowed.has(error) && cookie === type, `${code}: ${error}`);
    }
  }
});

/** Asks the kernel about a socket of this process: its peer's port, and TCP_NODELAY. */
const ASK_KERNEL = `import socket
s = socket.socket(fileno=3)
print(s.getpeername()[1], s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))`;
const pythonMissing =
  spawnSync('python3', ['-c', '']).error === undefined ? false : 'needs python3';

t.test(
  'W3: answers over TCP wait for nothing: Nagle is off',
  { skip: pythonMissing },
  async (t) => {
    const env = testEnv();
    const accepted: Connection[] = [];
    const network: Network = {
      ...env.network,
      listen: (address, accept) =>
        env.network.listen(address, (connection) => {
          accepted.push(connection);
          accept(connection);
        }),
    };
    const catalog = memoryCatalog({ disk: new MemoryBackend(MIB) });
    const address = { host: '127.0.0.1', port: 0 };
    const { server, stop } = await startServer(catalog, { address, env: { ...env, network } });
    t.teardown(stop);
    const client = await RawClient.go(server.address);
    const descriptor = accepted[0]?.descriptor;
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', descriptor ?? 'ignore'];
    const { stdout, stderr } = spawnSync('python3', ['-c', ASK_KERNEL], {
      stdio,
      encoding: 'utf8',
    });
    t.equal(stdout.trim(), `${client.socket.localPort ?? 0} 1`, stderr);
    client.close();
  },
);
