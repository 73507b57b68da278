// TLS with the clients people use: who has a certificate or a key gets in, with the rights the file gives, and
// everybody else stays outside. The clients are GnuTLS (libnbd, qemu); the server is OpenSSL.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { waitUntil } from '../host/wait-until.js';
import { libnbdAnswers } from '../libnbd/libnbd.js';
import { StoreServer } from '../server/store-server.js';
import { TestAuthority } from '../tls-files/test-authority.js';
import { libnbdUri, qemuArguments, type TlsClient } from '../tls-files/tls-clients.js';
import { tlsSetup, writePsk } from '../tls-files/tls-setup.js';

t.setTimeout(600_000);

const LIBNBD = needs({ commands: ['openssl', 'nbdinfo', 'nbdcopy'] });
const QEMU = needs({ commands: ['openssl', 'qemu-img', 'qemu-io', 'qemu-nbd'] });

/** The size `nbdinfo` sees, or what it says instead. */
async function sizeSeen(uri: string, client: TlsClient, exportName = 'vm1'): Promise<string> {
  const { stdout, stderr } = await runAnyway('nbdinfo', [
    '--size',
    libnbdUri(uri, client, exportName),
  ]);
  return stdout.trim() || stderr.trim();
}

t.test('nbdcopy moves data both ways with a certificate, and with a key', LIBNBD, async (t) => {
  const setup = await tlsSetup(t);
  const server = await setup.serve(t);
  t.match(server.uri, /^nbds:/);
  const content = randomBytes(16 * 1024 ** 2);
  writeFileSync(setup.path('in.raw'), content);
  const clients: readonly TlsClient[] = [
    { certificates: await setup.client('host1') },
    { identity: 'alice', keys: setup.dir },
  ];
  for (const client of clients) {
    const uri = libnbdUri(server.uri, client);
    content.reverse();
    writeFileSync(setup.path('in.raw'), content);
    await run('nbdcopy', ['--flush', '--connections=4', setup.path('in.raw'), uri]);
    await run('nbdcopy', ['--connections=4', uri, setup.path('out.raw')]);
    t.ok(readFileSync(setup.path('out.raw')).equals(content));
    t.match(await run('nbdinfo', [uri]), /protocol: newstyle-fixed with TLS, using structured/);
  }
  for (const user of ['host1', 'alice'])
    t.match(server.log, new RegExp(`"?tls"?[:=]"?TLSv1\\.3.*${user}.*Client connected`), user);
  await server.stop();
});

t.test('qemu uses it with a certificate, and with a key', QEMU, async (t) => {
  const setup = await tlsSetup(t);
  const server = await setup.serve(t);
  const clients: readonly TlsClient[] = [
    { certificates: await setup.client('host1') },
    { identity: 'alice', keys: setup.dir },
  ];
  for (const client of clients) {
    const { object, image, address } = qemuArguments(server.uri, client);
    const info = await run('qemu-img', ['info', ...object, '--image-opts', image]);
    t.match(info, /virtual size: 16 MiB/);
    const commands = ['-c', 'write -P 0x5a 1M 3M', '-c', 'flush', '-c', 'read -P 0x5a 1M 3M'];
    t.notMatch(await run('qemu-io', [...object, '--image-opts', image, ...commands]), /failed/);
    t.match(await run('qemu-nbd', ['--list', ...object, ...address]), /exports available: 1/);
    t.match(await run('qemu-img', ['map', ...object, '--image-opts', image]), /0x300000/);
  }
  await server.stop();
});

t.test('whoever does not prove who he is stays outside', LIBNBD, async (t) => {
  const setup = await tlsSetup(t);
  const good = await setup.client('good');
  const revoked = await setup.client('revoked');
  await setup.authority.revoke(revoked);
  await setup.authority.writeCrl(setup.dir);
  const server = await setup.serve(t, '-v');
  t.equal(await sizeSeen(server.uri, { certificates: good }), `${16 * 1024 ** 2}`);

  const none = setup.path('none');
  setup.authority.writeTrust(none);
  const strange = setup.path('strange');
  const other = await TestAuthority.create(setup.path('other'));
  await other.writeClient(strange, 'good');
  setup.authority.writeTrust(strange); // it trusts the server; the server does not trust it
  const wrong = none;
  writePsk(wrong, { alice: 'ff'.repeat(16), mallory: 'ff'.repeat(16) });
  const refused: readonly [string, TlsClient, RegExp][] = [
    ['no certificate', { certificates: none }, /sent no certificate/],
    ['another authority', { certificates: strange }, /not good: unable to verify the first/],
    ['expired', { certificates: await setup.client('old', 'past') }, /certificate has expired/],
    ['revoked', { certificates: revoked }, /certificate revoked/],
    ['wrong key', { identity: 'alice', keys: wrong }, /handshake failed/],
    ['unknown identity', { identity: 'mallory', keys: wrong }, /handshake failed/],
  ];
  for (const [who, client, logged] of refused) {
    const before = server.log.length;
    t.notMatch(await sizeSeen(server.uri, client), /^\d+$/, who);
    await waitUntil(`the log of: ${who}`, 5000, () => logged.test(server.log.slice(before)));
    t.notMatch(server.log.slice(before), /Client connected/, who);
  }
  const plain = await runAnyway('nbdinfo', [server.uri.replace('nbds', 'nbd')]);
  t.not(plain.code, 0, 'in the clear');
  t.match(plain.stderr, /Operation not supported/, 'as libnbd says TLS_REQD');
  t.equal(await sizeSeen(server.uri, { certificates: good }), `${16 * 1024 ** 2}`);
  await server.stop();
});

t.test('the rights file says who reads, who writes and who sees nothing', LIBNBD, async (t) => {
  const setup = await tlsSetup(t);
  const rights = setup.path('rights.json');
  const clients = [
    { certificate: 'writer', write: ['vm*'] },
    { certificate: 'reader', read: ['vm1'] },
    { psk: 'reader', read: ['*'] },
    { certificate: 'elsewhere', write: ['other'] },
  ];
  writeFileSync(rights, JSON.stringify({ clients }));
  const server = await setup.serve(t, '--rights', rights);
  const write = { op: 'pwrite', offset: 0, bytes: 512 } as const;
  const read = { op: 'pread', offset: 0, bytes: 512 } as const;
  const trim = { op: 'trim', offset: 0, bytes: 512 } as const;
  const answers = async (name: string, exportName = 'vm1'): Promise<string[]> => {
    const client = { certificates: await setup.client(name) };
    return libnbdAnswers(libnbdUri(server.uri, client, exportName), [write, read, trim]);
  };
  t.strictSame(await answers('writer'), ['ok', 'ok', 'ok']);
  t.strictSame(await answers('writer', ''), ['ok', 'ok', 'ok'], 'the default export is vm1');
  t.strictSame(await answers('reader'), ['EPERM', 'ok', 'EPERM']);
  const key: TlsClient = { identity: 'reader', keys: setup.dir };
  t.match(await run('nbdinfo', [libnbdUri(server.uri, key)]), /is_read_only: true/);

  const hidden: readonly TlsClient[] = [
    { certificates: await setup.client('elsewhere') },
    { certificates: await setup.client('alice') },
    { identity: 'alice', keys: setup.dir },
  ];
  for (const client of hidden) {
    const said = await sizeSeen(server.uri, client);
    t.notMatch(said, /^\d+$/);
    const absent = await sizeSeen(server.uri, client, 'nix');
    t.equal(said.replaceAll('vm1', 'nix'), absent, 'as an export that does not exist');
    const list = await runAnyway('nbdinfo', ['--list', libnbdUri(server.uri, client, '')]);
    t.notMatch(list.stdout, /vm1/, 'and it is not listed');
  }
  await server.stop();
});

t.test(
  'with --tls on, TLS is for those who want it and exports that need it',
  LIBNBD,
  async (t) => {
    const setup = await tlsSetup(t);
    const args = ['--tls', 'on', '--tls-dir', setup.dir] as const;
    const client = { certificates: await setup.client('host1') };
    const open = await setup.serve(t, ...args);
    t.match(open.uri, /^nbd:/);
    t.match(await run('nbdinfo', [open.uri]), /newstyle-fixed without TLS/);
    t.match(await run('nbdinfo', [libnbdUri(open.uri, client)]), /newstyle-fixed with TLS/);
    await open.stop();
    const secret = await setup.serve(t, ...args, '--tls-only', 'other,vm*');
    t.match(secret.uri, /^nbds:/);
    for (const name of ['', 'vm1']) {
      const uri = `${secret.uri.replace('nbds', 'nbd')}${name}`;
      t.match((await runAnyway('nbdinfo', [uri])).stderr, /Operation not supported/, name);
      t.match(await run('nbdinfo', [libnbdUri(secret.uri, client, name)]), /with TLS/, name);
    }
    await secret.stop();
  },
);

t.test('where others can connect, the default is TLS and nothing else [T12]', LIBNBD, async (t) => {
  const setup = await tlsSetup(t);
  const server = await StoreServer.start(t, {
    dir: setup.path('data'),
    image: 'vm1',
    createBytes: 1024 ** 2,
    env: { STORE_TLS_DIR: setup.dir, STORE_BIND: '0.0.0.0' },
  });
  t.match(server.uri, /^nbds:\/\/0\.0\.0\.0:/);
  const uri = server.uri.replace('0.0.0.0', '127.0.0.1');
  t.equal(await sizeSeen(uri, { identity: 'alice', keys: setup.dir }), `${1024 ** 2}`);
  t.not((await runAnyway('nbdinfo', [uri.replace('nbds', 'nbd')])).code, 0, 'in the clear');
  await server.stop();
});

t.test('TLS goes over a Unix socket as well', LIBNBD, async (t) => {
  const setup = await tlsSetup(t);
  const socket = setup.path('nbd.sock');
  const server = await StoreServer.start(t, {
    ...{ dir: setup.path('data'), image: 'vm1', createBytes: 16 * 1024 ** 2, socket },
    args: ['--tls', 'required', '--tls-dir', setup.dir],
  });
  t.equal(server.uri, `nbds+unix:///?socket=${socket}`);
  const uri = `nbds+unix://alice@/vm1?socket=${socket}&tls-psk-file=${join(setup.dir, 'keys.psk')}`;
  t.match(await run('nbdinfo', [uri]), /newstyle-fixed with TLS/);
  await server.stop();
});

t.test('a key that everybody can read is warned of', LIBNBD, async (t) => {
  const setup = await tlsSetup(t);
  await run('chmod', ['644', join(setup.dir, 'server-key.pem'), join(setup.dir, 'keys.psk')]);
  const server = await setup.serve(t);
  for (const file of ['server-key.pem', 'keys.psk'])
    t.match(server.log, new RegExp(`Every user can get at this key; chmod o= .*${file}`));
  await server.stop();
});
