/** The storage daemon as people run it, and the programs that use it. */
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { run, serving, start, until, type Serving } from './run-programs.js';
import { failed, runStore } from './run-store.js';

t.setTimeout(540_000);

const LISTEN = ['--listen-address', '127.0.0.1:0'];

/** A folder whose path leaves room for a socket. */
function shortFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'store-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function daemon(t: Test, dir: string, args: readonly string[] = LISTEN): Promise<Serving> {
  return serving(t, 'store', ['file-store', '--dir', dir, ...args]);
}

async function stop({ child }: Serving): Promise<unknown[]> {
  child.kill('SIGTERM');
  return once(child, 'exit');
}

for (const way of ['tcp', 'udp', 'the owner’s socket'])
  await t.test(`objects and images live in a daemon that is reached by ${way}`, async (t) => {
    const dir = join(shortFolder(t), 'data');
    const served = await daemon(t, dir, way === 'tcp' ? [...LISTEN, '--tcp-only'] : LISTEN);
    t.match(served.line, /^127\.0\.0\.1:\d+$/);
    const to = ['tcp', 'udp'].includes(way)
      ? ['--storage-daemon', served.line, '--transport', way]
      : ['--storage-daemon', join(dir, 'store.sock')];
    const on = [...to, '--pool', 'testpool'];
    t.match(await run('store', ['-v', 'write', ...on, 'hello', '--data-literal', 'hello world']), {
      code: 0,
      stdout: '',
    });
    const bytes = Buffer.alloc(3_000_000, 'not always the same bytes.');
    const large = ['write', ...on, 'large', '--data-file', '-'];
    t.equal((await run('store', large, { input: bytes })).code, 0);
    t.equal((await run('store', ['read', ...on, 'large'])).stdout, bytes.toString('latin1'));
    const part = await run('store', ['-v', 'read', ...on, 'hello', '--offset', '6']);
    t.equal(part.stdout, 'world');
    t.equal((await run('store', ['read', ...on, 'hello', '--offset', '60'])).stdout, '');
    const stat = await run('store', ['stat', ...on, 'large', '--json']);
    t.match(JSON.parse(stat.stdout), { key: 'large', kind: 'object', bytes: bytes.length });
    t.match(
      (await run('store', ['ls', ...on])).stdout,
      /^KEY +BYTES +KIND\nhello +11 +object\nlarge +3000000 +object\n$/,
    );
    t.match(await run('store', ['rm', ...on, 'large']), {
      code: 0,
      stdout: "Removed object 'large'\n",
    });
    failed(t, await run('store', ['rm', ...on, 'large']), 1, /no object 'large'/);
    failed(t, await run('store', ['stat', ...on, 'large']), 1, /no object 'large'/);
    failed(t, await run('store', ['read', ...on, 'large']), 1, /no object 'large'/);

    const image = (...args: string[]): ReturnType<typeof run> =>
      run('store-image', [...args, ...on]);
    t.equal((await image('create', 'vm1', '--size', '100M')).code, 0);
    failed(
      t,
      await image('create', 'vm1', '--size', '1M'),
      1,
      new RegExp(`already is an image 'vm1'.*store-image rm --storage-daemon ${to[1] ?? ''} `),
    );
    failed(t, await image('info', 'vm2'), 1, /no image 'vm2'.*store-image ls --storage-daemon/);
    failed(t, await run('store', ['rm', ...on, 'vm1']), 1, /'vm1' is an image/);
    t.equal((await image('resize', 'vm1', '--size', '50M', '--shrink')).code, 0);
    t.match((await image('info', 'vm1')).stdout, /size +50 MiB/);
    t.match(JSON.parse((await image('ls', '--json')).stdout), [{ name: 'vm1', size: 52_428_800 }]);
    const listed = await run('store', ['ls', ...on, '--kind', 'image', '--prefix', 'v', '--json']);
    t.match(JSON.parse(listed.stdout), [{ key: 'vm1', kind: 'image' }]);
    t.equal((await image('rm', 'vm1')).code, 0);
    failed(
      t,
      await run('store-image', ['ls', ...to, '--pool', 'other']),
      1,
      /no pool 'other' there/,
    );

    t.same(await stop(served), [0, null]);
    t.equal(served.stdout(), `${served.line}\n`, 'exactly one line');
    t.notOk(existsSync(join(dir, 'store.sock')), 'and the socket is gone');
    const again = await daemon(t, dir, [...LISTEN, '--json']);
    const { address } = JSON.parse(again.line) as { address: string }; // what it prints
    const kept = await run('store', [
      'read',
      '--storage-daemon',
      address,
      '--pool',
      'testpool',
      'hello',
    ]);
    t.equal(kept.stdout, 'hello world', 'what was answered is kept');
  });

t.test('programs on the machine need no TCP, unless the daemon wants them to', async (t) => {
  for (const args of [[], ['--tcp-only']]) {
    const { line } = await daemon(t, join(shortFolder(t), 'data'), [...LISTEN, ...args]);
    // Each zero of an abstract name stands there as an @.
    const names = readFileSync('/proc/net/unix', 'utf8').split('\n');
    const isThere = names.some((name) => name.replace(/@*$/, '').endsWith(` @store/${line}`));
    t.equal(isThere, args.length === 0, args.join(' '));
    const on = ['--storage-daemon', line, '--pool', 'testpool'];
    t.equal((await run('store', ['write', ...on, 'a', '--data-literal', 'b'])).code, 0);
    t.equal((await run('store', ['read', ...on, 'a'])).stdout, 'b');
  }
});

await t.test('with a secret only tickets let somebody in, until they are blocked', async (t) => {
  const folder = shortFolder(t);
  const made = async (...args: string[]): Promise<void> => {
    const result = await runStore(folder, args);
    t.equal(result.code, 0, result.stderr);
  };
  await made('key', 'create', '--pool', 'testpool');
  for (const [client, rights] of [
    ['writer', 'rw'],
    ['reader', 'r'],
  ] as const)
    await made(
      ...['key', 'ticket', '--pool', 'testpool', '--client', client, '--rights', rights],
      ...['--expires', '1h'],
    );
  await made('key', 'create', '--pool', 'other');
  await made(
    'key',
    'ticket',
    '--pool',
    'other',
    '--client',
    'stranger',
    '--rights',
    'rwa',
    '--expires',
    '1h',
  );
  const blocklist = join(folder, 'blocked');
  writeFileSync(blocklist, '# nobody yet\n');
  const secret = join(folder, 'testpool.secret');
  const served = await daemon(t, join(folder, 'data'), [
    ...[...LISTEN, '--secret', secret, '--blocklist', blocklist],
  ]);
  const ticket = (client: string): string[] => ['--ticket', join(folder, `${client}.ticket`)];
  const on = ['--storage-daemon', served.line, '--pool', 'testpool'];
  const write = (...more: string[]): ReturnType<typeof run> =>
    run('store', ['write', ...on, 'x', '--data-literal', 'y', ...more]);
  failed(t, await write(), 1, /wants a ticket; give the client --ticket/);
  failed(t, await write(...ticket('stranger')), 1, /pool "other", whose secret is not here/);
  t.equal((await write(...ticket('writer'))).code, 0);
  t.equal((await write(...ticket('writer'), '--transport', 'udp')).code, 0);
  failed(t, await write(...ticket('reader')), 1, /client reader may not/);
  t.equal((await run('store', ['read', ...on, 'x', ...ticket('reader')])).stdout, 'y');
  failed(t, await write('--ticket', secret), 1, /is not a ticket file/);
  failed(t, await write('--ticket', `${secret}.no`), 1, /Cannot read .*no such file/);
  const owner = ['--storage-daemon', join(folder, 'data', 'store.sock'), '--pool', 'testpool'];
  t.equal((await run('store', ['read', ...owner, 'x'])).stdout, 'y', 'the owner needs none');

  writeFileSync(blocklist, 'client writer\n');
  served.child.kill('SIGHUP');
  await until(() => served.stderr().includes('read again'), 'the files are read again');
  failed(t, await write(...ticket('writer')), 1, /client "writer" was revoked/);
  writeFileSync(blocklist, 'whoever\n');
  served.child.kill('SIGHUP');
  await until(() => served.stderr().includes('Nothing taken'), 'a broken list is refused');
  failed(t, await write(...ticket('writer')), 1, /was revoked/);
  t.equal((await run('store', ['read', ...on, 'x', ...ticket('reader')])).stdout, 'y');
});

await t.test('SIGHUP does not end a daemon that starts', async (t) => {
  const child = start('store', ['file-store', '--dir', join(shortFolder(t), 'data'), ...LISTEN]);
  t.teardown(() => child.kill('SIGKILL'));
  let logged = '';
  let printed = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (logged += text));
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const status = (): string => readFileSync(`/proc/${child.pid}/status`, 'latin1');
  const isCaught = (): boolean => {
    const [, signals = '0'] = /^SigCgt:\s*(\w+)/m.exec(status()) ?? [];
    return (BigInt(`0x${signals}`) & 1n) !== 0n;
  };
  await until(isCaught, 'SIGHUP is caught');
  t.comment(logged === '' ? 'before anything is read' : 'it has begun to serve');
  child.kill('SIGHUP');
  await until(() => printed.includes('\n'), 'it serves');
});

await t.test('TLS is spoken to whoever trusts the authority', async (t) => {
  const folder = shortFolder(t);
  for (const args of [['init'], ['issue', 'storage1']]) {
    const made = await runStore(folder, ['cert', ...args]);
    t.equal(made.code, 0, made.stderr);
  }
  const file = (name: string): string => join(folder, 'certs', name);
  const peer = ['--peer-cert', file('storage1.crt'), '--peer-key', file('storage1.key')];
  const served = await daemon(t, join(folder, 'data'), [
    ...[...LISTEN, '--json', ...peer, '--peer-ca-cert', file('ca.crt')],
    ...['--peer-address', '127.0.0.1:0'],
  ]);
  const { address, peerAddress } = JSON.parse(served.line) as Record<string, string>; // what it prints
  const on = ['--storage-daemon', address ?? '', '--ca-cert'];
  const write = ['write', 'x', '--data-literal', 'y'];
  t.equal((await run('store', [...write, ...on, file('ca.crt')])).code, 0);
  t.equal((await run('store', ['read', 'x', ...on, file('ca.crt')])).stdout, 'y');
  const stranger = await runStore(folder, ['cert', 'init', '--out', 'strangers']);
  t.equal(stranger.code, 0);
  const distrusts = await run('store', [...write, ...on, join(folder, 'strangers', 'ca.crt')]);
  failed(t, distrusts, 1, /certificate of .* is not good/);
  failed(t, await run('store', [...write, ...on, file('ca.key')]), 1, /not the certificate/);
  const atPeers = ['--storage-daemon', peerAddress ?? '', '--daemon-timeout', '2'];
  failed(t, await run('store', [...write, ...atPeers]), 1, /daemon/);

  chmodSync(file('storage1.key'), 0o600);
  writeFileSync(file('storage1.crt'), 'no certificate');
  served.child.kill('SIGHUP');
  await until(() => served.stderr().includes('Nothing taken'), 'a broken certificate is refused');
  t.equal((await run('store', ['read', 'x', ...on, file('ca.crt')])).stdout, 'y', 'and it goes on');
});

await t.test('store-nbd serves images of a daemon', async (t) => {
  const folder = shortFolder(t);
  const served = await daemon(t, join(folder, 'data'));
  const on = ['--storage-daemon', served.line];
  const create = ['--image', 'vm1', '--create', '10M', '--port', '0'];
  const { child, line, stderr } = await serving(t, 'store-nbd', [...on, ...create]);
  t.match(line, /^nbd:\/\/127\.0\.0\.1:\d+\/$/);
  t.match((await run('store-image', ['ls', ...on])).stdout, /vm1/);
  child.kill('SIGUSR2');
  await until(() => stderr().includes('SIGUSR2 ignored'), 'there is nothing to hand over to');
  child.kill('SIGTERM');
  t.same(await once(child, 'exit'), [0, null]);
  failed(
    t,
    await run('store-nbd', [...on, '--image', 'vm2', '--port', '0']),
    1,
    /no image 'vm2'.*store-nbd --storage-daemon/,
  );
  failed(
    t,
    await run('store-nbd', [...on, '--replace']),
    2,
    /--replace is for servers of a folder/,
  );
});

await t.test('bad flags are told before anything is made', async (t) => {
  const folder = shortFolder(t);
  const dir = join(folder, 'data');
  const files = (...args: string[]): ReturnType<typeof run> =>
    run('store', ['file-store', '--dir', dir, ...args]);
  failed(t, await files('--listen-address', '127.0.0.1'), 2, /not HOST:PORT/);
  failed(t, await files('--listen-address', '::1:4148'), 2, /not HOST:PORT/);
  failed(t, await files('--peer-address', '127.0.0.1:0'), 2, /--peer-address needs --peer-cert/);
  failed(t, await files('--listen-cert', 'x'), 2, /--listen-cert and --listen-key go together/);
  failed(t, await files('--peer-cert', 'x', '--peer-key', 'y'), 1, /no such file.*'x'/);
  failed(t, await files('--secret', join(folder, 'no')), 1, /Cannot read .*no such file/);
  failed(t, await files('--blocklist', join(folder, 'no')), 1, /Cannot read .*no such file/);
  failed(t, await files('--datagram-bytes', '1000'), 2, /neither 0 nor a number from 1280/);
  t.notOk(existsSync(dir), 'nothing was made');

  const ls = (...args: string[]): ReturnType<typeof run> => run('store', ['ls', ...args]);
  const here = ['--storage-daemon', '127.0.0.1:1'];
  failed(t, await ls(...here, '--dir', dir), 2, /--dir and --storage-daemon name two stores/);
  failed(t, await ls('--storage-daemon', '127.0.0.1'), 2, /not HOST:PORT/);
  failed(t, await ls('--storage-daemon', '192.0.2.1:4148'), 2, /another machine: add --ca-cert/);
  failed(
    t,
    await ls('--storage-daemon', '[2001:db8::1]:4148'),
    2,
    /2001:db8::1 is another machine/,
  );
  failed(t, await ls('--storage-daemon', './x', '--transport', 'udp'), 2, /no UDP/);
  failed(t, await ls('--storage-daemon', './x', '--ca-cert', 'y'), 2, /for other machines/);
  failed(t, await ls(...here, '--transport', 'pigeon'), 2, /not one of tcp, udp/);
  failed(t, await ls(...here), 1, /Cannot reach 127\.0\.0\.1:1: nothing listens there/);
  const env = { STORE_STORAGE_DAEMON: '127.0.0.1:1', STORE_DIR: dir };
  failed(t, await run('store', ['ls'], { env }), 1, /Cannot reach 127\.0\.0\.1:1/);
  failed(t, await run('store', ['ls', '--dir', dir], { env }), 1, /There is no folder/);
});

await t.test('who listens where others can connect is told what keeps them out', async (t) => {
  const folder = shortFolder(t);
  const open = ['--listen-address', '0.0.0.0:0'];
  const first = await daemon(t, join(folder, 'data'), open);
  await until(() => first.stderr().includes('store key create'), 'it says how they get in');
  t.match(first.stderr(), /there is no certificate/);
  t.same(await stop(first), [0, null]);
  const second = await daemon(t, join(folder, 'data'), [...open, '--insecure']);
  await until(() => second.stderr().includes('EVERYBODY'), 'it says so loudly');
  t.ok(statSync(join(folder, 'data', 'store.sock')).isSocket());
  t.equal(statSync(join(folder, 'data', 'store.sock')).mode & 0o777, 0o600);
});
