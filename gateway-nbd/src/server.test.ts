import { StoreError } from '@store/core';
import t from 'tap';
import type { ExportCatalog } from './backend.js';
import { MemoryBackend, memoryCatalog } from './memory-backend.js';
import { NBD_CMD, NBD_ERROR, NBD_OPT, NBD_REP } from './protocol/constants.js';
import { clientFlags, exportRequest, option, RawClient, request } from './testing/raw-client.js';
import { HeldBackend, pause, startServer, until } from './testing/test-server.js';

const MIB = 1024 * 1024;
const { READ, WRITE, FLUSH } = NBD_CMD;

function memory(): ExportCatalog {
  return memoryCatalog({ disk: new MemoryBackend(8 * MIB) });
}

t.test(
  'F29, CVE-2024-7409: among 1,000 connections that say nothing a good client is served within a second',
  async (t) => {
    const { server, stop } = await startServer(memory());
    t.teardown(stop);
    const idle: RawClient[] = [];
    for (let count = 0; count < 1000; count++) {
      const client = await RawClient.connect(server.address);
      if (count % 2 === 0) client.send(Buffer.alloc(3)); // part of its flags
      idle.push(client);
    }
    t.ok(server.connectionCount <= 256, `${server.connectionCount} are kept`);
    const start = performance.now();
    const good = await RawClient.go(server.address);
    t.equal(await good.ask({ type: FLUSH, cookie: 1 }), 0);
    t.ok(performance.now() - start < 1000, `${performance.now() - start} ms`);
    for (const client of idle) client.close();
    await until(() => server.connectionCount === 1, 'they are forgotten');
  },
);

t.test(
  'a client at work is never dropped for a newcomer; then the newcomer is refused, and told in the log',
  async (t) => {
    const { server, env, stop } = await startServer(memory(), { limits: { connectionsMax: 2 } });
    t.teardown(stop);
    const first = await RawClient.go(server.address);
    const second = await RawClient.go(server.address);
    const third = await RawClient.connect(server.address);
    await third.closed;
    t.match(
      env.log.lines.find(({ level }) => level === 'warn')?.message,
      'Connection refused: 2 clients are connected',
    );
    t.equal(await first.ask({ type: FLUSH, cookie: 1 }), 0);
    second.close();
    await until(() => server.connectionCount === 1, 'the second is gone');
    t.equal(await (await RawClient.go(server.address)).ask({ type: FLUSH, cookie: 1 }), 0);
  },
);

t.test(
  'H11: a handshake that is not finished in time ends, however busily the client talks',
  async (t) => {
    const { server, stop } = await startServer(memory(), { limits: { handshakeMs: 150 } });
    t.teardown(stop);
    const talker = await RawClient.connect(server.address);
    const ticker = setInterval(() => talker.send(Buffer.alloc(1)), 20);
    const worker = await RawClient.go(server.address);
    await talker.closed;
    clearInterval(ticker);
    await pause(200);
    t.equal(
      await worker.ask({ type: FLUSH, cookie: 1 }),
      0,
      'the deadline ends with the handshake',
    );
  },
);

t.test('F29: a half-sent request ends its connection, an idle client stays', async (t) => {
  const { server, stop } = await startServer(memory(), { limits: { stallMs: 1000 } });
  t.teardown(stop);
  const header = await RawClient.go(server.address);
  header.send(request({ type: FLUSH, cookie: 1 }).subarray(0, 27));
  const payload = await RawClient.go(server.address);
  payload.send(request({ type: WRITE, cookie: 1, length: MIB, payload: Buffer.alloc(1000) }));
  const dribble = setInterval(() => payload.send(Buffer.alloc(1)), 50);
  const idle = await RawClient.go(server.address);
  await Promise.all([header.closed, payload.closed]);
  clearInterval(dribble);
  t.equal(await idle.ask({ type: FLUSH, cookie: 1 }), 0);
});

t.test(
  'who holds memory that others wait for, and does not send, loses its connection; alone it does not',
  async (t) => {
    const limits = { stallUnderPressureMs: 1000, stallMs: 60_000 };
    const catalog = memoryCatalog({ disk: new MemoryBackend(64 * MIB) });
    const { server, env, stop } = await startServer(catalog, { limits });
    t.teardown(stop);
    const holders = [await RawClient.go(server.address), await RawClient.go(server.address)];
    for (const holder of holders)
      holder.send(request({ type: WRITE, cookie: 1, length: 32 * MIB, payload: Buffer.alloc(9) }));
    await pause(2500);
    t.notOk(
      holders.some(({ socket }) => socket.destroyed),
      'nobody needs the memory',
    );
    const waiting = await RawClient.go(server.address);
    waiting.send(request({ type: READ, cookie: 5, length: 2 * MIB }));
    t.strictSame(await waiting.reply(), { error: 0, cookie: 5 });
    t.match(
      env.log.lines.map(({ message }) => message).join('\n'),
      'held memory that other clients needed',
    );
  },
);

t.test(
  'D3, M11, H10: close() finishes what is in flight, answers new requests ESHUTDOWN, and closes',
  async (t) => {
    const backend = new HeldBackend(MIB);
    const { server, stop } = await startServer(backend.catalog());
    t.teardown(stop);
    const client = await RawClient.go(server.address);
    const idle = await RawClient.go(server.address);
    const haggling = await RawClient.connect(server.address);
    await haggling.read(18);
    client.send(request({ type: WRITE, cookie: 1, payload: Buffer.alloc(512) }));
    const write = await backend.next();
    const closed = server.close({ drainMs: 5000 });
    await idle.closed;
    haggling.send(clientFlags(3), option(NBD_OPT.GO, exportRequest('')));
    t.equal((await haggling.optionReply()).type, NBD_REP.ERR_SHUTDOWN, 'H10');
    t.equal(await client.ask({ type: READ, cookie: 2, length: 512 }), NBD_ERROR.ESHUTDOWN);
    await t.rejects(RawClient.connect(server.address), 'nobody new is let in');
    write.done(null);
    t.strictSame(await client.reply(), { error: 0, cookie: 1 });
    await client.closed;
    await closed;
    t.equal(backend.closedCount, 2, 'every export is closed');
  },
);

t.test('close() does not wait longer than it was told', async (t) => {
  const backend = new HeldBackend(MIB);
  const { server, env, stop } = await startServer(backend.catalog());
  t.teardown(stop);
  const client = await RawClient.go(server.address);
  client.send(request({ type: WRITE, cookie: 1, payload: Buffer.alloc(512) }));
  const write = await backend.next();
  const start = performance.now();
  await server.close({ drainMs: 100 });
  t.ok(performance.now() - start < 3000);
  t.match(env.log.lines.at(-1), {
    level: 'error',
    message: 'Stopped while the backend still holds requests',
  });
  write.done(null);
  await until(() => backend.closedCount === 1, 'it is closed when the backend has answered');
});

t.test("H9: a catalog that fails is that client's bad luck alone", async (t) => {
  const backend = new MemoryBackend(MIB);
  const good = memoryCatalog({ good: backend });
  const { server, stop } = await startServer({
    list: () => Promise.reject(new StoreError('E_TIMEOUT', 'The pool does not answer')),
    info: (name) => good.info(name === 'bad' ? 'good' : name),
    open: (name) =>
      name === 'bad'
        ? Promise.reject(new StoreError('E_IN_USE', 'Another host writes to it'))
        : good.open(name),
  });
  t.teardown(stop);
  const client = await RawClient.connect(server.address);
  await client.read(18);
  client.send(clientFlags(3), option(NBD_OPT.LIST));
  t.match((await client.optionReply()).data.toString(), 'The pool does not answer');
  client.send(option(NBD_OPT.GO, exportRequest('good')));
  t.equal((await client.optionReply()).type, NBD_REP.INFO);
  const unlucky = await RawClient.connect(server.address);
  await unlucky.read(18);
  unlucky.send(clientFlags(3), option(NBD_OPT.GO, exportRequest('bad')));
  const refusal = await unlucky.optionReply();
  t.equal(refusal.type, NBD_REP.ERR_POLICY);
  t.equal(refusal.data.toString(), 'Another host writes to it');
  unlucky.send(option(NBD_OPT.GO, exportRequest('good')));
  t.equal((await unlucky.optionReply()).type, NBD_REP.INFO, 'and may ask for something else');
});

t.test('one line tells who left, after how long and how much', async (t) => {
  const { server, env, stop } = await startServer(memory());
  t.teardown(stop);
  const client = await RawClient.go(server.address);
  await client.ask({ type: WRITE, cookie: 1, payload: Buffer.alloc(1000) });
  await client.ask({ type: READ, cookie: 2, length: 300 });
  client.send(request({ type: NBD_CMD.DISC, cookie: 3 }));
  await client.closed;
  await until(() => server.connectionCount === 0, 'it is gone');
  const lines = env.log.lines.filter(({ level }) => level === 'info');
  t.match(lines, [
    { message: 'Client connected', fields: { export: '', bytes: 8 * MIB } },
    {
      message: /^Client disconnected/,
      fields: { requests: 2, errors: 0, bytesRead: 300, bytesWritten: 1000, unanswered: 0 },
    },
  ]);
});
