// The kernel's own filesystems on an image, through nbdfuse and a loop device: real files come back as they went in.
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { LoopDisk } from '../host/loop-disk.js';
import { hashTree, realFolders } from '../host/real-files.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

interface Filesystem {
  readonly name: string;
  readonly make: readonly string[];
  /** Checks the unmounted device; must find nothing. */
  check(device: string): Promise<unknown>;
  /** Checks while it is mounted. */
  checkMounted?(mountPoint: string): Promise<unknown>;
}

const FILESYSTEMS: readonly Filesystem[] = [
  {
    name: 'ext4',
    make: ['mkfs.ext4', '-q', '-F'],
    check: (device) => run('e2fsck', ['-f', '-n', device]),
  },
  {
    name: 'xfs',
    make: ['mkfs.xfs', '-q', '-f'],
    check: (device) => run('xfs_repair', ['-n', device]),
  },
  {
    name: 'btrfs',
    make: ['mkfs.btrfs', '-q', '-f'],
    check: (device) => run('btrfs', ['check', '--check-data-csum', device]),
    checkMounted: async (mountPoint) => {
      const said = await run('btrfs', ['scrub', 'start', '-B', mountPoint]);
      if (!said.includes('no errors found')) throw new Error(said);
    },
  },
];

for (const filesystem of FILESYSTEMS) {
  t.test(
    `${filesystem.name} keeps real files over unmounting and a restart of store-nbd`,
    needs({
      root: true,
      fuse: true,
      commands: ['nbdfuse', 'losetup', filesystem.make[0] ?? '', 'fusermount3'],
    }),
    async (t) => {
      const folder = tempFolder(t);
      const options = {
        dir: join(folder, 'data'),
        image: filesystem.name,
        socket: join(folder, 'nbd.sock'),
        createBytes: 1024 ** 3,
      };
      const first = await StoreServer.start(t, options);
      let disk = await LoopDisk.attach(t, first.uri);
      const [make = '', ...makeArguments] = filesystem.make;
      await run(make, [...makeArguments, disk.device]);
      await disk.mount();
      await run('cp', ['-a', ...realFolders, disk.mountPoint]);
      const written = hashTree(disk.mountPoint);
      t.ok(written.length > 300, `${written.length} files`);
      await disk.unmount();
      await disk.mount();
      t.same(hashTree(disk.mountPoint), written, 'after unmounting and mounting');
      await run('rm', ['-r', join(disk.mountPoint, 'lib')]);
      await run('fstrim', [disk.mountPoint]);
      await run('cp', ['-a', ...realFolders, disk.mountPoint]);
      await disk.unmount();
      await disk.detach();
      await first.stop();

      const second = await StoreServer.start(t, options);
      disk = await LoopDisk.attach(t, second.uri);
      await t.resolves(filesystem.check(disk.device), 'the filesystem check finds nothing');
      await disk.mount();
      t.same(hashTree(disk.mountPoint), written, 'after a restart of store-nbd');
      if (filesystem.checkMounted !== undefined)
        await t.resolves(filesystem.checkMounted(disk.mountPoint), 'the scrub finds nothing');
      await disk.unmount();
      await disk.detach();
      await second.stop();
    },
  );
}
