import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** How a command ended and what it said. */
export interface CommandResult {
  /** Exit code; 128 + signal number is not invented: a killed command has `null`. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Killed after this long; 60 s unless told. */
  readonly limitMs?: number;
  /** Given on standard input, which is empty otherwise. */
  readonly input?: string;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Exit codes that are no failure; only 0 unless told. */
  readonly codes?: readonly number[];
  readonly cwd?: string;
}

/**
 * Runs a command to its end, however it ends.
 * @throws Error if it cannot be started or takes too long
 */
export function runAnyway(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const limitMs = options.limitMs ?? 60_000;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    let late = false;
    const limit = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
      // A process stuck in the kernel does not die; its output must not hold the test.
      child.stdout.destroy();
      child.stderr.destroy();
      reject(new Error(`${describe(command, args)} took longer than ${limitMs} ms\n${stderr}`));
    }, limitMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', (error) => {
      clearTimeout(limit);
      reject(new Error(`${describe(command, args)}: ${error.message}`, { cause: error }));
    });
    child.on('close', (code) => {
      clearTimeout(limit);
      if (!late) resolve({ code, stdout, stderr });
    });
    child.stdin.on('error', () => undefined); // a command may end without reading its input
    child.stdin.end(options.input ?? '');
  });
}

/**
 * Runs a command that must succeed.
 * @returns What it printed on standard output.
 * @throws Error with everything it said, if it does not
 */
export async function run(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await runAnyway(command, args, options);
  if (result.code !== null && (options.codes ?? [0]).includes(result.code)) return result.stdout;
  throw new Error(
    `${describe(command, args)} exited with ${result.code}\n${result.stdout}${result.stderr}`,
  );
}

function describe(command: string, args: readonly string[]): string {
  return [command, ...args].join(' ');
}

const EXTRA_PATH = ['/usr/sbin', '/sbin'];

/** Whether a program of that name can be started. */
export function isInstalled(command: string): boolean {
  const folders = (process.env['PATH'] ?? '').split(':');
  return [...folders, ...EXTRA_PATH].some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false; // not here: that is the answer
    }
  });
}
