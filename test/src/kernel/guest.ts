import type { ChildProcessByStdio } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { HasTeardown } from '../host/temp-folder.js';
import type { GuestKernel } from './guest-kernel.js';

/** A virtual machine without hardware acceleration whose console is in our hands. The host is 10.0.2.2 there. */
export class Guest {
  /** Everything on the console so far. */
  console = '';
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
  }

  /**
   * @param disk - Image of a disk the guest has as /dev/vda, read-only.
   * @param more - More arguments for QEMU.
   */
  static boot(
    t: HasTeardown,
    kernel: GuestKernel,
    image: string,
    parameters: string,
    disk: string | null = null,
    more: readonly string[] = [],
  ): Guest {
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...[
          '-accel',
          'tcg',
          '-m',
          disk === null ? '512' : '1024',
          '-smp',
          '1',
          '-nodefaults',
          '-display',
          'none',
        ],
        ...['-kernel', kernel.image, '-initrd', image, '-no-reboot', '-serial', 'stdio'],
        // An emulated processor that had to wait looks to the guest as if its timer were broken.
        ...['-append', `console=ttyS0 quiet panic=-1 no_timer_check ${parameters}`],
        // Node's native parts are built for processors with SSE 4.2
        ...(disk === null ? [] : ['-cpu', 'max', ...diskArguments(disk)]),
        ...['-netdev', 'user,id=host', '-device', 'virtio-net-pci,netdev=host,romfile='],
        ...more,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    t.teardown(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    return new Guest(child);
  }

  /** The guest's messages (lines that start with `@@`), until it powers off or the time is over. */
  async *messages(limitMs: number): AsyncGenerator<string> {
    const limit = setTimeout(() => this.#child.kill('SIGKILL'), limitMs);
    try {
      for await (const line of createInterface({ input: this.#child.stdout })) {
        this.console += `${line}\n`;
        const message = /@@ (.*\S)/.exec(line)?.[1];
        if (message !== undefined) yield message;
      }
    } finally {
      clearTimeout(limit);
    }
  }

  /** Answers the guest. */
  say(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }
}

function diskArguments(path: string): string[] {
  const drive = `file=${path.replaceAll(',', ',,')},format=raw,if=none,id=programs,readonly=on`;
  return ['-drive', drive, '-device', 'virtio-blk-pci,drive=programs'];
}
