/**
 * What a test left on the machine, and its removal. Every test runs in a temp folder of its own and with a
 * mark in its environment, which its children inherit; so whatever a killed test could not take down itself
 * (processes, mounts, loop devices) is found again from outside. The order matters: processes first, mounts
 * from the innermost out, then what they stood on.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';

/** Environment variable that marks the processes of one test. */
export const MARK_VARIABLE = 'STORE_TEST_MARK';

const STEP_MS = 10_000;

/** Kills, unmounts and detaches what belongs to the test; returns a line for each thing it found. */
export function sweep(folder: string, mark: string): string[] {
  const left = killMarked(mark);
  const real = realpathSync(folder);
  // Looked up first: without the mount below it, a loop device does not show the name of its file.
  const loops = loopsBelow(real);
  for (const { source, target, type } of mountsBelow(real)) {
    left.push(`mount ${target} (${type})`);
    step('umount', type.startsWith('fuse') ? ['-l', target] : [target]);
    if (mountsBelow(target).length > 0) step('umount', ['-l', target]);
    if (source.startsWith('/dev/loop')) step('losetup', ['-d', source]);
  }
  for (const device of loops) {
    left.push(`loop device ${device}`);
    step('losetup', ['-d', device]);
  }
  if (mountsBelow(real).length > 0) left.push(`${real} is still mounted and was not removed`);
  else rmSync(real, { recursive: true, force: true });
  return left;
}

/** Kills until nobody is left: a process may start another while it is looked for, and takes a moment to end. */
function killMarked(mark: string): string[] {
  const killed = new Map<number, string>();
  const endMs = performance.now() + STEP_MS;
  for (;;) {
    const alive = markedProcesses(mark);
    if (alive.length === 0 || performance.now() > endMs) break;
    for (const { pid, name } of alive) {
      killed.set(pid, name);
      killIfAlive(pid);
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
  return [...killed].map(([pid, name]) => `process ${pid} (${name})`);
}

/** Living processes that carry the mark. A process that is exiting has no environment any more. */
function markedProcesses(mark: string): { pid: number; name: string }[] {
  const found: { pid: number; name: string }[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const environment = readOrEmpty(`/proc/${entry}/environ`).split('\0');
    if (environment.includes(`${MARK_VARIABLE}=${mark}`))
      found.push({ pid, name: readOrEmpty(`/proc/${entry}/comm`).trim() });
  }
  return found;
}

/** Processes come and go while they are listed, and some are not ours to read: both count as unmarked. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function killIfAlive(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Mounts at or below a folder, the newest first. */
export function mountsBelow(folder: string): { source: string; target: string; type: string }[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .map(([source = '', target = '', type = '']) => ({ source, target, type }))
    .filter(({ target }) => target === folder || target.startsWith(`${folder}/`))
    .reverse();
}

function loopsBelow(folder: string): string[] {
  const result = spawnSync('losetup', ['--noheadings', '--raw', '--output', 'NAME,BACK-FILE'], {
    encoding: 'utf8',
    timeout: STEP_MS,
  });
  if (result.error !== undefined || result.status !== 0) return [];
  return result.stdout
    .split('\n')
    .map((line) => line.trim().split(' '))
    .filter(([, file = '']) => file.startsWith(`${folder}/`))
    .map(([device = '']) => device);
}

function step(command: string, args: readonly string[]): void {
  spawnSync(command, args, { timeout: STEP_MS, killSignal: 'SIGKILL' });
}
