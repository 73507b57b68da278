// SIGHUP makes a running server take new certificates, keys and rights: all files or none, and open connections
// do not notice.
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { waitUntil } from '../host/wait-until.js';
import type { StoreServer } from '../server/store-server.js';
import { libnbdUri, type TlsClient } from '../tls-files/tls-clients.js';
import { PSK_KEYS, tlsSetup, writePsk } from '../tls-files/tls-setup.js';

t.setTimeout(600_000);

const TOOLS = needs({ commands: ['openssl', 'nbdinfo'] });
const TAKEN = /TLS files read again/;
const NOT_TAKEN = /TLS files not taken, those read before stay in use: /;

async function getsIn(server: StoreServer, client: TlsClient): Promise<boolean> {
  const { code } = await runAnyway('nbdinfo', ['--size', libnbdUri(server.uri, client)]);
  return code === 0;
}

/** Sends SIGHUP and waits for the line that says what came of it. */
async function reload(server: StoreServer, logged: RegExp): Promise<void> {
  const before = server.log.length;
  process.kill(server.pid, 'SIGHUP');
  const said = (): string => server.log.slice(before);
  await waitUntil('the reload', 5000, () => TAKEN.test(said()) || NOT_TAKEN.test(said()));
  t.match(said(), logged);
}

t.test('a server whose certificate expired is cured without a restart', TOOLS, async (t) => {
  const setup = await tlsSetup(t);
  const client = { certificates: await setup.client('host1') };
  await setup.authority.writeServer(setup.dir, 'past');
  const server = await setup.serve(t);
  t.match(server.log, /server-cert\.pem.*This certificate is not valid today/);
  t.notOk(await getsIn(server, client));
  await setup.authority.writeServer(setup.dir);
  t.notOk(await getsIn(server, client), 'nothing is read before it is asked for');
  await reload(server, TAKEN);
  t.ok(await getsIn(server, client));
  await setup.authority.writeServer(setup.dir, 'past');
  await reload(server, /TLS files not taken.*server-cert\.pem is valid from .* not today/);
  t.ok(await getsIn(server, client), 'the good one stays');
  await server.stop();
});

t.test('who loses certificate, key or right is refused after a reload', TOOLS, async (t) => {
  const setup = await tlsSetup(t);
  const rights = setup.path('rights.json');
  const grant = (...names: readonly string[]): void => {
    const certificates = names.map((certificate) => ({ certificate, write: ['*'] }));
    const keys = Object.keys(PSK_KEYS).map((psk) => ({ psk, read: ['*'] }));
    writeFileSync(rights, JSON.stringify({ clients: [...certificates, ...keys] }));
  };
  grant('host1', 'host2', 'host3');
  const [host1, host2, host3] = [
    { certificates: await setup.client('host1') },
    { certificates: await setup.client('host2') },
    { certificates: await setup.client('host3') },
  ];
  const alice = { identity: 'alice', keys: setup.path('of-alice') };
  setup.authority.writeTrust(alice.keys);
  writePsk(alice.keys, PSK_KEYS);
  const server = await setup.serve(t, '--rights', rights);
  for (const client of [host1, host2, host3, alice]) t.ok(await getsIn(server, client));

  await setup.authority.revoke(host2.certificates);
  await setup.authority.writeCrl(setup.dir);
  grant('host1', 'host2');
  writePsk(setup.dir, { reader: PSK_KEYS.reader });
  await reload(server, TAKEN);
  t.ok(await getsIn(server, host1));
  t.notOk(await getsIn(server, host2), 'revoked');
  t.notOk(await getsIn(server, host3), 'no right any more');
  t.notOk(await getsIn(server, alice), 'no key any more');
  await server.stop();
});

t.test('one bad file, and everything stays as it was', TOOLS, async (t) => {
  const setup = await tlsSetup(t);
  const rights = setup.path('rights.json');
  const everything = JSON.stringify({ clients: [{ certificate: 'host1', write: ['*'] }] });
  writeFileSync(rights, everything);
  const client = { certificates: await setup.client('host1') };
  await setup.authority.writeCrl(setup.dir);
  const server = await setup.serve(t, '--rights', rights);
  const nobody = '{"clients": []}';
  const bad: readonly [string, string | null, RegExp][] = [
    ['server-cert.pem', 'no certificate', /server-cert\.pem is not a certificate in PEM/],
    ['server-key.pem', 'no key', /server-key\.pem is not a key in PEM/],
    ['ca-cert.pem', '', /ca-cert\.pem is not a certificate in PEM/],
    ['ca-crl.pem', 'no list', /TLS cannot use these files: Failed to parse CRL/],
    ['ca-crl.pem', null, /ca-crl\.pem is gone/],
    ['ca-cert.pem', null, /ca-cert\.pem is gone/],
    ['keys.psk', 'alice', /keys\.psk, line 1: Not identity:hexkey/],
    ['../rights.json', '{"clients": [{}]}', /rights\.json, clients\[0\]: Give/],
  ];
  for (const [file, content, why] of bad) {
    const path = join(setup.dir, file);
    renameSync(path, `${path}.good`);
    if (content !== null) writeFileSync(path, content, { mode: 0o600 });
    // The rights are good, and would keep the client out, if they were taken.
    if (!file.includes('rights')) writeFileSync(rights, nobody);
    await reload(server, NOT_TAKEN);
    t.match(server.log, why);
    t.ok(await getsIn(server, client), `${file}: ${content}`);
    rmSync(path, { force: true });
    renameSync(`${path}.good`, path);
    writeFileSync(rights, everything);
  }
  const strange = setup.path('strange');
  await setup.authority.writeServer(strange);
  const [cert, key] = [join(setup.dir, 'server-cert.pem'), join(strange, 'server-cert.pem')];
  renameSync(key, cert);
  await reload(server, /The key in .*server-key\.pem is not that of the certificate/);
  t.ok(await getsIn(server, client), 'a certificate without its key');
  renameSync(join(strange, 'server-key.pem'), join(setup.dir, 'server-key.pem'));
  await reload(server, TAKEN);
  t.ok(await getsIn(server, client));
  await server.stop();
});

const STREAM = `
import nbd, sys
h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.connect_uri(sys.argv[1])
print('connected', flush=True)
sys.stdin.readline()
h.pwrite(b'x' * 65536, 65536)
assert h.pread(65536, 65536) == b'x' * 65536
h.shutdown()
print('done', flush=True)
`;

t.test('an open connection goes on, with the rights it began with', TOOLS, async (t) => {
  const setup = await tlsSetup(t);
  const rights = setup.path('rights.json');
  writeFileSync(rights, '{"clients": [{"certificate": "host1", "write": ["*"]}]}');
  const client = { certificates: await setup.client('host1') };
  const server = await setup.serve(t, '--rights', rights);
  const child = spawn('/usr/bin/python3', ['-c', STREAM, libnbdUri(server.uri, client)]);
  t.teardown(() => child.kill('SIGKILL'));
  let printed = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (printed += text));
  await waitUntil('the connection', 10_000, () => printed.includes('connected'));
  writeFileSync(rights, '{"clients": []}');
  await setup.authority.revoke(client.certificates);
  await setup.authority.writeCrl(setup.dir);
  await reload(server, TAKEN);
  t.notOk(await getsIn(server, client), 'a new one is refused');
  const exit = once(child, 'exit', { signal: AbortSignal.timeout(10_000) });
  child.stdin.end('\n');
  t.strictSame(await exit, [0, null], printed);
  t.match(printed, /done/);
  await server.stop();
});
