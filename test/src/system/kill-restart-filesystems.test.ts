// ext4 on a device of store-nbd, a program that writes files and syncs them, 20 times kill -9 of store-nbd and a new start:
// with a client that reconnects, neither the program nor the filesystem learns of it.
import { join } from 'node:path';
import t from 'tap';
import { ext4Story } from '../ext4-story/ext4-story.js';
import { qemuDisk } from '../ext4-story/qemu-disk.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { ReplaceableServer } from '../server/replaceable-server.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(600_000);

const KILLS = 20;
const RECONNECT_DELAY_S = 60;

t.test(
  `ext4 through qemu-storage-daemon with reconnect-delay goes on through ${KILLS} kills of store-nbd`,
  needs({
    root: true,
    fuse: true,
    commands: ['qemu-storage-daemon', 'losetup', 'mkfs.ext4', 'fusermount3'],
  }),
  async (t) => {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/kill-restart-filesystems.test.js`);
    const random = new SeededRandom(seed);
    const folder = tempFolder(t);
    const socket = join(folder, 'nbd.sock');
    const args = ['--pool', 'testpool', '--image', 'vm1', '--create', '256M', '--socket', socket];
    const server = await ReplaceableServer.start(t, { dir: join(folder, 'data'), args });
    await ext4Story(t, await qemuDisk(t, socket, RECONNECT_DELAY_S), {
      rounds: KILLS,
      cause: async () => {
        await sleep(random.between(50, 500));
        await server.kill9AndStart(random.between(0, 300));
      },
    });
    await server.stop();
  },
);
