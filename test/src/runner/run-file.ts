import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MARK_VARIABLE, sweep } from './sweep.js';
import type { TapTally } from './tap-tally.js';
import { tallyTap } from './tap-tally.js';
import type { TestFile } from './test-files.js';

/** How one test program ended. */
export interface FileResult {
  readonly file: TestFile;
  readonly tally: TapTally;
  readonly ms: number;
  /** Why the file failed, apart from its failed tests. */
  readonly problems: readonly string[];
  /** Everything it printed, standard output and error as they came. */
  readonly output: string;
}

/** For what hangs: tests have limits of their own, and a busy machine takes its time. */
const UNIT_MS_MAX = 600_000;
const SYSTEM_MS_MAX = 1_200_000;
/** A test that was asked to stop gets this long for its own teardown. */
const GRACE_MS = 15_000;
/** More output than this is a runaway; the rest is dropped and the file fails. */
const OUTPUT_CHARS_MAX = 64 * 1024 * 1024;
/** How long after its end the last output of a program may take to arrive. */
const OUTPUT_MS = 3000;

/** Temp folders of the tests that run now. */
const running = new Set<string>();

/** Takes down what the running tests have set up, before the runner itself is stopped. */
export function sweepRunning(): void {
  for (const folder of running) sweep(folder, folder);
}

/** Runs one test program in a temp folder of its own, and takes down whatever it leaves behind. */
export async function runFile(
  file: TestFile,
  root: string,
  limitMs: number = file.system ? SYSTEM_MS_MAX : UNIT_MS_MAX,
): Promise<FileResult> {
  const folder = mkdtempSync(join(tmpdir(), 'store-test-'));
  running.add(folder);
  const startedMs = Date.now();
  const { output, problems } = await runProgram(file.path, root, folder, limitMs);
  const ms = Date.now() - startedMs;
  for (const thing of sweep(folder, folder)) problems.push(`left behind: ${thing}`);
  running.delete(folder);
  const tally = tallyTap(output.stdout);
  if (tally.malformed !== null) problems.push(tally.malformed);
  else if (tally.passed + tally.failed + tally.skipped.length === 0) problems.push('ran no test');
  return { file, tally, ms, problems, output: output.all };
}

interface Program {
  output: { stdout: string; all: string };
  problems: string[];
}

function runProgram(path: string, root: string, folder: string, limitMs: number): Promise<Program> {
  return new Promise((resolve) => {
    const problems: string[] = [];
    const output = { stdout: '', all: '' };
    const child = spawn(process.execPath, ['--enable-source-maps', path], {
      cwd: root,
      env: { ...process.env, TMPDIR: folder, [MARK_VARIABLE]: folder, TAP_TIMEOUT: `${limitMs}` },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const limit = setTimeout(() => {
      problems.push(`took longer than ${limitMs / 1000} s`);
      child.kill('SIGTERM');
    }, limitMs);
    const lastResort = setTimeout(() => child.kill('SIGKILL'), limitMs + GRACE_MS);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (output.all.length > OUTPUT_CHARS_MAX) return;
      output.stdout += text;
      output.all += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (output.all.length <= OUTPUT_CHARS_MAX) output.all += text;
    });
    child.on('error', (error) => problems.push(`could not be started: ${error.message}`));
    child.on('exit', (code, signal) => {
      clearTimeout(limit);
      clearTimeout(lastResort);
      if (signal !== null) problems.push(`was killed by ${signal}`);
      else if (code !== 0) problems.push(`exited with ${code}`);
      // Something the test left running may hold its output open for ever.
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, OUTPUT_MS).unref();
    });
    child.on('close', () => {
      if (output.all.length > OUTPUT_CHARS_MAX) problems.push('printed more than 64 MiB');
      resolve({ output, problems });
    });
  });
}
