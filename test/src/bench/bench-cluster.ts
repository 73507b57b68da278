/**
 * A cluster on this machine and the gateway in front of it as one program: a master, storage daemons, and a pool with a
 * copy of everything on each of them.
 *
 *   bench-cluster.js --dir DIR --daemons N --pool NAME -- [flags of store-nbd]
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runProgramWell } from '../server/store-programs.js';
import { ProgramParts } from './program-parts.js';

const USAGE = 'Usage: bench-cluster.js --dir DIR --daemons N --pool NAME -- [flags of store-nbd]';
const ANY_PORT = '127.0.0.1:0';
/** Fewer than by default: each group gets enough of a short run. */
const GROUPS = 64;
const STOP_MS = 2500;

const parts = new ProgramParts(STOP_MS);
await parts.run('bench-cluster', async () => {
  const { dir, daemons, pool, gatewayArgs } = parse(process.argv.slice(2));
  const isNew = !existsSync(dir);
  const at = ['--peer-address', ANY_PORT, '--listen-address', ANY_PORT];
  const state = ['--state-dir', join(dir, 'master')];
  const master = parts.start('store', ['master', '--json', ...at, ...state], 'pipe');
  const places = await parts.firstLineOf(master);
  if (places === null) return; // asked to go
  const { peerAddress, listenAddress } = JSON.parse(places) as {
    peerAddress: string;
    listenAddress: string;
  }; // what a master says with --json
  const started = Array.from({ length: daemons }, (_, index) => {
    const folder = ['--dir', join(dir, `disk${index + 1}`), '--listen-address', ANY_PORT];
    return parts.start('store', ['file-store', ...folder, '--master', peerAddress], 'pipe');
  });
  for (const daemon of started) if ((await parts.firstLineOf(daemon)) === null) return;
  const where = ['--master', listenAddress];
  if (isNew) {
    const copies = ['--replicas', `${daemons}`, '--groups', `${GROUPS}`];
    await runProgramWell('store', ['pool', 'create', pool, ...copies, ...where]);
  }
  if (parts.isAsked) return;
  parts.start('store-nbd', [...where, ...gatewayArgs], 'ignore');
});

function parse(args: readonly string[]): {
  readonly dir: string;
  readonly daemons: number;
  readonly pool: string;
  readonly gatewayArgs: readonly string[];
} {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { dir: { type: 'string' }, daemons: { type: 'string' }, pool: { type: 'string' } },
    allowPositionals: true,
  });
  const { dir, pool } = values;
  const daemons = Number(values.daemons);
  if (dir === undefined || pool === undefined || !(daemons >= 1)) throw new Error(USAGE);
  return { dir, daemons, pool, gatewayArgs: positionals };
}
