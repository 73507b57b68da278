// What QEMU's programs do beyond reading and writing: maps, comparing, benchmarks, an image format inside an export,
// and serving us on.
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { QemuNbd } from '../same-stream/qemu-nbd.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;
const QEMU = needs({ commands: ['qemu-img', 'qemu-io', 'qemu-nbd'] });

function serve(t: Test, folder: string, name = 'a'): Promise<StoreServer> {
  return StoreServer.start(t, {
    dir: join(folder, `data-${name}`),
    image: 'vm1',
    createBytes: 64 * MIB,
    socket: join(folder, `${name}.sock`),
  });
}

async function qemuIo(uri: string, format: string, ...commands: string[]): Promise<void> {
  const args = commands.flatMap((command) => ['-c', command]);
  const said = await run('qemu-io', ['-f', format, ...args, uri]);
  if (/failed|error/i.test(said)) throw new Error(said);
}

/** An entry of `qemu-img map --output=json`. */
interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly zero: boolean;
  readonly data: boolean;
}

async function mapOf(uri: string): Promise<(number | boolean)[][]> {
  const args = ['map', '-f', 'raw', '--output=json', uri];
  const entries = JSON.parse(await run('qemu-img', args)) as MapEntry[]; // what it documents
  return entries.map(({ start, length, data, zero }) => [start, length, data, zero]);
}

t.test('qemu-img maps what was written, discarded and zeroed', QEMU, async (t) => {
  const server = await serve(t, tempFolder(t));
  t.match(await run('qemu-img', ['info', '-f', 'raw', server.uri]), /virtual size: 64 MiB/);
  t.strictSame(await mapOf(server.uri), [[0, 64 * MIB, false, true]]);
  await qemuIo(
    server.uri,
    'raw',
    'write -P 1 0 8M',
    'discard 1M 1M',
    'write -z -u 3M 64k',
    'flush',
  );
  t.strictSame(await mapOf(server.uri), [
    [0, MIB, true, false],
    [MIB, MIB, false, true],
    [2 * MIB, MIB, true, false],
    [3 * MIB, 65_536, false, true],
    [3 * MIB + 65_536, 5 * MIB - 65_536, true, false],
    [8 * MIB, 56 * MIB, false, true],
  ]);
  await server.stop();
});

t.test('qemu-img compare finds the one byte that differs', QEMU, async (t) => {
  const folder = tempFolder(t);
  const [a, b] = [await serve(t, folder), await serve(t, folder, 'b')];
  for (const { uri } of [a, b]) await qemuIo(uri, 'raw', 'write -P 7 5M 3M', 'flush');
  const compare = ['compare', '-f', 'raw', '-F', 'raw', a.uri, b.uri];
  t.match(await run('qemu-img', compare), /identical/);
  await qemuIo(b.uri, 'raw', 'write -P 8 6291999 1', 'flush');
  const { code, stdout } = await runAnyway('qemu-img', compare);
  t.equal(code, 1);
  t.match(stdout, /mismatch at offset 6291968/, 'the sector it lies in');
  await a.stop();
  await b.stop();
});

t.test('qemu-img bench reads and writes, with flushes in between', QEMU, async (t) => {
  const server = await serve(t, tempFolder(t));
  const bench = ['bench', '-f', 'raw', '-c', '2000', '-d', '32', '-s', '4096'];
  const write = [...bench, '-w', '--pattern=0x5a', '--flush-interval=100', server.uri];
  t.match(await run('qemu-img', write), /Run completed/);
  t.match(await run('qemu-img', [...bench, server.uri]), /Run completed/);
  await qemuIo(server.uri, 'raw', 'read -P 0x5a 0 8192000', 'read -P 0 8192000 1M');
  await server.stop();
});

t.test('a qcow2 image lives inside an export', QEMU, async (t) => {
  const server = await serve(t, tempFolder(t));
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', server.uri, '48M']);
  await qemuIo(
    server.uri,
    'qcow2',
    'write -P 3 0 6M',
    'discard 1M 1M',
    'write -P 4 30M 64k',
    'flush',
  );
  await qemuIo(server.uri, 'qcow2', 'read -P 3 0 1M', 'read -P 3 2M 4M', 'read -P 4 30M 64k');
  t.match(await run('qemu-img', ['check', '-f', 'qcow2', server.uri]), /No errors were found/);
  await server.stop();
});

t.test('qemu-img converts between two servers and keeps holes', QEMU, async (t) => {
  const folder = tempFolder(t);
  const [a, b] = [await serve(t, folder), await serve(t, folder, 'b')];
  await qemuIo(a.uri, 'raw', 'write -P 9 12M 64k', 'flush');
  await qemuIo(b.uri, 'raw', 'write -P 1 0 64M', 'flush');
  await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', a.uri, b.uri]);
  t.strictSame(await mapOf(b.uri), [
    [0, 12 * MIB, false, true],
    [12 * MIB, 65_536, true, false],
    [12 * MIB + 65_536, 52 * MIB - 65_536, false, true],
  ]);
  await a.stop();
  await b.stop();
});

t.test('qemu-nbd serves us on, and everything passes through', QEMU, async (t) => {
  const folder = tempFolder(t);
  const server = await serve(t, folder);
  const front = await QemuNbd.start(t, server.uri, join(folder, 'front.sock'));
  await qemuIo(front.uri, 'raw', 'write -P 5 10M 1M', 'discard 10M 64k', 'flush');
  await qemuIo(front.uri, 'raw', 'read -P 0 10M 64k', 'read -P 5 10551296 983040');
  t.strictSame(await mapOf(front.uri), await mapOf(server.uri));
  await front.stop();
  await server.stop();
});
