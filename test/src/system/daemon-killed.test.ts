// A daemon and the store-nbd in front of it are killed, one or the other or both, again and again under a writing client:
// nothing that was answered is missing. While only the daemon dies, nobody even learns of it.
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { ext4Story } from '../ext4-story/ext4-story.js';
import { qemuDisk } from '../ext4-story/qemu-disk.js';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { StorageDaemon } from '../server/storage-daemon.js';
import { StoreServer, type StoreServerOptions } from '../server/store-server.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { recoverDevice, TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/daemon-killed.test.js`);

const KILLS = 12;
const BLOCKS = 5 * 1024 + 77; // the image does not end with an object
const EXT4_KILLS = 6;
const FIO_KILLS = 5;

interface Pair {
  readonly daemon: StorageDaemon;
  readonly options: StoreServerOptions;
}

async function startDaemon(t: Test, bytes: number, more: readonly string[] = []): Promise<Pair> {
  const folder = tempFolder(t);
  const daemon = await StorageDaemon.start(t, { dir: join(folder, 'data') });
  return {
    daemon,
    options: {
      image: 'vm1',
      socket: join(folder, 'nbd.sock'),
      createBytes: bytes,
      args: ['--storage-daemon', daemon.address, ...more],
    },
  };
}

for (const transport of ['tcp', 'udp'])
  t.test(
    `daemon and store-nbd are killed ${KILLS} times over ${transport} and lose nothing`,
    async (t) => {
      const random = new SeededRandom(seed);
      const history = new DeviceHistory(BLOCKS);
      const writer = new TaggedWriter({ history, random: new SeededRandom(random.next32()) });
      const bytes = BLOCKS * BLOCK_BYTES;
      const { daemon, options } = await startDaemon(t, bytes, ['--transport', transport]);
      const killed = { daemon: 0, gateway: 0, both: 0 };
      let server = await StoreServer.start(t, options);
      let client = await NbdClient.connect(server.uri);
      let writing = writer.run(client);
      for (let kill = 1; kill <= KILLS; kill += 1) {
        await sleep(random.between(20, 600));
        const who = random.pick(['daemon', 'gateway', 'both'] as const);
        killed[who] += 1;
        if (who !== 'gateway') await daemon.kill9();
        if (who !== 'daemon') await server.kill9();
        await sleep(random.between(0, 400));
        if (who !== 'gateway') await daemon.startAgain();
        if (who !== 'daemon') {
          await writing;
          server = await StoreServer.start(t, options);
          client = await NbdClient.connect(server.uri);
          const found = await recoverDevice(client, history, 'process');
          if (found.length > 0) return void t.same(found, [], `after kill ${kill} of ${who}`);
          writing = writer.run(client);
        }
        if (writer.problems.length + writer.errors.length > 0) break;
      }
      await sleep(500);
      writer.stop();
      await writing;
      t.same(writer.problems, [], 'all reads were right');
      t.same(writer.errors, [], `nobody got an error\n${server.log.slice(-3000)}`);
      t.same(await recoverDevice(client, history, 'process'), [], 'all is there in the end');
      t.comment(`${JSON.stringify(killed)}, ${writer.answers} answers, ${writer.flushes} flushes`);
      t.ok(writer.answers > KILLS * 20, `${writer.answers} requests were answered`);
      t.ok(writer.flushes > KILLS / 2, `${writer.flushes} flushes among them`);
      await client.disconnect();
      await server.stop();
      await daemon.stop();
    },
  );

t.test(
  `fio verifies what it wrote while the daemon is killed ${FIO_KILLS} times`,
  needs({ commands: ['fio'] }),
  async (t) => {
    const random = new SeededRandom(seed);
    const { daemon, options } = await startDaemon(t, 64 * 1024 ** 2);
    const server = await StoreServer.start(t, options);
    const fio = run(
      'fio',
      [
        ...['--name=verify', '--ioengine=nbd', `--uri=${server.uri}`, '--thread'],
        ...['--rw=randwrite', '--bs=4k', '--iodepth=16', '--size=48M', '--fsync=200'],
        ...['--verify=crc32c', '--verify_fatal=1', '--do_verify=1', `--randseed=${seed}`],
        ...['--rate_iops=1500'],
      ],
      { limitMs: 90_000, cwd: tempFolder(t) }, // fio leaves its state in the current folder
    );
    let hasEnded = false;
    const ended = fio.finally(() => (hasEnded = true));
    const isOver = (): boolean => hasEnded;
    for (let kill = 1; kill <= FIO_KILLS && !isOver(); kill += 1) {
      await Promise.race([ended, sleep(random.between(300, 1000))]);
      if (kill <= 2) t.notOk(isOver(), `fio still runs at kill ${kill}`);
      await daemon.kill9();
      await sleep(random.between(0, 500));
      await daemon.startAgain();
    }
    await ended;
    await server.stop();
    await daemon.stop();
  },
);

t.test(
  `ext4 stays read-write through ${EXT4_KILLS} kills of the daemon, with a client that does not reconnect`,
  needs({
    root: true,
    fuse: true,
    commands: ['qemu-storage-daemon', 'losetup', 'mkfs.ext4', 'fusermount3'],
  }),
  async (t) => {
    const random = new SeededRandom(seed);
    const { daemon, options } = await startDaemon(t, 256 * 1024 ** 2);
    const server = await StoreServer.start(t, options);
    const { socket = '' } = options;
    await ext4Story(t, await qemuDisk(t, socket, 0), {
      rounds: EXT4_KILLS,
      cause: async () => {
        await sleep(random.between(50, 500));
        await daemon.kill9();
        await sleep(random.between(0, 1000));
        await daemon.startAgain();
      },
    });
    await server.stop();
    await daemon.stop();
  },
);
