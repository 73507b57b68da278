import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DescriptorChannel } from './descriptor-channel.js';
import {
  DESCRIPTORS_MAX,
  receiveWithDescriptors,
  sendWithDescriptors,
} from './descriptor-passing.js';
import { realClock, realTimers } from './real-clock.js';
import { realNetwork } from './real-network.js';
import { silentLog } from './silent-log.js';
import { closeDescriptor, duplicateDescriptor, needSocketCalls } from './socket-calls.js';

const calls = needSocketCalls('This test');
const options = { clock: realClock(), timers: realTimers, version: 1 };

/** Two ends of a Unix socket, as descriptors that nobody else reads. */
async function socketPair(t: Test): Promise<[number, number]> {
  const folder = mkdtempSync(join(tmpdir(), 'passing-'));
  const path = join(folder, 's');
  const server = createServer({ pauseOnConnect: true });
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = connect(path);
  const sockets = [await accepted, client] as const;
  const ends = sockets.map((socket) => {
    // the descriptor of a socket of Node, which has no name for it
    const { _handle: handle } = socket as unknown as { _handle: { fd: number } };
    const copy = duplicateDescriptor(handle.fd);
    socket.destroy();
    return copy;
  });
  server.close();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const [one = -1, other = -1] = ends;
  return [one, other];
}

/** What a descriptor leads to. */
function targetOf(descriptor: number): string {
  return readlinkSync(`/proc/self/fd/${descriptor}`);
}

function openCount(): number {
  return readdirSync('/proc/self/fd').length;
}

t.test('a descriptor arrives with its bytes and leads to the same open socket', async (t) => {
  const [sender, receiver] = await socketPair(t);
  t.equal(sendWithDescriptors(sender, Buffer.from('hello'), [sender, receiver]), 5);
  const target = Buffer.alloc(100);
  const { bytes, descriptors } = receiveWithDescriptors(receiver, target);
  t.equal(target.toString('utf8', 0, bytes ?? 0), 'hello');
  t.strictSame(descriptors.map(targetOf), [targetOf(sender), targetOf(receiver)]);
  t.notOk(descriptors.includes(sender), 'it is a descriptor of its own');
  for (const descriptor of [...descriptors, sender, receiver]) closeDescriptor(descriptor);
});

t.test('300 descriptors arrive in order, in messages of at most 64', async (t) => {
  const [sender, receiver] = await socketPair(t);
  const out = new DescriptorChannel(sender, options);
  const into = new DescriptorChannel(receiver, options);
  const mine = Array.from({ length: 300 }, (_, index) =>
    duplicateDescriptor(index % 2 === 0 ? sender : receiver),
  );
  for (let at = 0; at < mine.length; at += DESCRIPTORS_MAX)
    await out.send({ at }, { descriptors: mine.slice(at, at + DESCRIPTORS_MAX) });
  const arrived: number[] = [];
  while (arrived.length < mine.length) {
    const message = await into.receive(1000);
    t.strictSame(message?.value, { at: arrived.length });
    arrived.push(...(message?.descriptors ?? []));
  }
  t.strictSame(arrived.map(targetOf), mine.map(targetOf));
  for (const descriptor of [...arrived, ...mine]) closeDescriptor(descriptor);
  out.close();
  t.equal(await into.receive(1000), null, 'then it ends');
  into.close();
});

t.test('a body larger than the socket takes arrives whole, next to small ones', async (t) => {
  const [sender, receiver] = await socketPair(t);
  const out = new DescriptorChannel(sender, options);
  const into = new DescriptorChannel(receiver, options);
  const body = Buffer.alloc(33 * 1024 * 1024);
  for (let at = 0; at < body.length; at += 4096) body.writeUInt32BE(at, at);
  const sending = out
    .send('large', { body, descriptors: [sender] })
    .then(() => out.send('small', { descriptors: [receiver] }));
  const large = await into.receive(5000);
  const small = await into.receive(5000);
  await sending;
  t.equal(large?.value, 'large');
  t.ok(large?.body.equals(body));
  t.equal(small?.value, 'small');
  t.strictSame(small?.descriptors.map(targetOf), [targetOf(receiver)]);
  for (const message of [large, small]) message?.descriptors.forEach(closeDescriptor);
  out.close();
  into.close();
});

t.test('a message arrives whatever pieces its bytes come in', async (t) => {
  const [sender, receiver] = await socketPair(t);
  const [probe, sink] = await socketPair(t);
  const recorder = new DescriptorChannel(probe, options);
  await recorder.send({ text: 'ü' }, { body: Buffer.from('body') });
  const record = Buffer.alloc(200);
  const wire = record.subarray(0, receiveWithDescriptors(sink, record).bytes ?? 0);
  const into = new DescriptorChannel(receiver, options);
  for (let split = 1; split < wire.length; split += 1) {
    sendWithDescriptors(sender, wire.subarray(0, split), []);
    await t.rejects(into.receive(0), { code: 'E_TIMEOUT' });
    sendWithDescriptors(sender, wire.subarray(split), []);
    const message = await into.receive(1000);
    t.strictSame(message?.value, { text: 'ü' });
    t.equal(message?.body.toString(), 'body');
  }
  closeDescriptor(sender);
  closeDescriptor(sink);
  recorder.close();
  into.close();
});

t.test(
  'nonsense, another version and too long a message are refused, truncation is an end',
  async (t) => {
    const header = (fields: {
      magic?: number;
      version?: number;
      count?: number;
      json?: number;
    }) => {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt32BE(fields.magic ?? 0x68616e64, 0);
      bytes.writeUInt16BE(fields.version ?? 1, 4);
      bytes.writeUInt16BE(fields.count ?? 0, 6);
      bytes.writeUInt32BE(fields.json ?? 2, 8);
      return bytes;
    };
    const refused: [Buffer, RegExp][] = [
      [header({ magic: 1 }), /another protocol/],
      [header({ version: 9 }), /version 9 of the hand-over, this one 1/],
      [header({ json: 0xffffffff }), /too long/],
      [header({ count: 65 }), /too long/],
      [Buffer.concat([header({ count: 1 }), Buffer.from('{}')]), /lost on their way/],
      [Buffer.concat([header({}), Buffer.from('{]')]), /no JSON/],
    ];
    for (const [wire, says] of refused) {
      const [sender, receiver] = await socketPair(t);
      sendWithDescriptors(sender, wire, []);
      const into = new DescriptorChannel(receiver, options);
      await t.rejects(into.receive(1000), { code: 'E_FORMAT', message: says });
      into.close();
      closeDescriptor(sender);
    }
    const [sender, receiver] = await socketPair(t);
    sendWithDescriptors(sender, header({}).subarray(0, 10), []);
    closeDescriptor(sender);
    const into = new DescriptorChannel(receiver, options);
    t.equal(await into.receive(1000), null);
    into.close();
  },
);

t.test('what arrived and was not asked for is closed with the channel', async (t) => {
  const [sender, receiver] = await socketPair(t);
  const before = openCount();
  const out = new DescriptorChannel(duplicateDescriptor(sender), options);
  const into = new DescriptorChannel(duplicateDescriptor(receiver), options);
  sendWithDescriptors(sender, Buffer.from('half a header'), [sender, receiver]);
  await t.rejects(into.receive(0), { code: 'E_TIMEOUT' });
  t.equal(openCount(), before + 4);
  await out.send('never received', { descriptors: [sender, receiver] });
  out.close();
  into.close();
  t.equal(openCount(), before);
  closeDescriptor(sender);
  closeDescriptor(receiver);
});

t.test(
  'a peer that is gone, or wants to hear nothing more, is told from one that is slow',
  async (t) => {
    const [sender, receiver] = await socketPair(t);
    const out = new DescriptorChannel(sender, options);
    const into = new DescriptorChannel(receiver, options);
    await t.rejects(
      out.send('much', { body: Buffer.alloc(8 * 1024 * 1024), limitMs: 50 }),
      { code: 'E_TIMEOUT' },
      'it does not read',
    );
    into.endReceiving();
    await t.rejects(out.send('late'), { code: 'E_CLOSED' });
    into.close();
    await t.rejects(out.send('later'), { code: 'E_CLOSED' });
    out.close();
  },
);

t.test('the process at the other end is known', async (t) => {
  const [sender, receiver] = await socketPair(t);
  t.strictSame(calls.peer(sender), { pid: process.pid, uid: process.getuid?.() });
  closeDescriptor(sender);
  closeDescriptor(receiver);
});

for (const kind of ['tcp', 'unix'] as const)
  t.test(`a listener and a connection go on after release() (${kind})`, async (t) => {
    const network = realNetwork(silentLog);
    const folder = mkdtempSync(join(tmpdir(), 'passing-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const path = join(folder, 's');
    const address = kind === 'unix' ? { path } : { host: '127.0.0.1', port: 0 };
    const accepted: Parameters<Parameters<typeof network.listen>[1]>[0][] = [];
    const first = await network.listen(address, (connection) => accepted.push(connection));
    const client = connect({ ...first.address });
    const received: Buffer[] = [];
    client.on('data', (chunk: Buffer) => received.push(chunk));
    await until(() => accepted.length === 1);
    client.write('before ');
    let closed = 0;
    const read: Buffer[] = [];
    accepted[0]?.start({
      data: (chunk) => read.push(chunk) === 0, // it is kept
      end: () => t.fail('the client did not end'),
      drain: () => undefined,
      closed: () => (closed += 1),
    });
    await until(() => read.length === 1);
    accepted[0]?.pause();
    const socket = first.release();
    const descriptor = accepted[0]?.release() ?? -1;
    t.equal(socket.path, kind === 'unix' ? path : null);
    await until(() => closed === 1);
    client.write('after');
    const waiting = connect({ ...first.address }); // nobody accepts now
    await new Promise((resolve) => waiting.once('connect', resolve));

    const second = await network.listenOn(socket, (connection) => accepted.push(connection));
    t.strictSame(second.address, first.address);
    await until(() => accepted.length === 2);
    t.pass('who connected meanwhile is accepted');
    const adopted = network.adopt(descriptor);
    adopted.start({
      data: (chunk) => read.push(chunk) === 0, // it is kept
      end: () => undefined,
      drain: () => undefined,
      closed: () => undefined,
    });
    await until(() => read.length === 2);
    adopted.write([Buffer.from('answer')]);
    await until(() => received.length === 1);
    t.equal(Buffer.concat(read).toString(), 'before after');
    waiting.destroy();
    client.destroy();
    adopted.destroy();
    accepted[1]?.destroy();
    await second.close();
    t.notOk(existsSync(path), 'the file goes with the one that listens last');
  });

async function until(condition: () => boolean): Promise<void> {
  const giveUp = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > giveUp) throw new Error('it never happened');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
