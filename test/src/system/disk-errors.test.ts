// Errors of the disk in a real process: an error is answered, never wrong bytes; a failed disk stops the server for good.
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { run } from '../host/command.js';
import { startUnderFiu } from '../host/libfiu.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_EIO, NBD_ENOSPC } from '../nbd-client/nbd-constants.js';
import { ConnectionLost } from '../nbd-client/raw-connection.js';
import { runProgram } from '../server/store-programs.js';
import { StoreServer } from '../server/store-server.js';
import type { StoreServerOptions } from '../server/store-server.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;
const BLOCKS = 8 * 1024;
const EXIT_DISK_FAILED = 70;
const EXIT_MS = 20_000;

/** A server whose system calls can be made to fail while it runs. */
interface FaultyServer {
  readonly server: StoreServer;
  readonly options: StoreServerOptions & { readonly dir: string };
  /** From now on calls at this point of libfiu fail, all or some. */
  fail(point: string, errno: number, probability?: number): Promise<void>;
}

/** LMDB damages the memory of its process now and then when a write of its own fails, and glibc ends it. */
const DAMAGED_HEAP = /malloc\(\)|free\(\)|corrupted|double free/;

function startFaulty(t: Test): Promise<FaultyServer> {
  return startUnderFiu(() => tryToStart(t));
}

async function tryToStart(t: Test): Promise<FaultyServer> {
  const folder = tempFolder(t);
  const control = join(folder, 'fiu');
  const options = {
    dir: join(folder, 'data'),
    image: 'vm1',
    socket: join(folder, 'nbd.sock'),
    createBytes: BLOCKS * BLOCK_BYTES,
  };
  const wrapper = ['fiu-run', '-x', '-f', control];
  const server = await StoreServer.start(t, { ...options, wrapper });
  const fail = async (point: string, errno: number, probability?: number): Promise<void> => {
    const how = probability === undefined ? 'enable' : 'enable_random';
    const chance = probability === undefined ? '' : `,probability=${probability}`;
    const command = `${how} name=${point}${chance},failinfo=${errno}`;
    await run('fiu-ctrl', ['-f', control, '-c', command, `${server.pid}`]);
  };
  return { server, options, fail };
}

/** After its disk failed, a folder is not served again until somebody looked at it. */
async function refusesFolder(t: Test, { options, server }: FaultyServer): Promise<void> {
  if (server.log.includes('could not be noted')) {
    t.comment('the mark itself fell victim to the failing disk');
    return;
  }
  const { code, stderr } = await runProgram(
    'store-nbd',
    ['--dir', options.dir, '--pool', 'testpool', '--image', 'vm1', '--port', '0'],
    { limitMs: 10_000 },
  ).catch((error: unknown) => ({ code: null, stderr: String(error) }));
  t.equal(code, 1, `a failed disk is not served again\n${server.log.slice(-3000)}`);
  t.match(stderr, /store check/, 'and the message says what to do');
}

const here = needs({ commands: ['fiu-run', 'fiu-ctrl'] });

t.test('a failed sync is answered with EIO and ends the server with 70', here, async (t) => {
  const faulty = await startFaulty(t);
  const { server } = faulty;
  const client = await NbdClient.connect(server.uri);
  t.equal((await client.write(0, randomBytes(MIB))).error, 0);
  await faulty.fail('posix/io/sync/fdatasync', 5);
  const code = await server.exitAfter(async () => {
    t.equal((await client.flush()).error, NBD_EIO, 'the flush failed');
    const again = await client.flush().catch((error: unknown) => error);
    t.ok(
      again instanceof ConnectionLost || (again as { error: number }).error !== 0,
      'and is not retried with success',
    );
  }, EXIT_MS);
  t.equal(code, EXIT_DISK_FAILED, server.log.slice(-2000));
  await refusesFolder(t, faulty);
});

t.test('a failed write is answered with EIO and ends the server with 70', here, async (t) => {
  const faulty = await startFaulty(t);
  const { server } = faulty;
  const client = await NbdClient.connect(server.uri);
  await faulty.fail('posix/io/rw/pwrite*', 5);
  const code = await server.exitAfter(async () => {
    // Small writes may be answered from memory; the flush must not hide what became of them.
    const answers = await Promise.all([
      client.write(0, randomBytes(2 * MIB)).then(({ error }) => error),
      client.flush().then(({ error }) => error),
    ]).catch((error: unknown) => {
      if (error instanceof ConnectionLost) return [NBD_EIO];
      throw error;
    });
    t.ok(answers.includes(NBD_EIO), `answers ${answers.join()}`);
  }, EXIT_MS);
  t.equal(code, EXIT_DISK_FAILED, server.log.slice(-2000));
  await refusesFolder(t, faulty);
});

const SYNC = 'posix/io/sync/fdatasync';
for (const point of [SYNC, 'posix/io/rw/pwrite*']) {
  t.test(`random errors of ${point} under load never show wrong bytes`, here, async (t) => {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/disk-errors.test.js`);
    const history = new DeviceHistory(BLOCKS);
    const writer = new TaggedWriter({ history, random: new SeededRandom(seed) });
    const faulty = await startFaulty(t);
    const client = await NbdClient.connect(faulty.server.uri);
    const writing = writer.run(client);
    await faulty.fail(point, 5, 0.03);
    const code = await faulty.server.exitAfter(() => undefined, EXIT_MS).catch(() => undefined);
    if (code === undefined) {
      // Nothing of this kind is called often enough; what was answered must still be right.
      t.comment(`${point} did not stop the server`);
      writer.stop();
      await faulty.server.kill9();
    } else if (DAMAGED_HEAP.test(faulty.server.log) || (code === null && point !== SYNC)) {
      t.comment('the metadata store has damaged its memory: it died before it could say why');
    } else {
      t.equal(code, EXIT_DISK_FAILED, faulty.server.log.slice(-2000));
      await refusesFolder(t, faulty);
    }
    await writing;
    t.same(writer.problems, []);
    t.ok(writer.answers > 0, `${writer.answers} requests were answered before`);
  });
}

t.test(
  'a full disk refuses what needs space, keeps what it has, and goes on when space is freed',
  needs({ root: true }),
  async (t) => {
    const folder = tempFolder(t);
    const disk = join(folder, 'disk');
    mkdirSync(disk);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=400M', 'none', disk]);
    t.teardown(() => run('umount', [disk]));
    const options = {
      dir: join(disk, 'data'),
      image: 'vm1',
      socket: join(folder, 'nbd.sock'),
      createBytes: 2048 * MIB,
    };
    const first = await StoreServer.start(t, options);
    let client = await NbdClient.connect(first.uri);
    const content = (index: number): Buffer => Buffer.alloc(MIB, index + 1);
    let count = 0;
    let refused = 0;
    while (refused === 0 && count < 2048) {
      const { error } = await client.write(count * MIB, content(count));
      if (error === 0) count += 1;
      else refused = error;
    }
    t.equal(refused, NBD_ENOSPC, `refused after ${count} MiB`);
    t.ok(count >= 32, 'some of it was filled');
    t.equal((await client.flush()).error, 0, 'what was answered can be made durable');
    t.equal((await client.write(0, content(7))).error, 0, 'what has its space can be overwritten');
    t.equal((await client.write(0, content(0))).error, 0);
    for (let index = 0; index < count; index++) {
      const { error, data } = await client.read(index * MIB, MIB);
      if (error !== 0 || !data.equals(content(index))) t.fail(`MiB ${index}: error ${error}`);
    }
    t.equal((await client.trim(0, 16 * MIB)).error, 0, 'a full disk can be discarded');
    t.equal((await client.flush()).error, 0);
    let error: number = NBD_ENOSPC;
    for (let attempt = 0; attempt < 50 && error !== 0; attempt++) {
      ({ error } = await client.write(1024 * MIB, content(3)));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    t.equal(error, 0, 'and then written again');
    await client.disconnect();
    await first.stop();
    const second = await StoreServer.start(t, options);
    client = await NbdClient.connect(second.uri);
    t.same((await client.read(1024 * MIB, MIB)).data, content(3));
    t.same((await client.read(17 * MIB, MIB)).data, content(17));
    t.same((await client.read(3 * MIB, MIB)).data, Buffer.alloc(MIB));
    await client.disconnect();
    await second.stop();
  },
);
