/**
 * The programs a run has started, and the folders it made: whatever ends the run, they end too. Each program leads a
 * process group of its own, so that Ctrl-C reaches this program alone, which then stops them one by one.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** What a client printed. */
export interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Killed after this long. */
  readonly limitMs: number;
}

const CLIENTS: ReadonlySet<string> = new Set(['fio', 'nbdcopy', 'nbdinfo']);
const OUTPUT_BYTES_MAX = 16 * 1024 ** 2;
const EXIT_MS = 10_000;

export class Programs {
  readonly #undo: (() => unknown)[] = [];
  readonly #clients = new Set<ChildProcess>();
  #interrupted: string | null = null;

  /** Why the run is to end early; null while it is not. */
  get interrupted(): string | null {
    return this.#interrupted;
  }

  /** The last step given is the first taken. */
  atEnd(step: () => unknown): void {
    this.#undo.push(step);
  }

  /** Ends the clients that run; everything after that fails. */
  interrupt(reason: string): void {
    this.#interrupted = reason;
    for (const client of this.#clients) killGroup(client);
  }

  /** @throws Error once the run was interrupted */
  check(): void {
    if (this.#interrupted !== null) throw new Error(`Interrupted by ${this.#interrupted}`);
  }

  /** Runs a client to its end. @throws Error unless it exits with 0 in time */
  async run(command: string, args: readonly string[], options: RunOptions): Promise<Output> {
    this.check();
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#clients.add(child);
    const stdout = collect(child.stdout);
    const stderr = collect(child.stderr);
    const killed = { late: false };
    const limit = setTimeout(() => {
      killed.late = true;
      killGroup(child);
    }, options.limitMs);
    try {
      const [code, signal] = (await once(child, 'close')) as [number | null, string | null]; // as documented
      this.check();
      const name = args.find((arg) => CLIENTS.has(arg)) ?? command; // behind a wrapper
      if (killed.late) throw new Error(`${name} took longer than ${options.limitMs} ms`);
      if (code !== 0)
        throw new Error(`${name} ended with ${code ?? signal}: ${inOneLine(stderr())}`);
      return { stdout: stdout(), stderr: stderr() };
    } finally {
      clearTimeout(limit);
      this.#clients.delete(child);
    }
  }

  /** Takes every step back. @throws Error naming the steps that failed, after all were tried */
  async end(): Promise<void> {
    const failures: string[] = [];
    for (let step = this.#undo.pop(); step !== undefined; step = this.#undo.pop())
      try {
        await step();
      } catch (error) {
        failures.push(String(error));
      }
    if (failures.length > 0) throw new Error(failures.join('\n'));
  }
}

/** Asks a process to go, and makes it go if it does not. */
export async function stopProcess(pid: number, isGone: () => boolean): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (isGone()) return;
    send(pid, signal);
    const endMs = performance.now() + EXIT_MS;
    while (!isGone() && performance.now() < endMs)
      await new Promise((resolve) => setTimeout(resolve, 10));
  }
  if (!isGone()) throw new Error(`process ${pid} does not end`);
}

/** The last part of what a stream says. */
export function collect(stream: NodeJS.ReadableStream): () => string {
  let text = '';
  stream.setEncoding('utf8').on('data', (chunk: string) => {
    text = (text + chunk).slice(-OUTPUT_BYTES_MAX);
  });
  return () => text;
}

/** Threads that fail alike say the same. */
function inOneLine(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return [...new Set(lines)]
    .filter((line) => line !== '')
    .join('; ')
    .slice(0, 400);
}

function killGroup(child: ChildProcess): void {
  if (child.pid !== undefined && child.exitCode === null) send(-child.pid, 'SIGKILL');
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // gone already, which is what was wanted
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // what kill() throws
  }
}
