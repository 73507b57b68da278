/** For tests: runs the real program `store` as people run it, in a folder of the test. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const PROGRAM = fileURLToPath(new URL('../bin/store.js', import.meta.url));
/** The environment without what a developer may have set. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('STORE_')),
);

/** Runs `store` with `args` in the folder `cwd`. */
export async function runStore(
  cwd: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Result> {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd,
    env: { ...environment, ...env },
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  const [code] = (await once(child, 'close')) as [number | null]; // the arguments of 'close'
  return { code, ...output };
}

/** It did what it was told, and complained of nothing. */
export function succeeded(t: Test, result: Result, says: RegExp): void {
  t.equal(result.code, 0, result.stderr);
  t.equal(result.stderr, '');
  t.match(result.stdout, says);
}

/** One line on standard error, nothing on standard output, no stack trace. */
export function failed(t: Test, result: Result, code: number, says: RegExp): void {
  t.equal(result.code, code, says.source);
  t.equal(result.stdout, '');
  t.equal(result.stderr.trimEnd().split('\n').length, 1, 'one line');
  t.match(result.stderr, says);
  t.notMatch(result.stderr, /\n\s+at /);
}
