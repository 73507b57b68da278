// The ends of connections, and what a dead one may leave behind.
import type { Done } from '@store/core';
import t, { type Test } from 'tap';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD } from '../protocol/constants.js';
import { RawClient } from '../testing/raw-client.js';
import { FORMATS, Session } from '../testing/session.js';
import { HeldBackend, pause, startServer, until } from '../testing/test-server.js';
import { compactRequest, simpleReply } from '../testing/wire.js';

const { READ, WRITE, DISC, FLUSH } = NBD_CMD;
const MIB = 2 ** 20;

/** A disk whose writes stall until the test lets them go, each with the bytes it was given. */
class StallingBackend extends MemoryBackend {
  readonly stalled: (() => void)[] = [];
  isStalling = true;

  override write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    if (!this.isStalling) super.write(offset, parts, flags, done);
    else this.stalled.push(() => super.write(offset, parts, flags, done));
  }

  override zero(offset: number, bytes: number, flags: number, done: Done): void {
    if (!this.isStalling) super.zero(offset, bytes, flags, done);
    else this.stalled.push(() => super.zero(offset, bytes, flags, done));
  }
}

async function blockOf(client: RawClient): Promise<Buffer> {
  client.send(compactRequest({ type: READ, cookie: 99, length: 4096 }));
  await client.expect(simpleReply(0, 99));
  return client.read(4096);
}

for (const names of [
  ['disk', 'disk'],
  ['disk', ''],
  ['', 'disk'],
] as const)
  t.test('F12, D4: a stalled write of a dead connection never lands on newer data', async (t) => {
    const backend = new StallingBackend(MIB);
    const address = { host: '127.0.0.1', port: 0 }; // TCP has resets
    const { server, stop } = await startServer(memoryCatalog({ disk: backend }), { address });
    t.teardown(stop);
    const dead = await RawClient.go(server.address, names[0]);
    const old = Buffer.alloc(4096, 'old');
    dead.send(
      compactRequest({ type: WRITE, cookie: 1, payload: old }),
      compactRequest({ type: NBD_CMD.WRITE_ZEROES, cookie: 2, length: 4096 }),
    );
    await until(() => backend.stalled.length === 2, 'the backend holds both');
    dead.socket.resetAndDestroy();
    backend.isStalling = false;
    let hasOpened = false;
    const successor = RawClient.go(server.address, names[1]).then((client) => {
      hasOpened = true;
      return client;
    });
    await pause(100);
    t.notOk(hasOpened, 'the successor waits for what the dead one left');
    for (const letGo of backend.stalled) letGo();
    const client = await successor;
    const payload = Buffer.alloc(4096, 'new');
    client.send(compactRequest({ type: WRITE, cookie: 3, payload }));
    await client.expect(simpleReply(0, 3));
    await pause(20);
    t.ok((await blockOf(client)).equals(payload));
    client.close();
  });

async function serve(t: Test) {
  const { server, stop } = await startServer(memoryCatalog({ disk: new MemoryBackend(MIB) }));
  t.teardown(stop);
  return server.address;
}

t.test('D1, DISC: a hundred requests before DISC are all answered, then the end', async (t) => {
  const address = await serve(t);
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'disk');
    const requests = Array.from({ length: 100 }, (_, cookie) =>
      session.encode({ type: WRITE, cookie, offset: cookie, payload: Buffer.from('x') }),
    );
    session.client.send(Buffer.concat([...requests, session.encode({ type: DISC, cookie: 100 })]));
    const answerBytes = format === 'extended' ? 32 : 16;
    const answers = await session.client.rest();
    t.equal(answers.length, 100 * answerBytes, format);
    for (let at = 0; at < answers.length; at += answerBytes)
      t.equal(Number(answers.readBigUInt64BE(at + 8)), at / answerBytes);
  }
});

t.test('D5: after DISC nothing is obeyed and nothing breaks', async (t) => {
  const address = await serve(t);
  const client = await RawClient.go(address);
  const good = await RawClient.go(address);
  client.send(
    compactRequest({ type: DISC, cookie: 1 }),
    compactRequest({ type: WRITE, cookie: 2, payload: Buffer.alloc(4096, 'late') }),
    Buffer.alloc(100_000, 'garbage'),
  );
  t.equal((await client.rest()).length, 0);
  t.ok((await blockOf(good)).equals(Buffer.alloc(4096)), 'the late write did not happen');
  good.close();
});

t.test('D2: what one client breaks ends that client alone', async (t) => {
  const address = await serve(t);
  const good = await RawClient.go(address);
  const bad = [
    Buffer.alloc(28, 'X'),
    compactRequest({ type: WRITE, cookie: 1, length: 0xffffffff }),
    compactRequest({ type: WRITE, cookie: 1, length: 2 ** 25 + 1 }),
  ];
  for (const bytes of bad) {
    const client = await RawClient.go(address);
    client.send(bytes);
    t.equal((await client.rest()).length, 0);
    t.equal(await good.ask({ type: FLUSH, cookie: 5 }), 0);
  }
  good.close();
});

t.test('D4: a write cut off in the middle never happens; one that is whole does', async (t) => {
  const backend = new HeldBackend(MIB);
  const { server, stop } = await startServer(backend.catalog());
  t.teardown(stop);
  const whole = compactRequest({ type: WRITE, cookie: 1, payload: Buffer.alloc(100_000, 'w') });
  for (const missing of [1, 50_000, 99_999, 100_000, 100_001, 100_027]) {
    const client = await RawClient.go(server.address);
    client.send(whole.subarray(0, whole.length - missing));
    client.socket.end();
    t.equal((await client.rest()).length, 0, `${missing} bytes are missing`);
    t.equal(backend.arrivedCount, 0);
  }
  const client = await RawClient.go(server.address);
  client.send(whole);
  client.socket.end();
  const write = await backend.next();
  t.equal(write.bytes, 100_000);
  write.done(null);
  t.strictSame(await client.rest(), simpleReply(0, 1));
});
