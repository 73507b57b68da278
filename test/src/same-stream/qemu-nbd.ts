import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { HasTeardown } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';

/** `qemu-nbd` serving a raw file on a Unix socket, until the test ends or `stop`. */
export class QemuNbd {
  readonly uri: string;
  readonly stop: () => Promise<void>;

  private constructor(uri: string, stop: () => Promise<void>) {
    this.uri = uri;
    this.stop = stop;
  }

  static async start(t: HasTeardown, file: string, socket: string): Promise<QemuNbd> {
    const args = ['-f', 'raw', '-t', '-e', '4', '-x', 'vm1', '-k', socket, '--discard=unmap', file];
    const child = spawn('qemu-nbd', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const stop = async (): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit', { signal: AbortSignal.timeout(10_000) });
      child.kill('SIGTERM');
      await exit;
    };
    t.teardown(stop);
    await waitUntil('qemu-nbd', 10_000, () => {
      if (child.exitCode !== null)
        throw new Error(`qemu-nbd exited with ${child.exitCode}\n${said}`);
      return existsSync(socket);
    });
    return new QemuNbd(`nbd+unix:///vm1?socket=${socket}`, stop);
  }
}
