import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { DiskError, type DataFile, type Disk, type MetaChange, type MetaStore } from './disk.js';
import { openRealDisk } from './real-disk.js';
import { native } from './real-native.js';
import { silentLog } from './silent-log.js';
import { StoreError } from '../util/errors.js';

const MIB = 2 ** 20;
const MODULE = new URL('./real-disk.js', import.meta.url).href;

function makeFolder(test: Test): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-disk-'));
  test.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function openDisk(folder: string): Disk {
  return openRealDisk(folder, { create: true }, silentLog);
}

/** Answers of callbacks as a promise: null or the errno. */
function answerOf(operation: (done: (error: DiskError | null) => void) => void) {
  return new Promise<DiskError | null>((resolve) => operation(resolve));
}

function commit(meta: MetaStore, changes: readonly MetaChange[]): Promise<DiskError | null> {
  return answerOf((done) => meta.commit(changes, done));
}

/** Whichever way the file offers: at once, or later. */
async function readBack(file: DataFile, position: number, bytes: number): Promise<Buffer> {
  const target = Buffer.alloc(bytes, 0xdb);
  const error = await answerOf((done) => file.read(position, target, done));
  if (error !== null) throw error;
  const again = Buffer.alloc(bytes, 0xdb);
  if (file.tryRead(position, again) && !again.equals(target)) throw new Error('tryRead differs');
  return target;
}

/** A process that takes the folder, says so, and stays. */
async function spawnOwner(folder: string) {
  const script = `
    import { openRealDisk } from ${JSON.stringify(MODULE)};
    const log = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} };
    openRealDisk(process.argv[1], { create: false }, log).lock();
    console.log('locked');
    setInterval(() => undefined, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve, reject) => {
    owner.stdout.once('data', resolve);
    owner.once('exit', () => reject(new Error('the owner did not start')));
  });
  const gone = new Promise((resolve) => owner.once('exit', resolve));
  return {
    pid: owner.pid,
    kill: (): Promise<unknown> => {
      owner.kill('SIGKILL');
      return gone;
    },
  };
}

await t.test('a folder has one owner, until that is killed', async (t) => {
  const folder = makeFolder(t);
  const owner = await spawnOwner(folder);
  const disk = openDisk(folder);
  try {
    const inUse = { code: 'E_IN_USE', message: new RegExp(`in use by process ${owner.pid}`) };
    t.throws(() => disk.lock(), inUse);
    t.throws(() => disk.lock(), inUse, 'asking does not break the lock');
  } finally {
    await owner.kill();
  }
  disk.lock();
  t.throws(() => openDisk(folder).lock(), { code: 'E_IN_USE' }, 'this process owns it now');
  disk.close();
  const next = openDisk(folder);
  next.lock();
  next.close();
  t.ok(next.isEmpty(), 'the lock is not content');
});

await t.test('a small file is replaced as a whole, or not at all', (t) => {
  const folder = makeFolder(t);
  const disk = openDisk(folder);
  t.equal(disk.readSmallFile('format'), null);
  disk.writeSmallFile('format', Buffer.alloc(5000, 'a'));
  const reader = fs.openSync(path.join(folder, 'format'), 'r'); // somebody reads it meanwhile
  disk.writeSmallFile('format', Buffer.from('new'));
  t.equal(fs.readFileSync(reader, 'utf8'), 'a'.repeat(5000), 'the old one is never overwritten');
  fs.closeSync(reader);
  t.equal(disk.readSmallFile('format')?.toString(), 'new');
  t.same(fs.readdirSync(folder), ['format']);
  fs.writeFileSync(path.join(folder, 'format.new'), 'a longer rest of a killed attempt');
  disk.writeSmallFile('format', Buffer.from('newer'));
  t.equal(disk.readSmallFile('format')?.toString(), 'newer');
  disk.removeSmallFile('format');
  disk.removeSmallFile('format');
  t.ok(disk.isEmpty());
  fs.mkdirSync(path.join(folder, 'taken'));
  t.throws(() => disk.writeSmallFile('taken', Buffer.from('x')), { name: 'DiskError' });
  t.end();
});

await t.test('the boot token is the same within one boot, also in another process', (t) => {
  const folder = makeFolder(t);
  const token = openDisk(folder).bootToken();
  const bootId = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  t.ok(token.startsWith(`${bootId} `));
  t.match(token, /(diskseq \d+|mount \d+ \d+)$/);
  fs.mkdirSync(path.join(folder, 'deeper'));
  t.equal(openDisk(path.join(folder, 'deeper')).bootToken(), token);
  const script = `
    import { openRealDisk } from ${JSON.stringify(MODULE)};
    process.stdout.write(openRealDisk(process.argv[1], { create: false }, {}).bootToken());`;
  const other = spawnSync(process.execPath, ['--input-type=module', '-e', script, folder]);
  t.equal(other.stdout.toString(), token);
  t.end();
});

await t.test('a data file reads back what was written, in pieces and beyond its end', async (t) => {
  const file = openDisk(makeFolder(t)).openDataFile('data');
  t.equal(file.size(), 0);
  t.same(await readBack(file, 12_345, 100), Buffer.alloc(100), 'nothing is zeros');
  const parts = Array.from({ length: 600 }, (_, index) => Buffer.alloc(97, `${index},`));
  const whole = Buffer.concat(parts);
  t.ok(file.tryWrite(1000, parts), 'more parts than one system call takes');
  t.equal(file.size(), 1000 + whole.length);
  t.same(await readBack(file, 1000, whole.length), whole);
  t.equal(await answerOf((done) => file.write(MIB, parts, done)), null);
  t.same(await readBack(file, MIB, whole.length), whole);
  const end = MIB + whole.length;
  t.same(
    await readBack(file, end - 10, 30),
    Buffer.concat([whole.subarray(-10), Buffer.alloc(20)]),
    'half beyond the end',
  );
  t.notOk(file.tryWrite(0, [Buffer.alloc(2 * MIB)]), 'a large write is not done at once');
  const mebibyte = Buffer.alloc(MIB, 'one after the other, ');
  const uneven = [mebibyte.subarray(0, 300_000), mebibyte.subarray(300_000)];
  t.ok(file.tryWrite(4 * MIB + 512, uneven), 'one of 1 MiB is, in several calls');
  t.same(await readBack(file, 4 * MIB + 512, MIB), mebibyte);
  t.equal(await answerOf((done) => file.sync(done)), null);
  file.dropCache();
  t.same(await readBack(file, MIB, whole.length), whole, 'from the disk itself');
  file.close();
});

const needsNative = { skip: native() === null && 'koffi is not built for this machine' };
await t.test(
  'a long read asks what is in the page cache, and starts nothing',
  needsNative,
  async (t) => {
    const folder = makeFolder(t);
    const file = openDisk(folder).openDataFile('data');
    const bytes = Buffer.alloc(512 * 1024, 'x');
    t.equal(await answerOf((done) => file.write(MIB, [bytes], done)), null);
    t.equal(await answerOf((done) => file.sync(done)), null);
    const fd = fs.openSync(path.join(folder, 'data'), 'r+');
    const cached = (): number => native()?.cachedBytes(fd, MIB, bytes.length) ?? -1;
    t.teardown(() => fs.closeSync(fd));
    if (cached() < 0) t.comment('this kernel cannot tell; the read is tried then');
    else {
      t.equal(cached(), bytes.length, 'what was written is there');
      t.ok(file.tryRead(MIB, Buffer.alloc(bytes.length)));
      file.dropCache();
      t.equal(cached(), 0);
      t.notOk(file.tryRead(MIB, Buffer.alloc(bytes.length)));
      t.equal(cached(), 0, 'nothing was read');
    }
    t.same(await readBack(file, MIB, bytes.length), bytes);
    file.close();
  },
);

await t.test('a hole gives the space back and reads as zeros', needsNative, async (t) => {
  const folder = makeFolder(t);
  const file = openDisk(folder).openDataFile('data');
  const allocated = (): number => fs.statSync(path.join(folder, 'data')).blocks * 512;
  await answerOf((done) => file.write(0, [Buffer.alloc(8 * MIB, 'x')], done));
  await answerOf((done) => file.sync(done));
  t.ok(allocated() >= 8 * MIB);
  t.equal(await answerOf((done) => file.punch(MIB, 6 * MIB, done)), null);
  t.ok(allocated() <= 3 * MIB, `${allocated()} bytes are left`);
  t.equal(file.size(), 8 * MIB, 'the file keeps its length');
  t.same(await readBack(file, MIB - 1, 2), Buffer.from('x\0'));
  t.same(await readBack(file, 7 * MIB - 1, 2), Buffer.from('\0x'));
  file.close();
});

await t.test('an append file continues where it ended, and can be emptied', (t) => {
  const disk = openDisk(makeFolder(t));
  const first = disk.openAppendFile('live.0');
  first.append([Buffer.from('one')]);
  first.append([Buffer.from('two'), Buffer.from('three')]);
  first.close();
  const second = disk.openAppendFile('live.0');
  t.equal(second.bytes, 11);
  second.append([Buffer.from('!')]);
  t.equal(second.readAll().toString(), 'onetwothree!');
  second.truncate();
  t.equal(second.bytes, 0);
  second.append([Buffer.from('new')]);
  t.equal(second.readAll().toString(), 'new', 'not behind a hole');
  second.close();
  t.end();
});

await t.test(
  'metadata are all or nothing, in order of bytes, and there after a reopening',
  async (t) => {
    const disk = openDisk(makeFolder(t));
    let meta = disk.openMetaStore('meta');
    const key = (...bytes: number[]): Buffer => Buffer.from(bytes);
    const value = Buffer.alloc(1000, 'v');
    const keys = [key(1), key(1, 0), key(1, 0, 255), key(1, 255), key(2)];
    t.equal(
      await commit(
        meta,
        keys.map((k) => ({ key: k, value })),
      ),
      null,
    );
    t.equal(
      await commit(meta, [
        { key: key(1, 0), value: null },
        { key: key(3), value: key(9) },
      ]),
      null,
    );
    t.equal(meta.get(key(1, 0)), null, 'read in the turn of the answer');
    await meta.close();
    meta = disk.openMetaStore('meta');
    t.same(meta.get(key(2)), value);
    const range = meta.range(key(1), key(3), 10);
    t.same(
      range.map((entry) => entry.key),
      [key(1), key(1, 0, 255), key(1, 255), key(2)],
    );
    t.same(meta.range(key(1), key(3), 2).length, 2);
    t.same(
      meta.range(key(1, 0), key(2), 9).map((entry) => entry.key),
      [key(1, 0, 255), key(1, 255)],
    );
    await meta.close();
  },
);

/** A folder on a file system of 4 MiB. */
function mountSmall(test: Test): string {
  const folder = makeFolder(test);
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'store-test', folder]);
  if (mount.status !== 0) throw new Error(`mount: ${mount.stderr.toString()}`);
  test.teardown(() => spawnSync('umount', [folder]));
  return folder;
}

function freeBytes(folder: string): number {
  return openDisk(folder).space().freeBytes;
}

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root to mount a small tmpfs' };

await t.test(
  'a write that meets the end of the disk says how much got there',
  needsRoot,
  async (t) => {
    const folder = mountSmall(t);
    const file = openDisk(folder).openDataFile('data');
    const bytes = Buffer.alloc(MIB, 'abcdefgh');
    for (let at = 0; at < 3 * MIB; at += MIB)
      t.equal(await answerOf((done) => file.write(at, [bytes], done)), null);
    const room = freeBytes(folder) - 64 * 1024;
    fs.writeFileSync(path.join(folder, 'filler'), Buffer.alloc(room));
    const parts = [bytes.subarray(0, 8192), bytes.subarray(8192, 128 * 1024)];
    let thrown: unknown;
    try {
      file.tryWrite(3 * MIB, parts);
    } catch (error) {
      thrown = error;
    }
    t.match(thrown, { name: 'DiskError', errno: 'ENOSPC', writtenBytes: 64 * 1024 });
    t.same(await readBack(file, 3 * MIB, 64 * 1024), bytes.subarray(0, 64 * 1024));
    const error = await answerOf((done) => file.write(3 * MIB + 4096, parts, done));
    t.match(error, { errno: 'ENOSPC', writtenBytes: 60 * 1024 });
    fs.rmSync(path.join(folder, 'filler'));
    t.equal(
      await answerOf((done) => file.write(3 * MIB, parts, done)),
      null,
      'later there is room',
    );
    file.close();
  },
);

await t.test('an append without room says so', needsRoot, (t) => {
  const folder = mountSmall(t);
  const live = openDisk(folder).openAppendFile('live.0');
  live.append([Buffer.from('before')]);
  fs.writeFileSync(path.join(folder, 'filler'), Buffer.alloc(freeBytes(folder)));
  const large = [Buffer.from('head'), Buffer.alloc(64 * 1024)];
  t.throws(() => live.append(large), { name: 'DiskError', errno: 'ENOSPC' });
  t.equal(live.bytes, live.readAll().length, 'it knows what of it got there');
  t.equal(live.readAll().subarray(0, 6).toString(), 'before');
  live.close();
  t.end();
});

await t.test('a missing folder, a file and a folder without permission say what to do', (t) => {
  const folder = makeFolder(t);
  const open = (name: string): Disk =>
    openRealDisk(path.join(folder, name), { create: false }, silentLog);
  fs.writeFileSync(path.join(folder, 'file'), '');
  t.throws(() => open('missing'), { code: 'E_NOT_FOUND', message: /no folder.*--dir/ });
  t.throws(() => open('file'), { code: 'E_SYSTEM', message: /not a folder/ });
  t.throws(() => open('file/below'), StoreError);
  t.ok(openDisk(path.join(folder, 'a', 'b')).isEmpty(), 'made on the way');
  t.end();
});
