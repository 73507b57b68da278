/**
 * A kernel block device on top of an NBD server, without the kernel's nbd module: nbdfuse shows the export as
 * a file, losetup makes a block device of the file. Flush, trim and zero pass through.
 *
 * Taking it down must work in every state, also after the server was killed: then nbdfuse answers EIO and the
 * same steps work. Each step has a limit, and a failing one does not keep the next from running.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.js';
import type { HasTeardown } from './temp-folder.js';
import { tempFolder } from './temp-folder.js';
import { waitUntil } from './wait-until.js';

const STEP_MS = 20_000;

export class LoopDisk {
  /** `/dev/loop7` */
  readonly device: string;
  /** Where {@link mount} mounts. */
  readonly mountPoint: string;
  readonly #fuseFolder: string;
  #mounted = false;
  #attached = true;

  private constructor(folder: string, device: string) {
    this.device = device;
    this.mountPoint = join(folder, 'mnt');
    this.#fuseFolder = join(folder, 'fuse');
  }

  /** Attaches an export; detached again with the test at the latest. */
  static async attach(t: HasTeardown, uri: string): Promise<LoopDisk> {
    const folder = tempFolder(t, 'loop');
    const fuseFolder = join(folder, 'fuse');
    const pidFile = join(folder, 'pid');
    mkdirSync(fuseFolder);
    mkdirSync(join(folder, 'mnt'));
    const fuse = spawn('nbdfuse', ['-P', pidFile, join(fuseFolder, 'disk'), uri], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    fuse.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    try {
      await waitUntil('nbdfuse to attach', STEP_MS, () => {
        if (fuse.exitCode !== null) throw new Error(`nbdfuse ${uri} failed: ${said}`);
        return existsSync(pidFile) && readFileSync(pidFile, 'utf8').trim() !== '';
      });
      const device = await run('losetup', ['-f', '--show', join(fuseFolder, 'disk')]);
      const disk = new LoopDisk(folder, device.trim());
      t.teardown(() => disk.detach());
      return disk;
    } catch (error) {
      fuse.kill('SIGKILL');
      await run('fusermount3', ['-u', '-z', fuseFolder], { codes: [0, 1], limitMs: STEP_MS });
      throw error;
    }
  }

  async mount(options = 'defaults'): Promise<void> {
    await run('mount', ['-o', options, this.device, this.mountPoint], { limitMs: STEP_MS });
    this.#mounted = true;
  }

  async unmount(): Promise<void> {
    await run('umount', [this.mountPoint], { limitMs: STEP_MS });
    this.#mounted = false;
  }

  /** Takes everything down; may be called again. @throws Error naming the steps that failed */
  async detach(): Promise<void> {
    if (!this.#attached) return;
    this.#attached = false;
    const failures: string[] = [];
    const step = async (command: string, args: string[]): Promise<void> => {
      try {
        await run(command, args, { limitMs: STEP_MS });
      } catch (error) {
        failures.push(String(error));
      }
    };
    if (this.#mounted) await step('umount', [this.mountPoint]);
    await step('losetup', ['-d', this.device]);
    await step('fusermount3', ['-u', '-z', this.#fuseFolder]);
    this.#mounted = false;
    if (failures.length > 0) throw new Error(failures.join('\n'));
  }
}
