import { spawn } from 'node:child_process';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../host/command.js';
import type { HasTeardown } from '../host/temp-folder.js';
import { tempFolder } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import type { Disk } from './ext4-story.js';

const STEP_MS = 20_000;

/**
 * Shows the export `vm1` of a server on a Unix socket as a block device: qemu-storage-daemon makes a file of it, losetup
 * a device of the file. Detached with the test at the latest.
 * @param reconnectDelayS - How long a lost connection is dialled again before requests fail; 0: not at all.
 */
export async function qemuDisk(
  t: HasTeardown,
  socket: string,
  reconnectDelayS: number,
): Promise<Disk> {
  const folder = tempFolder(t, 'qsd');
  const file = join(folder, 'disk');
  const mountPoint = join(folder, 'mnt');
  writeFileSync(file, '');
  mkdirSync(mountPoint);
  const qemu = spawn(
    'qemu-storage-daemon',
    [
      '--blockdev',
      `node-name=n0,driver=nbd,server.type=unix,server.path=${socket},export=vm1,reconnect-delay=${reconnectDelayS},cache.direct=on`,
      '--export',
      `type=fuse,id=e0,node-name=n0,mountpoint=${file},writable=on`,
    ],
    { stdio: 'ignore' },
  );
  const hasEnded = (): boolean => qemu.exitCode !== null || qemu.signalCode !== null;
  const end = async (): Promise<void> => {
    qemu.kill('SIGTERM');
    try {
      await waitUntil('qemu-storage-daemon to end', STEP_MS, hasEnded);
    } catch (error) {
      qemu.kill('SIGKILL'); // with the server away it waits out its reconnect delay
      throw error;
    }
  };
  let device: string;
  try {
    await waitUntil('the device to appear', STEP_MS, () => {
      if (hasEnded()) throw new Error(`qemu-storage-daemon exited: ${qemu.exitCode}`);
      return statSync(file).size > 0;
    });
    device = (await run('losetup', ['-f', '--show', file])).trim();
  } catch (error) {
    await end();
    throw error;
  }
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
      await end();
    },
  };
  t.teardown(() => disk.detach());
  return disk;
}
