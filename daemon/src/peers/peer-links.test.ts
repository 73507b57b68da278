/** Links between daemons over real sockets. */
import { connect } from 'node:net';
import {
  crc32c,
  OBJECT_KIND,
  ObjectRef,
  RealTlsContext,
  realEnv,
  realTlsClient,
  silentLog,
} from '@store/core';
import t, { type Test } from 'tap';
import type { PeerMessage, Prepare } from '../replication/peer-message.js';
import { CutProxy } from '../server/testing/cut-proxy.js';
import { TestAuthority } from '../server/testing/test-authority.js';
import { sleep, until } from '../server/testing/until.js';
import { WINDOW_BYTES } from './peer-connection.js';
import type { PeerSecurity } from './secure-connection.js';
import { sampleMessages } from './testing/sample-messages.js';
import {
  diskIdOf,
  greet,
  meet,
  startIdOf,
  TestMap,
  TestPeer,
  type TestPeerOptions,
} from './testing/test-peer.js';

const MIB = 1024 * 1024;
const object = new ObjectRef(OBJECT_KIND.imageData, 'd7_3', 'd7_0');

/** A change of so many bytes. Its blocks can be told from those of others. */
function change(index: number, bytes: number): Prepare {
  const block = Buffer.alloc(4096, `${index} `);
  const count = bytes / 4096;
  return {
    ...{ type: 'prepare', pool: 1, group: 2, epoch: 3, index, number: index + 1, committed: 0 },
    isPartial: false,
    change: {
      ...{ op: 'write', object, version: index + 1, first: 0, length: bytes },
      blocks: Array.from({ length: count }, () => block),
      checks: new Uint32Array(count).fill(crc32c(block)),
    },
  };
}

function isGood(message: PeerMessage): boolean {
  if (message.type !== 'prepare' || message.change.op !== 'write') return false;
  const { blocks, checks } = message.change;
  const bytes = Buffer.concat(blocks);
  return checks.every((check, at) => crc32c(bytes.subarray(at * 4096, (at + 1) * 4096)) === check);
}

const ack = (...indexes: number[]): PeerMessage => ({
  ...{ type: 'ack', pool: 1, group: 2, epoch: 3, indexes },
});

/** Says that a change is made. */
function acknowledge(peer: TestPeer, from: number, message: PeerMessage): void {
  if (message.type !== 'prepare') return;
  const { pool, group, epoch, index } = message;
  peer.send(from, { type: 'ack', pool, group, epoch, indexes: [index] });
}

interface Pair {
  readonly map: TestMap;
  readonly one: TestPeer;
  readonly two: TestPeer;
}

async function pair(t: Test, options: TestPeerOptions = {}): Promise<Pair> {
  const map = new TestMap();
  const one = await TestPeer.open(map, 1, options);
  const two = await TestPeer.open(map, 2, options);
  t.teardown(async () => {
    for (const peer of [one, two]) {
      await peer.close();
      if (peer.defects.length > 0) throw new Error(`a defect: ${String(peer.defects[0])}`);
    }
  });
  return { map, one, two };
}

async function linked(t: Test, options: TestPeerOptions = {}): Promise<Pair> {
  const made = await pair(t, options);
  made.one.want(2);
  made.two.want(1);
  await made.one.isUp(2);
  await made.two.isUp(1);
  return made;
}

const indexes = (messages: readonly PeerMessage[]): number[] =>
  messages.flatMap((message) => (message.type === 'prepare' ? [message.index] : []));

/** That of the sample, and one for all of its changes, which are of one group and are acknowledged in one turn. */
const ACKS_BACK = 2;

async function conversation(t: Test, options: TestPeerOptions): Promise<void> {
  const { one, two } = await linked(t, options);
  const messages = sampleMessages();
  for (const message of messages) one.send(2, message);
  for (const message of messages) two.send(1, message);
  const types = (list: readonly PeerMessage[]): string[] => list.map(({ type }) => type).sort();
  for (const peer of [one, two]) {
    await until(() => peer.received.length === messages.length, 'everything has arrived');
    t.strictSame(types(peer.received), types(messages));
    for (const message of peer.received) acknowledge(peer, 3 - peer.id, message);
  }
  const isAnswered = ({ received }: TestPeer): boolean =>
    received.filter(({ type }) => type === 'ack').length === ACKS_BACK;
  await until(() => isAnswered(one) && isAnswered(two), 'changes are acknowledged');
  one.received.length = 0;
  two.received.length = 0;
  two.took = (from, message) => {
    if (message.type !== 'prepare') return;
    t.ok(isGood(message), 'its bytes are whole');
    acknowledge(two, from, message);
  };
  const sizes = [4096, MIB, 8192, 4 * MIB, 65_536, 12_288, 2 * MIB];
  for (let index = 0; index < 50; index += 1)
    one.send(2, change(index, sizes[index % sizes.length] ?? 4096));
  const acked = (): number[] =>
    one.received.flatMap((message) => (message.type === 'ack' ? message.indexes : []));
  await until(() => acked().length === 50, 'all changes are acknowledged', 20_000);
  t.strictSame(
    indexes(two.received),
    Array.from({ length: 50 }, (_, index) => index),
  );
  t.strictSame(
    acked(),
    Array.from({ length: 50 }, (_, index) => index),
    'acks in order as well',
  );
  t.equal(two.links.state().heldBytes, 0);
}

t.test('messages arrive whole and in order, both ways', (t) => conversation(t, {}));

t.test('with certificates daemons speak TLS, and nobody without one gets in', async (t) => {
  const authority = new TestAuthority();
  const stranger = new TestAuthority();
  t.teardown(() => {
    authority.remove();
    stranger.remove();
  });
  const names = ['DNS:localhost', 'IP:127.0.0.1'];
  const securityOf = (from: TestAuthority): PeerSecurity => {
    const server = { ...from.issue('daemon', names), ca: authority.ca };
    const client = { ...from.issue('daemon'), ca: authority.ca };
    return {
      tls: { server: new RealTlsContext(server), client: realTlsClient(client) },
      insecure: false,
    };
  };
  await t.test('it works', (t) => conversation(t, { security: securityOf(authority) }));
  await t.test('a stranger dials', async (t) => {
    const { map, two } = await pair(t, { security: securityOf(authority) });
    const mallory = await TestPeer.open(map, 1, { security: securityOf(stranger) });
    t.teardown(() => mallory.close());
    mallory.want(2);
    const plain = await greet(two.listening, {});
    t.equal(plain.status, -1, 'in the clear nobody gets in');
    const env = realEnv(silentLog);
    for (const client of [
      { ca: authority.ca },
      { ca: authority.ca, ...stranger.issue('mallory') },
    ]) {
      const connection = await env.network.connect(two.listening, { timeoutMs: 2000 });
      connection.start({
        ...{ data: () => true, end: () => undefined, drain: () => undefined },
        closed: () => undefined,
      });
      const outcome = await connection
        .startTlsClient(realTlsClient(client), '127.0.0.1')
        .then((secured) => meet(secured, {}))
        .catch(() => ({ status: -1 }));
      t.equal(outcome.status, -1);
    }
    await sleep(300);
    t.strictSame([...mallory.told, ...two.told], []);
  });
  await t.test('a daemon without a certificate does not get in either', async (t) => {
    const map = new TestMap();
    const one = await TestPeer.open(map, 1);
    const two = await TestPeer.open(map, 2, { security: securityOf(authority) });
    t.teardown(() => Promise.all([one.close(), two.close()]));
    one.want(2);
    await sleep(300);
    t.strictSame([...one.told, ...two.told], []);
  });
});

t.test('both ends learn that a link is broken, and it is made again', async (t) => {
  const { map, one, two } = await pair(t);
  const proxy = await CutProxy.open(two.listening);
  t.teardown(() => proxy.close());
  map.has(2, 1, `127.0.0.1:${proxy.address.port}`);
  one.want(2);
  two.want(1);
  await one.isUp(2);
  await two.isUp(1);
  t.equal(proxy.connections, 2, 'a link is two connections, whoever wants it');
  for (let round = 0; round < 3; round += 1) {
    proxy.cut();
    await until(() => one.told.length >= 3 + 2 * round, 'it is made again');
    await one.isUp(2);
    await two.isUp(1);
  }
  const story = ['up', 'down', 'up', 'down', 'up', 'down', 'up'];
  t.strictSame(
    one.told,
    story.map((word) => `${word} 2`),
  );
  t.strictSame(
    two.told,
    story.map((word) => `${word} 1`),
  );
  one.send(2, change(0, 8192));
  await until(() => two.received.length === 1, 'it works');
});

t.test('a daemon that comes again is linked at once, as another start', async (t) => {
  const { map, one, two } = await linked(t);
  await two.close();
  await one.isDown(2);
  await sleep(1000); // the pauses are long by now
  const again = await TestPeer.open(map, 2, { start: 2 });
  t.teardown(() => again.close());
  const began = performance.now();
  one.links.mapIs();
  again.want(1);
  await one.isUp(2);
  await again.isUp(1);
  t.ok(performance.now() - began < 800, 'without the pause of those who fail');
});

t.test('the map names another start: the link is over, though it works', async (t) => {
  const { map, one, two } = await linked(t);
  map.has(2, 7, two.address);
  one.links.mapIs();
  await one.isDown(2);
  await two.isDown(1);
  await sleep(200);
  t.equal(one.told.length, 2, 'nor is it made again to the start that is there');
});

t.test('nobody is let in who is not who the map names, or wants somebody else', async (t) => {
  const { map, two } = await pair(t);
  map.has(3, 1, '127.0.0.1:9');
  const says = async (greeting: Parameters<typeof greet>[1]): Promise<string> => {
    const { status, body } = await greet(two.listening, greeting);
    return `${status} ${body}`;
  };
  t.match(await says({ clusterId: 'e'.repeat(32) }), /^17 This daemon belongs to cluster c+, not/);
  t.match(await says({ wantedStart: startIdOf(2, 2) }), /^23 This is daemon 2, start/);
  t.match(await says({ wanted: 3 }), /^23 This is daemon 2/);
  t.match(await says({ startId: startIdOf(1, 2) }), /^23 Map \d+ of this daemon does not have/);
  t.match(await says({ diskId: diskIdOf(3) }), /^23 Map/);
  t.match(await says({ daemon: 9 }), /^23 Map/);
  t.match(await says({ versionMin: 2, versionMax: 9 }), /^16 This daemon speaks version 1/);
  t.match(await says({ channel: 'data' }), /^(0|-1) /, 'half of a link is none');
  t.match(await says({}), /^0 /);
  await sleep(50);
  t.strictSame(two.told, []);
});

t.test('a daemon of another cluster at the address is not spoken with', async (t) => {
  const map = new TestMap();
  const one = await TestPeer.open(map, 1);
  const two = await TestPeer.open(map, 2, { clusterId: 'e'.repeat(32) });
  t.teardown(() => Promise.all([one.close(), two.close()]));
  one.want(2);
  await sleep(300);
  t.strictSame([...one.told, ...two.told], []);
});

t.test('what waits for the disk is bounded, and leases do not wait for it', async (t) => {
  const { one, two } = await linked(t);
  two.took = (from, message) => {
    if (message.type === 'heartbeat') two.send(from, { ...message, type: 'grant', isFull: false });
  };
  const count = 100;
  for (let index = 0; index < count; index += 1) one.send(2, change(index, MIB));
  await until(() => two.links.state().heldBytes > WINDOW_BYTES - 2 * MIB, 'the window is full');
  let heldMax = 0;
  for (let round = 0; round < 20; round += 1) {
    one.send(2, { type: 'heartbeat', sentAt: round, mapVersion: 1 });
    await until(
      () => one.received.some((message) => message.type === 'grant' && message.sentAt === round),
      'a lease is granted meanwhile',
    );
    heldMax = Math.max(heldMax, two.links.state().heldBytes);
  }
  t.ok(heldMax <= WINDOW_BYTES, `${heldMax} bytes are held`);
  t.ok(indexes(two.received).length <= 32);
  await sleep(6000);
  t.strictSame(one.told, ['up 2'], 'who says that its disk is behind is not given up');
  let made = 0;
  while (made < count) {
    await until(() => indexes(two.received).length > made, 'more has come');
    const arrived = indexes(two.received).slice(made);
    made += arrived.length;
    two.send(1, ack(...arrived));
    heldMax = Math.max(heldMax, two.links.state().heldBytes);
  }
  t.ok(heldMax <= WINDOW_BYTES);
  t.equal(two.links.state().heldBytes, 0);
});

t.test('what is recalled does not leave any more', async (t) => {
  const { one, two } = await linked(t);
  one.links.recall(2);
  const count = 100;
  const sent = Array.from({ length: count }, (_, index) => change(index, MIB));
  let bad = 0;
  two.took = (_, message) => {
    if (!isGood(message)) bad += 1;
  };
  for (const message of sent) one.send(2, message);
  await until(() => two.links.state().heldBytes > WINDOW_BYTES - 2 * MIB, 'the window is full');
  t.strictSame(one.told, ['up 2'], 'nothing was on its way, and the link is as it was');
  one.links.recall(2);
  for (const { change } of sent)
    if (change.op === 'write') for (const block of change.blocks) block.fill(0);
  two.send(1, ack(...indexes(two.received)));
  await until(() => one.told.length === 3, 'there is another link');
  one.send(2, change(count, MIB));
  await until(() => indexes(two.received).includes(count), 'it works');
  t.equal(bad, 0);
  t.ok(indexes(two.received).length < count);
});

t.test('changes that are refused, or that nobody answers any more, hold nothing up', async (t) => {
  const { one, two } = await linked(t);
  two.took = (from, { type }) => {
    if (type !== 'prepare' || indexes(two.received).length !== 20) return;
    two.send(from, {
      ...{ type: 'refusal', pool: 1, group: 2, epoch: 3, index: 0, reason: 'full' },
    });
  };
  for (let index = 0; index < 200; index += 1) one.send(2, change(index, MIB));
  await until(() => indexes(two.received).length === 200, 'all of them came', 20_000);
  t.equal(two.links.state().heldBytes, 0);
});

t.test('a flood of garbage changes nothing for others', async (t) => {
  const { one, two } = await linked(t);
  const { host, port } = two.listening;
  const flood = Array.from({ length: 600 }, (_, index) => {
    const socket = connect({ host, port });
    socket.on('error', () => undefined); // it is thrown out
    const bytes = index % 3 === 0 ? 0 : 100_000;
    if (bytes > 0) socket.write(Buffer.alloc(bytes, index % 3 === 1 ? 'stor' : 'x'));
    return socket;
  });
  for (let round = 0; round < 10; round += 1) {
    one.send(2, change(round, 4096));
    await sleep(20);
  }
  await until(() => two.received.length === 10, 'changes come through');
  t.ok(two.links.state().strangers <= 256, 'those who say nothing are bounded too');
  for (const socket of flood) socket.destroy();
  await until(() => two.links.state().strangers === 0, 'nobody is left', 30_000);
  t.strictSame(two.told, ['up 1']);
});

t.test('garbage on a link breaks it, and nothing else', async (t) => {
  const { map, one, two } = await pair(t);
  const proxy = await CutProxy.open(two.listening);
  t.teardown(() => proxy.close());
  map.has(2, 1, `127.0.0.1:${proxy.address.port}`);
  one.want(2);
  await two.isUp(1);
  proxy.garble();
  one.send(2, change(0, 4096));
  await two.isDown(1);
  await two.isUp(1);
  t.equal(indexes(two.received).length, 0);
});

t.test('an end that falls silent is given up after 5 s, by both', async (t) => {
  const { map, one, two } = await pair(t);
  const proxy = await CutProxy.open(two.listening);
  t.teardown(() => proxy.close());
  map.has(2, 1, `127.0.0.1:${proxy.address.port}`);
  one.want(2);
  await one.isUp(2);
  await two.isUp(1);
  await sleep(1500);
  t.strictSame(one.told, ['up 2']);
  proxy.isFrozen = true;
  const began = performance.now();
  await one.isDown(2, 20_000);
  await two.isDown(1, 20_000);
  const tookMs = performance.now() - began;
  t.ok(tookMs > 3000 && tookMs < 15_000, `${tookMs} ms`);
  proxy.isFrozen = false;
  proxy.cut();
  await one.isUp(2);
  await two.isUp(1);
});

t.test(
  'a connection for changes that swallows everything is found out, leases or not',
  async (t) => {
    const { map, one, two } = await pair(t);
    const proxy = await CutProxy.open(two.listening);
    t.teardown(() => proxy.close());
    map.has(2, 1, `127.0.0.1:${proxy.address.port}`);
    one.want(2);
    await one.isUp(2);
    await two.isUp(1);
    proxy.frozenNumber = 2;
    one.send(2, change(0, 4096));
    await sleep(2500);
    one.send(2, { type: 'heartbeat', sentAt: 1, mapVersion: 1 });
    await until(() => two.received.length === 1, 'leases come through');
    t.strictSame(one.told, ['up 2']);
    await one.isDown(2, 20_000);
    await one.isUp(2, 20_000);
    one.send(2, change(1, 4096));
    await until(() => indexes(two.received).length === 1, 'another one works');
  },
);
