import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import type { Connection, ConnectionEvents } from './network.js';
import type { DirectConnection } from './real-connection.js';
import { realNetwork } from './real-network.js';
import { RealTlsContext } from './real-tls.js';
import { silentLog } from './silent-log.js';

const KEY = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const MIB = 1024 * 1024;

type MaybeDirect = Connection & Partial<Pick<DirectConnection, 'receiveInto'>>;

/** Both ends of a connection inside TLS; ours is not started. */
async function pair(t: Test): Promise<{ server: Connection; client: TLSSocket }> {
  const folder = mkdtempSync(join(tmpdir(), 'tls-'));
  const path = join(folder, 's');
  const context = new RealTlsContext({ psk: new Map([['alice', KEY]]) });
  const nothing = { data: () => true, end: () => undefined, drain: () => undefined };
  let secured: (connection: Promise<Connection>) => void = () => undefined;
  const server = new Promise<Connection>((resolve, reject) => {
    secured = (connection) => void connection.then(resolve, reject);
  });
  const listener = await realNetwork(silentLog).listen({ path }, (plain) => {
    plain.start({ ...nothing, closed: () => undefined });
    secured(plain.startTls(context).then(({ connection }) => connection));
  });
  const client = connectTls({
    socket: connect(path),
    pskCallback: () => ({ psk: KEY, identity: 'alice' }),
    ciphers: 'TLS_AES_128_GCM_SHA256:PSK-AES128-GCM-SHA256',
    checkServerIdentity: () => undefined,
  });
  client.on('error', () => undefined);
  const connection = await server;
  t.teardown(async () => {
    client.destroy();
    connection.destroy();
    await listener.close();
    rmSync(folder, { recursive: true });
  });
  return { server: connection, client };
}

/** Bytes that tell their place. */
function numbered(bytes: number): Buffer {
  const all = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 1) all[at] = (at * 31 + (at >> 8)) % 251;
  return all;
}

/** Takes everything, in any way that a receiver may, and resolves at the end. */
function receiveAll(
  connection: MaybeDirect,
  choose: (turn: number) => 'copy' | 'keep' | 'pause' | 'direct',
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let turn = 0;
  let isPaused = false;
  return new Promise((resolve, reject) => {
    const events: ConnectionEvents = {
      data: (chunk) => {
        if (isPaused) reject(new Error('bytes came while it was paused'));
        turn += 1;
        const how = choose(turn);
        parts.push(how === 'keep' ? chunk : Buffer.from(chunk));
        if (how === 'pause') {
          isPaused = true;
          connection.pause();
          setTimeout(() => {
            isPaused = false;
            connection.resume();
          }, 2);
        } else if (how === 'direct') connection.receiveInto?.(Buffer.alloc((turn * 977) % 90_000));
        return how !== 'keep';
      },
      end: () => {
        if (isPaused) reject(new Error('the end came while it was paused'));
        resolve(Buffer.concat(parts));
      },
      drain: () => undefined,
      closed: (error) => reject(error ?? new Error('closed before its end')),
    };
    connection.start(events);
  });
}

t.test('records of any size arrive in order, whatever is done with the chunks', async (t) => {
  const { server, client } = await pair(t);
  const ways = ['copy', 'keep', 'pause', 'direct', 'direct', 'copy'] as const;
  const received = receiveAll(server, (turn) => ways[turn % ways.length] ?? 'copy');
  const sent = numbered(4 * MIB);
  for (let at = 0, size = 1; at < sent.length; size = (size * 7 + 3) % 70_000) {
    client.write(sent.subarray(at, at + size));
    at += size;
    if (size % 11 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  client.end();
  t.ok((await received).equals(sent), 'no byte was lost, doubled or written over');
});

t.test('what comes in one turn is reported together', async (t) => {
  const { server, client } = await pair(t);
  let chunks = 0;
  const received = receiveAll(server, () => {
    chunks += 1;
    return 'copy';
  });
  const sent = numbered(64 * 1024);
  client.cork();
  for (let at = 0; at < sent.length; at += 1024) client.write(sent.subarray(at, at + 1024));
  client.uncork();
  client.end();
  t.ok((await received).equals(sent));
  t.ok(chunks < 64, `${chunks} chunks for 64 writes`);
});

t.test('an answer from within a chunk leaves at once, and the end is told once', async (t) => {
  const { server, client } = await pair(t);
  let ends = 0;
  const answered = new Promise<string>((resolve) =>
    client.once('data', (chunk: Buffer) => resolve(chunk.toString())),
  );
  const closed = new Promise<void>((resolve) => {
    server.start({
      data: (chunk) => {
        server.write([Buffer.from(`${chunk.toString()} to you`)]);
        return true;
      },
      end: () => {
        ends += 1;
        server.end();
      },
      drain: () => undefined,
      closed: () => resolve(),
    });
  });
  client.write('hello');
  t.equal(await answered, 'hello to you');
  client.end();
  await closed;
  t.equal(ends, 1);
});
