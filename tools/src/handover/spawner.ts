/** Starts the process that shall go on for this one, and notices when it dies before it has said a word. */
import { spawn, type ChildProcess } from 'node:child_process';
import type { Log } from '@store/core';

/** From its start until it calls. */
const CALL_MS = 60_000;

export class Spawner {
  readonly #log: Log;
  readonly #failed: () => void;
  #child: ChildProcess | null = null;
  #limit: NodeJS.Timeout | null = null;

  /** @param failed - Called when a process that was started does not call. */
  constructor(log: Log, failed: () => void) {
    this.#log = log;
    this.#failed = failed;
  }

  /** A process was started, and it is not clear yet what becomes of it. */
  get isBusy(): boolean {
    return this.#child !== null;
  }

  /** Starts this program again, as it was started, to replace this process. */
  start(): void {
    const args = [...process.execArgv, ...process.argv.slice(1)];
    if (!args.includes('--replace')) args.push('--replace');
    // A session of its own: it shall live on when this process and its terminal do not.
    const child = spawn(process.execPath, args, { stdio: 'inherit', detached: true });
    child.unref();
    this.#child = child;
    child.once('error', (error) => this.#fail(child, `could not be started: ${error.message}`));
    child.once('exit', (code, signal) =>
      this.#fail(child, `ended with ${code ?? signal ?? '?'} before it called`),
    );
    this.#limit = setTimeout(() => {
      child.kill('SIGKILL');
      this.#fail(child, `did not call within ${CALL_MS / 1000} s`);
    }, CALL_MS);
    this.#limit.unref();
    this.#log.info(
      { process: child.pid },
      'SIGUSR2: a new process is starting, which will take over',
    );
  }

  /** It has called: what becomes of it is the hand-over's business. */
  called(): void {
    if (this.#limit !== null) clearTimeout(this.#limit);
    this.#limit = null;
  }

  /** The hand-over is over, and this process goes on. */
  reset(): void {
    this.called();
    this.#child = null;
  }

  /** This process stops: one that was started and has not called would only serve against the user's will. */
  cancel(): void {
    const child = this.#limit === null ? null : this.#child;
    this.reset();
    child?.kill('SIGTERM');
  }

  #fail(child: ChildProcess, why: string): void {
    if (this.#child !== child || this.#limit === null) return;
    this.reset();
    this.#log.error({ process: child.pid }, `The new process ${why}: serving on`);
    this.#failed();
  }
}
