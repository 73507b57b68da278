// ext4 on a device of store-nbd, a program that writes files and syncs them, 20 planned restarts. Neither client has a way
// to reconnect, so the first error would be the end of it.
import { join } from 'node:path';
import t from 'tap';
import { ext4Story, type Disk } from '../ext4-story/ext4-story.js';
import { qemuDisk } from '../ext4-story/qemu-disk.js';
import { LoopDisk } from '../host/loop-disk.js';
import { needs } from '../host/requirements.js';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { ReplaceableServer } from '../server/replaceable-server.js';

t.setTimeout(600_000);

const RESTARTS = 20;

const CLIENTS: { name: string; command: string; attach: Attach }[] = [
  {
    name: 'nbdfuse',
    command: 'nbdfuse',
    attach: (t, socket) => LoopDisk.attach(t, `nbd+unix:///vm1?socket=${socket}`),
  },
  { name: 'QEMU', command: 'qemu-storage-daemon', attach: (t, socket) => qemuDisk(t, socket, 0) },
];

type Attach = (t: HasTeardown, socket: string) => Promise<Disk>;

for (const { name, command, attach } of CLIENTS)
  t.test(
    `ext4 through ${name} goes on through ${RESTARTS} planned restarts`,
    needs({ root: true, fuse: true, commands: [command, 'losetup', 'mkfs.ext4', 'fusermount3'] }),
    async (t) => {
      const folder = tempFolder(t);
      const socket = join(folder, 'nbd.sock');
      const args = ['--pool', 'testpool', '--image', 'vm1', '--create', '256M', '--socket', socket];
      const server = await ReplaceableServer.start(t, { dir: join(folder, 'data'), args });
      await ext4Story(t, await attach(t, socket), {
        rounds: RESTARTS,
        cause: async (round) => {
          await sleep(100);
          await server.restart(round % 2 === 0 ? 'SIGUSR2' : '--replace');
        },
      });
      await server.stop();
    },
  );
