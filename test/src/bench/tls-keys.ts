/**
 * A certificate authority for one run, and what servers and clients need of it. X.509, because every server here can
 * do that.
 *
 * fio does not allow libnbd to take files from a URI, so its clients find the authority where libnbd looks by itself:
 * `$HOME/.pki/libnbd`, but for root only `/etc/pki/libnbd`, which a benchmark has no business to write. In a user
 * namespace of its own fio is not root for libnbd, and still the owner of root's socket for the kernel.
 */
import { mkdirSync, copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runProgramWell } from '../server/store-programs.js';
import type { Programs } from './programs.js';

export interface TlsKeys {
  /** Has `ca-cert.pem`, `server-cert.pem` and `server-key.pem`, as nbdkit and QEMU want them. */
  readonly folder: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly client: ClientEnvironment;
}

/** What a client has to be started with to speak to a server. */
export interface ClientEnvironment {
  readonly wrapper: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** For servers without TLS. */
export const PLAIN_CLIENT: ClientEnvironment = { wrapper: [], env: {} };

/** The flags of `store-nbd` for a certificate of the server's alone. */
export function storeTlsArguments(keys: TlsKeys): string[] {
  return ['--tls', 'required', '--tls-cert', keys.serverCert, '--tls-key', keys.serverKey];
}

/** Why `store-nbd` cannot be measured with TLS; null if it can. */
export async function storeTlsMissing(): Promise<string | null> {
  const help = await runProgramWell('store-nbd', ['--help']);
  return /^\s+--tls\b/m.test(help) ? null : 'this store-nbd has no --tls';
}

const EXTENSIONS = `subjectAltName=DNS:localhost,IP:127.0.0.1
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=serverAuth
`;

/** Makes keys in a new folder below `parent`. */
export async function makeTlsKeys(programs: Programs, parent: string): Promise<TlsKeys> {
  const folder = join(parent, 'tls');
  const home = join(folder, 'home');
  mkdirSync(join(home, '.pki', 'libnbd'), { recursive: true });
  const openssl = (...args: readonly string[]): Promise<unknown> =>
    programs.run('openssl', args, { cwd: folder, limitMs: 20_000 });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await openssl(
    ...['req', '-x509', ...newKey, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-days', '2'],
    ...['-subj', '/CN=benchmark', '-addext', 'keyUsage=critical,keyCertSign'],
  );
  await openssl(
    ...['req', ...newKey, '-keyout', 'server-key.pem', '-out', 'server.csr'],
    ...['-subj', '/CN=localhost'],
  );
  writeFileSync(join(folder, 'extensions'), EXTENSIONS);
  await openssl(
    ...['x509', '-req', '-in', 'server.csr', '-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem'],
    ...['-CAcreateserial', '-days', '2', '-extfile', 'extensions', '-out', 'server-cert.pem'],
  );
  copyFileSync(join(folder, 'ca-cert.pem'), join(home, '.pki', 'libnbd', 'ca-cert.pem'));
  const isRoot = process.getuid?.() === 0;
  return {
    folder,
    serverCert: join(folder, 'server-cert.pem'),
    serverKey: join(folder, 'server-key.pem'),
    client: { wrapper: isRoot ? ['unshare', '--user'] : [], env: { HOME: home } },
  };
}
