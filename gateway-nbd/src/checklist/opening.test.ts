// The first bytes of a connection, and what holds for every option.
import t, { type Test } from 'tap';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_OPT, NBD_PORT, NBD_REP } from '../protocol/constants.js';
import { clientFlags, exportRequest, option, RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { compactRequest, fields, infoExport, optionReply, simpleReply } from '../testing/wire.js';

const GREETING = Buffer.from('4e42444d41474943' + '49484156454f5054' + '0003', 'hex');
const { LIST, INFO, GO, ABORT, EXPORT_NAME, STRUCTURED_REPLY, EXTENDED_HEADERS } = NBD_OPT;
/** More than 32 bits, and every byte another one. */
const BYTES = 0x01020304050607;
const FLAGS = 0x0d6d;
const ACK = 1;

async function serve(t: Test, address?: { host: string; port: number }) {
  const catalog = memoryCatalog({ disk: new MemoryBackend(BYTES) });
  const { server, stop } = await startServer(catalog, address === undefined ? {} : { address });
  t.teardown(stop);
  return server.address;
}

/** Sends to a new connection behind its greeting. @returns What came until the server hung up */
async function untilHungUp(address: Parameters<typeof RawClient.connect>[0], ...bytes: Buffer[]) {
  const client = await RawClient.connect(address);
  await client.expect(GREETING);
  client.send(...bytes);
  return client.rest();
}

t.test('H1, W4: the server speaks first: newstyle, on the port of its own', async (t) => {
  const address = await serve(t);
  const client = await RawClient.connect(address);
  await client.expect(GREETING);
  t.equal(client.available, 0, 'and then waits');
  t.equal(NBD_PORT, 10809);
  client.close();
});

t.test('W5: TCP serves as a Unix socket does', async (t) => {
  const client = await RawClient.greeted(await serve(t, { host: '127.0.0.1', port: 0 }));
  client.send(option(GO, exportRequest('')));
  await client.expect(infoExport(GO, BYTES, FLAGS), optionReply(GO, ACK));
  client.send(compactRequest({ type: 0, cookie: 1, length: 3 }));
  await client.expect(simpleReply(0, 1, Buffer.alloc(3)));
  client.close();
});

t.test('W1: every number is big-endian: size, flags, lengths, cookies', async (t) => {
  const client = await RawClient.greeted(await serve(t));
  client.send(option(GO, exportRequest('disk')));
  await client.expect(
    Buffer.from('0003e889045565a9' + '00000007' + '00000003' + '0000000c', 'hex'),
    Buffer.from('0000' + '0001020304050607' + '0d6d', 'hex'),
    Buffer.from('0003e889045565a9' + '00000007' + '00000001' + '00000000', 'hex'),
  );
  const payload = Buffer.from('write', 'utf8');
  const offset = 2 ** 48;
  client.send(
    Buffer.from('25609513' + '0000' + '0001' + '0102030405060708', 'hex'),
    Buffer.from('0001000000000000' + '00000005', 'hex'),
    payload,
  );
  await client.expect(Buffer.from('67446698' + '00000000' + '0102030405060708', 'hex'));
  client.send(compactRequest({ type: 0, cookie: 2, offset: offset - 1, length: 7 }));
  await client.expect(simpleReply(0, 2, Buffer.from('\0write\0')));
  client.close();
});

t.test('W2: names of 4096 bytes of UTF-8, and not one more, no NUL, nothing else', async (t) => {
  const address = await serve(t);
  const longest = 'ä'.repeat(2048);
  const client = await RawClient.greeted(address);
  client.send(option(INFO, exportRequest(longest)));
  const { type, data } = await client.optionReply();
  t.equal(type, NBD_REP.ERR_UNKNOWN, 'understood, and not there');
  t.ok(data.length <= 4096, `a message has ${data.length} bytes`);
  t.notMatch(data.toString(), '\ufffd', 'cut between characters');
  const named = (name: Buffer): Buffer =>
    Buffer.concat([fields([name.length, 4]), name, fields([0, 2])]);
  const bad = ['c0af', 'eda080', 'ff', '80', 'c3', 'f4908080'].map((hex) =>
    Buffer.from(hex, 'hex'),
  );
  for (const name of [...bad, Buffer.from('di\0sk'), Buffer.from(`${longest}x`)]) {
    const hex = name.subarray(0, 8).toString('hex');
    t.equal(await client.opt(INFO, named(name)), NBD_REP.ERR_INVALID, hex);
    t.equal((await untilHungUp(address, clientFlags(3), option(1, name))).length, 0, hex);
  }
  client.close();
});

t.test('H2: a client flag that nobody offered ends the connection', async (t) => {
  const address = await serve(t);
  for (let bit = 2; bit < 32; bit += 1) {
    const flags = fields([2 ** bit + 3, 4]);
    const answer = await untilHungUp(address, flags, option(LIST));
    t.equal(answer.length, 0, `bit ${bit}`);
  }
});

t.test('H3: a client without fixed newstyle gets EXPORT_NAME and nothing else', async (t) => {
  const address = await serve(t);
  for (const number of [LIST, INFO, GO, ABORT, STRUCTURED_REPLY, 77])
    t.equal((await untilHungUp(address, clientFlags(0), option(number))).length, 0, `${number}`);
  const client = await RawClient.greeted(address, 0);
  client.send(option(EXPORT_NAME, 'disk'), compactRequest({ type: 0, cookie: 9, length: 1 }));
  await client.expect(fields([BYTES, 8], [FLAGS, 2]), Buffer.alloc(124));
  await client.expect(simpleReply(0, 9, Buffer.alloc(1)));
  client.close();
});

t.test('H4: an option with a wrong magic number ends the connection', async (t) => {
  const address = await serve(t);
  for (let at = 0; at < 8; at += 1) {
    const wrong = option(LIST);
    wrong[at] = (wrong[at] ?? 0) ^ 1;
    const client = await RawClient.greeted(address);
    t.equal(await client.opt(LIST), ACK, 'the option before it was answered');
    client.send(wrong);
    t.equal((await client.rest()).length, 0, `byte ${at}`);
  }
});

t.test('H5, H7: options sent ahead are answered in order, then the requests', async (t) => {
  const client = await RawClient.greeted(await serve(t));
  client.send(
    Buffer.concat([
      option(LIST),
      option(STRUCTURED_REPLY),
      option(INFO, exportRequest('disk')),
      option(GO, exportRequest('disk')),
      compactRequest({ type: 3, cookie: 7 }),
    ]),
  );
  const listed = Buffer.concat([fields([4, 4]), Buffer.from('diskin memory')]);
  await client.expect(
    optionReply(LIST, 2, listed),
    optionReply(LIST, ACK),
    optionReply(STRUCTURED_REPLY, ACK),
    infoExport(INFO, BYTES, FLAGS | 0x80),
    optionReply(INFO, ACK),
    infoExport(GO, BYTES, FLAGS | 0x80),
    optionReply(GO, ACK),
    simpleReply(0, 7),
  );
  client.close();
});

t.test('H6, PEEK_EXPORT: an unknown option is UNSUP and its data is no option', async (t) => {
  const client = await RawClient.greeted(await serve(t));
  for (const number of [0, 4, 12, 0x7fffffff, 0xffffffff])
    for (const data of [Buffer.alloc(0), option(ABORT), Buffer.alloc(65_536, 'I')])
      t.equal(await client.opt(number, data), NBD_REP.ERR_UNSUP, `${number}, ${data.length}`);
  t.equal(await client.opt(LIST), ACK);
  client.close();
});

t.test('H8: what changes state may be said twice', async (t) => {
  const client = await RawClient.greeted(await serve(t));
  for (const number of [STRUCTURED_REPLY, STRUCTURED_REPLY, EXTENDED_HEADERS, EXTENDED_HEADERS])
    t.equal(await client.opt(number), ACK);
  t.equal(await client.opt(GO, exportRequest('')), ACK);
  client.close();
});

t.test('H9: any number of refusals, and the client may still go on', async (t) => {
  const client = await RawClient.greeted(await serve(t));
  const { ERR_INVALID, ERR_UNKNOWN, ERR_UNSUP, ERR_POLICY } = NBD_REP;
  t.equal(await client.opt(GO, exportRequest('nix')), ERR_UNKNOWN);
  t.equal(await client.opt(GO, 'x'), ERR_INVALID);
  t.equal(await client.opt(LIST, 'x'), ERR_INVALID);
  t.equal(await client.opt(NBD_OPT.STARTTLS), ERR_POLICY);
  t.equal(await client.opt(99, 'x'), ERR_UNSUP);
  t.equal(await client.opt(GO, exportRequest('disk')), ACK);
  client.close();
});

t.test('H11: too much data is drained up to 1 MiB, and options are counted', async (t) => {
  const address = await serve(t);
  const client = await RawClient.greeted(address);
  t.equal(await client.opt(LIST, Buffer.alloc(65_537)), NBD_REP.ERR_TOO_BIG);
  t.equal(await client.opt(77, Buffer.alloc(2 ** 20)), NBD_REP.ERR_TOO_BIG);
  for (let count = 3; count <= 64; count += 1) t.equal(await client.opt(LIST), ACK);
  client.send(option(LIST));
  t.equal((await client.rest()).length, 0, 'the 65th');
  const huge = Buffer.concat([option(77).subarray(0, 12), fields([2 ** 20 + 1, 4])]);
  t.equal((await untilHungUp(address, clientFlags(3), huge)).length, 0);
});

t.test('H11, ABORT, STARTTLS, SET_META_CONTEXT: too much data changes no rule', async (t) => {
  const address = await serve(t);
  const tooMuch = Buffer.alloc(70_000);
  const client = await RawClient.greeted(address);
  t.equal(await client.opt(NBD_OPT.STARTTLS, tooMuch), NBD_REP.ERR_INVALID);
  client.send(option(ABORT, tooMuch));
  await client.expect(optionReply(ABORT, ACK));
  t.equal((await client.rest()).length, 0, 'ABORT ends the connection as ever');
});

t.test('W6, D6: a request is no option, and an option no request', async (t) => {
  const address = await serve(t);
  const flush = compactRequest({ type: 3, cookie: 1 });
  t.equal((await untilHungUp(address, clientFlags(3), flush)).length, 0);
  const client = await RawClient.go(address, 'disk');
  client.send(flush);
  await client.expect(simpleReply(0, 1));
  client.send(option(LIST), Buffer.alloc(12));
  t.equal((await client.rest()).length, 0);
});

t.test('CVE-2019-14850, H11, TRAP2: nothing is opened before a client uses it', async (t) => {
  const good = memoryCatalog({ disk: new MemoryBackend(4096) });
  let opened = 0;
  const open = (name: string): ReturnType<typeof good.open> => {
    opened += 1;
    return good.open(name);
  };
  const { server, stop } = await startServer({ ...good, open });
  t.teardown(stop);
  for (let count = 0; count < 50; count += 1) {
    const client = await RawClient.greeted(server.address);
    t.equal(await client.opt(LIST), ACK);
    t.equal(await client.opt(INFO, exportRequest('disk', [1, 2, 3])), ACK);
    t.equal(await client.opt(STRUCTURED_REPLY), ACK);
    const query = Buffer.concat([fields([4, 4]), Buffer.from('disk'), fields([0, 4])]);
    t.equal(await client.opt(NBD_OPT.SET_META_CONTEXT, query), ACK);
    client.close();
  }
  t.equal(opened, 0);
  (await RawClient.go(server.address, 'disk')).close();
  t.equal(opened, 1);
});

t.test(
  'W7, CVE-2023-5215: an export has at most 2^53 - 1 bytes, and its last one works',
  async (t) => {
    const bytes = Number.MAX_SAFE_INTEGER;
    const catalog = memoryCatalog({ disk: new MemoryBackend(bytes) });
    const { server, stop } = await startServer(catalog);
    t.teardown(stop);
    const client = await RawClient.greeted(server.address);
    client.send(option(GO, exportRequest('disk')));
    await client.expect(infoExport(GO, 0x1fffffffffffffn, FLAGS), optionReply(GO, ACK));
    const cookies = [0n, 2n ** 53n + 1n, 0x8000000000000000n, 0xfffffffffffffffen];
    for (const cookie of cookies) {
      const payload = Buffer.from('z');
      client.send(compactRequest({ type: 1, cookie, offset: bytes - 1, payload }));
      await client.expect(simpleReply(0, cookie));
      client.send(compactRequest({ type: 0, cookie, offset: bytes - 1, length: 1 }));
      await client.expect(simpleReply(0, cookie, payload));
      for (const offset of [2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n]) {
        client.send(compactRequest({ type: 1, cookie, offset, payload }));
        await client.expect(simpleReply(28, cookie));
      }
    }
    client.close();
  },
);
