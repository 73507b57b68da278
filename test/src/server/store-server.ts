/**
 * A running `store-nbd`. It counts as started when it prints its NBD URI. Whatever the test does, the process
 * is gone when the test is.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { reservePort } from '@store/core/testing';
import type { HasTeardown } from '../host/temp-folder.js';
import { programPath } from './store-programs.js';

export interface StoreServerOptions {
  /** The data folder; without it `args` name a daemon. */
  readonly dir?: string;
  readonly image: string;
  /** Creates the image if it is not there (unless `readOnly`). */
  readonly createBytes?: number;
  /** Unix socket; without it a port of 127.0.0.1. */
  readonly socket?: string;
  readonly port?: number;
  readonly readOnly?: boolean;
  /** More arguments. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A program and its arguments that start `store-nbd` in their own way. */
  readonly wrapper?: readonly string[];
}

const START_MS = 30_000;
const STOP_MS = 30_000;

export class StoreServer {
  readonly uri: string;
  readonly #child: ChildProcess;
  readonly #log: { text: string };

  private constructor(child: ChildProcess, uri: string, log: { text: string }) {
    this.#child = child;
    this.uri = uri;
    this.#log = log;
  }

  /** Starts the program and waits until it serves. @throws Error with what it said, if it does not */
  static async start(t: HasTeardown, options: StoreServerOptions): Promise<StoreServer> {
    const [command = '', ...args] = [
      ...(options.wrapper ?? []),
      programPath('store-nbd'),
      ...storeNbdArguments(options, options.port ?? (await reservePort())),
    ];
    const child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = { text: '' };
    child.stderr.setEncoding('utf8').on('data', (text: string) => (log.text += text));
    t.teardown(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    return new StoreServer(child, await uriPrintedBy(child, log), log);
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('store-nbd is not running');
    return this.#child.pid;
  }

  /** What it logged so far. */
  get log(): string {
    return this.#log.text;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** As a crash: SIGKILL, no chance to do anything. */
  async kill9(): Promise<void> {
    if (!this.running) throw new Error(`store-nbd was dead already\n${this.log}`);
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  /** Asks it to stop, as an operator does. @throws Error unless it exits with 0 in time */
  async stop(): Promise<void> {
    const code = await this.exitAfter(() => this.#child.kill('SIGTERM'));
    if (code !== 0) throw new Error(`store-nbd exited with ${code} after SIGTERM\n${this.log}`);
  }

  /** Does something that ends the process. @returns The exit code, null after a signal */
  async exitAfter(action: () => unknown, limitMs = STOP_MS): Promise<number | null> {
    if (!this.running) return this.#child.exitCode;
    const exit = once(this.#child, 'exit', { signal: AbortSignal.timeout(limitMs) });
    await action();
    const [code] = (await exit) as [number | null]; // the arguments of 'exit'
    return code;
  }
}

function storeNbdArguments(options: StoreServerOptions, port: number): string[] {
  const where = options.socket === undefined ? ['--port', `${port}`] : ['--socket', options.socket];
  return [
    ...(options.dir === undefined ? [] : ['--dir', options.dir]),
    ...['--pool', 'testpool', '--image', options.image],
    ...(options.createBytes === undefined || options.readOnly === true
      ? []
      : ['--create', '--size', `${options.createBytes}`]),
    ...(options.readOnly === true ? ['--read-only'] : []),
    ...where,
    ...(options.args ?? []),
  ];
}

/** Waits for the line with the URI, which is the program's word that it serves. */
async function uriPrintedBy(child: ChildProcess, log: { text: string }): Promise<string> {
  const { stdout } = child;
  if (stdout === null) throw new Error('standard output is a pipe');
  let printed = '';
  return new Promise((resolve, reject) => {
    const fail = (why: string): void =>
      reject(new Error(`store-nbd ${why}\n${printed}${log.text}`));
    const limit = setTimeout(() => {
      child.kill('SIGKILL');
      fail(`did not serve within ${START_MS} ms`);
    }, START_MS);
    stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      const uri = /\bnbds?(?:\+unix)?:\/\/\S+(?=\s)/.exec(printed)?.[0];
      if (uri === undefined) return;
      clearTimeout(limit);
      resolve(uri);
    });
    child.once('error', (error) => fail(`could not be started: ${error.message}`));
    child.once('exit', (code, signal) => {
      clearTimeout(limit);
      fail(`exited with ${code ?? signal} before it served`);
    });
  });
}
