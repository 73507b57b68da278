import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { StoreError } from '../util/errors.js';
import type { Connection, ConnectionEvents, TlsContext, TlsPeer } from './network.js';
import { realNetwork } from './real-network.js';
import { realTlsClient, type TlsClientKeys } from './real-tls-client.js';
import { RealTlsContext } from './real-tls.js';
import { silentLog } from './silent-log.js';

const network = realNetwork(silentLog);
const LIMIT = { timeoutMs: 5000 };
const MIB = 1024 * 1024;
const TLS_HOST = 'store.example';
const missing = spawnSync('openssl', ['version']).error !== undefined && 'needs openssl';

interface Identity {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** An authority for tests, made with openssl in a folder of its own. */
class Authority {
  readonly #folder: string;

  constructor(t: Test) {
    this.#folder = mkdtempSync(join(tmpdir(), 'authority-'));
    t.teardown(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.#openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2'],
      ...['-subj', '/CN=authority of a test', '-addext', 'keyUsage=critical,keyCertSign'],
    );
  }

  get ca(): Buffer {
    return readFileSync(join(this.#folder, 'ca.pem'));
  }

  /** @param names - `DNS:…` and `IP:…`; none for a client. */
  issue(commonName: string, names: string[] = [], days = 2): Identity {
    const isServer = names.length > 0;
    const extensions = [
      'basicConstraints=critical,CA:FALSE',
      `extendedKeyUsage=${isServer ? 'serverAuth' : 'clientAuth'}`,
      ...(isServer ? [`subjectAltName=${names.join(',')}`] : []),
    ];
    writeFileSync(join(this.#folder, 'extensions'), extensions.join('\n'));
    const request = ['-keyout', 'a.key', '-out', 'a.csr', '-subj', `/CN=${commonName}`];
    this.#openssl('req', '-new', ...NEW_KEY, ...request);
    this.#openssl(
      ...['x509', '-req', '-in', 'a.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-out', 'a.pem', '-days', `${days}`, '-extfile', 'extensions'],
    );
    const read = (name: string): Buffer => readFileSync(join(this.#folder, name));
    return { cert: read('a.pem'), key: read('a.key') };
  }

  #openssl(...args: string[]): void {
    const { status, stderr } = spawnSync('openssl', args, {
      cwd: this.#folder,
      encoding: 'utf8',
      timeout: 20_000,
    });
    if (status !== 0) throw new Error(`openssl ${args[0] ?? ''} failed: ${stderr}`);
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** What a connection told. */
class Witness implements ConnectionEvents {
  bytes = Buffer.alloc(0);
  closes: (Error | null)[] = [];
  hasEnded = false;
  data(chunk: Buffer): boolean {
    this.bytes = Buffer.concat([this.bytes, chunk]);
    return true;
  }
  end(): void {
    this.hasEnded = true;
  }
  drain(): void {
    // nothing waits for it
  }
  closed(error: Error | null): void {
    this.closes.push(error);
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUp = performance.now() + 5000;
  while (!condition()) {
    if (performance.now() > giveUp) throw new Error(`it never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

interface Plain {
  readonly client: Connection;
  readonly clientSaw: Witness;
  readonly server: Connection;
  readonly serverSaw: Witness;
}

/** Both ends of a connection in the clear, started. */
async function plainPair(t: Test): Promise<Plain> {
  const serverSaw = new Witness();
  let server: Connection | undefined;
  const listener = await network.listen({ host: '127.0.0.1', port: 0 }, (connection) => {
    server = connection;
    connection.start(serverSaw);
  });
  const client = await network.connect(listener.address, LIMIT);
  const clientSaw = new Witness();
  client.start(clientSaw);
  t.teardown(async () => {
    client.destroy();
    server?.destroy();
    await listener.close();
  });
  await until(() => server !== undefined, 'it is accepted');
  if (server === undefined) throw new Error('unreachable');
  return { client, clientSaw, server, serverSaw };
}

interface Outcome {
  readonly client: Connection | StoreError;
  readonly server: { connection: Connection; peer: TlsPeer } | StoreError;
}

/** Both sides of one handshake. */
async function shakeHands(
  t: Test,
  context: TlsContext,
  keys: TlsClientKeys,
  host: string,
  { client, server }: Pick<Plain, 'client' | 'server'>,
): Promise<Outcome> {
  const caught = (error: unknown): StoreError => {
    if (error instanceof StoreError) return error;
    throw error;
  };
  const [ours, theirs] = await Promise.all([
    client.startTlsClient(realTlsClient(keys), host).catch(caught),
    server.startTls(context).catch(caught),
  ]);
  t.teardown(() => {
    if (!(ours instanceof StoreError)) ours.destroy();
    if (!(theirs instanceof StoreError)) theirs.connection.destroy();
  });
  return { client: ours, server: theirs };
}

async function secured(
  t: Test,
  context: TlsContext,
  keys: TlsClientKeys,
  host: string,
): Promise<{ client: Connection; server: Connection; peer: TlsPeer }> {
  const { client, server } = await shakeHands(t, context, keys, host, await plainPair(t));
  if (client instanceof StoreError) throw client;
  if (server instanceof StoreError) throw server;
  return { client, server: server.connection, peer: server.peer };
}

t.test('TLS as a client', { skip: missing }, async (t) => {
  const authority = new Authority(t);
  const stranger = new Authority(t);
  const { ca } = authority;
  const names = [`DNS:${TLS_HOST}`, 'DNS:localhost', 'IP:127.0.0.1', 'IP:::1'];
  const serverKeys = authority.issue('server', names);
  const context = new RealTlsContext(serverKeys);
  const alice = authority.issue('alice');

  for (const host of [TLS_HOST, 'localhost', '127.0.0.1', '::1', '0:0:0:0:0:0:0:1', '::1%lo'])
    await t.test(`a MiB goes both ways if the certificate is for ${host}`, async (t) => {
      const warnings: Error[] = [];
      const warn = (warning: Error): number => warnings.push(warning);
      process.on('warning', warn);
      const { client, server, peer } = await secured(t, context, { ca }, host);
      t.match(peer, { proof: 'none', protocol: 'TLSv1.3' });
      t.equal(client.descriptor, null);
      const [atClient, atServer] = [new Witness(), new Witness()];
      client.start(atClient);
      server.start(atServer);
      const [there, back] = [Buffer.alloc(MIB, 'there'), Buffer.alloc(MIB, 'and back')];
      client.write([there]);
      server.write([back]);
      await until(() => atClient.bytes.length >= MIB && atServer.bytes.length >= MIB, 'a MiB');
      t.ok(atServer.bytes.equals(there));
      t.ok(atClient.bytes.equals(back));
      client.end();
      await until(() => atServer.hasEnded, 'the end arrives');
      server.end();
      await until(() => atClient.closes.length + atServer.closes.length === 2, 'both are closed');
      t.strictSame([...atClient.closes, ...atServer.closes], [null, null]);
      process.removeListener('warning', warn);
      t.strictSame(warnings, []);
    });

  await t.test(
    'a certificate that is not good for the server is E_DENIED, and says why',
    async (t) => {
      const cases: [string, Identity, string, RegExp][] = [
        ['other name', serverKeys, 'other.example', /not good for other\.example: .*altnames/],
        [
          'other address',
          serverKeys,
          '127.0.0.2',
          /not good for 127\.0\.0\.2: .*is not in the cert/,
        ],
        ['other authority', stranger.issue('server', names), TLS_HOST, /unable to .* certificate/],
        ['a client', alice, 'alice', /not good for alice: unsuitable certificate purpose/],
        ['expired', authority.issue('server', names, -1), TLS_HOST, /has expired/],
      ];
      for (const [what, identity, host, message] of cases) {
        const plain = await plainPair(t);
        const outcome = await shakeHands(t, new RealTlsContext(identity), { ca }, host, plain);
        t.match(outcome.client, { code: 'E_DENIED', message }, what);
        t.notMatch((outcome.client as StoreError).message, /\n/);
        await until(() => plain.clientSaw.closes.length === 1, 'the plain connection is closed');
        t.equal(plain.clientSaw.bytes.length, 0);
      }
    },
  );

  await t.test('a server that asks who we are is shown our certificate', async (t) => {
    const mutual = new RealTlsContext({ ...serverKeys, ca });
    const { client, peer } = await secured(t, mutual, { ca, ...alice }, TLS_HOST);
    t.match(peer, { proof: 'x509', name: 'alice' });
    client.destroy();
    const refusals: [TlsClientKeys, RegExp][] = [
      [{ ca }, /sent no certificate/],
      [{ ca, ...stranger.issue('mallory') }, /the client's certificate is not good/],
    ];
    for (const [keys, message] of refusals) {
      const plain = await plainPair(t);
      const outcome = await shakeHands(t, mutual, keys, TLS_HOST, plain);
      t.match(outcome.server, { code: 'E_SYSTEM', message });
      // In TLS 1.3 the client was done before it was looked at: it hears of it afterwards.
      if (outcome.client instanceof StoreError) continue;
      const witness = new Witness();
      outcome.client.start(witness);
      outcome.client.write([Buffer.from('let me in')]);
      await until(() => witness.closes.length + Number(witness.hasEnded) > 0, 'it hears of it');
      t.equal(witness.bytes.length, 0);
      t.equal(plain.serverSaw.bytes.length, 0);
    }
  });

  await t.test(
    'files that OpenSSL cannot use are refused, and replace() keeps the old',
    async (t) => {
      const nonsense = Buffer.from('nonsense');
      const other = authority.issue('bob');
      const cases: [TlsClientKeys, RegExp][] = [
        [{ ca: nonsense }, /^TLS cannot use these files/],
        [{ ca: Buffer.alloc(0) }, /^TLS cannot use these files/],
        [{ ca, cert: alice.cert, key: nonsense }, /^TLS cannot use these files/],
        [{ ca, cert: alice.cert, key: other.key }, /^TLS cannot use these files.*mismatch/],
        [{ ca, cert: alice.cert }, /go together; give both/],
        [{ ca, key: alice.key }, /go together; give both/],
      ];
      const client = realTlsClient({ ca, ...alice });
      const before = client.secure;
      for (const [keys, message] of cases) {
        t.throws(() => realTlsClient(keys), { code: 'E_INVALID', message });
        t.throws(() => client.replace(keys), { code: 'E_INVALID' });
      }
      t.equal(client.secure, before);
      t.throws(() => new RealTlsContext({ ...serverKeys, ca: nonsense }), { code: 'E_INVALID' });
      client.replace({ ca: stranger.ca });
      const plain = await plainPair(t);
      const refused = plain.client.startTlsClient(client, TLS_HOST);
      await Promise.all([
        t.rejects(refused, { code: 'E_DENIED' }, 'the new authority counts'),
        plain.server.startTls(context).catch(() => undefined),
      ]);
    },
  );

  await t.test('a name for nobody is refused, and so is a connection that is closed', async (t) => {
    const { client } = await plainPair(t);
    client.destroy();
    const trust = realTlsClient({ ca });
    await t.rejects(client.startTlsClient(trust, TLS_HOST), { code: 'E_UNREACHABLE' });
    const other = await plainPair(t);
    await t.rejects(other.client.startTlsClient(trust, ''), { code: 'E_INVALID' });
  });

  await t.test('a server that hangs in the handshake is given up with destroy()', async (t) => {
    const { client, clientSaw, serverSaw } = await plainPair(t);
    const handshake = client.startTlsClient(realTlsClient({ ca }), TLS_HOST);
    const rejected = t.rejects(handshake, { code: 'E_UNREACHABLE' });
    await until(() => serverSaw.bytes.length > 0, 'it has begun');
    t.equal(serverSaw.bytes[0], 0x16, 'with a record of the handshake');
    client.destroy();
    await rejected;
    await until(() => clientSaw.closes.length === 1, 'it is closed');
  });

  await t.test('a server that hangs up, or speaks no TLS, ends the handshake', async (t) => {
    for (const how of ['end', 'reset', 'plain'] as const) {
      const listening = createServer((socket) => {
        socket.on('error', () => undefined);
        socket.once('data', () => {
          if (how === 'end') socket.end();
          else if (how === 'reset') socket.resetAndDestroy();
          else socket.write('HTTP/1.1 400 Bad Request\r\n\r\n');
        });
      });
      await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
      t.teardown(() => listening.close());
      const bound = listening.address();
      const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
      const client = await network.connect({ host: '127.0.0.1', port }, LIMIT);
      const witness = new Witness();
      client.start(witness);
      const error: unknown = await client
        .startTlsClient(realTlsClient({ ca }), TLS_HOST)
        .catch((problem: unknown) => problem);
      t.match(error, { code: how === 'plain' ? 'E_SYSTEM' : 'E_UNREACHABLE' }, how);
      t.match(
        (error as Error).message,
        how === 'plain'
          ? /^The TLS handshake with .* failed: /
          : /closed the connection in the TLS/,
      );
      t.notMatch((error as Error).message, /\n/);
      await until(() => witness.closes.length === 1, 'it is closed');
      t.equal(witness.bytes.length, 0, 'what was no TLS was not taken for data');
    }
  });

  await t.test('what was written in the clear leaves in the clear, and first', async (t) => {
    const plain = await plainPair(t);
    // More than the socket holds: the rest waits in this process when TLS begins.
    const clear = Buffer.alloc(16 * MIB, 'in the clear');
    let received = 0;
    const clientTls = new Promise<Connection>((resolve, reject) => {
      plain.clientSaw.data = (chunk) => {
        received += chunk.length;
        if (received === clear.length)
          plain.client.startTlsClient(realTlsClient({ ca }), TLS_HOST).then(resolve, reject);
        return true;
      };
    });
    plain.server.write([clear]);
    t.ok(plain.server.unsentBytes > 0);
    const [client, { connection: server }] = await Promise.all([
      clientTls,
      plain.server.startTls(context),
    ]);
    t.equal(received, clear.length);
    const witness = new Witness();
    server.start(witness);
    client.start(new Witness());
    client.write([Buffer.from('secret')]);
    await until(() => witness.bytes.length > 0, 'it arrives');
    t.equal(witness.bytes.toString(), 'secret');
    client.destroy();
    server.destroy();
  });

  for (const side of ['client', 'server'] as const)
    await t.test(
      `plaintext before the handshake is never taken for data (to the ${side})`,
      async (t) => {
        // It arrives before TLS begins, unread.
        const early = await plainPair(t);
        early[side].pause();
        await new Promise((resolve) => setTimeout(resolve, 10));
        const injector = side === 'client' ? early.server : early.client;
        injector.write([Buffer.from('INJECTED')]);
        await new Promise((resolve) => setTimeout(resolve, 20));
        const outcome = await shakeHands(t, context, { ca }, TLS_HOST, early);
        t.match(outcome[side], { code: /E_SYSTEM|E_UNREACHABLE/ });
        t.ok(outcome.client instanceof StoreError, 'there is no connection with it');
        t.notMatch(early.clientSaw.bytes.toString(), /INJ/, 'nor was it reported in the clear');
        t.notMatch(early.serverSaw.bytes.toString(), /INJ/);
        // It was reported before: it does not come again.
        const late = await plainPair(t);
        (side === 'client' ? late.server : late.client).write([Buffer.from('INJECTED')]);
        const saw = side === 'client' ? late.clientSaw : late.serverSaw;
        await until(() => saw.bytes.length === 8, 'it arrives in the clear');
        const good = await shakeHands(t, context, { ca }, TLS_HOST, late);
        if (good.client instanceof StoreError) throw good.client;
        if (good.server instanceof StoreError) throw good.server;
        const [atClient, atServer] = [new Witness(), new Witness()];
        good.client.start(atClient);
        good.server.connection.start(atServer);
        // Nothing that is written beside TLS gets between its records.
        late.client.write([Buffer.from('beside')]);
        late.server.write([Buffer.from('beside')]);
        good.client.write([Buffer.from('from the client')]);
        good.server.connection.write([Buffer.from('from the server')]);
        await until(() => atClient.bytes.length > 0 && atServer.bytes.length > 0, 'both arrive');
        t.equal(atClient.bytes.toString(), 'from the server');
        t.equal(atServer.bytes.toString(), 'from the client');
        t.equal(saw.bytes.length, 8);
      },
    );

  await t.test('both ends make the same keys, and every connection its own', async (t) => {
    const trust = { ca };
    const one = await secured(t, context, trust, TLS_HOST);
    const two = await secured(t, context, trust, TLS_HOST);
    const keys = [one, two].map(({ client, server }) => {
      const key = client.exportKey('EXPORTER-test', 44);
      t.equal(key?.length, 44);
      t.ok(key?.equals(server.exportKey('EXPORTER-test', 44) ?? Buffer.alloc(0)), 'the same');
      t.notOk(key?.equals(client.exportKey('EXPORTER-other', 44) ?? Buffer.alloc(0)));
      return key?.toString('hex');
    });
    t.not(keys[0], keys[1]);
    one.client.destroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.throws(() => one.client.exportKey('EXPORTER-test', 44), { code: 'E_CLOSED' });
  });
});
