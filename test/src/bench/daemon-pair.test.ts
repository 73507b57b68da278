// Whichever of the pair and its two programs ends first, and however: none of the three is left behind.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Test } from 'tap';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { isAlive, processTree } from './process-tree.js';

t.setTimeout(360_000);

const LIMIT_MS = 60_000;
const PROGRAM = fileURLToPath(new URL('daemon-pair.js', import.meta.url));
const NEEDS = needs({ commands: ['setpriv', 'nbdinfo'] });

interface Pair {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly gateway: number;
  readonly daemon: number;
  readonly uri: string;
  readonly said: () => string;
}

async function start(t: Test, way: 'tcp' | 'unix'): Promise<Pair> {
  const folder = tempFolder(t);
  const socket = join(folder, 'socket');
  const place = ['--dir', join(folder, 'data'), '--way', way];
  const image = ['--pool', 'bench', '--image', 'vm1', '--create', '1M', '--socket', socket];
  const child = spawn(process.execPath, [PROGRAM, ...place, '--', ...image], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => (text += more));
  const pid = child.pid ?? 0;
  const started: number[] = []; // which a pair that is gone should not have left
  t.teardown(async () => {
    const all = isRunning(child) ? processTree(pid) : started;
    for (const one of all.filter(isAlive)) process.kill(one, 'SIGKILL');
    if (isRunning(child)) await once(child, 'exit');
  });
  await waitUntil('the gateway to listen', LIMIT_MS, () => {
    if (!isRunning(child)) throw new Error(`It ended: ${text}`);
    return existsSync(socket);
  });
  const withArgument = (argument: string): number =>
    processTree(pid).find((one) => argumentsOf(one).includes(argument)) ?? 0;
  const [gateway, daemon] = [withArgument('--storage-daemon'), withArgument('file-store')];
  started.push(gateway, daemon);
  const uri = `nbd+unix:///?socket=${socket}`;
  return { child, pid, gateway, daemon, uri, said: () => text };
}

function argumentsOf(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
}

function isRunning({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode === null && signalCode === null;
}

/** @returns Exit code of the pair, once all three are gone. */
async function codeOf({ child, gateway, daemon }: Pair): Promise<number | null> {
  await waitUntil('the pair to end', LIMIT_MS, () => !isRunning(child));
  await waitUntil('both programs to end', LIMIT_MS, () => !isAlive(gateway) && !isAlive(daemon));
  return child.exitCode;
}

for (const way of ['tcp', 'unix'] as const)
  t.test(`a daemon and its gateway over ${way} serve, and SIGTERM ends both`, NEEDS, async (t) => {
    const pair = await start(t, way);
    t.match(await run('nbdinfo', ['--size', pair.uri]), /^1048576$/m);
    t.equal(new Set([pair.pid, pair.gateway, pair.daemon, 0]).size, 4, 'three processes');
    pair.child.kill('SIGTERM');
    t.equal(await codeOf(pair), 0);
  });

for (const part of ['gateway', 'daemon'] as const)
  t.test(`a ${part} that dies takes the other along, and that is a failure`, NEEDS, async (t) => {
    const pair = await start(t, 'tcp');
    process.kill(pair[part], 'SIGKILL');
    t.equal(await codeOf(pair), 1);
    const name = part === 'gateway' ? 'store-nbd' : 'store';
    t.match(pair.said(), `daemon-pair: ${name} ended with SIGKILL`);
  });

t.test('a pair that is killed leaves nobody behind', NEEDS, async (t) => {
  const pair = await start(t, 'unix');
  pair.child.kill('SIGKILL');
  t.equal(await codeOf(pair), null);
});

t.test('a gateway with flags it does not know ends the daemon too', NEEDS, async (t) => {
  const dir = join(tempFolder(t), 'data');
  const args = [PROGRAM, '--dir', dir, '--way', 'tcp', '--', '--no-such-flag'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (more: string) => (text += more));
  await waitUntil('the pair to end', LIMIT_MS, () => !isRunning(child));
  t.equal(child.exitCode, 1);
  t.match(text, 'no-such-flag');
});
