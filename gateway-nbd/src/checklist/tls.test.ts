// TLS: modes, what is told in the clear, and how it begins and ends. The rest is in server-tls.test.ts.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls, type SecureVersion, type TLSSocket } from 'node:tls';
import { RealTlsContext } from '@store/core';
import t, { type Test } from 'tap';
import type { TlsOptions } from '../access.js';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_OPT, NBD_REP } from '../protocol/constants.js';
import { exportRequest, option, RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import {
  compactRequest,
  contextRequest,
  extendedRequest,
  fields,
  optionReply,
  simpleReply,
} from '../testing/wire.js';

const { EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO } = NBD_OPT;
const { STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS } = NBD_OPT;
const { ACK, ERR_TLS_REQD, ERR_INVALID, ERR_UNKNOWN, ERR_POLICY } = NBD_REP;
const MIB = 2 ** 20;
const KEY = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

async function serve(t: Test, mode: TlsOptions['mode'] | 'off') {
  const context = new RealTlsContext({ psk: new Map([['alice', KEY]]) });
  const catalog = memoryCatalog({
    open: new MemoryBackend(MIB),
    secret: new MemoryBackend(MIB),
  });
  const needsTls = (name: string): boolean => name === 'secret';
  const tls = mode === 'off' ? {} : { tls: { context, mode, needsTls } };
  const { server, stop } = await startServer(catalog, tls);
  t.teardown(stop);
  return server.address;
}

interface Versions {
  readonly minVersion?: SecureVersion;
  readonly maxVersion?: SecureVersion;
}

/** The client's side of TLS over a socket on which STARTTLS was acknowledged. */
function tlsOver(socket: Duplex, versions: Versions = {}): Promise<TLSSocket> {
  socket.removeAllListeners('data');
  return new Promise((resolve, reject) => {
    const tls = connectTls({
      socket,
      ciphers: 'PSK-AES128-GCM-SHA256:PSK-AES128-CBC-SHA:TLS_AES_128_GCM_SHA256:@SECLEVEL=0',
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ psk: KEY, identity: 'alice' }),
      ...versions,
    });
    tls.once('error', reject);
    tls.once('close', () => reject(new Error('closed')));
    tls.once('secureConnect', () => resolve(tls));
  });
}

async function secured(client: RawClient, versions: Versions = {}): Promise<RawClient> {
  client.send(option(STARTTLS));
  await client.expect(optionReply(STARTTLS, 1));
  return RawClient.over(await tlsOver(client.socket, versions));
}

t.test('T1: TLS 1.2 and 1.3 are spoken, 1.1 and 1.0 are not', async (t) => {
  const address = await serve(t, 'forced');
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const versions = { minVersion: version, maxVersion: version };
    const clear = await RawClient.greeted(address);
    t.equal(await clear.opt(STARTTLS), ACK);
    const tls = await tlsOver(clear.socket, versions);
    t.equal(tls.getProtocol(), version);
    const client = RawClient.over(tls);
    t.equal(await client.opt(LIST), ACK);
    client.close();
  }
  for (const version of ['TLSv1', 'TLSv1.1'] as const) {
    const versions = { minVersion: version, maxVersion: version };
    const client = await RawClient.greeted(address);
    await t.rejects(secured(client, versions), /protocol version/, version);
  }
});

/** What the server answers to each option in the clear: the type of its last reply, or null if it hangs up. */
async function answersInTheClear(
  address: Parameters<typeof RawClient.connect>[0],
  name: string,
): Promise<Record<string, number | null>> {
  const contexts = contextRequest(name, []);
  const asked: [string, number, Buffer | string][] = [
    ['EXPORT_NAME', EXPORT_NAME, name],
    ['ABORT', ABORT, ''],
    ['LIST', LIST, ''],
    ['INFO', INFO, exportRequest(name)],
    ['GO', GO, exportRequest(name)],
    ['STRUCTURED_REPLY', STRUCTURED_REPLY, ''],
    ['LIST_META_CONTEXT', LIST_META_CONTEXT, contexts],
    ['EXTENDED_HEADERS', EXTENDED_HEADERS, ''],
    ['unknown', 77, 'x'],
    ['too long', 77, Buffer.alloc(70_000)],
  ];
  const answers: Record<string, number | null> = {};
  for (const [title, number, data] of asked) {
    const client = await RawClient.greeted(address);
    if (number === EXPORT_NAME) {
      client.send(option(number, data));
      answers[title] = await client.read(10).then(
        () => ACK,
        () => null,
      );
    } else answers[title] = await client.opt(number, data);
    client.close();
  }
  return answers;
}

t.test('T2, T4: without TLS nothing is TLS_REQD', async (t) => {
  const address = await serve(t, 'off');
  const answers = await answersInTheClear(address, 'secret');
  const { ERR_UNSUP, ERR_TOO_BIG } = NBD_REP;
  t.strictSame(answers, {
    ...{ EXPORT_NAME: ACK, ABORT: ACK, LIST: ACK, INFO: ACK, GO: ACK, STRUCTURED_REPLY: ACK },
    ...{ LIST_META_CONTEXT: ACK, EXTENDED_HEADERS: ACK },
    ...{ unknown: ERR_UNSUP, 'too long': ERR_TOO_BIG },
  });
  const client = await RawClient.greeted(address);
  t.equal(await client.opt(STARTTLS), ERR_POLICY);
  t.equal(await client.opt(STARTTLS), ERR_POLICY, 'the same again');
  client.close();
});

t.test(
  'T2, T5, T13, F27: forced: nothing is told in the clear, known names like unknown ones',
  async (t) => {
    const address = await serve(t, 'forced');
    const reqd = ERR_TLS_REQD;
    for (const name of ['open', 'nix', ''])
      t.strictSame(await answersInTheClear(address, name), {
        ...{ EXPORT_NAME: null, ABORT: ACK, LIST: reqd, INFO: reqd, GO: reqd },
        ...{ STRUCTURED_REPLY: reqd, LIST_META_CONTEXT: reqd, EXTENDED_HEADERS: reqd },
        ...{ unknown: reqd, 'too long': reqd },
      });
    const client = await RawClient.greeted(address);
    client.send(option(INFO, exportRequest('open', [1, 2, 3])));
    const { type, data } = await client.optionReply();
    t.equal(type, reqd);
    t.notMatch(data.toString(), /open|in memory/);
    client.close();
  },
);

t.test(
  'T2, T6, T13, TRAP4: selective: a TLS-only export is TLS_REQD for INFO and GO alone',
  async (t) => {
    const address = await serve(t, 'selective');
    const { ERR_UNSUP, ERR_TOO_BIG } = NBD_REP;
    const rest = {
      ...{ ABORT: ACK, LIST: ACK, STRUCTURED_REPLY: ACK, EXTENDED_HEADERS: ACK },
      ...{ unknown: ERR_UNSUP, 'too long': ERR_TOO_BIG },
    };
    const open = { EXPORT_NAME: ACK, INFO: ACK, GO: ACK, LIST_META_CONTEXT: ACK };
    t.strictSame(await answersInTheClear(address, 'open'), { ...rest, ...open });
    const secret = { EXPORT_NAME: null, INFO: ERR_TLS_REQD, GO: ERR_TLS_REQD };
    const hidden = { ...rest, ...secret, LIST_META_CONTEXT: ERR_UNKNOWN };
    t.strictSame(await answersInTheClear(address, 'secret'), hidden);
    const client = await RawClient.greeted(address);
    await client.opt(STRUCTURED_REPLY);
    const select = contextRequest('secret', ['base:allocation']);
    t.equal(await client.opt(SET_META_CONTEXT, select), ERR_UNKNOWN);
    client.close();
  },
);

t.test(
  'T3, T9: STARTTLS with data, and inside TLS, is INVALID; inside nothing is TLS_REQD',
  async (t) => {
    const address = await serve(t, 'forced');
    const client = await RawClient.greeted(address);
    for (const data of ['x', Buffer.alloc(65_536), Buffer.alloc(70_000)])
      t.equal(await client.opt(STARTTLS, data), ERR_INVALID);
    const inside = await secured(client);
    t.equal(await inside.opt(STARTTLS), ERR_INVALID);
    t.equal(await inside.opt(STARTTLS, Buffer.alloc(70_000)), ERR_INVALID);
    t.equal(await inside.opt(77, Buffer.alloc(70_000)), NBD_REP.ERR_TOO_BIG);
    t.equal(await inside.opt(INFO, exportRequest('nix')), ERR_UNKNOWN);
    t.equal(await inside.opt(INFO, exportRequest('secret')), ACK);
    inside.close();
  },
);

t.test(
  'T7, F26, CVE-2021-3716: any byte that comes with STARTTLS ends the session unanswered',
  async (t) => {
    for (const mode of ['forced', 'selective'] as const) {
      const address = await serve(t, mode);
      const injected = [
        option(STRUCTURED_REPLY),
        option(GO, exportRequest('open')),
        option(LIST).subarray(0, 1),
        Buffer.from('160301', 'hex'),
      ];
      for (const bytes of injected) {
        const client = await RawClient.greeted(address);
        client.send(Buffer.concat([option(STARTTLS), bytes]));
        t.equal((await client.rest()).length, 0, bytes.toString('hex').slice(0, 40));
      }
      const client = await RawClient.greeted(address);
      client.send(option(STARTTLS));
      await client.expect(optionReply(STARTTLS, 1));
      client.send(option(LIST), option(GO, exportRequest('open')));
      const answer = await client.rest();
      t.notOk(
        answer.includes(fields([0x0003e889045565a9n, 8])),
        'in the clear no option is answered',
      );
    }
  },
);

t.test(
  'T8, E1, F26: TLS forgets replies, headers and contexts; the client flags stay',
  async (t) => {
    const address = await serve(t, 'selective');
    for (const number of [STRUCTURED_REPLY, EXTENDED_HEADERS]) {
      const clear = await RawClient.greeted(address);
      t.equal(await clear.opt(number), ACK);
      t.equal(await clear.opt(SET_META_CONTEXT, contextRequest('open', ['base:allocation'])), ACK);
      const client = await secured(clear);
      const set = contextRequest('open', ['base:allocation']);
      t.equal(await client.opt(SET_META_CONTEXT, set), ERR_INVALID, 'structured replies are gone');
      client.send(option(EXPORT_NAME, 'open'));
      await client.expect(fields([MIB, 8], [0x0d6d, 2])); // no DF, and no zeros: NO_ZEROES stays
      client.send(compactRequest({ type: NBD_CMD.READ, cookie: 1, length: 4 }));
      await client.expect(simpleReply(0, 1, Buffer.alloc(4)));
      client.send(compactRequest({ type: NBD_CMD.BLOCK_STATUS, cookie: 2, length: 4 }));
      await client.expect(simpleReply(22, 2));
      client.send(extendedRequest({ type: NBD_CMD.FLUSH, cookie: 3 }));
      t.equal((await client.rest()).length, 0, 'and extended requests mean nothing');
    }
  },
);

t.test(
  'T11, D1: the server says goodbye in TLS before it closes TCP, for ABORT and DISC',
  async (t) => {
    const address = await serve(t, 'forced');
    for (const goodbye of ['ABORT', 'DISC']) {
      const raw = await RawClient.greeted(address);
      raw.send(option(STARTTLS));
      await raw.expect(optionReply(STARTTLS, 1));
      const records: Buffer[] = [];
      const ended = once(raw.socket, 'end', { signal: AbortSignal.timeout(10_000) });
      const versions = { maxVersion: 'TLSv1.2' } as const; // whose records name their kind in the clear
      const tls = await tlsOver(spyOn(raw.socket, records), versions);
      const client = RawClient.over(tls);
      if (goodbye === 'DISC') {
        await client.enter('open');
        client.send(compactRequest({ type: NBD_CMD.DISC, cookie: 1 }));
      } else {
        client.send(option(ABORT));
        await client.expect(optionReply(ABORT, 1));
      }
      await ended;
      t.equal(client.available, 0);
      t.equal(recordKinds(Buffer.concat(records)).at(-1), ALERT, goodbye);
      raw.close();
    }
  },
);

const ALERT = 21;

/** Keeps a copy of all that arrives on a socket, below TLS. */
function spyOn(socket: Socket, copies: Buffer[]): Duplex {
  const below = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => void socket.write(chunk, done),
    final: (done) => void socket.end(done),
  });
  socket.removeAllListeners('data');
  socket.on('data', (chunk: Buffer) => {
    copies.push(chunk);
    below.push(chunk);
  });
  socket.on('end', () => below.push(null));
  return below;
}

/** The kinds of TLS records, in order. */
function recordKinds(bytes: Buffer): number[] {
  const kinds: number[] = [];
  for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt16BE(at + 3))
    kinds.push(bytes.readUInt8(at));
  return kinds;
}
