import { createSocket } from 'node:dgram';
import t, { type Test } from 'tap';
import type { DatagramAddress, DatagramSocket } from './network.js';
import { DATAGRAM_BYTES_MAX } from '../util/limits.js';
import { realNetwork } from './real-network.js';
import { silentLog } from './silent-log.js';

const network = realNetwork(silentLog);

interface Heard {
  readonly datagram: Buffer;
  readonly from: DatagramAddress;
}

/** A socket of ours with what it heard. */
class Ear {
  readonly heard: Heard[] = [];
  readonly failures: Error[] = [];
  onHeard: (heard: Heard) => void = () => undefined;

  async open(t: Test, host: string): Promise<DatagramSocket> {
    const socket = await network.openDatagrams(
      { host, port: 0 },
      {
        received: (datagram, from) => {
          this.heard.push({ datagram, from });
          this.onHeard({ datagram, from });
        },
        failed: (error) => this.failures.push(error),
      },
    );
    t.teardown(() => socket.close());
    return socket;
  }

  async until(count: number): Promise<void> {
    const giveUp = performance.now() + 5000;
    while (this.heard.length < count) {
      if (performance.now() > giveUp) throw new Error(`${this.heard.length} of ${count} arrived`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}

for (const host of ['127.0.0.1', '::1', 'localhost'])
  t.test(`datagrams of any length go there and back (${host})`, async (t) => {
    const left = new Ear();
    const right = new Ear();
    const a = await left.open(t, host);
    const b = await right.open(t, host);
    right.onHeard = ({ datagram, from }) => b.send([Buffer.from('re:'), datagram], from);
    const lengths = [0, 1, 1400, 9000, 60_000, DATAGRAM_BYTES_MAX - 3];
    for (const [index, length] of lengths.entries()) {
      const sent = Buffer.alloc(length, index + 1);
      const at = length >> 1;
      a.send([sent.subarray(0, at), sent.subarray(at)], b.address);
      await left.until(index + 1);
      const { datagram, from } = left.heard[index] ?? {};
      t.strictSame(from, b.address, 'the sender is who was bound');
      t.ok(datagram?.equals(Buffer.concat([Buffer.from('re:'), sent])), `${length} bytes`);
    }
    t.equal(right.heard.length, lengths.length);
  });

t.test('the parts may be used again as soon as send() returns, also in a flood', async (t) => {
  const ear = new Ear();
  const receiver = await ear.open(t, '127.0.0.1');
  const sender = await new Ear().open(t, '127.0.0.1');
  const part = Buffer.alloc(30_000);
  const count = 400; // 12 MB in one turn: more than the socket holds, and than may wait
  for (let number = 1; number <= count; number += 1) {
    part.fill(number % 251);
    sender.send([part, part.subarray(0, 1000)], receiver.address);
    part.fill(255);
  }
  await ear.until(1);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const isWhole = ({ datagram }: Heard): boolean =>
    datagram.length === 31_000 && datagram.every((byte) => byte === datagram[0] && byte < 251);
  t.ok(ear.heard.every(isWhole), `${ear.heard.length} of ${count} arrived, unspoilt`);
  const before = ear.heard.length;
  sender.send([Buffer.from('still there')], receiver.address);
  await ear.until(before + 1);
  t.equal(ear.heard.at(-1)?.datagram.toString(), 'still there');
});

t.test('a datagram belongs to its receiver: the next does not land in it', async (t) => {
  const ear = new Ear();
  const receiver = await ear.open(t, '127.0.0.1');
  const sender = await new Ear().open(t, '127.0.0.1');
  for (let number = 0; number < 50; number += 1)
    sender.send([Buffer.alloc(100, number)], receiver.address);
  await ear.until(50);
  for (const { datagram } of ear.heard.slice(0, 25)) datagram.fill(255);
  ear.heard.slice(25).forEach(({ datagram }, index) => {
    t.ok(datagram.equals(Buffer.alloc(100, index + 25)));
  });
});

t.test('a dead port, port 0 and addresses of the other kind lose the datagram only', async (t) => {
  for (const host of ['127.0.0.1', '::1']) {
    const ear = new Ear();
    const receiver = await ear.open(t, host);
    const talker = new Ear();
    const sender = await talker.open(t, host);
    const dead = await new Ear().open(t, host);
    dead.close();
    const other = { host: host === '::1' ? '127.0.0.1' : '::1', port: receiver.address.port };
    for (let count = 0; count < 3; count += 1) {
      for (const to of [dead.address, { host, port: 0 }, other])
        sender.send([Buffer.from('lost')], to);
      await new Promise((resolve) => setTimeout(resolve, 10)); // the ICMP answer comes back
    }
    sender.send([Buffer.from('found')], receiver.address);
    await ear.until(1);
    t.equal(ear.heard[0]?.datagram.toString(), 'found');
    t.strictSame(talker.failures, []);
  }
});

t.test('a socket for both kinds of address calls an IPv4 one by its name', async (t) => {
  const both = new Ear();
  const socket = await both.open(t, '::');
  const old = new Ear();
  const four = await old.open(t, '127.0.0.1');
  both.onHeard = ({ datagram, from }) => socket.send([datagram], from);
  four.send([Buffer.from('4')], { host: '127.0.0.1', port: socket.address.port });
  await old.until(1);
  t.strictSame(both.heard[0]?.from, four.address);
});

t.test('a socket that is closed is silent, and closing twice is once', async (t) => {
  const ear = new Ear();
  const receiver = await ear.open(t, '127.0.0.1');
  const sender = await new Ear().open(t, '127.0.0.1');
  sender.send([Buffer.from('x')], receiver.address);
  receiver.close();
  receiver.close();
  sender.send([Buffer.from('y')], receiver.address);
  sender.close();
  sender.send([Buffer.from('z')], receiver.address);
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.strictSame(ear.heard, []);
  t.strictSame(ear.failures, []);
});

t.test('an address that cannot be had is said in one line with what to do', async (t) => {
  const taken = createSocket('udp4');
  await new Promise<void>((resolve) => taken.bind(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const events = { received: () => undefined, failed: () => undefined };
  const cases: [DatagramAddress, RegExp, string?][] = [
    [{ host: '127.0.0.1', port: taken.address().port }, /the port is taken; stop/],
    [{ host: '192.0.2.1', port: 0 }, /does not have that address; choose/],
    [{ host: 'no-such-host.invalid', port: 0 }, /no such host name; write an address/],
    [
      { host: '127.0.0.1', port: 70_000 },
      /127\.0\.0\.1:70000: give a host and a port/,
      'E_INVALID',
    ],
  ];
  for (const [address, message, code = 'E_SYSTEM'] of cases)
    await t.rejects(network.openDatagrams(address, events), { code, message });
});

t.test('a datagram longer than UDP carries is our own mistake', async (t) => {
  const socket = await new Ear().open(t, '127.0.0.1');
  t.throws(() => socket.send([Buffer.alloc(DATAGRAM_BYTES_MAX + 1)], socket.address), {
    name: 'InvariantError',
  });
});
