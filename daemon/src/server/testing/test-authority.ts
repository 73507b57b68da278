/** An authority for tests, made with openssl in a folder of its own. */
import { spawnSync } from 'node:child_process';
// eslint-disable-next-line no-restricted-imports -- equipment of tests: openssl works with files
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export interface TestIdentity {
  readonly cert: Buffer;
  readonly key: Buffer;
}

export class TestAuthority {
  readonly #folder: string;

  constructor() {
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), 'authority-'));
    this.#openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2'],
      ...['-subj', '/CN=authority of a test', '-addext', 'keyUsage=critical,keyCertSign'],
    );
  }

  get ca(): Buffer {
    return fs.readFileSync(path.join(this.#folder, 'ca.pem'));
  }

  /** @param names - `DNS:…` and `IP:…`; none for a client. */
  issue(commonName: string, names: string[] = []): TestIdentity {
    const isServer = names.length > 0;
    const extensions = [
      'basicConstraints=critical,CA:FALSE',
      `extendedKeyUsage=${isServer ? 'serverAuth' : 'clientAuth'}`,
      ...(isServer ? [`subjectAltName=${names.join(',')}`] : []),
    ];
    fs.writeFileSync(path.join(this.#folder, 'extensions'), extensions.join('\n'));
    const request = ['-keyout', 'a.key', '-out', 'a.csr', '-subj', `/CN=${commonName}`];
    this.#openssl('req', '-new', ...NEW_KEY, ...request);
    this.#openssl(
      ...['x509', '-req', '-in', 'a.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-out', 'a.pem', '-days', '2', '-extfile', 'extensions'],
    );
    const read = (name: string): Buffer => fs.readFileSync(path.join(this.#folder, name));
    return { cert: read('a.pem'), key: read('a.key') };
  }

  remove(): void {
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }

  #openssl(...args: string[]): void {
    const options = { cwd: this.#folder, encoding: 'utf8', timeout: 20_000 } as const;
    const { status, stderr } = spawnSync('openssl', args, options);
    if (status !== 0) throw new Error(`openssl ${args[0] ?? ''} failed: ${stderr}`);
  }
}
