/** Two servers in one process hand sessions to each other in the middle of requests. */
import { needSocketCalls } from '@store/core';
import t, { type Test } from 'tap';
import { catalogOfOne } from '../catalog-of-one.js';
import type { ExportCatalog } from '../backend.js';
import { MemoryBackend } from '../memory-backend.js';
import { NBD_CMD, NBD_CMD_FLAG, NBD_MAGIC, NBD_OPT, NBD_REP } from '../protocol/constants.js';
import { serveNbd, type NbdServer, type NbdServerOptions } from '../server.js';
import {
  clientFlags,
  exportRequest,
  option,
  RawClient,
  request,
  type RequestFields,
} from '../testing/raw-client.js';
import { HeldBackend, pause, startServer, until, type TestServer } from '../testing/test-server.js';
import { decodeSession, encodeSession, type Estate } from './estate.js';

const BYTES = 1024 * 1024;
const calls = needSocketCalls('This test');

/** A server and its successors, one at a time, on the address of the first. */
class Dynasty {
  server: NbdServer;
  readonly #first: TestServer;
  readonly #catalog: ExportCatalog;

  private constructor(first: TestServer, catalog: ExportCatalog) {
    this.#first = first;
    this.server = first.server;
    this.#catalog = catalog;
  }

  static async begin(t: Test, catalog: ExportCatalog): Promise<Dynasty> {
    const first = await startServer(catalog);
    const dynasty = new Dynasty(first, catalog);
    t.teardown(async () => {
      await dynasty.server.close({ drainMs: 200 });
      await first.stop();
    });
    return dynasty;
  }

  get log(): TestServer['env']['log'] {
    return this.#first.env.log;
  }

  /** Hands everything over, through JSON. @returns What was handed over */
  async succeed(): Promise<Estate> {
    const estate = await this.server.handOver({ graceMs: 300 });
    this.server = await this.heir(estate);
    return estate;
  }

  /** Another server on what an estate has; the estate's descriptors become its own. */
  heir(
    estate: Estate,
    options: Partial<NbdServerOptions & NbdServerOptions['inherited']> = {},
  ): Promise<NbdServer> {
    const { lenient = false, confirm = () => Promise.resolve(), ...rest } = options;
    const sessions = estate.sessions.map((session) => {
      const record: unknown = JSON.parse(JSON.stringify(encodeSession(session)));
      return decodeSession(record, session.descriptor, session.leftover);
    });
    return serveNbd(this.#catalog, {
      env: this.#first.env,
      poisonBuffers: true,
      address: { sockets: estate.sockets },
      inherited: { sessions, lenient, confirm },
      ...rest,
    });
  }
}

/** How often a part of a request travelled along. Where the machine is busy it may still lie in the socket, as a whole. */
class Travelled {
  readonly #t: Test;
  #along = 0;
  #inSocket = 0;

  constructor(t: Test) {
    this.#t = t;
  }

  note(leftover: number | undefined, sent: number): void {
    if (leftover === sent) this.#along += 1;
    else {
      this.#t.equal(leftover, 0, `of ${sent} bytes`);
      this.#inSocket += 1;
    }
  }

  check(): void {
    this.#t.ok(this.#along > this.#inSocket, `${this.#along} travelled along`);
  }
}

/** Descriptors of its own for every socket of an estate. */
function copyOf(estate: Estate): Estate {
  const copied = <T extends { readonly descriptor: number }>(one: T): T => ({
    ...one,
    descriptor: calls.duplicate(one.descriptor),
  });
  return { sockets: estate.sockets.map(copied), sessions: estate.sessions.map(copied) };
}

async function goExtended(server: NbdServer): Promise<RawClient> {
  const client = await RawClient.connect(server.address);
  await client.read(18);
  client.send(clientFlags(3), option(NBD_OPT.EXTENDED_HEADERS));
  await client.optionReply();
  client.send(option(NBD_OPT.GO, exportRequest('')));
  while ((await client.optionReply()).type !== NBD_REP.ACK);
  return client;
}

function extendedRequest(fields: RequestFields): Buffer {
  const { payload = Buffer.alloc(0), length = payload.length } = fields;
  const header = Buffer.alloc(32);
  header.writeUInt32BE(NBD_MAGIC.EXTENDED_REQUEST, 0);
  header.writeUInt16BE(payload.length > 0 ? NBD_CMD_FLAG.PAYLOAD_LEN : 0, 4);
  header.writeUInt16BE(fields.type, 6);
  header.writeBigUInt64BE(BigInt(fields.cookie), 8);
  header.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  header.writeBigUInt64BE(BigInt(length), 24);
  return Buffer.concat([header, payload]);
}

t.test('a request split at any byte is answered once, by the next server (simple)', async (t) => {
  const backend = new MemoryBackend(BYTES);
  const dynasty = await Dynasty.begin(t, catalogOfOne(backend));
  const client = await RawClient.go(dynasty.server.address);
  const payload = Buffer.alloc(40);
  const travelled = new Travelled(t);
  for (let split = 0; split <= 28 + payload.length; split += 1) {
    payload.fill(split + 1);
    const wire = request({ type: NBD_CMD.WRITE, cookie: split, offset: split * 100, payload });
    client.send(wire.subarray(0, split));
    await pause(5);
    const [session] = (await dynasty.succeed()).sessions;
    travelled.note(session?.leftover.length, split === wire.length ? 0 : split);
    client.send(wire.subarray(split));
    t.strictSame(await client.reply(), { error: 0, cookie: split });
    t.equal(
      await client.ask({ type: NBD_CMD.READ, cookie: 7, offset: split * 100, length: 40 }),
      0,
    );
    t.ok((await client.read(40)).equals(payload));
  }
  t.equal(client.available, 0, 'nothing is answered twice');
  travelled.check();
  client.close();
});

t.test('a request split at any byte is answered once, by the next server (extended)', async (t) => {
  const dynasty = await Dynasty.begin(t, catalogOfOne(new MemoryBackend(BYTES)));
  const client = await goExtended(dynasty.server);
  const payload = Buffer.alloc(20, 3);
  const travelled = new Travelled(t);
  for (let split = 0; split < 32 + payload.length; split += 1) {
    const wire = extendedRequest({ type: NBD_CMD.WRITE, cookie: split, offset: split, payload });
    client.send(wire.subarray(0, split));
    await pause(5);
    const [session] = (await dynasty.succeed()).sessions;
    travelled.note(session?.leftover.length, split);
    client.send(wire.subarray(split));
    const reply = await client.read(32);
    t.equal(reply.readUInt32BE(0), NBD_MAGIC.EXTENDED_REPLY);
    t.equal(Number(reply.readBigUInt64BE(8)), split);
  }
  t.equal(client.available, 0);
  travelled.check();
  client.close();
});

t.test('a long payload that is half there travels along, a refused one too', async (t) => {
  const backend = new MemoryBackend(BYTES);
  const dynasty = await Dynasty.begin(t, catalogOfOne(backend));
  const client = await RawClient.go(dynasty.server.address);
  const payload = Buffer.alloc(600_000);
  for (let at = 0; at < payload.length; at += 4) payload.writeUInt32BE(at, at);
  const beyond = request({ type: NBD_CMD.WRITE, cookie: 2, offset: BYTES, payload });
  // The rest of it may still lie in the socket where the machine is busy.
  const succeed = async (split: number): Promise<void> => {
    const along = (await dynasty.succeed()).sessions[0]?.leftover.length ?? -1;
    t.ok(along >= 0 && along <= split, `${along} of ${split} bytes travelled along`);
    if (along === split) whole += 1;
  };
  let whole = 0;
  for (const split of [28 + 1, 28 + 65_536, 28 + 299_999, 28 + 599_999]) {
    client.send(request({ type: NBD_CMD.WRITE, cookie: 1, payload }).subarray(0, split));
    await pause(50);
    await succeed(split);
    client.send(payload.subarray(split - 28));
    t.strictSame(await client.reply(), { error: 0, cookie: 1 });
    client.send(beyond.subarray(0, split));
    await pause(50);
    await succeed(split);
    client.send(beyond.subarray(split));
    t.strictSame(await client.reply(), { error: 28, cookie: 2 }, 'still refused');
  }
  t.ok(whole > 0, `${whole} of 8 as a whole`);
  t.equal(await client.ask({ type: NBD_CMD.READ, cookie: 3, length: payload.length }), 0);
  t.ok((await client.read(payload.length)).equals(payload));
  client.close();
});

t.test('what was begun is answered by the old server, what waits by the new one', async (t) => {
  const backend = new HeldBackend(BYTES);
  const dynasty = await Dynasty.begin(t, backend.catalog());
  const client = await RawClient.go(dynasty.server.address);
  client.send(request({ type: NBD_CMD.FLUSH, cookie: 1 }));
  const first = await backend.next();
  const succeeding = dynasty.succeed();
  await until(() => dynasty.server.state().connections.length === 1, 'it is there');
  await pause(20);
  client.send(request({ type: NBD_CMD.FLUSH, cookie: 2 }), Buffer.from('2560', 'hex'));
  await pause(50);
  t.equal(backend.arrivedCount, 1, 'nothing new is begun');
  first.done(null);
  await succeeding;
  t.strictSame(await client.reply(), { error: 0, cookie: 1 });
  (await backend.next()).done(null);
  t.strictSame(await client.reply(), { error: 0, cookie: 2 });
  t.equal(backend.arrivedCount, 2, 'each is begun once');
  t.equal(backend.closedCount, 1, 'the old server has closed its export');
  client.close();
});

t.test('who connects meanwhile is served by the new server', async (t) => {
  const dynasty = await Dynasty.begin(t, catalogOfOne(new MemoryBackend(BYTES)));
  const { address } = dynasty.server;
  const estate = await dynasty.server.handOver();
  const waiting = RawClient.go(address);
  await pause(50);
  dynasty.server = await dynasty.heir(estate);
  const client = await waiting;
  t.equal(await client.ask({ type: NBD_CMD.FLUSH, cookie: 1 }), 0);
  t.strictSame(dynasty.server.address, address);
  client.close();
});

t.test(
  'a handshake may finish; one that does not is dropped, a goodbye is a goodbye',
  async (t) => {
    const dynasty = await Dynasty.begin(t, catalogOfOne(new MemoryBackend(BYTES)));
    const quick = await RawClient.connect(dynasty.server.address);
    const slow = await RawClient.connect(dynasty.server.address);
    const leaving = await RawClient.go(dynasty.server.address);
    await quick.read(18);
    const succeeding = dynasty.succeed();
    await pause(50);
    leaving.send(request({ type: NBD_CMD.DISC, cookie: 1 }));
    quick.send(clientFlags(3), option(NBD_OPT.GO, exportRequest('')));
    while ((await quick.optionReply()).type !== NBD_REP.ACK);
    t.equal((await succeeding).sessions.length, 1);
    await Promise.all([slow.closed, leaving.closed]);
    t.equal(await quick.ask({ type: NBD_CMD.FLUSH, cookie: 1 }), 0);
    quick.send(request({ type: NBD_CMD.DISC, cookie: 2 }).subarray(0, 27));
    await pause(10);
    t.equal((await dynasty.succeed()).sessions.length, 1);
    quick.send(Buffer.alloc(1));
    await quick.closed;
  },
);

t.test('a client that half-closed gets its answers', async (t) => {
  const backend = new HeldBackend(BYTES);
  const dynasty = await Dynasty.begin(t, backend.catalog());
  const client = await RawClient.go(dynasty.server.address);
  const wire = request({ type: NBD_CMD.FLUSH, cookie: 5 });
  client.send(wire.subarray(0, 10));
  await pause(10);
  const estate = await dynasty.server.handOver();
  client.send(wire.subarray(10));
  client.socket.end();
  dynasty.server = await dynasty.heir(estate);
  (await backend.next()).done(null);
  t.strictSame(await client.reply(), { error: 0, cookie: 5 });
  await client.closed;
});

t.test(
  'a client that reads nothing, or a slow backend, makes it fail, and all goes on',
  async (t) => {
    const backend = new HeldBackend(64 * BYTES);
    const dynasty = await Dynasty.begin(t, backend.catalog());
    const { server } = dynasty;
    const client = await RawClient.go(server.address);
    const other = await RawClient.go(server.address);
    client.send(request({ type: NBD_CMD.FLUSH, cookie: 1 }));
    const held = await backend.next();
    await t.rejects(server.handOver({ quietMs: 50 }), {
      code: 'E_TIMEOUT',
      message: /^Client 1 \(unix\) does not read its answers, or its requests take longer/,
    });
    other.send(request({ type: NBD_CMD.FLUSH, cookie: 2 }));
    (await backend.next()).done(null);
    t.strictSame(await other.reply(), { error: 0, cookie: 2 }, 'the other one goes on');
    held.done(null);
    t.strictSame(await client.reply(), { error: 0, cookie: 1 });

    client.socket.pause();
    client.send(request({ type: NBD_CMD.READ, cookie: 3, length: 8 * BYTES }));
    (await backend.next()).done(null);
    await pause(20);
    await t.rejects(server.handOver({ quietMs: 50 }), { code: 'E_TIMEOUT' });
    client.socket.resume();
    t.strictSame(await client.reply(), { error: 0, cookie: 3 });
    await client.read(8 * BYTES);
    const late = await RawClient.go(server.address);
    t.pass('it accepts as before');
    t.equal((await dynasty.succeed()).sessions.length, 3, 'and can be succeeded after all');
    for (const one of [client, other, late]) one.close();
  },
);

t.test('a server that cannot keep the promises takes nothing, and says why', async (t) => {
  const backend = new MemoryBackend(BYTES);
  const dynasty = await Dynasty.begin(t, catalogOfOne(backend));
  const client = await RawClient.go(dynasty.server.address);
  const estate = await dynasty.server.handOver();
  client.send(request({ type: NBD_CMD.FLUSH, cookie: 1 }));
  const refusals: [Partial<NbdServerOptions>, (estate: Estate) => Estate, RegExp][] = [
    [{ access: () => 'read' }, copyOf, /its flags were 0x[0-9a-f]+ and are 0x/],
    [{ access: () => 'none' }, copyOf, /there is none now/],
  ];
  for (const [options, copy, says] of refusals)
    await t.rejects(dynasty.heir(copy(estate), options), { code: 'E_INVALID', message: says });
  const differing = (change: object) => () => {
    const copy = copyOf(estate);
    return { ...copy, sessions: copy.sessions.map((one) => ({ ...one, ...change })) };
  };
  for (const [change, says] of [
    [{ bytes: BYTES + 1 }, /its size was 1048577 bytes and is 1048576 now/],
    [{ openedName: 'vm1' }, /that name means '' now/],
  ] as const)
    await t.rejects(dynasty.heir(differing(change)()), { code: 'E_INVALID', message: says });
  const no = new Error('the other one goes on');
  await t.rejects(dynasty.heir(copyOf(estate), { confirm: () => Promise.reject(no) }), no);
  t.equal(client.available, 0, 'no byte of it was touched');
  dynasty.server = await dynasty.heir(estate);
  t.strictSame(await client.reply(), { error: 0, cookie: 1 }, 'the one that can goes on');
  client.close();
});

t.test('a lenient server closes who cannot go on, and serves the others', async (t) => {
  const dynasty = await Dynasty.begin(t, catalogOfOne(new MemoryBackend(BYTES)));
  const [stays, goes] = [
    await RawClient.go(dynasty.server.address),
    await RawClient.go(dynasty.server.address),
  ];
  const estate = await dynasty.server.handOver();
  const sessions = estate.sessions.map((one, index) => (index === 1 ? { ...one, bytes: 1 } : one));
  dynasty.server = await dynasty.heir({ ...estate, sessions }, { lenient: true });
  await goes.closed;
  t.equal(await stays.ask({ type: NBD_CMD.FLUSH, cookie: 1 }), 0);
  stays.close();
});

t.test('a record that makes no sense is refused', async (t) => {
  const good = {
    negotiated: { exportName: 'a', headers: 'simple', contexts: [], knowsBlockSizes: true },
    openedName: 'a',
    bytes: 1,
    flags: 1,
    blockBytesMin: 1,
  };
  t.match(decodeSession(good, 5, Buffer.from('x')), good);
  const { negotiated } = good;
  const bad: unknown[] = [
    null,
    [],
    'text',
    {},
    { ...good, bytes: -1 },
    { ...good, bytes: 2 ** 60 },
    { ...good, flags: '1' },
    { ...good, openedName: 'x'.repeat(5000) },
    { ...good, negotiated: null },
    { ...good, negotiated: { ...negotiated, headers: 'oldstyle' } },
    { ...good, negotiated: { ...negotiated, contexts: [{ id: -1, name: 'a' }] } },
    { ...good, negotiated: { ...negotiated, contexts: Array(65).fill({ id: 1, name: 'a' }) } },
  ];
  for (const record of bad)
    t.throws(() => decodeSession(record, 5, Buffer.alloc(0)), { code: 'E_FORMAT' });
});
