import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { StoreServer } from '../server/store-server.js';
import { TestAuthority } from './test-authority.js';

export const PSK_KEYS = {
  alice: '000102030405060708090a0b0c0d0e0f',
  reader: 'f0e0d0c0b0a090807060504030201000',
} as const;

/** Writes `keys.psk` as psktool does. */
export function writePsk(folder: string, keys: Readonly<Record<string, string>>): void {
  const path = join(folder, 'keys.psk');
  const lines = Object.entries(keys).map(([identity, key]) => `${identity}:${key}\n`);
  writeFileSync(path, lines.join(''));
  chmodSync(path, 0o600);
}

/** A folder for the test, an authority in it, and the server's files under `tls`. */
export interface TlsSetup {
  readonly authority: TestAuthority;
  /** For `--tls-dir`. */
  readonly dir: string;
  /** A new path in the test's folder. */
  path(name: string): string;
  /** Makes a client with a certificate. @returns Its folder */
  client(name: string, validity?: 'now' | 'past'): Promise<string>;
  /** Starts a server of image `vm1` that demands TLS. */
  serve(t: HasTeardown, ...args: string[]): Promise<StoreServer>;
}

/** With X.509, and the keys of {@link PSK_KEYS} beside it. */
export async function tlsSetup(t: HasTeardown): Promise<TlsSetup> {
  const folder = tempFolder(t);
  const path = (name: string): string => join(folder, name);
  const authority = await TestAuthority.create(path('authority'));
  const dir = path('tls');
  await authority.writeServer(dir);
  writePsk(dir, PSK_KEYS);
  let clientCount = 0;
  return {
    authority,
    dir,
    path,
    async client(name, validity = 'now') {
      clientCount += 1;
      const target = path(`client-${clientCount}`);
      await authority.writeClient(target, name, validity);
      return target;
    },
    serve: (t, ...args) =>
      StoreServer.start(t, {
        dir: path('data'),
        image: 'vm1',
        createBytes: 16 * 1024 ** 2,
        args: ['--tls', 'required', '--tls-dir', dir, ...args],
      }),
  };
}
