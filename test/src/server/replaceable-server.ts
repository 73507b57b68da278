/**
 * A `store-nbd` that is replaced by others while it runs, or after it was killed. Which process serves is known from the lock of the folder,
 * as for anybody. Whatever the test does, all of them are gone when it is.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { HasTeardown } from '../host/temp-folder.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { programPath } from './store-programs.js';

const LIMIT_MS = 30_000;

export interface ReplaceableOptions {
  readonly dir: string;
  /** Beside `--dir`. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class ReplaceableServer {
  readonly #options: ReplaceableOptions;
  readonly #logFile: string;
  readonly #pids = new Set<number>();

  private constructor(options: ReplaceableOptions, logFile: string) {
    this.#options = options;
    this.#logFile = logFile;
  }

  /** Starts the first process and waits until it serves. */
  static async start(t: HasTeardown, options: ReplaceableOptions): Promise<ReplaceableServer> {
    const server = new ReplaceableServer(options, join(tempFolder(t, 'log'), 'log'));
    t.teardown(() => server.#killAll());
    const pid = server.spawn([]);
    await server.#servedBy('the first process', (serving) => serving === pid);
    return server;
  }

  /** What all of them printed and logged. */
  get log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  /** Of the process that serves. */
  get uri(): string {
    return this.log.match(/^nbd\S+/gm)?.at(-1) ?? '';
  }

  /** The process that has the folder; 0: none has. */
  get pid(): number {
    const file = join(this.#options.dir, 'lock');
    if (!existsSync(file)) return 0;
    return Number(/^process (\d+)/.exec(readFileSync(file, 'utf8'))?.[1] ?? 0);
  }

  /** Starts another process, which may or may not come to serve. */
  spawn(more: readonly string[]): number {
    const { dir, args, env } = this.#options;
    const out = openSync(this.#logFile, 'a');
    const child = spawn(programPath('store-nbd'), ['--dir', dir, ...args, ...more], {
      env: { ...process.env, STORE_LOG_FORMAT: 'text', ...env },
      stdio: ['ignore', out, out],
    });
    closeSync(out);
    if (child.pid === undefined) throw new Error('store-nbd cannot be started');
    this.#pids.add(child.pid);
    return child.pid;
  }

  /** A planned restart in one of the two ways. */
  async restart(way: 'SIGUSR2' | '--replace'): Promise<void> {
    const { pid } = this;
    if (way === 'SIGUSR2') process.kill(pid, way);
    else this.spawn([way]);
    await this.#servedBy(`a successor of ${pid}`, (serving) => serving !== pid);
    await waitUntil(`process ${pid} to end`, LIMIT_MS, () => !isAlive(pid));
  }

  /** As a crash: SIGKILL, nobody for a while, then a new process. Returns when that serves. */
  async kill9AndStart(pauseMs: number): Promise<void> {
    const { pid } = this;
    if (pid === 0 || !isAlive(pid)) throw new Error(`no store-nbd serves\n${this.log}`);
    process.kill(pid, 'SIGKILL');
    await waitUntil(`process ${pid} to be gone`, LIMIT_MS, () => !isAlive(pid));
    await sleep(pauseMs);
    const next = this.spawn([]);
    await this.#servedBy(`process ${next} after a kill`, (serving) => serving === next);
  }

  /** Stops the process that serves. */
  async stop(): Promise<void> {
    const { pid } = this;
    process.kill(pid, 'SIGTERM');
    await waitUntil(`process ${pid} to stop`, LIMIT_MS, () => !isAlive(pid));
  }

  /** It serves when it has the folder and has said so. */
  async #servedBy(what: string, isIt: (pid: number) => boolean): Promise<void> {
    const count = this.#announcements();
    try {
      await waitUntil(what, LIMIT_MS, () => {
        const { pid } = this;
        if (pid === 0 || !isIt(pid)) return false;
        this.#pids.add(pid);
        return this.#announcements() > count;
      });
    } catch (error) {
      throw new Error(`${String(error)}\n${this.log}`, { cause: error });
    }
  }

  #announcements(): number {
    return this.log.match(/^nbd(\+unix)?:/gm)?.length ?? 0;
  }

  async #killAll(): Promise<void> {
    for (const pid of this.#pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    await waitUntil('all servers to be gone', LIMIT_MS, () => ![...this.#pids].some(isAlive));
  }
}

/** A process that has ended and was not waited for is none. */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false; // there is no such process: that is the answer
  }
}
