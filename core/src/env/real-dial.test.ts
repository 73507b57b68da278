import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import type { Connection, ConnectionEvents, ListenAddress } from './network.js';
import type { DirectConnection } from './real-connection.js';
import { realNetwork } from './real-network.js';
import { silentLog } from './silent-log.js';

const network = realNetwork(silentLog);
const MIB = 1024 * 1024;
const LIMIT = { timeoutMs: 5000 };
const NOTHING: ConnectionEvents = {
  data: () => true,
  end: () => undefined,
  drain: () => undefined,
  closed: () => undefined,
};

type MaybeDirect = Connection & Partial<Pick<DirectConnection, 'receiveInto'>>;

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'dial-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Bytes that tell their place. */
function numbered(bytes: number, seed: number): Buffer {
  const all = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 1) all[at] = (at * seed + (at >> 8)) % 251;
  return all;
}

/** Both ends, neither started. */
async function pair(t: Test, address: ListenAddress): Promise<[Connection, Connection]> {
  let accepted: (connection: Connection) => void = () => undefined;
  const server = new Promise<Connection>((resolve) => (accepted = resolve));
  const listener = await network.listen(address, accepted);
  t.teardown(() => listener.close());
  const client = await network.connect(listener.address, LIMIT);
  t.teardown(() => client.destroy());
  const other = await server;
  t.teardown(() => other.destroy());
  return [client, other];
}

/** Sends `bytes` and the end, in pieces; takes everything, and resolves with it when both have ended. */
function exchange(connection: MaybeDirect, bytes: Buffer, isDirect: boolean): Promise<Buffer> {
  const target = Buffer.alloc(512 * 1024);
  const parts: Buffer[] = [];
  let direct = 0;
  return new Promise((resolve, reject) => {
    connection.start({
      data: (chunk) => {
        if (chunk.buffer === target.buffer) direct += chunk.length;
        if (isDirect && parts.length === 0) connection.receiveInto?.(target);
        parts.push(Buffer.from(chunk));
        return true;
      },
      end: () => undefined,
      drain: () => undefined,
      closed: (error) => {
        if (error !== null) reject(error);
        else if (isDirect && direct !== target.length)
          reject(new Error(`${direct} bytes landed in the target`));
        else resolve(Buffer.concat(parts));
      },
    });
    for (let at = 0, size = 1; at < bytes.length; size = (size * 7 + 3) % 90_000) {
      connection.write([bytes.subarray(at, at + size)]);
      at += size;
    }
    connection.end();
  });
}

for (const kind of ['127.0.0.1', '::1', 'localhost', 'unix'])
  t.test(`a connection we made takes and gives a MiB, with receiveInto() (${kind})`, async (t) => {
    const address = kind === 'unix' ? { path: join(folder(t), 's') } : { host: kind, port: 0 };
    const [client, server] = await pair(t, address);
    t.match(client.peer, kind === 'unix' ? /^unix$/ : /^(127\.0\.0\.1|\[::1\]):\d+$/);
    t.type(client.descriptor, 'number');
    t.equal(client.exportKey('label', 32), null, 'there are no keys without TLS');
    const there = numbered(MIB, 31);
    const back = numbered(MIB, 17);
    const [atServer, atClient] = await Promise.all([
      exchange(server, back, false),
      exchange(client, there, true),
    ]);
    t.ok(atServer.equals(there));
    t.ok(atClient.equals(back));
  });

t.test('what the peer says first is kept until the connection is started', async (t) => {
  const listening = createServer((socket) => socket.end('welcome'));
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  t.teardown(() => listening.close());
  const client = await network.connect(addressOf(listening), LIMIT);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const said = await new Promise<string>((resolve, reject) => {
    let all = '';
    client.start({
      ...NOTHING,
      data: (chunk) => ((all += chunk.toString()), true),
      end: () => resolve(all),
      closed: (error) => reject(error ?? new Error('closed before its end')),
    });
  });
  t.equal(said, 'welcome');
  client.destroy();
});

t.test('pause() in the turn of start() holds until resume()', async (t) => {
  const [client, server] = await pair(t, { host: '127.0.0.1', port: 0 });
  let received = '';
  client.start({ ...NOTHING, data: (chunk) => ((received += chunk.toString()), true) });
  client.pause();
  server.start(NOTHING);
  server.write([Buffer.from('wait')]);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(received, '');
  client.resume();
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(received, 'wait');
});

t.test('a peer that is gone at once closes the connection, and ends nobody', async (t) => {
  const listening = createServer((socket) => socket.resetAndDestroy());
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  t.teardown(() => listening.close());
  for (let count = 0; count < 20; count += 1) {
    const client = await network.connect(addressOf(listening), LIMIT).catch(() => null);
    if (client === null) continue; // the reset came first
    await new Promise<void>((resolve) => client.start({ ...NOTHING, closed: () => resolve() }));
  }
  t.pass('twenty times');
});

t.test('where nobody can be reached is said in one line with what to do', async (t) => {
  const dir = folder(t);
  writeFileSync(join(dir, 'file'), '');
  const closed = createServer();
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
  const gone = addressOf(closed);
  await new Promise((resolve) => closed.close(resolve));
  const unreachable: [ListenAddress, RegExp][] = [
    [gone, /^Cannot reach 127\.0\.0\.1:\d+: nothing listens there; start the server/],
    [{ host: '::1', port: gone.port }, /^Cannot reach \[::1\]:\d+: nothing listens there; start/],
    [{ host: 'localhost', port: gone.port }, /nothing listens there; start/],
    [{ host: 'no-such-host.invalid', port: 1 }, /no such host name|name service does not answer/],
    [{ path: join(dir, 'none') }, /there is no such socket; start/],
    [{ path: join(dir, 'file', 'none') }, /there is no such socket; start/],
    [{ path: join(dir, 'file') }, /nothing listens there; start/],
  ];
  const invalid: [ListenAddress, RegExp][] = [
    [{ path: `/tmp/${'x'.repeat(103)}` }, /at most 107 bytes; choose/],
    [{ path: '' }, /is empty; give/],
    [{ host: '127.0.0.1', port: 0 }, /give a host and a port/],
    [{ host: '127.0.0.1', port: 65536 }, /give a host and a port/],
    [{ host: '', port: 1 }, /give a host and a port/],
  ];
  const check = async (code: string, cases: [ListenAddress, RegExp][]): Promise<void> => {
    for (const [address, message] of cases) {
      const problem = network.connect(address, LIMIT);
      await t.rejects(problem, { code, message });
      await problem.catch((error: unknown) => t.notMatch(String(error), /\n/));
    }
  };
  await check('E_UNREACHABLE', unreachable);
  await check('E_INVALID', invalid);
});

t.test('a path of 107 bytes is not too long', async (t) => {
  const dir = folder(t);
  const path = join(dir, 'x'.repeat(106 - dir.length));
  t.equal(path.length, 107);
  await pair(t, { path });
});

t.test(
  'a socket that others may not use is not taken for one that is not there',
  { skip: process.getuid?.() !== 0 && 'needs root to become somebody else' },
  async (t) => {
    const path = join(folder(t), 's');
    const listener = await network.listen({ path }, (connection) => connection.destroy());
    t.teardown(() => listener.close());
    chmodSync(path, 0o600);
    chmodSync(join(path, '..'), 0o755);
    process.seteuid?.(65534);
    try {
      await t.rejects(network.connect({ path }, LIMIT), {
        code: 'E_UNREACHABLE',
        message: /no permission; run as the user/,
      });
    } finally {
      process.seteuid?.(0);
    }
  },
);

interface FullListener {
  readonly address: ListenAddress;
  /** From now on it accepts. */
  readonly release: () => void;
}

/** Listens in a thread that does not accept, and fills its queue. */
async function fullListener(t: Test, where: ListenAddress): Promise<FullListener> {
  const script = `
    const { createServer } = require('node:net');
    const { parentPort, workerData } = require('node:worker_threads');
    const server = createServer((socket) => socket.on('error', () => undefined));
    server.listen({ ...workerData.where, backlog: 1 }, () => {
      const bound = server.address();
      parentPort.postMessage(typeof bound === 'string' ? { path: bound } : { host: bound.address, port: bound.port });
      Atomics.wait(workerData.gate, 0, 0, 20_000);
    });`;
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(script, { eval: true, workerData: { where, gate } });
  const fillers: Socket[] = [];
  const release = (): void => {
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
  };
  t.teardown(async () => {
    for (const filler of fillers) filler.destroy();
    release();
    await worker.terminate();
  });
  const [address] = (await once(worker, 'message')) as [ListenAddress]; // posted above
  for (let count = 0; count < 8; count += 1)
    fillers.push(connect({ ...address }).on('error', () => undefined));
  await new Promise((resolve) => setTimeout(resolve, 100));
  return { address, release };
}

for (const kind of ['tcp', 'unix'])
  t.test(`a server that accepts nobody is given up in time (${kind})`, async (t) => {
    const where = kind === 'tcp' ? { host: '127.0.0.1', port: 0 } : { path: join(folder(t), 's') };
    const { address } = await fullListener(t, where);
    const before = process.getActiveResourcesInfo().sort();
    const begun = performance.now();
    await t.rejects(network.connect(address, { timeoutMs: 300 }), {
      code: 'E_UNREACHABLE',
      message: kind === 'tcp' ? /nobody answers within 300 ms; is the/ : /so many wait there/,
    });
    const tookMs = performance.now() - begun;
    t.ok(tookMs > 200 && tookMs < 2000, `${tookMs} ms`);
    // What is closed leaves the list in a later turn.
    for (let count = 0; count < 40 && process.getActiveResourcesInfo().length > before.length;) {
      count += 1;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    t.strictSame(process.getActiveResourcesInfo().sort(), before, 'nothing is left of the attempt');
  });

t.test('a Unix socket with a full queue is waited for', async (t) => {
  const { address, release } = await fullListener(t, { path: join(folder(t), 's') });
  setTimeout(release, 100);
  const begun = performance.now();
  const client = await network.connect(address, LIMIT);
  t.ok(performance.now() - begun > 50, 'it was full');
  client.destroy();
});

t.test('a connection leaves no timer behind', async (t) => {
  const [client, server] = await pair(t, { host: '127.0.0.1', port: 0 });
  t.notOk(process.getActiveResourcesInfo().includes('Timeout'));
  client.destroy();
  server.destroy();
});

function addressOf(server: ReturnType<typeof createServer>): { host: string; port: number } {
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('it does not listen on TCP');
  return { host: bound.address, port: bound.port };
}
