/**
 * The storage daemon and the gateway in front of it as one program, whose process tree is both: so they are started,
 * stopped and measured as the servers that are one process.
 *
 *   daemon-pair.js --dir DIR --way tcp|unix -- [flags of store-nbd]
 *
 * SIGTERM is passed on, first to the gateway, which still has to flush. If one of the two ends by itself the other is
 * stopped, and this program fails. If this program is killed they get SIGTERM from the kernel, so none is left behind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { messageOf } from '@store/core';
import { programPath } from '../server/store-programs.js';

const USAGE = 'Usage: daemon-pair.js --dir DIR --way tcp|unix -- [flags of store-nbd]';
const LISTEN_MS = 20_000;
/** For each of the two; together below what the benchmark waits before it kills. */
const STOP_MS = 4000;

/** One of the two programs. */
interface Part {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves when it is gone, with how it ended: `0`, another exit code, or a signal. */
  readonly ended: Promise<string>;
}

/** Aborted when somebody asks us to go. */
const asked = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
  process.on(signal, () => asked.abort());

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`daemon-pair: ${messageOf(error)}`);
  process.exitCode = 1;
}

async function main(args: readonly string[]): Promise<void> {
  const { dir, way, gatewayArgs } = parse(args);
  const parts: Part[] = [];
  const failures: string[] = [];
  try {
    const listen = ['--listen-address', '127.0.0.1:0'];
    const daemon = start('store', ['file-store', '--dir', dir, ...listen], 'pipe');
    parts.push(daemon);
    const address = await printedBy(daemon);
    if (address === null) return; // asked to go
    const where = way === 'tcp' ? address : join(dir, 'store.sock'); // which it owns by now
    const gateway = start('store-nbd', ['--storage-daemon', where, ...gatewayArgs], 'ignore');
    parts.unshift(gateway); // is the first to go
    const first = await Promise.race([aborted(), endOf(gateway), endOf(daemon)]);
    if (first !== null) failures.push(first);
  } finally {
    for (const part of parts) {
      const end = await stop(part);
      if (end !== '0') failures.push(`${part.name} ended with ${end}`);
    }
  }
  if (failures.length > 0) throw new Error([...new Set(failures)].join('; '));
}

function parse(args: readonly string[]): {
  readonly dir: string;
  readonly way: 'tcp' | 'unix';
  readonly gatewayArgs: readonly string[];
} {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { dir: { type: 'string' }, way: { type: 'string' } },
    allowPositionals: true,
  });
  const { dir, way } = values;
  if (dir === undefined || (way !== 'tcp' && way !== 'unix')) throw new Error(USAGE);
  return { dir, way, gatewayArgs: positionals };
}

/** A part has our group, so that whoever signals the group reaches it, and never outlives us. */
function start(
  name: 'store' | 'store-nbd',
  args: readonly string[],
  stdout: 'pipe' | 'ignore',
): Part {
  const wrapper = ['--pdeathsig', 'TERM', programPath(name)];
  const child = spawn('setpriv', [...wrapper, ...args], { stdio: ['ignore', stdout, 'inherit'] });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message)); // it cannot be started
    child.once('exit', (code, signal) => resolve(signal ?? `${code}`));
  });
  return { name, child, ended };
}

/** The first line it prints, which says that it listens; null if we are asked to go before. */
async function printedBy({ name, child, ended }: Part): Promise<string | null> {
  const { stdout } = child;
  if (stdout === null) throw new Error(`${name} has no standard output`);
  const lines = createInterface({ input: stdout });
  const line = new Promise<string>((resolve) => lines.once('line', resolve));
  const failed = ended.then((end) => {
    throw new Error(`${name} ended with ${end}`);
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`${name} does not listen after ${LISTEN_MS} ms`);
    timer = setTimeout(() => reject(error), LISTEN_MS);
  });
  try {
    return await Promise.race([line, failed, late, aborted()]);
  } finally {
    clearTimeout(timer);
    failed.catch(() => undefined); // its end is told by `ended` from here on
  }
}

async function endOf({ name, ended }: Part): Promise<string> {
  return `${name} ended with ${await ended}`;
}

async function aborted(): Promise<null> {
  if (!asked.signal.aborted)
    await new Promise((resolve) => {
      asked.signal.addEventListener('abort', resolve, { once: true });
    });
  return null;
}

/** Asks a part to go, and makes it go if it does not. @returns How it ended. */
async function stop({ child, ended }: Part): Promise<string> {
  child.kill('SIGTERM'); // does nothing once it is gone
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  try {
    return await ended;
  } finally {
    clearTimeout(timer);
  }
}
