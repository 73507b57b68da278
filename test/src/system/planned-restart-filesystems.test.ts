// ext4 on a device of store-nbd, a program that writes files and syncs them, 20 planned restarts. nbdfuse has no way to
// reconnect, so the first error would be the end of it.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { LoopDisk } from '../host/loop-disk.js';
import { needs } from '../host/requirements.js';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { ReplaceableServer } from '../server/replaceable-server.js';

t.setTimeout(280_000);

const RESTARTS = 20;
const STEP_MS = 20_000;

/** Anything that shows an export as a block device and mounts it. */
interface Disk {
  readonly device: string;
  readonly mountPoint: string;
  mount(): Promise<void>;
  unmount(): Promise<void>;
  detach(): Promise<void>;
}

const CLIENTS: { name: string; command: string; attach: Attach }[] = [
  { name: 'nbdfuse', command: 'nbdfuse', attach: (t, socket) => nbdfuse(t, socket) },
  { name: 'QEMU', command: 'qemu-storage-daemon', attach: qemuStorageDaemon },
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
      const disk = await attach(t, socket);
      await run('mkfs.ext4', ['-q', '-F', disk.device]);
      await disk.mount();
      const writer = new FileWriter(disk.mountPoint);
      const writing = writer.run();
      for (let restart = 0; restart < RESTARTS; restart += 1) {
        await sleep(100);
        await server.restart(restart % 2 === 0 ? 'SIGUSR2' : '--replace');
      }
      writer.stop();
      await writing;
      t.equal(writer.error, null, `${writer.count} files were written and synced`);
      t.ok(writer.count > RESTARTS, 'and in every restart one at least');
      t.match(await run('findmnt', ['-no', 'OPTIONS', disk.mountPoint]), /^rw,/);
      t.same(writer.lost(), [], 'all of them hold what was written');
      await disk.unmount();
      await disk.mount();
      t.same(writer.lost(), [], 'after mounting again too');
      await disk.unmount();
      await run('e2fsck', ['-f', '-n', disk.device]);
      await disk.detach();
      await server.stop();
    },
  );

/** Writes one file after the other, and syncs each. */
class FileWriter {
  count = 0;
  error: unknown = null;
  readonly #folder: string;
  #stopped = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** The system calls are made by another process, so that this one can restart the server meanwhile. */
  async run(): Promise<void> {
    while (!this.#stopped && this.error === null)
      try {
        const name = join(this.#folder, `${this.count}`);
        const input = content(this.count);
        await run('dd', [`of=${name}`, 'conv=fsync', 'bs=64k', 'status=none'], { input });
        this.count += 1;
      } catch (error) {
        this.error = error;
      }
  }

  /** Files that do not hold what was written. */
  lost(): number[] {
    return Array.from({ length: this.count }, (_, index) => index).filter(
      (index) => readFileSync(join(this.#folder, `${index}`), 'utf8') !== content(index),
    );
  }
}

function content(index: number): string {
  return `file ${index}\n`.repeat(5000 + (index % 7) * 1000);
}

function nbdfuse(t: HasTeardown, socket: string): Promise<Disk> {
  return LoopDisk.attach(t, `nbd+unix:///vm1?socket=${socket}`);
}

/** Its export is a file; losetup makes a device of it. */
async function qemuStorageDaemon(t: HasTeardown, socket: string): Promise<Disk> {
  const folder = tempFolder(t, 'qsd');
  const file = join(folder, 'disk');
  const mountPoint = join(folder, 'mnt');
  writeFileSync(file, '');
  await run('mkdir', [mountPoint]);
  const qemu = spawn(
    'qemu-storage-daemon',
    [
      '--blockdev',
      `node-name=n0,driver=nbd,server.type=unix,server.path=${socket},export=vm1,cache.direct=on`,
      '--export',
      `type=fuse,id=e0,node-name=n0,mountpoint=${file},writable=on`,
    ],
    { stdio: 'ignore' },
  );
  const ended = once(qemu, 'exit');
  await waitUntil('the device to appear', STEP_MS, async () => {
    return Number(await run('stat', ['-c', '%s', file])) > 0;
  });
  const device = (await run('losetup', ['-f', '--show', file])).trim();
  let isMounted = false;
  let isAttached = true;
  const disk: Disk = {
    device,
    mountPoint,
    async mount() {
      await run('mount', [device, mountPoint], { limitMs: STEP_MS });
      isMounted = true;
    },
    async unmount() {
      await run('umount', [mountPoint], { limitMs: STEP_MS });
      isMounted = false;
    },
    async detach() {
      if (!isAttached) return;
      isAttached = false;
      if (isMounted) await run('umount', ['-l', mountPoint], { codes: [0, 32], limitMs: STEP_MS });
      await run('losetup', ['-d', device], { limitMs: STEP_MS });
      qemu.kill('SIGTERM');
      await ended;
    },
  };
  t.teardown(() => disk.detach());
  return disk;
}
