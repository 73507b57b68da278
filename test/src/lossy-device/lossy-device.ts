import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { HasTeardown } from '../host/temp-folder.js';
import { tempFolder } from '../host/temp-folder.js';
import type { CutReport } from './lossy-backend.js';
import type { LossyRequest } from './lossy-server.js';

const PROGRAM = fileURLToPath(new URL('./lossy-server.js', import.meta.url));
const ANSWER_MS = 20_000;

/** A block device that forgets at a power cut what was not flushed. Runs in a process of its own. */
export class LossyDevice {
  readonly #child: ChildProcess;
  readonly #folder: string;
  #serveCount = 0;

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
  }

  static start(t: HasTeardown, options: { bytes: number; flushLies?: boolean }): LossyDevice {
    const folder = tempFolder(t, 'lossy');
    const child = fork(PROGRAM, [
      `${options.bytes}`,
      ...(options.flushLies === true ? ['flush-lies'] : []),
    ]);
    t.teardown(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    return new LossyDevice(child, folder);
  }

  /** The power is on. @returns The NBD URI of the device */
  async powerOn(): Promise<string> {
    const socket = join(this.#folder, `${++this.#serveCount}.sock`);
    const { uri } = (await this.#ask({ do: 'serve', socket })) as { uri: string }; // its answer to `serve`
    return uri;
  }

  /** The power goes; see `LossyBackend.cut`. */
  async cut(seed: number, keepPercent: number): Promise<CutReport> {
    return (await this.#ask({ do: 'cut', seed, keepPercent })) as CutReport; // its answer to `cut`
  }

  async #ask(request: LossyRequest): Promise<unknown> {
    const answer = once(this.#child, 'message', { signal: AbortSignal.timeout(ANSWER_MS) });
    this.#child.send(request);
    const [message] = (await answer) as [unknown];
    return message;
  }
}
