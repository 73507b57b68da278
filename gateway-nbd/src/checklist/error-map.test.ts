// The error map, row by row, in each of the three formats of replies.
import { StoreError } from '@store/core';
import t, { type Test } from 'tap';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_ERROR } from '../protocol/constants.js';
import { FORMATS, Session, type Format } from '../testing/session.js';
import { HeldBackend, startServer } from '../testing/test-server.js';
import type { WireRequest } from '../testing/wire.js';

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = NBD_CMD;
const { EPERM, EINVAL, ENOSPC, EOVERFLOW, EIO, ENOTSUP, ESHUTDOWN } = NBD_ERROR;
const MIB = 2 ** 20;
const BYTES = 64 * MIB;
const BLOCK_SIZE = 3;
const DF = 4;
const FAST_ZERO = 16;

/** Commands with a range, and what a row of the map wants of each. */
type Row = Readonly<Partial<Record<keyof typeof NBD_CMD, number>>>;

const RANGED = { READ, WRITE, TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS };

function requestOf(type: number, offset: number | bigint, length: number): WireRequest {
  const request = { type, cookie: type + 1, offset, length };
  return type === WRITE ? { ...request, payload: Buffer.alloc(length, 1) } : request;
}

/** Commands that exist in a format: BLOCK_STATUS needs chunks. */
function commandsOf(format: Format): [keyof typeof RANGED, number][] {
  const all = Object.entries(RANGED) as [keyof typeof RANGED, number][]; // its own keys
  return all.filter(([name]) => format !== 'simple' || name !== 'BLOCK_STATUS');
}

async function serve(t: Test, blockBytesMin = 1) {
  const catalog = memoryCatalog({
    rw: new MemoryBackend(BYTES),
    ro: new MemoryBackend(BYTES, { readOnly: true }),
  });
  const { server, stop } = await startServer(catalog, { blockBytesMin });
  t.teardown(stop);
  return server.address;
}

async function check(
  t: Test,
  session: Session,
  row: Row,
  request: (type: number) => WireRequest,
): Promise<void> {
  for (const [name, type] of commandsOf(session.format)) {
    const wanted = row[name];
    if (wanted === undefined) continue;
    const { error, message } = await session.ask(request(type));
    t.equal(error, wanted, `${session.format} ${name}`);
    const hasWords = error !== 0 && session.format !== 'simple';
    t.equal(message.length > 0, hasWords, 'errors say why, where they can');
  }
}

const PAST_END: Row = {
  READ: EINVAL,
  WRITE: ENOSPC,
  TRIM: EINVAL,
  WRITE_ZEROES: ENOSPC,
  CACHE: EINVAL,
  BLOCK_STATUS: EINVAL,
};

t.test('M1, S5: any byte past the end', async (t) => {
  const address = await serve(t);
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'rw');
    const far = [2n ** 53n - 512n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 512n, 2n ** 64n - 1n];
    for (const offset of [BYTES, BYTES - 511, BYTES - 1, ...far])
      await check(t, session, PAST_END, (type) => requestOf(type, offset, 512));
    const all = { READ: 0, WRITE: 0, TRIM: 0, WRITE_ZEROES: 0, CACHE: 0, BLOCK_STATUS: 0 };
    await check(t, session, all, (type) => requestOf(type, BYTES - 512, 512));
  }
});

t.test('M2: unaligned to a block that was agreed', async (t) => {
  const address = await serve(t, 4096);
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'rw', [BLOCK_SIZE]);
    const all = Object.fromEntries(Object.keys(RANGED).map((name) => [name, EINVAL]));
    await check(t, session, all, (type) => requestOf(type, 512, 4096));
    await check(t, session, all, (type) => requestOf(type, 4096, 512));
    const none = Object.fromEntries(Object.keys(RANGED).map((name) => [name, 0]));
    await check(t, session, none, (type) => requestOf(type, 4096, 8192));
  }
});

t.test('M3: a read-only export', async (t) => {
  const address = await serve(t);
  const row = {
    READ: 0,
    WRITE: EPERM,
    TRIM: EPERM,
    WRITE_ZEROES: EPERM,
    CACHE: 0,
    BLOCK_STATUS: 0,
  };
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'ro');
    await check(t, session, row, (type) => requestOf(type, 0, 512));
    t.equal((await session.ask({ type: FLUSH, cookie: 1 })).error, 0);
    t.equal((await session.ask({ type: WRITE, cookie: 1, length: 0 })).error, EPERM, 'of nothing');
  }
});

t.test('M4: an unknown or misplaced flag', async (t) => {
  const address = await serve(t);
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'rw');
    const all = Object.fromEntries(Object.keys(RANGED).map((name) => [name, EINVAL]));
    for (let bit = 6; bit < 16; bit += 1)
      await check(t, session, all, (type) => ({ ...requestOf(type, 0, 512), flags: 2 ** bit }));
    t.equal((await session.ask({ type: FLUSH, cookie: 1, flags: 64 })).error, EINVAL);
    const noHole = { ...all, WRITE_ZEROES: 0 };
    await check(t, session, noHole, (type) => ({ ...requestOf(type, 0, 512), flags: 2 }));
    const df = format === 'simple' ? all : { ...all, READ: 0 };
    await check(t, session, df, (type) => ({ ...requestOf(type, 0, 512), flags: DF }));
    const one = { ...all, BLOCK_STATUS: 0 };
    await check(t, session, one, (type) => ({ ...requestOf(type, 0, 512), flags: 8 }));
  }
});

t.test('M5: a command that was not advertised', async (t) => {
  const address = await serve(t);
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'rw');
    for (const type of [8, 9, 100, 0xffff])
      t.equal((await session.ask({ type, cookie: 1, length: 512 })).error, EINVAL);
  }
  const simple = await Session.begin(address, 'simple', 'rw');
  const { error } = await simple.ask({ type: BLOCK_STATUS, cookie: 1, length: 512 });
  t.equal(error, EINVAL, 'BLOCK_STATUS without contexts');
});

async function failing(t: Test, code: 'E_NO_SPACE' | 'E_DISK_FAILED' | 'E_READ_ONLY', row: Row) {
  const backend = new HeldBackend(BYTES);
  const { server, stop } = await startServer(backend.catalog());
  t.teardown(stop);
  for (const format of FORMATS) {
    const session = await Session.begin(server.address, format);
    for (const [name, type] of Object.entries({ ...RANGED, FLUSH })) {
      const wanted = row[name as keyof Row]; // names of commands, both
      if (wanted === undefined) continue;
      const answer = session.ask(type === FLUSH ? { type, cookie: 7 } : requestOf(type, 0, 512));
      (await backend.next()).done(new StoreError(code, 'It cannot be done'));
      const { error, message } = await answer;
      t.equal(error, wanted, `${format} ${name}`);
      t.equal(message, format === 'simple' ? '' : 'It cannot be done');
    }
  }
}

t.test('M6: the pool is full', async (t) => {
  await failing(t, 'E_NO_SPACE', { WRITE: ENOSPC, WRITE_ZEROES: ENOSPC, FLUSH: ENOSPC });
});

t.test('M10: the backend fails', async (t) => {
  const row = { READ: EIO, WRITE: EIO, TRIM: EIO, WRITE_ZEROES: EIO, CACHE: EIO, FLUSH: EIO };
  await failing(t, 'E_DISK_FAILED', row);
});

t.test('M3, X10: the backend itself says that it is read-only', async (t) => {
  await failing(t, 'E_READ_ONLY', { WRITE: EPERM, TRIM: EPERM, WRITE_ZEROES: EPERM });
});

t.test('M7: longer than the largest payload', async (t) => {
  const address = await serve(t);
  for (const format of FORMATS) {
    const session = await Session.begin(address, format, 'rw');
    const read = format === 'simple' ? EINVAL : EOVERFLOW;
    const row = { READ: read, TRIM: 0, WRITE_ZEROES: 0, CACHE: 0, BLOCK_STATUS: 0 };
    await check(t, session, row, (type) => requestOf(type, 0, 32 * MIB + 1));
    session.client.send(session.encode({ type: FLUSH, cookie: 9 }));
    t.equal((await session.answerTo({ type: FLUSH, cookie: 9 })).error, 0);
    const head = session.encode({
      type: WRITE,
      cookie: 1,
      length: 32 * MIB + 1,
      payload: Buffer.alloc(0),
    });
    session.client.send(head);
    t.equal((await session.client.rest()).length, 0, 'a WRITE ends the connection');
  }
});

t.test('M8: DF and too long', async (t) => {
  const address = await serve(t);
  for (const format of ['structured', 'extended'] as const) {
    const session = await Session.begin(address, format, 'rw');
    const request = { type: READ, cookie: 1, length: 32 * MIB + 1, flags: DF };
    t.match(await session.ask(request), { error: EOVERFLOW, types: [0x8001] });
    t.match(await session.ask({ ...request, length: 65_536 }), { error: 0, types: [1] });
  }
});

t.test('M9: FAST_ZERO and slow', async (t) => {
  const backend = new HeldBackend(BYTES);
  const { server, stop } = await startServer(backend.catalog());
  t.teardown(stop);
  for (const format of FORMATS) {
    const session = await Session.begin(server.address, format);
    const slow = { type: WRITE_ZEROES, cookie: 1, offset: 1, length: BYTES - 1, flags: FAST_ZERO };
    t.equal((await session.ask(slow)).error, ENOTSUP, format);
  }
  t.equal(backend.arrivedCount, 0, 'and nothing was touched');
});

t.test(
  'M11, D3: shutting down, whatever is asked is ESHUTDOWN, and payloads are drained',
  async (t) => {
    for (const format of FORMATS) {
      const backend = new HeldBackend(BYTES);
      const { server, stop } = await startServer(backend.catalog());
      t.teardown(stop);
      const session = await Session.begin(server.address, format);
      const first = { type: WRITE, cookie: 77, payload: Buffer.alloc(512) };
      session.client.send(session.encode(first));
      const write = await backend.next();
      const closed = server.close({ drainMs: 5000 });
      const all = Object.fromEntries(Object.keys(RANGED).map((name) => [name, ESHUTDOWN]));
      await check(t, session, all, (type) => requestOf(type, 0, 512));
      t.equal((await session.ask({ type: FLUSH, cookie: 1 })).error, ESHUTDOWN);
      write.done(null);
      t.equal((await session.answerTo(first)).error, 0, 'what was in flight is finished');
      await session.client.rest();
      await closed;
    }
  },
);
