import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { POLL, pollSockets, RawSocket, type SocketAddress } from './real-sockets.js';

type ListenArguments = { path: string } | { host: string; port: number };

async function serverOn(
  t: Tap,
  where: ListenArguments,
): Promise<{ address: SocketAddress; next: Promise<Socket> }> {
  const server = createServer();
  const next = once(server, 'connection').then(([socket]) => socket as Socket); // its argument
  server.listen(where);
  await once(server, 'listening');
  t.teardown(() => server.close());
  if ('path' in where) return { address: where, next };
  const { address: ip, port } = server.address() as AddressInfo; // a TCP server
  return { address: { ip, port }, next };
}

type Tap = { teardown(undo: () => unknown): void };

function folder(t: Tap): string {
  const path = mkdtempSync(join(tmpdir(), 'raw-sockets-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

for (const [title, where] of [
  ['an IPv4 address', () => ({ host: '127.0.0.1', port: 0 })],
  ['an IPv6 address', () => ({ host: '::1', port: 0 })],
  ['a Unix socket', (t: Tap) => ({ path: join(folder(t), 's') })],
  // Node 20 pads shorter names with NULs, which are part of the name
  [
    'an abstract Unix socket',
    () => ({ path: `\0${`store-test-${process.pid}`.padEnd(107, '-')}` }),
  ],
] as const)
  t.test(
    `RawSocket carries bytes both ways over ${title}, and poll() sees the other side go`,
    async (t) => {
      const { address, next } = await serverOn(t, where(t));
      const socket = await RawSocket.connect(address, 5000);
      t.teardown(() => socket.close());
      const peer = await next;
      peer.on('data', (chunk) => peer.write(chunk));
      const sent = Buffer.from('0123456789'.repeat(50_000));
      const received = socket.receiveExactly(sent.length, 5000);
      await socket.send(sent, 5000);
      t.ok((await received).equals(sent), 'half a megabyte came back');
      const watch = [{ socket, events: POLL.RDHUP }];
      t.same(await pollSockets(watch, 20), [0], 'nothing happens');
      peer.destroy();
      const [seen = 0] = await pollSockets(watch, 5000);
      t.ok((seen & (POLL.RDHUP | POLL.HUP | POLL.ERR)) !== 0, 'the end is seen');
      await t.rejects(socket.receiveExactly(1, 1000), { code: /E_CLOSED|E_SYSTEM/ });
    },
  );

t.test('RawSocket says why it cannot connect, and gives up in time', async (t) => {
  const unused = createServer().listen({ host: '127.0.0.1', port: 0 });
  await once(unused, 'listening');
  const { port } = unused.address() as AddressInfo; // a TCP server
  unused.close();
  await once(unused, 'close');
  const to = (address: SocketAddress) => RawSocket.connect(address, 1000);
  await t.rejects(to({ ip: '127.0.0.1', port }), { code: 'E_SYSTEM', message: /nothing listens/ });
  await t.rejects(to({ path: '/nowhere/s' }), { code: 'E_SYSTEM', message: /no such socket/ });
  await t.rejects(to({ path: `/${'x'.repeat(107)}` }), {
    code: 'E_INVALID',
    message: /at most 107/,
  });
  await t.rejects(to({ ip: 'fe80::1%lo', port }), { code: 'E_INVALID', message: /zone/ });

  const { address, next } = await serverOn(t, { host: '127.0.0.1', port: 0 });
  const socket = await RawSocket.connect(address, 1000);
  t.teardown(() => socket.close());
  (await next).on('error', () => undefined);
  const startMs = performance.now();
  await t.rejects(socket.receiveExactly(1, 100), { code: 'E_TIMEOUT' });
  await t.rejects(socket.send(Buffer.alloc(64 * 1024 ** 2), 100), { code: 'E_TIMEOUT' });
  t.ok(performance.now() - startMs < 2000, 'both waits ended');
});

t.test('a netlink message arrives whole or not at all', async (t) => {
  const socket = RawSocket.netlink(16);
  t.teardown(() => socket.close());
  // CTRL_CMD_GETFAMILY for "nlctrl", which every kernel with generic netlink has.
  const request = Buffer.from(
    '20000000100005000100000000000000030100000b0002006e6c6374726c0000',
    'hex',
  );
  await socket.send(request, 1000);
  const answer = await socket.receiveMessage(65_536, 1000);
  t.equal(answer.readUInt32LE(0), answer.length, 'one message');
  t.ok(answer.includes('nlctrl'));
  await socket.send(request, 1000);
  await t.rejects(socket.receiveMessage(16, 1000), { code: 'E_FORMAT' });
});
