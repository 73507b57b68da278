/** `attach --detach`: the same program again, in a session of its own, until it has said which device it is. */
import { spawn } from 'node:child_process';
import { StoreError } from '@store/core';

/** Longer than dialling sixteen times can take when a server is slow. */
const READY_MS = 180_000;
const OUTPUT_CHARACTERS_MAX = 64 * 1024;

/**
 * Starts this program with `args` in the background.
 * @returns Its first line
 * @throws StoreError `E_SYSTEM` with what it said, if it ends before it prints one
 */
export function startInBackground(args: readonly string[]): Promise<string> {
  const [, script = ''] = process.argv;
  const child = spawn(process.execPath, [...process.execArgv, script, ...args], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return new Promise((resolve, reject) => {
    let [said, printed] = ['', ''];
    const limit = setTimeout(() => {
      child.kill('SIGKILL');
      reject(
        new StoreError('E_TIMEOUT', `Not attached within ${READY_MS / 1000} s${because(said)}`),
      );
    }, READY_MS);
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-OUTPUT_CHARACTERS_MAX);
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      const [line, rest] = printed.split('\n');
      if (line === undefined || rest === undefined) return;
      clearTimeout(limit);
      child.removeAllListeners();
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve(line);
    });
    child.once('error', (error) => {
      clearTimeout(limit);
      reject(new StoreError('E_SYSTEM', `Cannot start: ${error.message}`, { cause: error }));
    });
    child.once('close', () => {
      clearTimeout(limit);
      reject(new StoreError('E_SYSTEM', lastLine(said)));
    });
  });
}

function because(said: string): string {
  return said === '' ? '' : `: ${lastLine(said)}`;
}

/** What the program said at last, without its own name. */
function lastLine(said: string): string {
  const line = said.trimEnd().split('\n').at(-1) ?? '';
  return line === '' ? 'It ended without a word' : line.replace(/^store-nbd: /, '');
}
