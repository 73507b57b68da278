/** Development only: another NBD server in place of `store-nbd`. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { StoreServerOptions } from './store-server.js';

export function standIn(options: StoreServerOptions): string[] | null {
  if (process.env['STAND_IN'] !== '1') return null;
  const file = join(options.dir, `${options.image}.raw`);
  if (!existsSync(file)) {
    execFileSync('mkdir', ['-p', options.dir]);
    execFileSync('truncate', ['-s', `${options.createBytes ?? 0}`, file]);
    execFileSync('sync', []);
  }
  const port = options.port ?? 20000 + Math.floor(Math.random() * 20000);
  const where =
    options.socket === undefined ? ['-p', `${port}`, '-i', '127.0.0.1'] : ['-U', options.socket];
  const uri =
    options.socket === undefined
      ? `nbd://127.0.0.1:${port}/`
      : `nbd+unix:///?socket=${options.socket}`;
  return [
    'sh',
    '-c',
    `rm -f "${options.socket ?? ''}"; (sleep 0.3; echo "${uri}") & exec nbdkit -f ${options.readOnly === true ? '-r' : ''} ${where.join(' ')} file ${file} cache=none`,
  ];
}
