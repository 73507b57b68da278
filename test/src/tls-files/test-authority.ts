/**
 * A certificate authority for tests, made with openssl. It fills folders with the names qemu, libnbd and nbdkit
 * look for: ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem, client-key.pem, ca-crl.pem.
 */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../host/command.js';

/** When a certificate is good. */
export type Validity = 'now' | 'past';

const CONFIG = `
[ca]
default_ca = test
[test]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca-cert.pem
private_key = ca-key.pem
default_md = sha256
default_days = 30
default_crl_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
`;

export class TestAuthority {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes an authority that keeps its books in `folder`, which is created. */
  static async create(folder: string): Promise<TestAuthority> {
    mkdirSync(folder);
    writeFileSync(join(folder, 'ca.cnf'), CONFIG);
    writeFileSync(join(folder, 'index.txt'), '');
    for (const numbers of ['serial', 'crlnumber']) writeFileSync(join(folder, numbers), '01\n');
    const authority = new TestAuthority(folder);
    await authority.#openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
      ...['-days', '30', '-subj', '/CN=authority of a test'],
      ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    );
    return authority;
  }

  /** Writes what a server needs for X.509 into `target`, which is created. */
  async writeServer(target: string, validity: Validity = 'now'): Promise<void> {
    await this.#write(target, 'server', 'localhost', validity);
  }

  /** Writes what a client needs, under the common name `name`, into `target`, which is created. */
  async writeClient(target: string, name: string, validity: Validity = 'now'): Promise<void> {
    await this.#write(target, 'client', name, validity);
  }

  /** Writes the certificate of the authority alone: for a client that has none of its own. */
  writeTrust(target: string): void {
    mkdirSync(target, { recursive: true });
    copyFileSync(join(this.#folder, 'ca-cert.pem'), join(target, 'ca-cert.pem'));
  }

  /** Takes back the certificate of the client in `client`. */
  async revoke(client: string): Promise<void> {
    await this.#openssl(...this.#ca, '-revoke', join(client, 'client-cert.pem'));
  }

  /** Writes the list of what was revoked into `target`. */
  async writeCrl(target: string): Promise<void> {
    await this.#openssl(...this.#ca, '-gencrl', '-out', join(target, 'ca-crl.pem'));
  }

  get #ca(): string[] {
    return ['ca', '-batch', '-config', 'ca.cnf'];
  }

  async #write(
    target: string,
    role: 'server' | 'client',
    name: string,
    validity: Validity,
  ): Promise<void> {
    this.writeTrust(target);
    const key = join(target, `${role}-key.pem`);
    const request = ['-keyout', key, '-out', 'request.pem', '-subj', `/CN=${name}`];
    await this.#openssl('req', '-new', ...NEW_KEY, ...request);
    const past = ['-startdate', '20200101000000Z', '-enddate', '20200201000000Z'];
    await this.#openssl(
      ...[...this.#ca, '-extensions', role, '-notext', '-in', 'request.pem'],
      ...['-out', join(target, `${role}-cert.pem`), ...(validity === 'past' ? past : [])],
    );
  }

  async #openssl(...args: string[]): Promise<void> {
    await run('openssl', args, { cwd: this.#folder });
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
