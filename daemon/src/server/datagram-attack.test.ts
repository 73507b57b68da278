/** Datagrams that nobody should have sent: each is counted, none has an effect. */
import {
  DATAGRAM_HEADER_BYTES,
  deriveDatagramKeys,
  makeProof,
  makeTicket,
  OP,
  PlainSealer,
  PoolSecret,
  realRandom,
  SecretRing,
  Blocklist,
  Sealer,
  TicketFile,
  type DatagramAddress,
  type DatagramSealer,
  type DatagramSocket,
} from '@store/core';
import t, { type Test } from 'tap';
import { frame, RawClient, writeBody } from './testing/raw-client.js';
import { testEnv } from './testing/served-folder.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep, until } from './testing/until.js';

const secret = PoolSecret.create('pool', 1, realRandom);
const now = Math.floor(Date.now() / 1000);
const ticket = TicketFile.of(
  secret,
  makeTicket(secret, { client: 'vm', rights: 'rw', issued: now, expires: now + 3600 }, realRandom),
);

/** A session with its connection, and a socket for its datagrams. */
interface Attack {
  readonly one: ServedMemory;
  readonly client: RawClient;
  readonly sealer: DatagramSealer;
  readonly association: Buffer;
  readonly socket: DatagramSocket;
  readonly received: Buffer[];
  readonly to: DatagramAddress;
  send(datagram: Buffer, socket?: DatagramSocket): void;
  write(requestId: number, letter: string, floor?: number): Buffer;
  refused(why: string): number;
  stored(): Promise<string>;
}

async function begin(t: Test, isSealed: boolean): Promise<Attack> {
  const secrets = new SecretRing(isSealed ? [secret] : []);
  const door = { secrets, blocklist: new Blocklist(), tls: null, peerTls: null, insecure: false };
  const one = await ServedMemory.open({ door, datagramBytes: 8192 });
  t.teardown(() => one.close());
  const { client, association, sealer } = await enter(one, isSealed, Buffer.alloc(16, 'attack'), 1);
  await client.openPool('pool');
  const received: Buffer[] = [];
  const socket = await testEnv.network.openDatagrams(
    { host: '127.0.0.1', port: 0 },
    { received: (datagram) => received.push(datagram), failed: () => undefined },
  );
  t.teardown(() => socket.close());
  const to = one.address as DatagramAddress; // it listens on TCP
  return {
    ...{ one, client, sealer, association, socket, received, to },
    send: (datagram, from = socket) => from.send([datagram], to),
    write: (requestId, letter, floor = 0) => {
      const payload = Buffer.alloc(4, letter);
      const body = writeBody(client.pool, 'object', 0, payload);
      return frame({ op: OP.write, requestId, floor, body, payload });
    },
    refused: (why) => one.server.counters.refused.get(why) ?? 0,
    stored: async () => (await client.read('object', 0, 4)).payload.toString(),
  };
}

async function enter(
  one: ServedMemory,
  isSealed: boolean,
  session: Buffer,
  incarnation: number,
): Promise<{ client: RawClient; association: Buffer; sealer: DatagramSealer }> {
  const client = await RawClient.connect(one.address);
  const clientNonce = realRandom.bytes(32);
  const ticketBytes = isSealed ? ticket.ticketBytes : Buffer.alloc(0);
  const {
    diskId,
    startId,
    nonce: daemonNonce,
  } = await client.hello({ nonce: clientNonce, ticket: ticketBytes });
  const meeting = {
    clientNonce,
    daemonNonce,
    diskId,
    startId,
    ticketBytes,
    exporter: Buffer.alloc(0),
  };
  const proof = isSealed ? makeProof(ticket.key, 'client', meeting) : Buffer.alloc(0);
  const begun = await client.beginSession({ session, incarnation, proof, datagramBytes: 8192 });
  const { association } = begun;
  const { toDaemon } = deriveDatagramKeys(ticket.key, clientNonce, daemonNonce);
  const sealer = isSealed ? new Sealer(toDaemon, association) : new PlainSealer(association);
  return { client, association, sealer };
}

for (const isSealed of [true, false]) {
  const kind = isSealed ? 'sealed' : 'plain';

  t.test(`${kind}: a good datagram is run and answered, once for each id`, async (t) => {
    const attack = await begin(t, isSealed);
    attack.send(attack.sealer.seal([attack.write(100, 'a')]));
    await until(() => attack.received.length === 1, 'it is answered');
    attack.send(attack.sealer.seal([attack.write(100, 'a')]));
    await until(() => attack.received.length === 2, 'it is answered again');
    t.strictSame(attack.one.store.log, ['write object']);
    t.equal(attack.one.server.counters.repeated, 1);
    t.equal(await attack.stored(), 'aaaa');
  });

  t.test(`${kind}: every flipped bit is refused without an answer`, async (t) => {
    const attack = await begin(t, isSealed);
    const good = attack.sealer.seal([attack.write(100, 'a')]);
    let sent = 0;
    for (let bit = 0; bit < good.length * 8; bit += 1) {
      const bad = Buffer.from(good);
      bad.writeUInt8((bad[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
      attack.send(bad);
      sent += 1;
      if (sent % 50 === 0)
        await until(() => attack.one.server.counters.datagramsIn === sent, 'they arrive');
    }
    await until(() => attack.one.server.counters.datagramsIn === sent, 'all arrive');
    const refused = [...attack.one.server.counters.refused.values()].reduce(
      (sum, count) => sum + count,
      0,
    );
    t.equal(refused, sent);
    t.ok(attack.refused('datagram forged') > 0);
    t.equal(attack.refused('datagram of nobody'), 64, 'those of another association');
    t.strictSame(attack.one.store.log, []);
    t.equal(attack.received.length, 0);
    attack.send(good);
    await until(() => attack.received.length === 1, 'the good one is taken still');
  });

  t.test(`${kind}: a recorded datagram sent again is a replay`, async (t) => {
    const attack = await begin(t, isSealed);
    const recorded = attack.sealer.seal([attack.write(100, 'a')]);
    for (let copy = 0; copy < 3; copy += 1) attack.send(recorded);
    await until(() => attack.refused('datagram replayed') === 2, 'two are counted');
    t.strictSame(attack.one.store.log, ['write object']);
  });

  t.test(`${kind}: a late copy of an old write never lands on newer data`, async (t) => {
    const attack = await begin(t, isSealed);
    const { client } = attack;
    // Sent, and not delivered: the network keeps it. The client sends it again over the connection.
    const late = attack.sealer.seal([attack.write(100, 'a')]);
    client.send(attack.write(100, 'a'));
    t.equal((await client.answer(100)).status, 0);
    client.send(attack.write(101, 'b', 101));
    t.equal((await client.answer(101)).status, 0);
    attack.send(late);
    await until(() => attack.one.server.counters.dropped === 1, 'it lies below the floor');
    const payload = Buffer.alloc(4, 'c');
    const body = writeBody(client.pool, 'object', 0, payload);
    client.send(frame({ op: OP.write, requestId: 102, floor: 102, body, payload }));
    t.equal((await client.answer(102)).status, 0);
    t.strictSame(attack.one.store.log, ['write object', 'write object', 'write object']);
    const read = frame({ op: OP.read, requestId: 103, floor: 103, body: body.subarray(0, -4) });
    client.send(read);
    t.equal((await client.answer(103)).payload.toString(), 'cccc');
  });

  t.test(`${kind}: datagrams of a connection that has ended are of nobody`, async (t) => {
    const attack = await begin(t, isSealed);
    const late = attack.sealer.seal([attack.write(100, 'a')]);
    const next = await enter(attack.one, isSealed, Buffer.alloc(16, 'attack'), 2);
    await next.client.openPool('pool');
    t.notOk(next.association.equals(attack.association));
    attack.send(late);
    await until(() => attack.refused('datagram of nobody') === 1, 'it is counted');
    t.strictSame(attack.one.store.log, []);
    await next.client.close();
  });

  t.test(`${kind}: datagrams from another host are counted and dropped`, async (t) => {
    const attack = await begin(t, isSealed);
    const elsewhere = await testEnv.network.openDatagrams(
      { host: '127.0.0.2', port: 0 },
      { received: () => undefined, failed: () => undefined },
    );
    t.teardown(() => elsewhere.close());
    attack.send(attack.sealer.seal([attack.write(100, 'a')]), elsewhere);
    await until(() => attack.refused('datagram from elsewhere') === 1, 'it is counted');
    t.strictSame(attack.one.store.log, []);
  });

  t.test(`${kind}: what is sealed well and makes no sense ends nothing but itself`, async (t) => {
    const attack = await begin(t, isSealed);
    const good = attack.write(100, 'a');
    const nonsense = [
      Buffer.alloc(0),
      Buffer.alloc(47),
      Buffer.alloc(200, 1),
      good.subarray(0, -1),
      Buffer.concat([good, Buffer.from('x')]),
      Buffer.concat([good, good]),
      frame({ op: OP.hello, requestId: 1, body: Buffer.from('{}') }),
      frame({ op: OP.begin, requestId: 1 }),
      frame({ op: OP.write, requestId: 9000, body: Buffer.alloc(28) }),
    ];
    for (const bytes of nonsense) attack.send(attack.sealer.seal([bytes]));
    await until(() => attack.refused('E_BAD_FRAME') === nonsense.length, 'all are counted');
    t.strictSame(attack.one.store.log, []);
    attack.send(attack.sealer.seal([good]));
    await until(() => attack.one.store.log.length === 1, 'a good one is run');
    t.equal(await attack.stored(), 'aaaa', 'and the connection goes on');
  });
}

t.test('without the key nothing can be sealed, and plain is not taken for sealed', async (t) => {
  const attack = await begin(t, true);
  const forger = new Sealer(realRandom.bytes(32), attack.association);
  attack.send(forger.seal([attack.write(100, 'x')]));
  await until(() => attack.refused('datagram forged') === 1, 'it is counted');
  attack.send(new PlainSealer(attack.association).seal([attack.write(100, 'x')]));
  await until(() => attack.refused('datagram alien') === 1, 'it is counted');
  attack.send(realRandom.bytes(DATAGRAM_HEADER_BYTES - 1));
  attack.send(realRandom.bytes(1400));
  await until(() => attack.refused('datagram of nobody') === 2, 'they are counted');
  await sleep(20);
  t.strictSame(attack.one.store.log, []);
  t.equal(attack.received.length, 0);
});
