import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { MemoryBackend, memoryCatalog, NBD_FLAG, parseNbdUri, serveNbd } from '@store/gateway-nbd';
import t from 'tap';
import { factsChange } from './export-facts.js';
import { dialNbd } from './nbd-dial.js';

type Tap = { teardown(undo: () => unknown): void };

async function nbdServer(t: Tap): Promise<string> {
  const exports = memoryCatalog({ 'vm ä': new MemoryBackend(2 ** 20) });
  const server = await serveNbd(exports, { address: { host: '127.0.0.1', port: 0 } });
  t.teardown(() => server.close({ drainMs: 0 }));
  return server.uri('vm ä');
}

/** A server that says `bytes` and nothing else. */
async function saying(t: Tap, bytes: Buffer): Promise<string> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => undefined));
    socket.write(bytes);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `nbd://127.0.0.1:${(server.address() as AddressInfo).port}/`; // a TCP server
}

t.test('dialNbd() ends where requests begin', async (t) => {
  const { socket, facts } = await dialNbd(parseNbdUri(await nbdServer(t)), 5000);
  t.teardown(() => socket.close());
  t.equal(facts.sizeBytes, 2 ** 20);
  t.ok((facts.flags & NBD_FLAG.CAN_MULTI_CONN) !== 0);
  const read = Buffer.alloc(28);
  read.writeUInt32BE(0x25609513, 0);
  read.writeUInt32BE(512, 24);
  await socket.send(read, 1000);
  const reply = await socket.receiveExactly(16 + 512, 1000);
  t.equal(reply.readUInt32BE(0), 0x67446698, 'a simple reply, as the kernel wants it');
  t.equal(reply.readUInt32BE(4), 0);
});

t.test('dialNbd() says what is wrong with the other side, and gives up in time', async (t) => {
  const uri = await nbdServer(t);
  await t.rejects(dialNbd(parseNbdUri(uri.replace(/[^/]*$/, 'x')), 5000), {
    code: 'E_NOT_FOUND',
    message: /no export 'x'/,
  });
  const greeting = Buffer.from('4e42444d4147494349484156454f50540003', 'hex');
  const reply = (type: number, bytes: number, data = Buffer.alloc(0)) => {
    const header = Buffer.from('0003e889045565a9000000070000000000000000', 'hex');
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(bytes, 16);
    return Buffer.concat([greeting, header, data]);
  };
  for (const [said, code, message] of [
    [Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian'), 'E_FORMAT', /no NBD server/],
    [greeting.subarray(0, 17), 'E_TIMEOUT', /is it one/],
    [greeting, 'E_TIMEOUT', /is it one/],
    [reply(3, 70_000), 'E_FORMAT', /70000 bytes/],
    [reply(3, 1, Buffer.alloc(1)), 'E_FORMAT', /without a type/],
    [reply(1, 0), 'E_FORMAT', /how large/],
    [reply(9, 0), 'E_FORMAT', /type 9/],
    [reply(2 ** 31 + 5, 0), 'E_SYSTEM', /TLS/],
    [reply(2 ** 31 + 2, 2, Buffer.from('no')), 'E_SYSTEM', /it says: no/],
    [Buffer.concat([greeting, Buffer.alloc(20)]), 'E_FORMAT', /no reply to GO/],
  ] as const) {
    const problem = dialNbd(parseNbdUri(await saying(t, said)), 300);
    await t.rejects(problem, { code, message }, String(message));
  }
  const nobody = parseNbdUri('nbd://no-such-host.invalid/');
  await t.rejects(dialNbd(nobody, 3000), { code: 'E_SYSTEM', message: /is not known/ });
});

t.test('factsChange() keeps an export that is another one away from the device', (t) => {
  const flags = NBD_FLAG.HAS_FLAGS | NBD_FLAG.SEND_FLUSH | NBD_FLAG.SEND_TRIM;
  const before = { sizeBytes: 4096, flags, blockBytesMin: 1, payloadBytesMax: null };
  t.equal(factsChange(before, before, false), null);
  t.equal(factsChange(before, { ...before, flags: flags | NBD_FLAG.SEND_FUA }, false), null);
  t.match(factsChange(before, { ...before, sizeBytes: 8192 }, false), /8192 bytes/);
  t.match(factsChange(before, { ...before, flags: NBD_FLAG.HAS_FLAGS }, false), /flush, trim/);
  const readOnly = { ...before, flags: flags | NBD_FLAG.READ_ONLY };
  t.match(factsChange(before, readOnly, false), /read-only now/);
  t.equal(factsChange(before, readOnly, true), null, 'no matter to a device that never writes');
  t.end();
});
