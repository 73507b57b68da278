import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import type { FileResult } from './run-file.js';
import { runFile } from './run-file.js';

const folder = tempFolder(t);
/** In which a program certainly begins. */
const HANGS_MS = 10_000;

/** Runs a program of these lines as if it were a test. */
function runLines(name: string, lines: readonly string[], limitMs?: number): Promise<FileResult> {
  const path = join(folder, `${name}.mjs`);
  writeFileSync(path, lines.join('\n'));
  return runFile({ path, source: name, system: false }, folder, limitMs);
}

const PASS = "console.log('ok 1 - fine\\n1..1');";

t.test('a test that passes has no problems', async (t) => {
  const result = await runLines('passes', [PASS]);
  t.same(result.problems, []);
  t.equal(result.tally.passed, 1);
});

t.test('a test that runs nothing, crashes or exits with an error has failed', async (t) => {
  const [empty, nothing, crash, exit] = await Promise.all([
    runLines('empty', []),
    runLines('nothing', ["console.log('1..0');"]),
    runLines('crash', [
      PASS,
      "process.kill(process.pid, 'SIGABRT');",
      'await new Promise(() => {});',
    ]),
    runLines('exit', [PASS, 'process.exitCode = 3;']),
  ]);
  t.same(empty.problems, ['ended without a plan']);
  t.same(nothing.problems, ['ran no test']);
  t.same(crash.problems, ['was killed by SIGABRT']);
  t.same(exit.problems, ['exited with 3']);
});

t.test('a test that hangs is stopped at its limit, with what it started', async (t) => {
  const result = await runLines(
    'hangs',
    [
      "import { spawn } from 'node:child_process';",
      "const child = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });",
      "console.log('# sleeper ' + child.pid + ' ' + process.env.TMPDIR);",
      'setInterval(() => undefined, 1000);',
    ],
    HANGS_MS,
  );
  t.equal(result.problems[0], `took longer than ${HANGS_MS / 1000} s`);
  t.match(result.problems.join('\n'), /left behind: process \d+ \(sleep\)/);
  const [, pid = '', temporary = ''] = /# sleeper (\d+) (\S+)/.exec(result.output) ?? [];
  t.not(pid, '');
  t.notOk(existsSync(`/proc/${pid}/cwd/.`), 'the process is gone');
  t.notOk(existsSync(temporary), 'its temp folder too');
});
