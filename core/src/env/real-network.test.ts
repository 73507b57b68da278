import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, stat, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { StoreError } from '../util/errors.js';
import type { Log } from './log.js';
import type { Connection, ConnectionEvents, ListenAddress } from './network.js';
import type { DirectConnection } from './real-connection.js';
import { realNetwork } from './real-network.js';

const log: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  fatal: () => undefined,
  child: () => log,
};
const network = realNetwork(log);
const MIB = 1024 * 1024;

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'network-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** What a connection told, and a way to wait for it. */
class Witness implements ConnectionEvents {
  readonly chunks: Buffer[] = [];
  ends = 0;
  drains = 0;
  closes: (Error | null)[] = [];
  onData: (chunk: Buffer) => void = () => undefined;

  data(chunk: Buffer): boolean {
    this.chunks.push(chunk);
    this.onData(chunk);
    return false;
  }
  end(): void {
    this.ends += 1;
  }
  drain(): void {
    this.drains += 1;
  }
  closed(error: Error | null): void {
    this.closes.push(error);
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUp = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > giveUp) throw new Error(`it never happened: ${what}`);
    await pause(2);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

interface Pair {
  server: Connection;
  witness: Witness;
  client: Socket;
}

/** A connection of ours and the plain socket at its other end. */
async function pair(t: Test, address: ListenAddress): Promise<Pair> {
  const witness = new Witness();
  let server: Connection | undefined;
  const listener = await network.listen(address, (connection) => {
    server = connection;
    connection.start(witness);
  });
  const client = connect({ ...listener.address, allowHalfOpen: true });
  client.on('error', () => undefined);
  t.teardown(async () => {
    client.destroy();
    server?.destroy();
    await listener.close();
  });
  await until(() => server !== undefined, 'it connects');
  if (server === undefined) throw new Error('unreachable');
  return { server, witness, client };
}

for (const kind of ['tcp', 'tcp6', 'unix'])
  t.test(`bytes go both ways, in order, and half-close works (${kind})`, async (t) => {
    const address =
      kind === 'unix'
        ? { path: join(folder(t), 's') }
        : { host: kind === 'tcp' ? '127.0.0.1' : '::1', port: 0 };
    const { server, witness, client } = await pair(t, address);
    t.match(
      server.peer,
      { tcp: /^127\.0\.0\.1:\d+$/, tcp6: /^\[::1\]:\d+$/, unix: /^unix$/ }[kind],
    );
    const received: Buffer[] = [];
    client.on('data', (chunk: Buffer) => received.push(chunk));
    client.write('hel');
    client.write('lo');
    await until(() => witness.bytes.length === 5, 'it arrives');
    t.equal(witness.bytes.toString(), 'hello');
    client.end();
    await until(() => witness.ends === 1, 'the end arrives');
    server.write([Buffer.from('a'), Buffer.from('b')]);
    server.write([Buffer.from('c')]);
    await pause(10);
    server.write([Buffer.from('d')]);
    server.end();
    await until(() => witness.closes.length === 1, 'it closes');
    await until(() => Buffer.concat(received).length === 4, 'the answer arrives');
    t.equal(Buffer.concat(received).toString(), 'abcd');
    t.strictSame(witness.closes, [null]);
  });

t.test('a MiB in any order of large and small pieces arrives unchanged', async (t) => {
  const { server, witness, client } = await pair(t, { path: join(folder(t), 's') });
  const sent = Buffer.alloc(MIB);
  for (let at = 0; at < MIB; at++) sent[at] = (at * 31) % 251;
  let at = 0;
  for (let size = 1; at < MIB; size = (size * 7 + 3) % 90_000) {
    client.write(sent.subarray(at, at + size));
    at += size;
    if (size % 5 === 0) await pause(0);
  }
  await until(() => witness.chunks.reduce((sum, { length }) => sum + length, 0) === MIB, 'all');
  t.ok(witness.bytes.equals(sent), 'no slice was written over by a later read');
  t.equal(server.unsentBytes, 0);
});

t.test('looking out for requests and answers loses and doubles nothing', async (t) => {
  const path = join(folder(t), 's');
  // A client in a thread of its own: what it sends can arrive while the server looks.
  const script = `
    const { connect } = require('node:net');
    const { parentPort, workerData } = require('node:worker_threads');
    const socket = connect(workerData.path);
    const number = Buffer.alloc(4);
    let count = 0;
    let received = Buffer.alloc(0);
    const ask = () => { number.writeUInt32BE(count); socket.write(Buffer.from(number)); };
    socket.on('connect', ask).on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 4) return;
      if (received.length > 4 || received.readUInt32BE() !== count + 1) throw new Error('wrong answer ');
      received = Buffer.alloc(0);
      count += 1;
      if (count === workerData.rounds) { socket.end(); parentPort.postMessage(count); }
      else ask();
    });`;
  const rounds = 3000;
  let underWay = 0;
  let connection: Connection | undefined;
  const witness = new Witness();
  const answer = (chunk: Buffer): void => {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(chunk.readUInt32BE() + 1);
    underWay -= 1;
    connection?.write([number]);
  };
  witness.onData = (chunk) => {
    underWay += 1;
    const copy = Buffer.from(chunk);
    const round = copy.readUInt32BE();
    if (round % 1000 === 999) setTimeout(() => answer(copy), 5);
    else if (round % 3 === 0)
      stat(path, () => answer(copy)); // another thread does it
    else if (round % 3 === 1) setImmediate(() => answer(copy));
    else answer(copy);
  };
  const events = Object.assign(witness, {
    awaits: () => (underWay > 0 ? ('answer' as const) : ('peer' as const)),
  });
  const listener = await network.listen({ path }, (accepted) => {
    connection = accepted;
    accepted.start(events);
  });
  const worker = new Worker(script, { eval: true, workerData: { path, rounds } });
  t.teardown(async () => {
    await worker.terminate();
    connection?.destroy();
    await listener.close();
  });
  const [count] = (await once(worker, 'message', { signal: AbortSignal.timeout(30_000) })) as [
    number,
  ];
  t.equal(count, rounds);
  t.equal(witness.bytes.length, rounds * 4);
});

t.test('receiveInto() lets the next bytes land in the target, and only those', async (t) => {
  const { server, witness, client } = await pair(t, { path: join(folder(t), 's') });
  const target = Buffer.alloc(100_000);
  witness.onData = () => {
    if (witness.chunks.length === 1) (server as DirectConnection).receiveInto(target);
  };
  client.write('first');
  await until(() => witness.chunks.length > 0, 'it arrives');
  client.write(Buffer.alloc(100_000, 7));
  client.write('last');
  await until(() => witness.bytes.length === 100_009, 'all');
  t.ok(target.equals(Buffer.alloc(100_000, 7)));
  t.ok(witness.chunks.slice(1, -1).every(({ buffer }) => buffer === target.buffer));
  t.equal(witness.bytes.subarray(-4).toString(), 'last');
});

t.test('receiveInto() between two reads spoils nothing that is in a slab', async (t) => {
  const { server, witness, client } = await pair(t, { path: join(folder(t), 's') });
  const sent = Buffer.alloc(300_000);
  for (let at = 0; at < sent.length; at += 1) sent[at] = (at * 7) % 253;
  const kept: Buffer[] = [];
  witness.onData = (chunk) => kept.push(Buffer.from(chunk));
  client.write(sent.subarray(0, 100));
  await until(() => witness.bytes.length === 100, 'the start arrives');
  (server as DirectConnection).receiveInto(Buffer.alloc(30_000));
  for (let at = 100; at < sent.length; at += 9_973) {
    client.write(sent.subarray(at, at + 9_973));
    await pause(1);
  }
  await until(() => witness.bytes.length === sent.length, 'all');
  t.ok(Buffer.concat(kept).equals(sent), 'each chunk is right when it is reported');
  t.ok(witness.bytes.equals(sent), 'and stays so');
});

t.test('pause() stops reading until resume()', async (t) => {
  const { server, witness, client } = await pair(t, { path: join(folder(t), 's') });
  witness.onData = () => server.pause();
  client.write(Buffer.alloc(8 * MIB));
  await pause(100);
  t.equal(witness.chunks.length, 1, 'one chunk, then nothing');
  t.ok(client.writableLength > 0, 'the peer feels it');
  witness.onData = () => undefined;
  server.resume();
  await until(() => witness.bytes.length === 8 * MIB, 'the rest arrives');
});

t.test('write() asks to wait, and drain() tells when everything is with the system', async (t) => {
  const { server, witness, client } = await pair(t, { path: join(folder(t), 's') });
  client.pause();
  t.equal(server.write([Buffer.alloc(100)]), true);
  await pause(10);
  t.equal(server.unsentBytes, 0);
  t.equal(witness.drains, 1, 'it left at the end of the turn');
  t.equal(server.write([Buffer.alloc(8 * MIB)]), false);
  await pause(50);
  t.ok(server.unsentBytes > 0);
  t.equal(witness.drains, 1);
  client.resume();
  await until(() => witness.drains === 2, 'it drains');
  t.equal(server.unsentBytes, 0);
});

t.test('a connection that breaks tells so exactly once', async (t) => {
  const { server, witness, client } = await pair(t, { host: '127.0.0.1', port: 0 });
  client.resetAndDestroy();
  await until(() => witness.closes.length === 1, 'it closes');
  server.write([Buffer.from('into the void')]);
  server.end();
  server.destroy();
  await pause(20);
  t.equal(witness.closes.length, 1);
});

t.test('closing the listener leaves connections alone', async (t) => {
  const path = join(folder(t), 's');
  const witness = new Witness();
  const listener = await network.listen({ path }, (connection) => {
    connection.start(witness);
    t.teardown(() => connection.destroy());
  });
  t.equal(statSync(path).mode & 0o777, 0o600, 'the socket is private');
  const client = connect(path);
  client.write('x');
  await until(() => witness.chunks.length === 1, 'it connects');
  await listener.close();
  t.notOk(existsSync(path), 'the socket file is gone');
  client.write('y');
  await until(() => witness.bytes.length === 2, 'it still works');
  client.destroy();
  await until(() => witness.ends === 1, 'it ends');
});

t.test('a stale socket file is replaced, anything else is left alone', async (t) => {
  const path = join(folder(t), 's');
  // A program that is killed leaves its socket file behind.
  const { spawnSync } = await import('node:child_process');
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  t.ok(statSync(path).isSocket(), 'it was left behind');
  const listener = await network.listen({ path }, (connection) => connection.destroy());
  await t.rejects(
    network.listen({ path }, () => undefined),
    {
      code: 'E_SYSTEM',
      message: `Cannot listen on ${path}: another program serves there; stop it or choose another path`,
    },
  );
  await listener.close();
  writeFileSync(path, 'precious');
  await t.rejects(
    network.listen({ path }, () => undefined),
    { message: /remove it or choose/ },
  );
  t.equal(statSync(path).size, 8, 'the file is still there');
});

t.test('what cannot be listened on is said in one line with what to do', async (t) => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const bound = taken.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  const cases: [ListenAddress, RegExp][] = [
    [{ host: '127.0.0.1', port }, /the port is taken; stop/],
    [{ host: '192.0.2.1', port: 0 }, /does not have that address; choose/],
    [{ host: 'no-such-host.invalid', port: 0 }, /no such host name; write an address/],
    [{ path: '/no/such/folder/s' }, /its folder does not exist; create it/],
    [{ path: `/tmp/${'x'.repeat(110)}` }, /at most 107 bytes; choose/],
  ];
  for (const [address, message] of cases) {
    const error: unknown = await network.listen(address, () => undefined).catch((e: unknown) => e);
    t.ok(error instanceof StoreError && error.code === 'E_SYSTEM');
    t.match((error as StoreError).message, message);
    t.notMatch((error as StoreError).message, /\n/);
  }
});
