import { connect as connectTls, type TLSSocket } from 'node:tls';
import { RealTlsContext } from '@store/core';
import t, { type Test } from 'tap';
import type { AccessRule, TlsOptions } from './access.js';
import { MemoryBackend, memoryCatalog } from './memory-backend.js';
import { NBD_OPT, NBD_REP } from './protocol/constants.js';
import { clientFlags, exportRequest, option, RawClient } from './testing/raw-client.js';
import { pause, startServer, until, type LogLine } from './testing/test-server.js';
import type { NbdServer } from './server.js';

const KEY = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
const EVIL_KEY = Buffer.from('ff0102030405060708090a0b0c0d0e0f', 'hex');
const MEBIBYTE = 1024 * 1024;

async function serve(
  t: Test,
  tls: Partial<TlsOptions> = {},
  access: AccessRule = () => 'write',
): Promise<NbdServer> {
  const context = new RealTlsContext({ psk: new Map([['alice', KEY]]) });
  const catalog = memoryCatalog({
    open: new MemoryBackend(MEBIBYTE),
    secret: new MemoryBackend(MEBIBYTE),
  });
  const options = { tls: { context, mode: 'forced' as const, ...tls }, access };
  const { server, stop } = await startServer(catalog, options);
  t.teardown(stop);
  return server;
}

/** A client that has sent its flags. */
async function greeted(server: NbdServer): Promise<RawClient> {
  const client = await RawClient.connect(server.address);
  await client.read(18);
  client.send(clientFlags(3));
  return client;
}

/** Goes through STARTTLS and the TLS handshake. @throws Error if the server refuses the client */
async function secured(client: RawClient, identity = 'alice', psk = KEY): Promise<RawClient> {
  client.send(option(NBD_OPT.STARTTLS));
  const reply = await client.optionReply();
  if (reply.type !== NBD_REP.ACK) throw new Error(`STARTTLS was answered ${reply.type}`);
  client.socket.removeAllListeners('data');
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls({
      socket: client.socket,
      ciphers: 'PSK-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256',
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ psk, identity }),
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
    socket.once('secureConnect', () => resolve(RawClient.over(socket)));
  });
}

async function ask(client: RawClient, number: number, data: Buffer | string = ''): Promise<number> {
  client.send(option(number, data));
  for (;;) {
    const { type } = await client.optionReply();
    if (type === NBD_REP.ACK || type > 2 ** 31) return type;
  }
}

t.test(
  'T5, F27, CVE-2019-14842: everything but STARTTLS and ABORT is TLS_REQD in the clear',
  async (t) => {
    const server = await serve(t);
    const client = await greeted(server);
    for (const number of [NBD_OPT.LIST, NBD_OPT.STRUCTURED_REPLY, NBD_OPT.EXTENDED_HEADERS, 77])
      t.equal(await ask(client, number), NBD_REP.ERR_TLS_REQD);
    t.equal(await ask(client, NBD_OPT.GO, exportRequest('open')), NBD_REP.ERR_TLS_REQD);
    t.equal(await ask(client, NBD_OPT.INFO, exportRequest('nix')), NBD_REP.ERR_TLS_REQD);
    t.equal(await ask(client, NBD_OPT.ABORT), NBD_REP.ACK);
    const old = await greeted(server);
    old.send(option(NBD_OPT.EXPORT_NAME, 'open'));
    await old.closed;
    t.equal(old.available, 0, 'EXPORT_NAME ends the session, and says nothing');
  },
);

t.test(
  'T3, T8, T9, STARTTLS: inside TLS an export works, and what was negotiated before is gone',
  async (t) => {
    const server = await serve(t, { mode: 'selective' });
    const clear = await greeted(server);
    t.equal(await ask(clear, NBD_OPT.STRUCTURED_REPLY), NBD_REP.ACK);
    t.equal(await ask(clear, NBD_OPT.STARTTLS, 'data'), NBD_REP.ERR_INVALID);
    const client = await secured(clear);
    t.equal(await ask(client, NBD_OPT.STARTTLS), NBD_REP.ERR_INVALID);
    t.equal(await ask(client, NBD_OPT.GO, exportRequest('open')), NBD_REP.ACK);
    const payload = Buffer.alloc(300_000, 7);
    t.equal(await client.ask({ type: 1, cookie: 1, offset: 5, payload }), 0);
    t.equal(
      await client.ask({ type: 0, cookie: 2, offset: 5, length: 300_000 }),
      0,
      'a simple reply',
    );
    t.ok((await client.read(300_000)).equals(payload));
    client.close();
  },
);

t.test('T7, F26, CVE-2021-3716: bytes in the clear after STARTTLS end the session', async (t) => {
  const client = await greeted(await serve(t));
  client.send(Buffer.concat([option(NBD_OPT.STARTTLS), option(NBD_OPT.LIST)]));
  await client.closed;
  t.equal(client.available, 0);
});

t.test('T10: a wrong key, an unknown name and garbage end the session', async (t) => {
  const server = await serve(t);
  await t.rejects(secured(await greeted(server), 'alice', EVIL_KEY));
  await t.rejects(secured(await greeted(server), 'mallory'));
  const client = await greeted(server);
  client.send(option(NBD_OPT.STARTTLS));
  t.equal((await client.optionReply()).type, NBD_REP.ACK);
  client.send(Buffer.alloc(500, 'x'));
  await client.closed;
  const good = await secured(await greeted(server));
  t.equal(await ask(good, NBD_OPT.LIST), NBD_REP.ACK, 'others are served');
  good.close();
});

t.test('T10: failed handshakes are warned of, one line a second with a count', async (t) => {
  const context = new RealTlsContext({ psk: new Map([['alice', KEY]]) });
  const catalog = memoryCatalog({ open: new MemoryBackend(MEBIBYTE) });
  const { server, env, stop } = await startServer(catalog, { tls: { context, mode: 'forced' } });
  t.teardown(stop);
  const warnings = (): LogLine[] => env.log.lines.filter(({ level }) => level === 'warn');
  const fail = async (): Promise<void> => {
    const client = await greeted(server);
    client.send(option(NBD_OPT.STARTTLS));
    await client.optionReply();
    client.send(Buffer.alloc(500, 'x'));
    await client.closed;
  };
  const startedAt = performance.now();
  for (let one = 0; one < 20; one += 1) await fail();
  const seconds = (performance.now() - startedAt) / 1000;
  t.match(warnings()[0]?.message, /^The TLS handshake failed: .*(wrong version|packet)/i);
  t.match(warnings()[0]?.fields, { unlogged: 0 });
  t.ok(warnings().length <= 1 + seconds, `${warnings().length} lines in ${seconds} s`);
  await pause(1100);
  await fail();
  await until(() => (warnings().at(-1)?.fields['unlogged'] ?? 0) !== 0, 'a line with a count');
  const counted = warnings().reduce((sum, { fields }) => sum + Number(fields['unlogged']) + 1, 0);
  t.equal(counted, 21, 'none is forgotten');
});

t.test(
  'T10: a handshake that is not finished in time is warned of, with that reason',
  async (t) => {
    const context = new RealTlsContext({ psk: new Map([['alice', KEY]]) });
    const catalog = memoryCatalog({ open: new MemoryBackend(MEBIBYTE) });
    const { server, env, stop } = await startServer(catalog, {
      tls: { context, mode: 'forced' },
      limits: { handshakeMs: 300 },
    });
    t.teardown(stop);
    const client = await greeted(server);
    client.send(option(NBD_OPT.STARTTLS));
    await client.closed;
    await until(() => env.log.lines.some(({ level }) => level === 'warn'), 'a warning');
    const { message } = env.log.lines.find(({ level }) => level === 'warn') ?? {};
    t.match(message, /^The TLS handshake failed: it did not finish the handshake within 0.3 s$/);
  },
);

t.test(
  'T6, TRAP4: an export for TLS only is hidden from a selective server, and asks for TLS',
  async (t) => {
    const needsTls = (name: string): boolean => name === 'secret';
    const server = await serve(t, { mode: 'selective', needsTls });
    const client = await greeted(server);
    client.send(option(NBD_OPT.LIST));
    const listed = await client.optionReply();
    t.equal(listed.data.subarray(4, 8).toString(), 'open');
    t.equal((await client.optionReply()).type, NBD_REP.ACK, 'only one');
    t.equal(await ask(client, NBD_OPT.INFO, exportRequest('secret')), NBD_REP.ERR_TLS_REQD);
    const query = Buffer.concat([
      Buffer.from([0, 0, 0, 6]),
      Buffer.from('secret'),
      Buffer.alloc(4),
    ]);
    t.equal(await ask(client, NBD_OPT.LIST_META_CONTEXT, query), NBD_REP.ERR_UNKNOWN);
    const inside = await secured(client);
    t.equal(await ask(inside, NBD_OPT.GO, exportRequest('secret')), NBD_REP.ACK);
    inside.close();
  },
);

t.test('T12: rights follow the identity: nothing, reading or writing', async (t) => {
  const access: AccessRule = (peer, name) =>
    peer?.name !== 'alice' || name === 'secret' ? 'none' : 'read';
  const server = await serve(t, {}, access);
  const client = await secured(await greeted(server));
  t.equal(await ask(client, NBD_OPT.GO, exportRequest('secret')), NBD_REP.ERR_UNKNOWN);
  t.equal(await ask(client, NBD_OPT.GO, exportRequest('open')), NBD_REP.ACK);
  t.equal(
    await client.ask({ type: 1, cookie: 1, offset: 0, payload: Buffer.alloc(8) }),
    1,
    'EPERM',
  );
  client.close();
});

t.test('T4: without TLS, STARTTLS is refused by policy', async (t) => {
  const { server, stop } = await startServer(memoryCatalog({ a: new MemoryBackend(4096) }));
  t.teardown(stop);
  const client = await greeted(server);
  t.equal(await ask(client, NBD_OPT.STARTTLS), NBD_REP.ERR_POLICY);
  t.equal(await ask(client, NBD_OPT.LIST), NBD_REP.ACK);
  client.close();
});
