/**
 * A running `store master` that keeps its state in an etcd. It counts as started when it prints where it listens, which
 * stays the same when it starts again. Whatever the test does, the process is gone when the test is.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { HasTeardown } from '../host/temp-folder.js';
import { programPath } from './store-programs.js';

export interface MasterProgramOptions {
  /** Of etcd, as this master reaches it. */
  readonly endpoints: readonly string[];
  /** Its own. */
  readonly stateDir: string;
  /** As `NODE_OPTIONS`. */
  readonly nodeOptions?: string;
}

interface Places {
  readonly peerAddress: string;
  readonly listenAddress: string;
  readonly httpAddress: string;
}

const START_MS = 30_000;
const STOP_MS = 30_000;
const ANY = '127.0.0.1:0';

export class MasterProgram {
  readonly #options: MasterProgramOptions;
  #child: ChildProcess | null = null;
  #log = '';
  #places: Places = { peerAddress: ANY, listenAddress: ANY, httpAddress: `http://${ANY}` };

  private constructor(options: MasterProgramOptions) {
    this.#options = options;
  }

  /** Starts the program and waits until it listens. @throws Error with what it said, if it does not */
  static async start(t: HasTeardown, options: MasterProgramOptions): Promise<MasterProgram> {
    const master = new MasterProgram(options);
    t.teardown(async () => {
      if (master.running) await master.kill9();
    });
    await master.startAgain();
    return master;
  }

  /** Where daemons connect, `127.0.0.1:PORT`. */
  get peer(): string {
    return this.#places.peerAddress;
  }

  /** Where clients do. */
  get listen(): string {
    return this.#places.listenAddress;
  }

  /** What all its processes logged so far. */
  get log(): string {
    return this.#log;
  }

  get running(): boolean {
    const child = this.#child;
    return child !== null && child.exitCode === null && child.signalCode === null;
  }

  /** A new process in its place. Returns when it listens. */
  async startAgain(): Promise<void> {
    if (this.running) throw new Error(this.#say('is running already'));
    const { endpoints, stateDir, nodeOptions = '' } = this.#options;
    const { peerAddress, listenAddress, httpAddress } = this.#places;
    const child = spawn(
      programPath('store'),
      [
        ...['master', '--json', '--etcd', endpoints.join(','), '--state-dir', stateDir],
        ...['--peer-address', peerAddress, '--listen-address', listenAddress],
        ...['--http', httpAddress.replace('http://', '')],
      ],
      { env: { ...process.env, NODE_OPTIONS: nodeOptions }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.#child = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.#places = await this.#placesPrintedBy(child);
  }

  /** As a crash: SIGKILL, no chance to do anything. */
  async kill9(): Promise<void> {
    const child = this.#child;
    if (child === null || !this.running) throw new Error(this.#say('is not running'));
    const exit = once(child, 'exit', { signal: AbortSignal.timeout(STOP_MS) });
    child.kill('SIGKILL');
    await exit;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** It does nothing at all until it is resumed. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** What `/healthz` answers: 200 or 503. */
  async health(): Promise<number> {
    const signal = AbortSignal.timeout(STOP_MS);
    return (await fetch(`${this.#places.httpAddress}/healthz`, { signal })).status;
  }

  #say(what: string): string {
    return `store master ${what}\n${this.#log}`;
  }

  /** Waits for the line with the addresses, which is the program's word that it listens. */
  async #placesPrintedBy(child: ChildProcess): Promise<Places> {
    const { stdout } = child;
    if (stdout === null) throw new Error('standard output is a pipe');
    let printed = '';
    return new Promise((resolve, reject) => {
      const limit = setTimeout(() => {
        child.kill('SIGKILL');
        reject(new Error(this.#say(`did not listen within ${START_MS} ms`)));
      }, START_MS);
      stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
        if (!printed.includes('\n')) return;
        clearTimeout(limit);
        resolve(JSON.parse(printed) as Places);
      });
      child.once('error', (error) => reject(error));
      child.once('exit', (code, signal) => {
        clearTimeout(limit);
        reject(new Error(this.#say(`exited with ${code ?? signal} before it listened`)));
      });
    });
  }
}
