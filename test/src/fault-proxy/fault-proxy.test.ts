// The proxy itself: it forwards what it is not told to spoil, and spoils what it is told to.
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Test } from 'tap';
import { sleep, waitUntil } from '../host/wait-until.js';
import { FaultProxy, type FaultProxyOptions } from './fault-proxy.js';
import { portOf } from './datagram-relay.js';

t.setTimeout(90_000);

const LIMIT_MS = 5000;

/** Sends back what it gets, over TCP and UDP on one port. */
async function startEcho(t: Test): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy()); // connections are cut here
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server.address());
  const datagrams = createSocket('udp4');
  datagrams.on('message', (datagram, from) => datagrams.send(datagram, from.port, from.address));
  datagrams.bind(port, '127.0.0.1');
  await once(datagrams, 'listening');
  t.teardown(() => {
    server.close();
    datagrams.close();
  });
  return port;
}

async function startProxy(t: Test, options: Partial<FaultProxyOptions>): Promise<FaultProxy> {
  return FaultProxy.start(t, { targetPort: await startEcho(t), seed: 7, ...options });
}

async function dial(t: Test, proxy: FaultProxy): Promise<Socket> {
  const socket = connect(proxy.address);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Sends bytes and takes as many back. */
async function echoed(socket: Socket, bytes: Buffer): Promise<{ back: Buffer; chunks: number }> {
  const parts: Buffer[] = [];
  let count = 0;
  socket.on('data', (part) => {
    parts.push(part);
    count += part.length;
  });
  socket.write(bytes);
  await waitUntil('all bytes to come back', LIMIT_MS, () => count >= bytes.length);
  return { back: Buffer.concat(parts), chunks: parts.length };
}

/** Sends numbered datagrams. @returns What came back, in order of arrival */
async function volley(t: Test, proxy: FaultProxy, count: number): Promise<Buffer[]> {
  const socket: DatagramSocket = createSocket('udp4');
  t.teardown(() => socket.close());
  const back: Buffer[] = [];
  socket.on('message', (datagram) => back.push(datagram));
  for (let index = 0; index < count; index += 1) {
    const datagram = Buffer.alloc(64);
    datagram.writeUInt32LE(index);
    socket.send(datagram, proxy.port, '127.0.0.1');
    if (index % 50 === 49) await sleep(1);
  }
  let seen = -1;
  await waitUntil('answers to end', LIMIT_MS, async () => {
    if (seen === back.length) return true;
    seen = back.length;
    await sleep(150);
    return false;
  });
  return back;
}

const numberOf = (datagram: Buffer): number => datagram.readUInt32LE();

t.test('without faults, all bytes and datagrams pass, in order', async (t) => {
  const proxy = await startProxy(t, {});
  const bytes = randomBytes(3_000_000);
  const { back } = await echoed(await dial(t, proxy), bytes);
  t.ok(back.equals(bytes));
  const answers = await volley(t, proxy, 200);
  t.same(
    answers.map(numberOf),
    Array.from({ length: 200 }, (_, index) => index),
  );
});

t.test('small pieces and delays change no byte', async (t) => {
  const proxy = await startProxy(t, { streams: { pieceBytesMax: 700, delayMsMax: 1 } });
  const bytes = randomBytes(50_000);
  const { back, chunks } = await echoed(await dial(t, proxy), bytes);
  t.ok(back.equals(bytes));
  t.ok(chunks > 50, `it came in ${chunks} chunks`);
});

t.test('a connection is cut in its time, and the other end learns of it', async (t) => {
  const proxy = await startProxy(t, { streams: { cutAfterMs: [20, 60] } });
  for (let round = 0; round < 6; round += 1) {
    const socket = await dial(t, proxy);
    let isClosed = false;
    socket.on('error', () => undefined).on('close', () => (isClosed = true));
    socket.resume();
    await waitUntil('the cut', LIMIT_MS, () => isClosed);
  }
  await waitUntil('all cuts to be counted', LIMIT_MS, () => proxy.cutCount === 6);
});

t.test('a stalled connection stays open, and goes on later', async (t) => {
  const proxy = await startProxy(t, {});
  const socket = await dial(t, proxy);
  await echoed(socket, Buffer.from('before'));
  proxy.stall();
  let got = '';
  socket.removeAllListeners('data').on('data', (part: Buffer) => (got += part.toString()));
  socket.write('held');
  const other = await dial(t, proxy);
  t.equal((await echoed(other, Buffer.from('new'))).back.toString(), 'new', 'new ones work');
  await sleep(100);
  t.equal(got, '', 'nothing came');
  proxy.resume();
  await waitUntil('the held bytes', LIMIT_MS, () => got === 'held');
});

t.test('what a client sent before it left arrives when the stall ends', async (t) => {
  let got = '';
  const server = createServer((socket) => socket.on('data', (part) => (got += part.toString())));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const proxy = await FaultProxy.start(t, { targetPort: portOf(server.address()), seed: 1 });
  const socket = await dial(t, proxy);
  await waitUntil('the connection', LIMIT_MS, () => proxy.connectionCount === 1);
  proxy.stall();
  socket.write('late');
  await sleep(50);
  socket.destroy();
  await sleep(50);
  t.equal(got, '');
  proxy.resume();
  await waitUntil('the late bytes', LIMIT_MS, () => got === 'late');
});

t.test('datagrams are lost, doubled, delayed and damaged as often as told', async (t) => {
  const faults = { dropPercent: 10, duplicatePercent: 10, delayPercent: 20, delayMsMax: 30 };
  const proxy = await startProxy(t, { datagrams: { ...faults, flipPercent: 10 } });
  const answers = await volley(t, proxy, 1000);
  const { dropped, duplicated, delayed, flipped } = proxy.datagrams.tally;
  t.ok(dropped > 100 && dropped < 300, `${dropped} were lost`);
  t.ok(duplicated > 100 && duplicated < 300, `${duplicated} were doubled`);
  t.ok(delayed > 200 && delayed < 600, `${delayed} were delayed`);
  t.ok(flipped > 100 && flipped < 300, `${flipped} were damaged`);
  const numbers = answers.map(numberOf);
  t.ok(
    numbers.some((number, index) => number < (numbers[index - 1] ?? 0)),
    'some overtook others',
  );
  t.ok(new Set(numbers).size < numbers.length, 'some came twice');
});

t.test('the same seed spoils the same datagrams', async (t) => {
  const run = async (): Promise<string> => {
    const proxy = await startProxy(t, { datagrams: { dropPercent: 30 }, seed: 42 });
    // One at a time, so that both directions take turns.
    const socket = createSocket('udp4');
    const fates: string[] = [];
    for (let index = 0; index < 20; index += 1) {
      const before = { ...proxy.datagrams.tally };
      const decided = (): number => {
        const { passed, dropped } = proxy.datagrams.tally;
        return passed - before.passed === 2 || dropped > before.dropped ? 1 : 0;
      };
      socket.send(Buffer.alloc(8, index), proxy.port, '127.0.0.1');
      await waitUntil('its fate', LIMIT_MS, () => decided() === 1);
      fates.push(`${proxy.datagrams.tally.passed}`);
    }
    socket.close();
    return fates.join(' ');
  };
  t.equal(await run(), await run());
});

t.test('recorded datagrams come once more when they are replayed', async (t) => {
  const proxy = await startProxy(t, {});
  proxy.datagrams.isRecording = true;
  const socket = createSocket('udp4');
  t.teardown(() => socket.close());
  const got: string[] = [];
  socket.on('message', (datagram) => got.push(datagram.toString()));
  for (const text of ['a', 'b', 'c']) socket.send(text, proxy.port, '127.0.0.1');
  await waitUntil('three answers', LIMIT_MS, () => got.length === 3);
  t.equal(proxy.datagrams.keptCount, 3);
  t.equal(proxy.datagrams.replay(), 3);
  await waitUntil('six answers', LIMIT_MS, () => got.length === 6);
  t.same(got.slice(3).sort(), ['a', 'b', 'c']);
});

t.test('a target that is away loses datagrams and refuses connections', async (t) => {
  const proxy = await FaultProxy.start(t, { targetPort: 1, seed: 1 });
  t.same(await volley(t, proxy, 5), []);
  const socket = connect(proxy.address);
  let isClosed = false;
  socket.on('error', () => undefined).on('close', () => (isClosed = true));
  socket.resume();
  await waitUntil('the connection to be closed', LIMIT_MS, () => isClosed);
});
