/**
 * Builds what the guest boots from: an initramfs with busybox, the kernel modules it needs, nbd-client and the
 * ext filesystem tools of this machine with their libraries, some real files, and a script that is its init.
 */
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../host/command.js';
import { realFolders } from '../host/real-files.js';
import type { GuestKernel } from './guest-kernel.js';
import { moduleFiles } from './guest-kernel.js';

const MODULES = ['virtio_pci', 'virtio_net', 'virtio_blk', 'ext4', 'nbd'];
const PROGRAMS = ['/sbin/nbd-client', '/sbin/mke2fs', '/sbin/e2fsck'];
const LINKS = { 'mkfs.ext3': 'mke2fs', 'mkfs.ext4': 'mke2fs' };
/** The scripts a guest can run, each the story of a test. */
export type GuestStory = 'guest-init' | 'guest-attach-init' | 'guest-restarts-init';

/** @returns The initramfs, a file in `folder` */
export async function buildGuestImage(
  kernel: GuestKernel,
  folder: string,
  story: GuestStory = 'guest-init',
): Promise<string> {
  const root = join(folder, 'guest');
  for (const name of ['bin', 'sbin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'mnt', 'modules', 'files'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(scriptOf(story), join(root, 'init'));
  chmodSync(join(root, 'init'), 0o755);
  copyFileSync('/bin/busybox', join(root, 'bin', 'busybox'));
  copyFileSync('/etc/mke2fs.conf', join(root, 'etc', 'mke2fs.conf'));
  const modules = moduleFiles(kernel, MODULES);
  for (const file of modules) copyFileSync(file, join(root, 'modules', basename(file)));
  writeFileSync(join(root, 'modules', 'order'), modules.map((file) => basename(file)).join('\n'));
  for (const program of PROGRAMS) await copyProgram(program, root);
  for (const [link, target] of Object.entries(LINKS))
    await run('ln', ['-s', target, join(root, 'sbin', link)]);
  await run('cp', ['-a', ...realFolders, join(root, 'files')]);
  const image = join(folder, 'guest.cpio');
  await run('sh', ['-c', 'find . | cpio --quiet -o -H newc > "$1"', 'sh', image], { cwd: root });
  return image;
}

function scriptOf(story: GuestStory): string {
  return fileURLToPath(new URL(`../../src/kernel/${story}.sh`, import.meta.url));
}

/** Copies a program and every library it loads to the same places below `root`. */
export async function copyProgram(program: string, root: string): Promise<void> {
  const libraries = [...(await run('ldd', [program])).matchAll(/(?:=> )?(\/\S+) \(0x/g)];
  for (const path of [program, ...libraries.map(([, library = '']) => library)]) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(path, join(root, path));
  }
}
