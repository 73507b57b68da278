/** For tests: runs the real programs as people run them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import type { Result } from './run-store.js';

export type Program = 'store' | 'store-nbd' | 'store-image';

/** A program that serves. */
export interface Serving {
  readonly child: ChildProcess;
  /** The first that it printed: where it serves. */
  readonly line: string;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

/** The environment without what a developer may have set. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('STORE_')),
);

export function start(
  program: Program,
  args: readonly string[],
  env: Record<string, string> = {},
): ChildProcess {
  const path = fileURLToPath(new URL(`../bin/${program}.js`, import.meta.url));
  return spawn(process.execPath, [path, ...args], { env: { ...environment, ...env } });
}

/** Runs a program to its end. What it prints is given as one character a byte. */
export async function run(
  program: Program,
  args: readonly string[],
  options: { env?: Record<string, string>; input?: Buffer } = {},
): Promise<Result> {
  const child = start(program, args, options.env);
  const output = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('latin1').on('data', (text: string) => (output.stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  child.stdin?.end(options.input);
  const [code] = (await once(child, 'close')) as [number | null]; // the arguments of 'close'
  return { code, ...output };
}

/** Starts a program that serves, and waits until it says where. It is killed when the test ends. */
export async function serving(
  t: Test,
  program: Program,
  args: readonly string[],
): Promise<Serving> {
  const child = start(program, args);
  let stdout = '';
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  t.teardown(() => child.kill('SIGKILL'));
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      if (stdout.includes('\n')) resolve(stdout.slice(0, stdout.indexOf('\n')));
    });
    child.once('exit', (code) => reject(new Error(`exited with ${code}: ${stderr}`)));
  });
  return { child, line, stdout: () => stdout, stderr: () => stderr };
}

/** Waits until `holds`, for a minute. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 1200; tries += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`A minute has passed without: ${what}`);
}
