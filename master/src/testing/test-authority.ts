/* eslint-disable no-restricted-imports -- test equipment: openssl works with files */
/** An authority for tests, made with openssl in a folder of its own. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** PEM files. */
export interface TestIdentity {
  readonly cert: string;
  readonly key: string;
}

export class TestAuthority {
  /** Its own certificate, a PEM file. */
  readonly ca: string;
  readonly #folder: string;
  #issued = 0;

  constructor() {
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), 'authority-'));
    this.ca = path.join(this.#folder, 'ca.pem');
    this.#openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2'],
      ...['-subj', '/CN=authority of a test', '-addext', 'keyUsage=critical,keyCertSign'],
    );
  }

  /**
   * @param subject - As openssl writes it: `/CN=name`.
   * @param names - `DNS:…` and `IP:…`; none for a client. A server is a client as well: etcd's JSON gateway connects to
   *   its own member with the certificate of the server.
   */
  issue(subject: string, names: readonly string[] = []): TestIdentity {
    const isServer = names.length > 0;
    const extensions = [
      'basicConstraints=critical,CA:FALSE',
      `extendedKeyUsage=${isServer ? 'serverAuth,clientAuth' : 'clientAuth'}`,
      ...(isServer ? [`subjectAltName=${names.join(',')}`] : []),
    ];
    this.#issued += 1;
    const [cert, key] = [`${this.#issued}.pem`, `${this.#issued}.key`];
    fs.writeFileSync(path.join(this.#folder, 'extensions'), extensions.join('\n'));
    const request = ['-keyout', key, '-out', 'request', '-subj', subject];
    this.#openssl('req', '-new', ...NEW_KEY, ...request);
    this.#openssl(
      ...['x509', '-req', '-in', 'request', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-out', cert, '-days', '2', '-extfile', 'extensions'],
    );
    return { cert: path.join(this.#folder, cert), key: path.join(this.#folder, key) };
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
