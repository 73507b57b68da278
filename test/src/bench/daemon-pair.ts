/**
 * The storage daemon and the gateway in front of it as one program.
 *
 *   daemon-pair.js --dir DIR --way tcp|unix -- [flags of store-nbd]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ProgramParts } from './program-parts.js';

const USAGE = 'Usage: daemon-pair.js --dir DIR --way tcp|unix -- [flags of store-nbd]';
const STOP_MS = 4000;

const parts = new ProgramParts(STOP_MS);
await parts.run('daemon-pair', async () => {
  const { dir, way, gatewayArgs } = parse(process.argv.slice(2));
  const listen = ['--listen-address', '127.0.0.1:0', '--tcp-only'];
  const daemon = parts.start('store', ['file-store', '--dir', dir, ...listen], 'pipe');
  const address = await parts.firstLineOf(daemon);
  if (address === null) return; // asked to go
  const where = way === 'tcp' ? address : join(dir, 'store.sock'); // which it owns by now
  parts.start('store-nbd', ['--storage-daemon', where, ...gatewayArgs], 'ignore');
});

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
