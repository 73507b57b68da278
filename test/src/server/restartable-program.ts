/**
 * One of our servers as a process, which is killed and started again in a test. It counts as started when it prints its
 * first line. Whatever the test does, the process is gone when the test is.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { HasTeardown } from '../host/temp-folder.js';
import { programPath } from './store-programs.js';

const START_MS = 30_000;
const STOP_MS = 30_000;

export abstract class RestartableProgram {
  readonly #name: string;
  #child: ChildProcess | null = null;
  #log = '';

  /** @param name - For messages: `store file-store`. */
  protected constructor(t: HasTeardown, name: string) {
    this.#name = name;
    t.teardown(() => this.#end());
  }

  /** Of `store`, for the next start. */
  protected abstract get args(): readonly string[];

  /** A program and its arguments that start `store` in their own way, as the process that they are. */
  protected get wrapper(): readonly string[] {
    return [];
  }

  /** Of the next start. */
  protected get environment(): NodeJS.ProcessEnv {
    return process.env;
  }

  /** Takes the line with which it says that it serves. */
  protected abstract announced(line: string): void;

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

  /** A new process at the same place. Returns when it serves. @throws Error with what it said, if it does not */
  async startAgain(): Promise<void> {
    if (this.running) throw new Error(this.#say('is running already'));
    const [command = '', ...args] = [...this.wrapper, programPath('store'), ...this.args];
    const child = spawn(command, args, {
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.announced(await this.#firstLineOf(child));
  }

  /** It does nothing at all until it is resumed. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
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

  /** Waits until it ends by itself. @returns The exit code, null after a signal */
  async exited(limitMs = STOP_MS): Promise<number | null> {
    const child = this.#child;
    if (child === null || !this.running) return child?.exitCode ?? null;
    const exit = once(child, 'exit', { signal: AbortSignal.timeout(limitMs) });
    const [code] = (await exit) as [number | null]; // the arguments of 'exit'
    return code;
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
    return `${this.#name} ${what}\n${this.#log}`;
  }

  async #firstLineOf(child: ChildProcess): Promise<string> {
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
        const line = /^(.*)\n/.exec(printed)?.[1];
        if (line === undefined) return;
        clearTimeout(limit);
        resolve(line);
      });
      child.once('error', (error) => reject(error));
      child.once('exit', (code, signal) => {
        clearTimeout(limit);
        reject(new Error(this.#say(`exited with ${code ?? signal} before it served`)));
      });
    });
  }
}
