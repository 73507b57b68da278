/**
 * A running `store file-store`. It counts as started when it prints where clients connect. Whatever the test does, the
 * process is gone when the test is.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { HasTeardown } from '../host/temp-folder.js';
import { programPath } from './store-programs.js';

export interface StorageDaemonOptions {
  /** The data folder. */
  readonly dir: string;
  /** More arguments. */
  readonly args?: readonly string[];
  /** Where clients connect: on 127.0.0.1 on a free port, which stays the same when it starts again. */
  readonly port?: number;
}

const HOST = '127.0.0.1';
const START_MS = 30_000;
const STOP_MS = 30_000;

export class StorageDaemon {
  readonly #options: StorageDaemonOptions;
  #child: ChildProcess | null = null;
  #log = '';
  #port: number;

  private constructor(options: StorageDaemonOptions) {
    this.#options = options;
    this.#port = options.port ?? 0;
  }

  /** Starts the program and waits until it serves. @throws Error with what it said, if it does not */
  static async start(t: HasTeardown, options: StorageDaemonOptions): Promise<StorageDaemon> {
    const daemon = new StorageDaemon(options);
    t.teardown(() => daemon.#end());
    await daemon.startAgain();
    return daemon;
  }

  /** `127.0.0.1:PORT`, as `--storage-daemon` takes it. */
  get address(): string {
    return `${HOST}:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** What all its processes logged so far. */
  get log(): string {
    return this.#log;
  }

  get running(): boolean {
    const child = this.#child;
    return child !== null && child.exitCode === null && child.signalCode === null;
  }

  get pid(): number {
    if (this.#child?.pid === undefined || !this.running)
      throw new Error(this.#say('is not running'));
    return this.#child.pid;
  }

  /** A new process on the same folder and port. Returns when it serves. */
  async startAgain(): Promise<void> {
    if (this.running) throw new Error(this.#say('is running already'));
    const { dir, args = [] } = this.#options;
    const child = spawn(
      programPath('store'),
      ['file-store', '--dir', dir, '--listen-address', this.address, ...args],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.#port = await this.#portPrintedBy(child);
  }

  /** As a crash: SIGKILL, no chance to do anything. */
  async kill9(): Promise<void> {
    const { pid } = this;
    await this.#exitAfter(() => process.kill(pid, 'SIGKILL'));
  }

  /** Asks it to stop, as an operator does. @throws Error unless it exits with 0 in time */
  async stop(): Promise<void> {
    const { pid } = this;
    const code = await this.#exitAfter(() => process.kill(pid, 'SIGTERM'));
    if (code !== 0) throw new Error(this.#say(`exited with ${code} after SIGTERM`));
  }

  async #exitAfter(action: () => unknown): Promise<number | null> {
    const child = this.#child;
    if (child === null || !this.running) throw new Error(this.#say('is not running'));
    const exit = once(child, 'exit', { signal: AbortSignal.timeout(STOP_MS) });
    action();
    const [code] = (await exit) as [number | null]; // the arguments of 'exit'
    return code;
  }

  async #end(): Promise<void> {
    if (this.running) await this.kill9();
  }

  #say(what: string): string {
    return `store file-store ${what}\n${this.#log}`;
  }

  /** Waits for the line with the address, which is the program's word that it serves. */
  async #portPrintedBy(child: ChildProcess): Promise<number> {
    const { stdout } = child;
    if (stdout === null) throw new Error('standard output is a pipe');
    let printed = '';
    return new Promise((resolve, reject) => {
      const limit = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(this.#say(`did not serve within ${START_MS} ms`)));
      }, START_MS);
      stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
        const port = /^\S+:(\d+)\n/.exec(printed)?.[1];
        if (port === undefined) return;
        clearTimeout(limit);
        resolve(Number(port));
      });
      child.once('error', (error) => reject(error));
      child.once('exit', (code, signal) => {
        clearTimeout(limit);
        reject(new Error(this.#say(`exited with ${code ?? signal} before it served`)));
      });
    });
  }
}
