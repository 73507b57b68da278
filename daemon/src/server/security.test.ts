/** Who may not, does not: each way of getting in that is refused, and what the refusal is. */
import { spawnSync } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import {
  Blocklist,
  ERRORS,
  HEADER_BYTES,
  makeProof,
  makeTicket,
  ObjectRef,
  OBJECT_KIND,
  OP,
  PoolSecret,
  realRandom,
  realTlsClient,
  RealTlsContext,
  SecretRing,
  TicketFile,
  writeAnswerHeader,
  type DaemonClientOptions,
  type RemoteStore,
  type TicketRights,
} from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import type { DoorOptions } from './door.js';
import { CutProxy } from './testing/cut-proxy.js';
import { frame, objectBody, RawClient, writeBody } from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { TestAuthority, type TestIdentity } from './testing/test-authority.js';
import { sleep, until } from './testing/until.js';

const missing = spawnSync('openssl', ['version']).error !== undefined && 'needs openssl';
const ref = new ObjectRef(OBJECT_KIND.plain, 'object');
const secret = PoolSecret.create('pool', 1, realRandom);
const now = Math.floor(Date.now() / 1000);
const DAY = 86_400;

function ticketOf(
  fields: {
    of?: PoolSecret;
    rights?: TicketRights;
    issued?: number;
    expires?: number;
    client?: string;
  } = {},
): TicketFile {
  const {
    of = secret,
    rights = 'rw',
    issued = now - 10,
    expires = now + DAY,
    client = 'vm1',
  } = fields;
  return TicketFile.of(of, makeTicket(of, { client, rights, issued, expires }, realRandom));
}

/** A client that knows the ticket and not its key. */
function withKeyOf(shown: TicketFile, other: TicketFile): TicketFile {
  const document = (file: TicketFile): { ticket: string; key: string } =>
    JSON.parse(file.toText()) as { ticket: string; key: string }; // what toText wrote
  return TicketFile.parse(
    'mixed',
    JSON.stringify({ ...document(shown), key: document(other).key }),
  );
}

async function served(t: Test, door: Partial<DoorOptions> = {}): Promise<ServedMemory> {
  const one = await ServedMemory.open({
    door: { ...doorOf([secret]), ...door },
    datagramBytes: 8192,
  });
  t.teardown(() => one.close());
  return one;
}

function doorOf(secrets: PoolSecret[]): DoorOptions {
  const ring = new SecretRing(secrets);
  return { secrets: ring, blocklist: new Blocklist(), tls: null, peerTls: null, insecure: false };
}

/** What a client meets that wants to write. */
async function outcome(
  one: ServedMemory,
  options: Partial<DaemonClientOptions>,
  pool = 'pool',
): Promise<string> {
  let remote: RemoteStore | null = null;
  try {
    remote = await one.connect({ deadlineMs: 3000, ...options });
    const user = new PoolUser(await remote.openPool(pool, { create: true }));
    await user.write(ref, 0, Buffer.from('in'));
    return 'written';
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error;
    return `${String(error.code)}: ${error.message}`;
  } finally {
    await remote?.close();
  }
}

t.test('a ticket lets in who knows its key, for its pool, rights and time', async (t) => {
  const one = await served(t);
  t.equal(await outcome(one, { ticket: ticketOf() }), 'written');
  one.store.log.length = 0;
  const other = PoolSecret.create('pool', 1, realRandom);
  const elsewhere = PoolSecret.create('elsewhere', 1, realRandom);
  const newer = PoolSecret.create('pool', 2, realRandom);
  const good = ticketOf();
  const cases: [string, TicketFile | null, RegExp][] = [
    ['none', null, /^E_DENIED: .*wants a ticket/],
    ['of another secret', ticketOf({ of: other }), /^E_DENIED: .*does not know the secret/],
    ['of another generation', ticketOf({ of: newer }), /^E_DENIED: .*generation 2/],
    ['of another pool', ticketOf({ of: elsewhere }), /^E_DENIED: .*"elsewhere"/],
    ['expired', ticketOf({ issued: now - DAY, expires: now - 1 }), /^E_DENIED: .*expired/],
    ['not yet valid', ticketOf({ issued: now + 3600 }), /^E_DENIED/],
    ['without its key', withKeyOf(good, ticketOf()), /^E_DENIED/],
    [
      'to read only',
      ticketOf({ rights: 'r' }),
      /^E_DENIED: .*may not write: it has the rights 'r'/,
    ],
  ];
  for (const [what, ticket, expected] of cases)
    t.match(await outcome(one, { ticket }), expected, what);
  t.match(
    await outcome(one, { ticket: good }, 'another'),
    /^E_DENIED: .*its ticket is for pool 'pool'/,
  );
  t.strictSame(one.store.log, [], 'nothing was written');
});

t.test('a ticket to read only reads, and no operation changes anything', async (t) => {
  const one = await served(t);
  t.equal(await outcome(one, { ticket: ticketOf() }), 'written');
  one.store.log.length = 0;
  const remote = await one.connect({ ticket: ticketOf({ rights: 'r' }) });
  // A program that would make the pool may use the one that is there.
  const pool = await remote.openPool('pool', { create: true });
  const user = new PoolUser(pool);
  t.equal((await user.read(ref, 0, 2)).toString(), 'in');
  t.equal(await codeOf(user.write(ref, 0, Buffer.from('no'))), 'E_DENIED');
  t.equal(await codeOf(user.zero(ref, 0, 2)), 'E_DENIED');
  t.equal(await codeOf(user.compareAndSwap(ref, 0, Buffer.from('no'))), 'E_DENIED');
  t.equal(await codeOf(pool.delete(ref)), 'E_DENIED');
  t.strictSame(await remote.listPools(), ['pool']);
  await remote.close();
  t.strictSame(one.store.log, []);
});

t.test('a ticket to read only makes no pool, and is told so', async (t) => {
  const one = await served(t);
  const remote = await one.connect({ ticket: ticketOf({ rights: 'r' }) });
  const refused = await remote.openPool('pool', { create: true }).catch((error: unknown) => error);
  t.match(refused, { code: 'E_DENIED', message: /may not make pool 'pool'/ });
  t.strictSame(await remote.listPools(), []);
  await remote.close();
});

t.test('a daemon that does not know the secret gets no proof and no data', async (t) => {
  const impostor = await ServedMemory.open({
    door: doorOf([PoolSecret.create('pool', 1, realRandom)]),
  });
  t.teardown(() => impostor.close());
  t.match(await outcome(impostor, { ticket: ticketOf() }), /^E_DENIED: .*somebody is in between/);
  const open = await ServedMemory.open({ door: doorOf([]) });
  t.teardown(() => open.close());
  t.match(await outcome(open, { ticket: ticketOf() }), /^E_DENIED/);
  t.strictSame([...impostor.store.log, ...open.store.log], []);
});

t.test('a greeting that was recorded is worth nothing on a new connection', async (t) => {
  const one = await served(t);
  const proxy = await CutProxy.open(one.address);
  t.teardown(() => proxy.close());
  t.equal(await outcome(one, { ticket: ticketOf(), address: proxy.address }), 'written');
  one.store.log.length = 0;
  const replay = await RawClient.connect(one.address);
  for (const chunk of proxy.fromClients) {
    replay.send(chunk);
    await sleep(10);
  }
  await replay.over();
  t.equal(one.server.counters.refused.get('E_DENIED'), 1);
  t.ok(
    replay.answers.some(({ op, status }) => op === OP.begin && status === ERRORS.E_DENIED.status),
  );
  t.strictSame(one.store.log, [], 'the write in it was not run');
  await replay.close();
});

t.test("forged proofs are refused: random, empty, the daemon's own sent back", async (t) => {
  const one = await served(t);
  const ticket = ticketOf();
  for (const proofOf of [
    () => Buffer.alloc(0),
    () => realRandom.bytes(32),
    (daemons: Buffer) => daemons,
    (daemons: Buffer) => daemons.subarray(0, 31),
  ]) {
    const client = await RawClient.connect(one.address);
    const { proof } = await client.hello({ ticket: ticket.ticketBytes });
    t.equal(proof.length, 32);
    await t.rejects(client.beginSession({ proof: proofOf(proof) }), /status 17/);
    await client.over();
    await client.close();
  }
  t.equal(one.server.counters.refused.get('E_DENIED'), 4);
});

t.test('a connection ends with its ticket; with a renewed one its session goes on', async (t) => {
  const one = await served(t);
  const now = Math.floor(Date.now() / 1000);
  const [short, long] = [ticketOf({ issued: now - 10, expires: now + 2 }), ticketOf()];
  let asked = 0;
  const store = await one.connect({
    ticket: short,
    renewTicket: (present) => {
      asked += 1;
      t.equal(present, asked === 1 ? short : long);
      return Promise.resolve(long);
    },
  });
  const user = new PoolUser(await store.openPool('pool', { create: true }));
  await user.write(ref, 0, Buffer.from('with the first'));
  await new Promise((resolve) => setTimeout(resolve, 3500));
  await user.write(ref, 0, Buffer.from('with the second'));
  t.equal((await user.read(ref, 0, 15)).toString(), 'with the second');
  t.equal(asked, 1);
  t.equal(store.counters.connects, 2);
  await store.close();
});

t.test('who is revoked while connected is put out, and does not come back', async (t) => {
  const one = await served(t);
  const [vm1, vm2] = [ticketOf({ client: 'vm1' }), ticketOf({ client: 'vm2' })];
  const stores = [
    await one.connect({ ticket: vm1, deadlineMs: 1500 }),
    await one.connect({ ticket: vm2 }),
  ];
  const users: PoolUser[] = [];
  for (const store of stores)
    users.push(new PoolUser(await store.openPool('pool', { create: true })));
  for (const user of users) await user.write(ref, 0, Buffer.from('in'));
  one.store.log.length = 0;
  const secrets = new SecretRing([secret]);
  one.server.replaceSecrets({ secrets, blocklist: new Blocklist([], ['vm1']) });
  t.equal(
    await codeOf(users[0]?.write(ref, 0, Buffer.from('no')) ?? Promise.resolve()),
    'E_DENIED',
  );
  await users[1]?.write(ref, 0, Buffer.from('ok'));
  t.equal(one.store.log.length, 1, 'of vm2');
  t.match(await outcome(one, { ticket: vm1 }), /^E_DENIED/);
  one.server.replaceSecrets({ secrets: new SecretRing([]), blocklist: new Blocklist() });
  t.equal(
    await codeOf(users[1]?.write(ref, 0, Buffer.from('no')) ?? Promise.resolve()),
    'E_DENIED',
  );
  t.equal(one.store.log.length, 1, 'its secret is gone');
  for (const store of stores) await store.close().catch(() => undefined); // a flush is refused too
});

t.test('who came without a ticket leaves when secrets are given', async (t) => {
  const one = await served(t, { secrets: new SecretRing([]) });
  const client = await RawClient.open(one.address);
  one.server.replaceSecrets({ secrets: new SecretRing([secret]), blocklist: new Blocklist() });
  await client.over();
  await client.close();
});

t.test('a ticket that expires ends the connection', async (t) => {
  const one = await served(t);
  const expires = Math.floor(Date.now() / 1000) + 2;
  const ticket = ticketOf({ expires });
  const remote = await one.connect({ ticket, deadlineMs: 3000 });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  await user.write(ref, 0, Buffer.from('in'));
  await until(() => one.server.state().connections === 0, 'it is put out', 4000);
  t.equal(one.server.counters.refused.get('E_DENIED'), 1, 'once');
  t.ok(Date.now() / 1000 >= expires);
  t.equal(await codeOf(user.write(ref, 0, Buffer.from('no'))), 'E_DENIED');
  await remote.close().catch(() => undefined); // likewise
});

t.test('one client cannot take the session of another', async (t) => {
  const one = await served(t);
  const session = Buffer.alloc(16, 'mine');
  const enter = async (ticket: TicketFile, incarnation: number): Promise<RawClient> => {
    const client = await RawClient.connect(one.address);
    const nonce = realRandom.bytes(32);
    const { ticketBytes } = ticket;
    const said = await client.hello({ ticket: ticketBytes, nonce });
    const { diskId, startId } = said;
    const exporter = Buffer.alloc(0);
    const meeting = {
      clientNonce: nonce,
      daemonNonce: said.nonce,
      diskId,
      startId,
      ticketBytes,
      exporter,
    };
    await client.beginSession({
      session,
      incarnation,
      proof: makeProof(ticket.key, 'client', meeting),
    });
    return client;
  };
  const mine = await enter(ticketOf({ client: 'vm1' }), 1);
  await t.rejects(enter(ticketOf({ client: 'vm2' }), 2), /status 17: .*another client/);
  t.equal((await mine.ask(OP.ping)).status, 0, 'it is here still');
  await mine.openPool('pool');
  const body = objectBody({ pool: mine.pool, key: 'object', bytes: 2 });
  t.equal(
    (
      await mine.ask(
        OP.write,
        writeBody(mine.pool, 'object', 0, Buffer.from('in')),
        Buffer.from('in'),
      )
    ).status,
    0,
  );
  t.equal((await mine.ask(OP.read, body)).payload.toString(), 'in');
  await mine.close();
});

t.test('TLS', { skip: missing }, async (t) => {
  const authority = new TestAuthority();
  const stranger = new TestAuthority();
  t.teardown(() => [authority, stranger].forEach((one) => one.remove()));
  const names = ['IP:127.0.0.1'];
  const tls = new RealTlsContext(authority.issue('daemon', names));
  const trusted = realTlsClient({ ca: authority.ca });

  await t.test('with TLS and a ticket a client gets in; datagrams are sealed', async (t) => {
    const one = await served(t, { tls });
    t.equal(await outcome(one, { ticket: ticketOf(), tls: trusted }), 'written');
    t.equal(
      await outcome(one, { ticket: ticketOf(), tls: trusted, datagramBytes: 8192 }),
      'written',
    );
    t.ok(one.server.counters.datagramsIn > 0);
    const foreign = realTlsClient({ ca: stranger.ca });
    t.match(await outcome(one, { ticket: ticketOf(), tls: foreign }), /^E_DENIED: .*certificate/);
    t.match(await outcome(one, { ticket: null, tls: trusted }), /^E_DENIED: .*ticket/);
  });

  await t.test(
    'somebody in the middle with a good certificate cannot pass a proof on',
    async (t) => {
      const one = await served(t, { tls });
      const relay = await middleman(t, one, authority.issue('daemon', names));
      t.match(
        await outcome(one, { ticket: ticketOf(), tls: trusted, address: relay.address }),
        /^E_DENIED/,
      );
      t.ok(relay.passedOn > 0, 'HELLO went through');
      t.strictSame(one.store.log, []);
    },
  );

  await t.test('peers show a certificate of the authority, and may only read', async (t) => {
    const context = new RealTlsContext({ ...authority.issue('daemon', names), ca: authority.ca });
    const one = await ServedMemory.open({ door: { ...doorOf([]), peerTls: context } }, 'peer');
    t.teardown(() => one.close());
    const plain = await RawClient.connect(one.address);
    plain.send(Buffer.alloc(64, 'stor'));
    await plain.over();
    await plain.close();
    t.equal(one.server.counters.refused.size, 1);
    await one.store.openPool('pool', { create: true });
    const enter = async (keys: { cert?: Buffer; key?: Buffer }): Promise<RawClient> => {
      const { host, port } = one.address as { host: string; port: number }; // it listens on TCP
      const options = { host, port, ca: authority.ca, ...keys };
      const client = new RawClient(connectTls(options));
      await client.hello();
      return client;
    };
    for (const keys of [{}, stranger.issue('mallory')])
      await t.rejects(enter(keys), /the connection ended/, 'no or a wrong certificate');
    const good = await enter(authority.issue('daemon-2'));
    await good.beginSession();
    const opened = await good.ask(OP.openPool, Buffer.from('{"name":"pool","create":false}'));
    t.equal(opened.status, 0);
    const refused = await good.write('object', 0, Buffer.from('no'));
    t.equal(refused.status, ERRORS.E_DENIED.status);
    t.match(refused.body.toString(), /peer daemon-2 may not write/);
    t.strictSame(one.store.log, []);
    await good.close();
  });
});

/** Speaks TLS with the client and with the daemon, and passes on what is said. */
async function middleman(
  t: Test,
  one: ServedMemory,
  identity: TestIdentity,
): Promise<{ address: { host: string; port: number }; passedOn: number }> {
  const { host, port } = one.address as { host: string; port: number }; // it listens on TCP
  const sockets: Socket[] = [];
  const relay = { address: { host: '127.0.0.1', port: 0 }, passedOn: 0 };
  const listening = createServer((client) => {
    const daemon = connect({ host, port });
    sockets.push(client, daemon);
    for (const socket of [client, daemon]) socket.on('error', () => undefined); // the story ends it
    client.once('data', () => {
      daemon.write(frame({ op: OP.startTls, requestId: 1 }));
      daemon.once('data', () => {
        const answer = Buffer.alloc(HEADER_BYTES);
        writeAnswerHeader(answer, 0, OP.startTls, 1, 0, 0, 0);
        const toClient = new TLSSocket(client, { isServer: true, ...identity });
        const toDaemon = connectTls({ socket: daemon, rejectUnauthorized: false });
        for (const socket of [toClient, toDaemon]) socket.on('error', () => undefined); // likewise
        toClient.on('data', (chunk: Buffer) => {
          relay.passedOn += chunk.length;
          toDaemon.write(chunk);
        });
        toDaemon.on('data', (chunk: Buffer) => toClient.write(chunk));
        client.write(answer);
      });
    });
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const bound = listening.address();
  if (bound === null || typeof bound === 'string') throw new Error('it has a port');
  relay.address.port = bound.port;
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    listening.close();
  });
  return relay;
}
