/**
 * Several programs as one: started one after the other, stopped in order, and none left behind. What a benchmark
 * starts, stops and measures is then one process tree, as with servers that are one process.
 *
 * SIGTERM is passed on, first to the part that was started last. If a part ends by itself the others are stopped, and the
 * program fails. If the program is killed its parts get SIGTERM from the kernel.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { messageOf } from '@store/core';
import { programPath } from '../server/store-programs.js';

/** One of the programs. */
export interface Part {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves when it is gone, with how it ended: `0`, another exit code, or a signal. */
  readonly ended: Promise<string>;
}

const LISTEN_MS = 20_000;

export class ProgramParts {
  readonly #parts: Part[] = [];
  /** Aborted when somebody asks us to go. */
  readonly #asked = new AbortController();
  readonly #stopMs: number;

  /** @param stopMs - For each part; all together below what the benchmark waits before it kills. */
  constructor(stopMs: number) {
    this.#stopMs = stopMs;
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
      process.on(signal, () => this.#asked.abort());
  }

  get isAsked(): boolean {
    return this.#asked.signal.aborted;
  }

  /** Starts one of ours. */
  start(name: 'store' | 'store-nbd', args: readonly string[], stdout: 'pipe' | 'ignore'): Part {
    return this.startProgram(programPath(name), args, stdout, name);
  }

  /** A part has our group, so that whoever signals the group reaches it, and never outlives us. */
  startProgram(
    command: string,
    args: readonly string[],
    stdout: 'pipe' | 'ignore' = 'ignore',
    name = command,
  ): Part {
    const wrapper = ['--pdeathsig', 'TERM', command];
    const child = spawn('setpriv', [...wrapper, ...args], { stdio: ['ignore', stdout, 'inherit'] });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message)); // it cannot be started
      child.once('exit', (code, signal) => resolve(signal ?? `${code}`));
    });
    const part = { name, child, ended };
    this.#parts.unshift(part);
    return part;
  }

  /** The first line a part prints, which says that it listens; null if we are asked to go before. */
  async firstLineOf({ name, child, ended }: Part): Promise<string | null> {
    const { stdout } = child;
    if (stdout === null) throw new Error(`${name} has no standard output`);
    const lines = createInterface({ input: stdout });
    const line = new Promise<string>((resolve) => lines.once('line', resolve));
    const failed = ended.then((end) => {
      throw new Error(`${name} ended with ${end}`);
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new Error(`${name} does not listen after ${LISTEN_MS} ms`);
      timer = setTimeout(() => reject(error), LISTEN_MS);
    });
    try {
      return await Promise.race([line, failed, late, this.#aborted()]);
    } finally {
      clearTimeout(timer);
      failed.catch(() => undefined); // its end is told by `ended` from here on
    }
  }

  /** Does `work`, which starts parts, waits until one ends or somebody asks us to go, and stops all. Sets the exit code. */
  async run(name: string, work: () => Promise<void>): Promise<void> {
    try {
      await this.#run(work);
    } catch (error) {
      console.error(`${name}: ${messageOf(error)}`);
      process.exitCode = 1;
    }
  }

  async #run(work: () => Promise<void>): Promise<void> {
    const failures: string[] = [];
    try {
      await work();
      const first = await Promise.race([this.#aborted(), ...this.#parts.map(endOf)]);
      if (first !== null) failures.push(first);
    } finally {
      for (const part of this.#parts) {
        const end = await this.#stop(part);
        if (end !== '0') failures.push(`${part.name} ended with ${end}`);
      }
    }
    if (failures.length > 0) throw new Error([...new Set(failures)].join('; '));
  }

  async #aborted(): Promise<null> {
    const { signal } = this.#asked;
    if (!signal.aborted)
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve, { once: true });
      });
    return null;
  }

  /** Asks a part to go, and makes it go if it does not. @returns How it ended. */
  async #stop({ child, ended }: Part): Promise<string> {
    child.kill('SIGTERM'); // does nothing once it is gone
    const timer = setTimeout(() => child.kill('SIGKILL'), this.#stopMs);
    try {
      return await ended;
    } finally {
      clearTimeout(timer);
    }
  }
}

async function endOf({ name, ended }: Part): Promise<string> {
  return `${name} ended with ${await ended}`;
}
