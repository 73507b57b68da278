/** One of our programs in a process of its own, which says with its first line of output that it serves. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface ProgramOutput {
  /** A line of its log. */
  error(line: string): void;
}

/** After so long without an end it is killed. */
const STOP_MS = 20_000;

export class ChildProgram {
  readonly name: string;
  /** Its first line of output. Never settles if it ends before. */
  readonly announced: Promise<string>;
  /** Its exit code; null: a signal ended it. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #isOver = false;

  /** @param program - `store`, `store-nbd`, `store-image` */
  constructor(name: string, program: string, args: readonly string[], output: ProgramOutput) {
    this.name = name;
    const path = fileURLToPath(new URL(`../../bin/${program}.js`, import.meta.url));
    // A process group of its own: Ctrl-C is for us, and we stop them in order, once each.
    const child = spawn(process.execPath, [path, ...args, '--log-format', 'text'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: ownEnvironment(),
    });
    this.#child = child;
    createInterface({ input: child.stderr }).on('line', (line) => output.error(line));
    this.announced = new Promise((resolve) => {
      createInterface({ input: child.stdout }).once('line', resolve);
    });
    this.ended = new Promise((resolve) => {
      const over = (code: number | null): void => {
        this.#isOver = true;
        resolve(code);
      };
      child.once('close', over);
      child.once('error', () => over(null));
    });
  }

  /** Asks it to stop, and resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#isOver) return;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    await this.ended;
    clearTimeout(timer);
  }
}

/** Variables that are no settings: what stands in the others names another store. */
const PASSED_ON: readonly string[] = ['STORE_IO_URING', 'STORE_LOOK_OUT'];

/** Without what the user has set for other programs: they get all of it as flags. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const isPassedOn = (name: string): boolean =>
    !name.startsWith('STORE_') || PASSED_ON.includes(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isPassedOn(name)));
}
