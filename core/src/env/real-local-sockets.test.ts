import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import t, { type Test } from 'tap';
import type { Log } from './log.js';
import type { Connection, ConnectionEvents, Listener, ListenOptions } from './network.js';
import { localNameOf } from './real-local-sockets.js';
import { realNetwork } from './real-network.js';
import { reservePort } from './reserved-port.js';
import { silentLog } from './silent-log.js';
import { socketCalls } from './socket-calls.js';

const CONNECT = { timeoutMs: 5000 };
const LOCALLY: ListenOptions = { alsoLocally: true };
/** A user whose sockets nobody trusts. */
const NOBODY = 65_534;

const canTell = socketCalls() !== null;
t.comment(canTell ? 'with system calls' : 'without system calls: everything goes over TCP');

/** Sends back what arrives. */
function echoOf(connection: Connection): ConnectionEvents {
  return {
    data: (chunk) => {
      connection.write([Buffer.from(chunk)]);
      return true;
    },
    end: () => connection.end(),
    drain: () => undefined,
    closed: () => undefined,
  };
}

interface Place {
  readonly host: string;
  readonly port: number;
  readonly log: Log;
}

/** A listener whose connections echo. */
async function echoServer(
  t: Test,
  options?: ListenOptions,
  { host = '127.0.0.1', port = 0, log = silentLog }: Partial<Place> = {},
): Promise<{ listener: Listener; host: string; port: number; peers: string[] }> {
  const peers: string[] = [];
  const accept = (connection: Connection): void => {
    peers.push(connection.peer);
    connection.start(echoOf(connection));
  };
  const listener = await realNetwork(log).listen({ host, port }, accept, options);
  t.teardown(() => listener.close());
  if ('path' in listener.address) throw new Error('it listens on a path');
  return { listener, ...listener.address, peers };
}

/** Connects, says something, and hears it again. @returns whom it was connected to */
async function call(address: { host: string; port: number }): Promise<string> {
  const connection = await realNetwork(silentLog).connect(address, CONNECT);
  const said = 'is anybody there?';
  const echo = await new Promise<string>((resolve, reject) => {
    let heard = '';
    connection.start({
      data: (chunk) => {
        heard += chunk.toString();
        if (heard.length >= said.length) resolve(heard);
        return true;
      },
      end: () => reject(new Error('it hung up')),
      drain: () => undefined,
      closed: (error) => reject(error ?? new Error('it is closed')),
    });
    connection.write([Buffer.from(said)]);
  });
  connection.destroy();
  if (echo !== said) throw new Error(`somebody else answers: ${echo}`);
  return connection.peer;
}

/** Somebody listens at the name of the local socket. */
function isTaken(address: { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path: localNameOf(address) ?? '' });
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

t.test('who connects to loopback needs no TCP, and both ends have its addresses', async (t) => {
  for (const host of ['127.0.0.1', '127.0.0.2', '::1']) {
    const { port, peers } = await echoServer(t, LOCALLY, { host });
    const peer = await call({ host, port });
    const isIPv6 = host.includes(':');
    t.equal(peer, isIPv6 ? `[::1]:${port}` : `${host}:${port}`);
    if (canTell) t.equal(peers[0], isIPv6 ? '[::1]:0' : '127.0.0.1:0');
  }
});

t.test('other programs come in over TCP as ever', async (t) => {
  const { host, port, peers } = await echoServer(t, LOCALLY);
  const socket = connect({ host, port });
  await once(socket, 'connect');
  socket.write('hello');
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  t.equal(chunk.toString(), 'hello');
  t.equal(peers[0], `127.0.0.1:${socket.localPort ?? 0}`);
  socket.destroy();
});

t.test('only who asks for it is reached without TCP', async (t) => {
  const { host, port, peers } = await echoServer(t);
  await call({ host, port });
  t.not(peers[0], '127.0.0.1:0');
  t.notOk(await isTaken({ host, port }));
});

t.test('only addresses of loopback have a local socket', async (t) => {
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'localhost', '128.0.0.1', 'fe80::1'])
    t.equal(localNameOf({ host, port: 4148 }), null, host);
  const name = localNameOf({ host: '127.9.9.9', port: 4148 });
  t.equal(name?.slice(1).replace(/\0*$/, ''), 'store/127.9.9.9:4148');
  t.equal(name?.length, 108);
  const { port, peers } = await echoServer(t, LOCALLY, { host: '0.0.0.0' });
  await call({ host: '127.0.0.1', port });
  t.not(peers[0], '127.0.0.1:0');
});

t.test('a closed listener gives the name back, and nobody is reached', async (t) => {
  const port = await reservePort();
  const { listener, host } = await echoServer(t, LOCALLY, { port });
  t.ok(await isTaken({ host, port }));
  await listener.close();
  t.notOk(await isTaken({ host, port }));
  await t.rejects(call({ host, port }), {
    code: 'E_UNREACHABLE',
    message: /nothing listens there/,
  });
});

t.test('a listener that is passed on is the one of TCP', async (t) => {
  if (!canTell) return;
  const { listener, host, port } = await echoServer(t, LOCALLY);
  const passed = listener.release();
  t.notOk(await isTaken({ host, port }));
  const peers: string[] = [];
  const heir = await realNetwork(silentLog).listenOn(passed, (connection) => {
    peers.push(connection.peer);
    connection.start(echoOf(connection));
  });
  t.teardown(() => heir.close());
  await call({ host, port });
  t.not(peers[0], '127.0.0.1:0');
});

t.test('where the name is taken, everybody connects over TCP, and the log says why', async (t) => {
  const address = { host: '127.0.0.1', port: await reservePort() };
  const thief = createServer((socket) => socket.destroy());
  thief.listen({ path: localNameOf(address) ?? '' });
  await once(thief, 'listening');
  t.teardown(() => thief.close());
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (_fields: object, text: string) => warnings.push(text) };
  await echoServer(t, LOCALLY, { ...address, log });
  t.match(warnings, [/connect over TCP, which is slower: .*EADDRINUSE/]);
});

/** Another process that listens at a name, and does `then`. */
async function listensAt(t: Test, path: string, then: string, uid?: number): Promise<void> {
  const program = `const path = Buffer.from('${Buffer.from(path).toString('hex')}', 'hex').toString();
    require('node:net').createServer((s) => s.on('error', () => {}).end('it is all a lie, of course'))
      .listen({ path, backlog: 1 }, () => { console.log('up'); ${then} })`;
  const child = spawn(process.execPath, ['-e', program], {
    ...(uid === undefined ? {} : { uid }),
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  t.equal(child.exitCode, null, 'somebody else listens');
}

t.test('the socket of another user is not trusted', async (t) => {
  if (process.getuid?.() !== 0) {
    t.comment('only root can be somebody else');
    return;
  }
  const { host, port, peers } = await echoServer(t);
  await listensAt(t, localNameOf({ host, port }) ?? '', '', NOBODY);
  await call({ host, port });
  t.equal(peers.length, 1, 'TCP was taken');
});

t.test('whose queue is full is reached over TCP', async (t) => {
  const { host, port, peers } = await echoServer(t);
  const path = localNameOf({ host, port }) ?? '';
  await listensAt(t, path, 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)');
  for (let count = 0; count < 2; count += 1) {
    const waiting = connect({ path });
    t.teardown(() => waiting.destroy());
    waiting.on('error', () => undefined); // when the other process ends
    await once(waiting, 'connect');
  }
  const tooMany = connect({ path });
  const [error] = (await once(tooMany, 'error')) as [Error];
  t.match(error, { code: 'EAGAIN' });
  await call({ host, port });
  t.equal(peers.length, 1, 'TCP was taken');
});
