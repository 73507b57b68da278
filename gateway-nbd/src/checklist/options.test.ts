// Option by option, to the byte.
import t, { type Test } from 'tap';
import type { DoneWith } from '@store/core';
import type { StatusRun } from '../backend.js';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_OPT, NBD_REP } from '../protocol/constants.js';
import { exportRequest, option, RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import {
  chunk,
  compactRequest,
  contextRequest,
  DONE,
  errorPayload,
  fields,
  infoExport,
  optionReply,
  simpleReply,
} from '../testing/wire.js';

const { EXPORT_NAME, ABORT, LIST, INFO, GO } = NBD_OPT;
const { STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS } = NBD_OPT;
const { ACK, ERR_INVALID, ERR_UNKNOWN, ERR_EXT_HEADER_REQD } = NBD_REP;
const MIB = 2 ** 20;

/** Flags of a memory disk: HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO. */
const FLAGS = 0x0d6d;
const DF = 0x80;
const READ_ONLY_FLAGS = 0x050f;

/** A disk that also knows of layers. */
class LayeredBackend extends MemoryBackend {
  readonly contexts = ['x-test:depth', 'x-test:age'];

  status(_context: string, _offset: number, bytes: number, done: DoneWith<StatusRun[]>): void {
    done(null, [{ bytes, status: 3 }]);
  }
}

async function serve(t: Test, blockBytesMin = 1) {
  const catalog = memoryCatalog({
    disk: new MemoryBackend(MIB),
    ro: new MemoryBackend(MIB, { readOnly: true }),
    layers: new LayeredBackend(MIB),
  });
  const { server, stop } = await startServer(catalog, { blockBytesMin });
  t.teardown(stop);
  return server.address;
}

const greeted = async (t: Test): Promise<RawClient> => RawClient.greeted(await serve(t));

function context(number: number, id: number, name: string): Buffer {
  return optionReply(number, 4, Buffer.concat([fields([id, 4]), Buffer.from(name)]));
}

t.test('EXPORT_NAME: the answer has no header, and every failure is the end', async (t) => {
  const address = await serve(t);
  for (const [flags, zeroes] of [
    [1, 124],
    [3, 0],
  ] as const) {
    const client = await RawClient.greeted(address, flags);
    client.send(option(EXPORT_NAME, 'ro'), compactRequest({ type: 3, cookie: 5 }));
    await client.expect(fields([MIB, 8], [READ_ONLY_FLAGS, 2]), Buffer.alloc(zeroes));
    await client.expect(simpleReply(0, 5));
    client.close();
  }
  const standard = await RawClient.greeted(address);
  standard.send(option(EXPORT_NAME));
  await standard.expect(fields([MIB, 8], [FLAGS, 2]));
  standard.close();
  for (const name of ['nix', 'x'.repeat(4097), 'constructor', '__proto__']) {
    const client = await RawClient.greeted(address);
    client.send(option(EXPORT_NAME, name));
    t.equal((await client.rest()).length, 0, name.slice(0, 20));
  }
});

t.test('ABORT: ACK, with data too, and the connection ends', async (t) => {
  const address = await serve(t);
  for (const data of ['', 'bye', 'x'.repeat(65_536)]) {
    const client = await RawClient.greeted(address);
    client.send(option(ABORT, data), option(LIST));
    t.strictSame(await client.rest(), optionReply(ABORT, 1), 'and nothing after it is answered');
  }
});

t.test('LIST: each name with its description, then ACK; with data INVALID', async (t) => {
  const client = await greeted(t);
  client.send(option(LIST));
  for (const name of ['disk', 'ro', 'layers']) {
    const data = Buffer.concat([fields([name.length, 4]), Buffer.from(`${name}in memory`)]);
    await client.expect(optionReply(LIST, 2, data));
  }
  await client.expect(optionReply(LIST, 1));
  t.equal(await client.opt(LIST, 'x'), ERR_INVALID);
  client.close();
});

t.test('INFO, GO: what was asked for, once each, the same both times', async (t) => {
  const address = await serve(t);
  const client = await RawClient.greeted(address);
  const infos = (number: number): Buffer[] => [
    infoExport(number, MIB, FLAGS),
    optionReply(number, 3, Buffer.concat([fields([1, 2]), Buffer.from('disk')])),
    optionReply(number, 3, Buffer.concat([fields([2, 2]), Buffer.from('in memory')])),
    optionReply(number, 3, fields([3, 2], [1, 4], [4096, 4], [2 ** 25, 4])),
    optionReply(number, 1),
  ];
  const everything = exportRequest('disk', [3, 1, 2, 0, 77, 3, 0xffff]);
  client.send(option(INFO, everything));
  await client.expect(...infos(INFO));
  client.send(option(INFO, exportRequest('')));
  await client.expect(infoExport(INFO, MIB, FLAGS), optionReply(INFO, 1));
  t.equal(await client.opt(INFO, exportRequest('nix', [1, 2, 3])), ERR_UNKNOWN);
  client.send(option(GO, everything));
  await client.expect(...infos(GO));
  client.send(compactRequest({ type: 0, cookie: 1, length: 2 }));
  await client.expect(simpleReply(0, 1, Buffer.alloc(2)));
  client.close();
});

t.test('INFO, GO: names that objects have by birth are no exports', async (t) => {
  const client = await greeted(t);
  for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty'])
    for (const number of [INFO, GO])
      t.equal(await client.opt(number, exportRequest(name)), ERR_UNKNOWN, name);
  client.close();
});

t.test('TRAP1: who asks for no block sizes is served, also with a smallest block', async (t) => {
  const address = await serve(t, 4096);
  const client = await RawClient.greeted(address);
  client.send(option(GO, exportRequest('disk')));
  await client.expect(infoExport(GO, MIB, FLAGS), optionReply(GO, 1));
  client.send(compactRequest({ type: 1, cookie: 1, offset: 5, payload: Buffer.from('odd') }));
  await client.expect(simpleReply(0, 1));
  client.close();
});

t.test(
  'FLAGS: DF with structured replies only, nothing that changes a read-only export',
  async (t) => {
    const client = await greeted(t);
    const flagsOf = async (name: string): Promise<number> => {
      client.send(option(INFO, exportRequest(name)));
      const { data } = await client.optionReply();
      await client.expect(optionReply(INFO, 1));
      return data.readUInt16BE(10);
    };
    t.equal(await flagsOf('disk'), FLAGS);
    t.equal(await flagsOf('ro'), READ_ONLY_FLAGS);
    await client.opt(STRUCTURED_REPLY);
    t.equal(await flagsOf('disk'), FLAGS | DF);
    t.equal(await flagsOf('ro'), READ_ONLY_FLAGS | DF);
    await client.opt(EXTENDED_HEADERS);
    t.equal(await flagsOf('disk'), FLAGS | DF, 'no payload filter without contexts');
    await client.opt(SET_META_CONTEXT, contextRequest('disk', ['base:allocation']));
    t.equal(await flagsOf('disk'), FLAGS | DF | 0x1000);
    t.equal(await flagsOf('ro'), READ_ONLY_FLAGS | DF, 'nor for another export');
    client.close();
  },
);

t.test('STRUCTURED_REPLY: from its ACK on a READ has chunks', async (t) => {
  const client = await greeted(t);
  t.equal(await client.opt(STRUCTURED_REPLY, 'x'), ERR_INVALID);
  client.send(option(STRUCTURED_REPLY));
  await client.expect(optionReply(STRUCTURED_REPLY, 1));
  await client.enter('disk');
  client.send(compactRequest({ type: 0, cookie: 1, offset: 3, length: 2 }));
  await client.expect(chunk(DONE, 1, 1, Buffer.concat([fields([3, 8]), Buffer.alloc(2)])));
  client.close();
});

t.test('EXTENDED_HEADERS, STRUCTURED_REPLY: no way back to the lesser', async (t) => {
  const client = await greeted(t);
  t.equal(await client.opt(EXTENDED_HEADERS, 'x'), ERR_INVALID);
  client.send(option(EXTENDED_HEADERS));
  await client.expect(optionReply(EXTENDED_HEADERS, 1));
  t.equal(await client.opt(STRUCTURED_REPLY), ERR_EXT_HEADER_REQD);
  client.close();
});

t.test('LIST_META_CONTEXT: everything, a namespace, a name; id 0; before or after', async (t) => {
  const client = await greeted(t);
  const list = async (name: string, queries: string[], found: string[]): Promise<void> => {
    client.send(option(LIST_META_CONTEXT, contextRequest(name, queries)));
    const replies = found.map((one) => context(LIST_META_CONTEXT, 0, one));
    await client.expect(...replies, optionReply(LIST_META_CONTEXT, 1));
  };
  const all = ['base:allocation', 'x-test:depth', 'x-test:age'];
  await list('layers', [], all);
  await list('disk', [], ['base:allocation']);
  await list('layers', ['base:'], ['base:allocation']);
  await list('layers', ['x-test:'], ['x-test:depth', 'x-test:age']);
  await list(
    'layers',
    ['x-test:age', 'base:allocation', 'x-test:age'],
    [all[0] ?? '', all[2] ?? ''],
  );
  await list('layers', ['qemu:', 'base:nothing', 'no colon', ''], []);
  t.equal(await client.opt(LIST_META_CONTEXT, contextRequest('nix', [])), ERR_UNKNOWN);
  await client.opt(STRUCTURED_REPLY);
  await list('layers', [], all);
  client.close();
});

t.test('LIST_META_CONTEXT, SET_META_CONTEXT: lengths that lie are INVALID', async (t) => {
  const client = await greeted(t);
  await client.opt(STRUCTURED_REPLY);
  const good = contextRequest('disk', ['base:allocation']);
  const patched = (at: number, value: number): Buffer => {
    const out = Buffer.from(good);
    out.writeUInt32BE(value, at);
    return out;
  };
  const bad = [
    Buffer.alloc(0),
    good.subarray(0, 7),
    good.subarray(0, good.length - 1),
    Buffer.concat([good, Buffer.alloc(1)]),
    ...[5, 0xffffffff].map((value) => patched(0, value)),
    ...[0, 2, 0xffffffff].map((value) => patched(8, value)),
    ...[14, 16, 0xffffffff].map((value) => patched(12, value)),
    contextRequest('disk', ['x'.repeat(4097)]),
  ];
  for (const number of [LIST_META_CONTEXT, SET_META_CONTEXT])
    for (const data of bad)
      t.equal(await client.opt(number, data), ERR_INVALID, data.toString('hex').slice(0, 80));
  client.close();
});

t.test(
  'SET_META_CONTEXT: unique ids; unknown names and namespaces alone mean nothing',
  async (t) => {
    const client = await greeted(t);
    const allocation = contextRequest('layers', ['base:allocation']);
    t.equal(
      await client.opt(SET_META_CONTEXT, allocation),
      ERR_INVALID,
      'structured replies first',
    );
    await client.opt(STRUCTURED_REPLY);
    const queries = ['x-test:age', 'base:', 'base:other', 'qemu:dirty', 'base:allocation'];
    client.send(option(SET_META_CONTEXT, contextRequest('layers', queries)));
    await client.expect(
      context(SET_META_CONTEXT, 1, 'base:allocation'),
      context(SET_META_CONTEXT, 3, 'x-test:age'),
      optionReply(SET_META_CONTEXT, 1),
    );
    client.send(option(SET_META_CONTEXT, contextRequest('layers', ['base:', 'x-test:'])));
    await client.expect(optionReply(SET_META_CONTEXT, 1));
    client.close();
  },
);

/** Selects, does something, and goes: is there a context left? */
async function hasContextAfter(
  t: Test,
  between: (client: RawClient) => Promise<unknown>,
  name = 'disk',
): Promise<boolean> {
  const client = await greeted(t);
  await client.opt(STRUCTURED_REPLY);
  const data = contextRequest('disk', ['base:allocation']);
  t.equal(await client.opt(SET_META_CONTEXT, data), ACK);
  await between(client);
  await client.enter(name);
  client.send(compactRequest({ type: 7, cookie: 1, length: 4096 }));
  const header = await client.read(20);
  client.close();
  return header.readUInt16BE(6) === 5;
}

t.test('SET_META_CONTEXT: a later one replaces the selection, also when it fails', async (t) => {
  const set = (data: Buffer) => async (client: RawClient) => client.opt(SET_META_CONTEXT, data);
  t.ok(await hasContextAfter(t, async (client) => client.opt(LIST)), 'other options do not');
  const bad = [
    contextRequest('disk', []),
    contextRequest('nix', ['base:allocation']),
    Buffer.from('nonsense'),
    Buffer.alloc(70_000),
    contextRequest('ro', ['base:allocation']),
  ];
  for (const data of bad)
    t.notOk(await hasContextAfter(t, set(data)), data.toString('latin1').slice(0, 40));
});

t.test('TRAP3: GO on another name leaves no contexts, and BLOCK_STATUS is EINVAL', async (t) => {
  t.notOk(await hasContextAfter(t, async () => undefined, 'ro'));
  const client = await greeted(t);
  await client.opt(STRUCTURED_REPLY);
  await client.opt(SET_META_CONTEXT, contextRequest('disk', ['base:allocation']));
  await client.enter('layers');
  client.send(compactRequest({ type: 7, cookie: 1, length: 4096 }));
  const message = 'BLOCK_STATUS needs a metadata context that was selected for this export';
  await client.expect(chunk(DONE, 0x8001, 1, errorPayload(22, message)));
  client.close();
});
