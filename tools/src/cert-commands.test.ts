/** `store cert`, run as people run it; OpenSSL and Node's TLS judge what it makes. */
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import {
  checkServerIdentity as checkHost,
  connect,
  createServer,
  type ConnectionOptions,
  type TlsOptions,
} from 'node:tls';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { failed, runStore, succeeded } from './run-store.js';

t.setTimeout(360_000);

const HANDSHAKE_MS = 10_000;
const openssl = async (...args: string[]): Promise<string> =>
  (await promisify(execFile)('openssl', args, { timeout: 20_000 })).stdout;
const modeOf = (...path: string[]): number => statSync(join(...path)).mode & 0o777;

/** A folder with an authority and the certificates of `names`. */
async function authority(t: Test, ...names: string[]): Promise<string> {
  const dir = t.testdir();
  succeeded(t, await runStore(dir, ['cert', 'init']), /Made the authority .*certs\/ca\.crt/);
  for (const name of names)
    succeeded(t, await runStore(dir, ['cert', 'issue', name]), /Made a certificate for/);
  return dir;
}

function keysOf(dir: string, name: string): { cert: Buffer; key: Buffer } {
  return {
    cert: readFileSync(join(dir, 'certs', `${name}.crt`)),
    key: readFileSync(join(dir, 'certs', `${name}.key`)),
  };
}

/** One handshake in which both sides show a certificate. @returns Whom the server met, or why it met nobody */
async function meet(server: TlsOptions, client: ConnectionOptions, host: string): Promise<string> {
  const listener = createServer({ ...server, requestCert: true, handshakeTimeout: HANDSHAKE_MS });
  const met = new Promise<string>((resolve) => {
    listener.once('secureConnection', (socket) => {
      socket.on('error', () => undefined); // the other side may be gone: what counts was said
      resolve(String(socket.getPeerCertificate().subject.CN));
    });
    listener.once('tlsClientError', (error: Error) => resolve(`server: ${error.message}`));
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo; // it listens on TCP
  // Wherever the server is, its certificate has to be for `host`.
  const checkServerIdentity: typeof checkHost = (_, certificate) => checkHost(host, certificate);
  const at = { port, host: '127.0.0.1', timeout: HANDSHAKE_MS, checkServerIdentity };
  const socket = connect({ ...client, ...at });
  const refused = new Promise<string>((resolve) => {
    socket.once('timeout', () => resolve('client: timeout'));
    socket.on('error', (error: Error) => resolve(`client: ${error.message}`));
  });
  try {
    return await Promise.race([met, refused]);
  } finally {
    socket.destroy();
    listener.close();
  }
}

await t.test('OpenSSL accepts what was made, for serving and for asking', async (t) => {
  const dir = await authority(t, 'storage1', 'backup job');
  const file = (name: string): string => join(dir, 'certs', name);
  for (const purpose of ['sslserver', 'sslclient'])
    for (const name of ['storage1.crt', 'backup job.crt'])
      t.match(
        await openssl(
          'verify',
          '-x509_strict',
          '-purpose',
          purpose,
          '-CAfile',
          file('ca.crt'),
          file(name),
        ),
        /: OK\n$/,
        `${name} as ${purpose}`,
      );
  const text = await openssl('x509', '-in', file('ca.crt'), '-noout', '-text');
  t.match(text, /CA:TRUE, pathlen:0/);
  t.match(text, /Certificate Sign, CRL Sign/);
  t.match(text, /prime256v1/);
  t.equal(modeOf(dir, 'certs', 'ca.key'), 0o600);
  t.equal(modeOf(dir, 'certs', 'storage1.key'), 0o600);
  t.equal(modeOf(dir, 'certs', 'storage1.crt'), 0o644);
  const certificate = new X509Certificate(keysOf(dir, 'storage1').cert);
  const early = Date.now() - new Date(certificate.validFrom).getTime();
  t.ok(early > 3_500_000 && early < 3_900_000, 'valid since an hour ago');
  t.notOk(certificate.ca);
});

await t.test('both ends of TLS prove with them who they are, and nobody else can', async (t) => {
  const dir = await authority(t, 'storage1', 'host1');
  const ca = readFileSync(join(dir, 'certs', 'ca.crt'));
  const server = { ...keysOf(dir, 'storage1'), ca };
  const client = { ...keysOf(dir, 'host1'), ca };
  for (const host of ['storage1', 'localhost', '127.0.0.1', '::1'])
    t.equal(await meet(server, client, host), 'host1', host);
  t.match(await meet(server, client, 'storage2'), /client: .*altnames/);
  t.equal(await meet(client, server, 'host1'), 'storage1', 'and the other way round');
  const other = await authority(t, 'host1'); // in the same folder: what was there before is read already
  const stranger = { ...keysOf(other, 'host1'), ca };
  t.match(await meet(server, stranger, 'storage1'), /^(server|client): /, 'of another authority');
  t.match(
    await meet({ ...server, ...stranger }, client, 'host1'),
    /client: .*(signature|verify|unable)/,
  );
});

await t.test('a certificate is for the hosts that were given, and show says which', async (t) => {
  const dir = await authority(t);
  const hosts = ['--host', 'Storage1.example.org', '--host', '192.0.2.7', '--host', '2001:db8::7'];
  const issue = ['cert', 'issue', 'storage1', '--days', '30', '--json'];
  const made = await runStore(dir, [...issue, ...hosts]);
  const expected = ['storage1.example.org', '192.0.2.7', '2001:db8::7'];
  const facts = JSON.parse(made.stdout) as { notBefore: string; notAfter: string }; // ours
  t.match(facts, {
    files: { certificate: 'certs/storage1.crt', key: 'certs/storage1.key', ca: 'certs/ca.crt' },
    name: 'storage1',
    issuer: 'store certificate authority',
    hosts: expected,
    state: 'valid',
  });
  const days = (Date.parse(facts.notAfter) - Date.now()) / 86_400_000;
  t.ok(days > 29.9 && days <= 30, `${days} days`);
  const shown = await runStore(dir, ['cert', 'show', 'certs/storage1.crt']);
  succeeded(
    t,
    shown,
    /name +storage1\nsigned by +store cert.*\nhosts +storage1\.example\.org, 192\.0\.2\.7, 2001:db8::7\n/,
  );
  succeeded(
    t,
    await runStore(dir, ['cert', 'show', 'certs/ca.crt']),
    /\(an authority\)\n.*\nhosts +none\n/,
  );
  const args = ['x509', '-in', join(dir, 'certs', 'storage1.crt'), '-noout', '-checkhost'];
  t.match(await openssl(...args, 'storage1.example.org'), /does match/);
  t.match(await openssl(...args, 'storage1'), /does NOT match/);
});

await t.test('names are what was given, whatever characters stand in them', async (t) => {
  for (const name of ['a, CN=b', '#616263', 'käse "+" \u{1f9c0}']) {
    const dir = t.testdir();
    succeeded(
      t,
      await runStore(dir, ['cert', 'init', '--name', name, '--out', 'here']),
      /here\/ca/,
    );
    await runStore(dir, ['cert', 'issue', 'x', '--dir', 'here']);
    const { stdout } = await runStore(dir, ['cert', 'show', 'here/x.crt', '--json']);
    t.match(JSON.parse(stdout), { name: 'x', issuer: name });
    const files = [join(dir, 'here', 'ca.crt'), join(dir, 'here', 'x.crt')];
    t.match(await openssl('verify', '-CAfile', ...files), /OK/);
  }
});

await t.test(
  'nothing is overwritten without --force, and with it everything fits again',
  async (t) => {
    const dir = await authority(t, 'host1');
    const all = (): string[] =>
      readdirSync(join(dir, 'certs')).map((file) => readFileSync(join(dir, 'certs', file), 'utf8'));
    const before = all();
    failed(t, await runStore(dir, ['cert', 'init']), 1, /ca\.key is there already.*--force/);
    failed(
      t,
      await runStore(dir, ['cert', 'issue', 'host1']),
      1,
      /host1\.key is there already.*--force/,
    );
    t.same(all(), before);
    succeeded(t, await runStore(dir, ['cert', 'issue', 'host1', '--force']), /Made/);
    const { cert, key } = keysOf(dir, 'host1');
    t.not(before.includes(key.toString()), true, 'another key');
    t.equal(modeOf(dir, 'certs', 'host1.key'), 0o600);
    const ca = join(dir, 'certs', 'ca.crt');
    t.match(await openssl('verify', '-CAfile', ca, join(dir, 'certs', 'host1.crt')), /OK/);
    t.ok(new X509Certificate(cert).verify(new X509Certificate(readFileSync(ca)).publicKey));
    t.equal(readdirSync(join(dir, 'certs')).length, 4, 'nothing is left beside them');
  },
);

await t.test('no certificate is good for longer than its authority', async (t) => {
  const dir = t.testdir();
  await runStore(dir, ['cert', 'init', '--days', '10']);
  failed(t, await runStore(dir, ['cert', 'issue', 'a', '--days', '11']), 2, /fewer --days/);
  succeeded(t, await runStore(dir, ['cert', 'issue', 'a']), /good until/);
  const end = (name: string): string => new X509Certificate(keysOf(dir, name).cert).validTo;
  t.equal(end('a'), end('ca'));
});

await t.test('the folder of the data is not taken for the one of certificates', async (t) => {
  const dir = t.testdir();
  succeeded(t, await runStore(dir, ['cert', 'init'], { STORE_DIR: 'data' }), /: certs\/ca\.crt/);
  t.same(readdirSync(dir), ['certs']);
});

await t.test('clumsy use is one line that says what to do', async (t) => {
  const dir = t.testdir();
  const check = async (args: readonly string[], code: number, says: RegExp): Promise<void> =>
    failed(t, await runStore(dir, ['cert', ...args]), code, says);
  await check([], 2, /Give a command/);
  await check(['issue', 'host1'], 1, /no authority in \.\/certs; make one with store cert init/);
  await check(['issue'], 2, /[Mm]issing required argument 'name'/);
  await check(['init', '--days', '0'], 2, /Bad --days/);
  await check(['init', '--days', '4000'], 2, /Bad --days/);
  await check(['init', '--name', 'x'.repeat(65)], 2, /1 to 64 characters/);
  await check(['init', '--name', 'a\nb'], 2, /no control characters/);
  await check(['init', '--out', 'a', '--dir', 'b'], 2, /give only one of them/);
  await check(['init', '--out', '/sys/x'], 1, /Cannot make the folder \/sys\/x/);
  t.same(readdirSync(dir), [], 'nothing was made');
  await runStore(dir, ['cert', 'init']);
  for (const name of ['../x', 'a/b', '.x', '/x'])
    await check(['issue', name], 2, /not fit for the name of a file/);
  await check(['issue', 'ca', '--force'], 2, /'ca' is the authority itself/);
  await check(['issue', 'a', '--host', 'a:4148'], 2, /neither a host name nor an address/);
  await check(['show', 'certs/ca.key'], 1, /ca\.key is a key; show the certificate/);
  await check(['show', 'certs'], 1, /certs is not a file/);
  await check(['show', 'certs/none'], 1, /Cannot read certs\/none/);
  writeFileSync(join(dir, 'text'), 'hello');
  await check(['show', 'text'], 1, /text is not a certificate in PEM/);
  writeFileSync(join(dir, 'cut'), readFileSync(join(dir, 'certs', 'ca.crt'), 'utf8').slice(0, 200));
  await check(['show', 'cut'], 1, /cut is a damaged certificate/);
  const key = join(dir, 'certs', 'ca.key');
  const kept = readFileSync(key, 'utf8');
  writeFileSync(key, kept.slice(0, 90));
  await check(['issue', 'a'], 1, /ca\.key is not a key in PEM/);
  writeFileSync(key, await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout'));
  await check(['issue', 'a'], 1, /ca\.key does not belong to/);
  writeFileSync(key, await openssl('ecparam', '-name', 'secp384r1', '-genkey', '-noout'));
  await check(['issue', 'a'], 1, /not an ECDSA P-256 key/);
  t.notOk(existsSync(join(dir, 'certs', 'a.crt')));
});
