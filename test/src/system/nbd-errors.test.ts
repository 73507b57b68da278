// What a client does wrong gets the error the protocol names, and the connection goes on.
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { isInstalled } from '../host/command.js';
import { tempFolder } from '../host/temp-folder.js';
import { libnbdAnswers } from '../libnbd/libnbd.js';
import type { LibnbdRequest } from '../libnbd/libnbd.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_CMD_FLUSH, NBD_CMD_WRITE, NBD_EINVAL } from '../nbd-client/nbd-constants.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(360_000);

const MIB = 1024 ** 2;
const BYTES = 64 * MIB;
const FUA = 1;
const NO_HOLE = 2;
const DF = 4;
const FAST_ZERO = 16;
const UNKNOWN_FLAG = 512;

type Case = readonly [title: string, request: LibnbdRequest, answer: string];

const WRITABLE: readonly Case[] = [
  ['a read past the end', { op: 'pread', offset: BYTES - 1, bytes: 2 }, 'EINVAL'],
  ['a write past the end', { op: 'pwrite', offset: BYTES - 1, bytes: 2 }, 'ENOSPC'],
  ['a trim past the end', { op: 'trim', offset: BYTES - 1, bytes: 2 }, 'EINVAL'],
  ['zeroes past the end', { op: 'zero', offset: BYTES - 1, bytes: 2 }, 'ENOSPC'],
  ['a cache past the end', { op: 'cache', offset: BYTES - 1, bytes: 2 }, 'EINVAL'],
  ['a read that starts far outside', { op: 'pread', offset: 2 ** 53, bytes: 512 }, 'EINVAL'],
  ['a write that starts far outside', { op: 'pwrite', offset: 2 ** 62, bytes: 512 }, 'ENOSPC'],
  ['an empty read (X7)', { op: 'pread', bytes: 0 }, 'ok'],
  ['an empty write (X7)', { op: 'pwrite', bytes: 0 }, 'ok'],
  ['an empty trim (X7)', { op: 'trim', bytes: 0 }, 'ok'],
  ['empty zeroes (X7)', { op: 'zero', bytes: 0 }, 'ok'],
  ['an unaligned read (S1)', { op: 'pread', offset: 4095, bytes: 3 }, 'ok'],
  ['an unaligned write (S1)', { op: 'pwrite', offset: 4095, bytes: 3 }, 'ok'],
  ['unaligned zeroes (S1)', { op: 'zero', offset: 1, bytes: 8191 }, 'ok'],
  ['an unaligned trim (S1)', { op: 'trim', offset: 1, bytes: 8191 }, 'ok'],
  ['the last byte', { op: 'pwrite', offset: BYTES - 1, bytes: 1 }, 'ok'],
  ['FUA on a write (X4)', { op: 'pwrite', bytes: 512, flags: FUA }, 'ok'],
  ['FUA on a read (X6)', { op: 'pread', bytes: 512, flags: FUA }, 'ok'],
  ['FUA on a flush (X4)', { op: 'flush', flags: FUA }, 'ok'],
  ['NO_HOLE on zeroes', { op: 'zero', bytes: 4096, flags: NO_HOLE }, 'ok'],
  ['NO_HOLE on a read (X8)', { op: 'pread', bytes: 512, flags: NO_HOLE }, 'EINVAL'],
  ['DF on a write (X8)', { op: 'pwrite', bytes: 512, flags: DF }, 'EINVAL'],
  ['FAST_ZERO of part of a block', { op: 'zero', bytes: 512, flags: FAST_ZERO }, 'ENOTSUP'],
  ['an unknown flag on a read (X8)', { op: 'pread', bytes: 512, flags: UNKNOWN_FLAG }, 'EINVAL'],
  ['an unknown flag on a write (X8)', { op: 'pwrite', bytes: 9000, flags: UNKNOWN_FLAG }, 'EINVAL'],
  ['an unknown flag on a trim (X8)', { op: 'trim', bytes: 512, flags: UNKNOWN_FLAG }, 'EINVAL'],
  ['an unknown flag on zeroes (X8)', { op: 'zero', bytes: 512, flags: UNKNOWN_FLAG }, 'EINVAL'],
  ['an unknown flag on a cache (X8)', { op: 'cache', bytes: 512, flags: UNKNOWN_FLAG }, 'EINVAL'],
  ['an unknown flag on a flush (X8)', { op: 'flush', flags: UNKNOWN_FLAG }, 'EINVAL'],
  ['the largest read (S1)', { op: 'pread', bytes: 32 * MIB }, 'ok'],
  ['the largest write (S1)', { op: 'pwrite', bytes: 32 * MIB }, 'ok'],
  ['a larger read (S6)', { op: 'pread', bytes: 32 * MIB + 1 }, 'EOVERFLOW'],
  ['a trim larger than any payload (S6)', { op: 'trim', bytes: BYTES }, 'ok'],
  ['zeroes larger than any payload (S6)', { op: 'zero', bytes: BYTES }, 'ok'],
  ['a flush after all that', { op: 'flush' }, 'ok'],
];

const READ_ONLY: readonly Case[] = [
  ['a write', { op: 'pwrite', bytes: 512 }, 'EPERM'],
  ['a trim', { op: 'trim', bytes: 512 }, 'EPERM'],
  ['zeroes', { op: 'zero', bytes: 512 }, 'EPERM'],
  ['a read', { op: 'pread', bytes: 512 }, 'ok'],
  ['a cache', { op: 'cache', bytes: 512 }, 'ok'],
  ['a flush', { op: 'flush' }, 'ok'],
];

const libnbdMissing = isInstalled('nbdinfo') ? false : 'needs libnbd (make deps-test)';

async function startServer(
  t: Test,
  more: { readOnly?: boolean; dir?: string } = {},
): Promise<StoreServer> {
  const folder = tempFolder(t);
  return StoreServer.start(t, {
    dir: join(folder, 'data'),
    image: 'vm1',
    socket: join(folder, 'nbd.sock'),
    createBytes: BYTES,
    ...more,
  });
}

async function checkCases(t: Test, uri: string, cases: readonly Case[]): Promise<void> {
  const answers = await libnbdAnswers(
    uri,
    cases.map(([, request]) => request),
  );
  cases.forEach(([title, , answer], index) => t.equal(answers[index], answer, title));
}

t.test('libnbd gets the errors of the protocol (NBD.md 11)', { skip: libnbdMissing }, async (t) => {
  const server = await startServer(t);
  await checkCases(t, server.uri, WRITABLE);
  await server.stop();
});

t.test('libnbd cannot change a read-only export', { skip: libnbdMissing }, async (t) => {
  const dir = join(tempFolder(t), 'data');
  await (await startServer(t, { dir })).stop();
  const server = await startServer(t, { dir, readOnly: true });
  await checkCases(t, server.uri, READ_ONLY);
  await server.stop();
});

t.test('an unknown command is EINVAL and the next request is answered (X8)', async (t) => {
  const server = await startServer(t);
  const client = await NbdClient.connect(server.uri);
  for (const type of [7, 8, 99, 0xffff])
    t.equal((await client.request({ type, length: 512 })).error, NBD_EINVAL, `command ${type}`);
  t.equal((await client.request({ type: NBD_CMD_FLUSH, offset: 1 })).error, NBD_EINVAL);
  t.equal((await client.request({ type: NBD_CMD_FLUSH, length: 1 })).error, NBD_EINVAL);
  t.equal((await client.read(0, 4096)).error, 0);
  await client.disconnect();
  await server.stop();
});

t.test('requests with offsets beyond 2^53 are refused, not rounded (W7)', async (t) => {
  const server = await startServer(t);
  const client = await NbdClient.connect(server.uri);
  const payload = Buffer.alloc(512, 1);
  for (const offset of [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 512n, 2n ** 64n - 1n]) {
    const { error } = await client.request({ type: NBD_CMD_WRITE, offset, payload });
    t.not(error, 0, `a write at ${offset}`);
    t.not((await client.request({ type: 0, offset, length: 512 })).error, 0, `a read at ${offset}`);
  }
  t.same((await client.read(0, 512)).data, Buffer.alloc(512), 'nothing was written at 0');
  await client.disconnect();
  await server.stop();
});

t.test('bad magic ends that connection and no other (X1)', async (t) => {
  const server = await startServer(t);
  const good = await NbdClient.connect(server.uri);
  const bad = await NbdClient.connect(server.uri);
  bad.connection.write(Buffer.alloc(28, 0x5a));
  await bad.connection.closedByServer();
  t.equal((await good.write(0, Buffer.alloc(4096, 7))).error, 0);
  t.same((await good.read(0, 4096)).data, Buffer.alloc(4096, 7));
  await good.disconnect();
  await server.stop();
});
