/** The real programs, run as people run them: as processes, judged by their output and exit code. */
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { run, serving, type Program, type Serving } from './run-programs.js';
import { failed, type Result } from './run-store.js';

t.setTimeout(360_000);

const serve = (t: Test, args: readonly string[]): Promise<Serving> => serving(t, 'store-nbd', args);

await t.test('an image is created, listed, shown, resized and removed', async (t) => {
  const dir = join(t.testdir(), 'data');
  const on = ['--dir', dir, '--pool', 'testpool'];
  t.match(await run('store-image', ['create', ...on, 'vm1', '--size', '100M']), {
    code: 0,
    stdout: "Created image 'vm1' of 100 MiB in pool 'testpool'\n",
    stderr: '',
  });
  const listed = await run('store-image', ['ls', ...on, '--json']);
  t.match(JSON.parse(listed.stdout), [{ name: 'vm1', size: 104_857_600, state: 'ready' }]);
  t.match(
    (await run('store-image', ['ls', ...on])).stdout,
    /^NAME +SIZE +STATE\nvm1 +100 MiB +ready\n$/,
  );
  const info = await run('store-image', ['info', ...on, 'vm1']);
  t.match(info.stdout, /size +100 MiB \(104857600 bytes\)/);
  t.match(info.stdout, /nbd:\/\/127\.0\.0\.1\/vm1/);
  t.equal((await run('store-image', ['resize', ...on, 'vm1', '--size', '200M'])).code, 0);
  failed(t, await run('store-image', ['resize', ...on, 'vm1', '--size', '50M']), 2, /--shrink/);
  t.equal(
    (await run('store-image', ['resize', ...on, 'vm1', '--size', '50M', '--shrink'])).code,
    0,
  );
  const resized = await run('store-image', ['info', ...on, '--image', 'vm1', '--json']);
  t.match(JSON.parse(resized.stdout), { size: 52_428_800, allocatedBytes: 0 });
  t.equal((await run('store-image', ['rm', ...on, 'vm1'])).code, 0);
  failed(t, await run('store-image', ['info', ...on, 'vm1']), 1, /no image 'vm1'.*store-image ls/);
});

await t.test('without names everything is called default', async (t) => {
  const env = { STORE_DIR: join(t.testdir(), 'data') };
  const made = await run('store-image', ['create', '--size', '1M'], { env });
  t.match(made.stdout, "Created image 'default' of 1 MiB in pool 'default'");
  failed(t, await run('store-image', ['rm'], { env }), 2, /Say which image/);
  t.equal(
    (await run('store-image', ['info'], { env })).code,
    0,
    'rm without a name removed nothing',
  );
});

await t.test('bad usage is exit code 2 and one line', async (t) => {
  const folder = t.testdir();
  const dir = ['--dir', join(folder, 'data')];
  const image = (...args: string[]): Promise<Result> => run('store-image', [...args, ...dir]);
  const nbd = (...args: string[]): Promise<Result> => run('store-nbd', [...args, ...dir]);
  failed(t, await run('store-image', []), 2, /Give a command; see store-image --help/);
  failed(t, await run('store', ['group']), 2, /Give a command; see store group --help/);
  failed(
    t,
    await run('store', ['group', 'ls', '--x']),
    2,
    /option '--x'; see store group ls --help/,
  );
  failed(t, await image('frob'), 2, /Unknown command 'frob'/);
  // What Node makes of bytes that are no UTF-8: two such names would be one.
  failed(t, await image('create', 'vm\ufffd', '--size', '1M'), 2, /is not valid UTF-8/);
  const env = { STORE_POOL: '\ufffd' };
  failed(t, await run('store-image', ['ls', ...dir], { env }), 2, /STORE_POOL is not valid UTF-8/);
  failed(t, await image('ls', '--frob'), 2, /Unknown option '--frob'/);
  failed(t, await image('create', 'a', 'b', '--size', '1M'), 2, /Too many arguments/);
  failed(t, await image('create', 'vm1'), 2, /--size 100M/);
  failed(t, await image('create', 'vm1', '--size', 'big'), 2, /Bad --size: 'big' is not a size/);
  failed(t, await image('create', 'vm1', '--size', '1000'), 2, /multiple of 512/);
  failed(t, await image('create', 'vm1', '--size', '2P'), 2, /at most 1 PiB/);
  failed(t, await image('create', 'vm@1', '--size', '1M'), 2, /contains '@'/);
  failed(t, await nbd('--port', '70000'), 2, /Bad --port/);
  failed(t, await nbd('--image', 'vm1', '--create'), 2, /--create needs a size/);
  failed(t, await nbd('--create', '10M'), 2, /--create needs the name/);
  failed(t, await nbd('--bind', '0.0.0.0'), 2, /speaks TLS: give it keys.*--insecure/);
  failed(t, await run('store', ['write', 'key', ...dir]), 2, /--data-literal or --data-file/);
  t.notOk(existsSync(join(folder, 'data')), 'nothing was made');
});

await t.test('a bad value is reported with the place it came from', async (t) => {
  const file = join(t.testdir(), 'store.json');
  writeFileSync(file, '{"port": "many"}');
  failed(t, await run('store-nbd', ['--config', file]), 2, /"port" in .*store\.json/);
  failed(t, await run('store-nbd', [], { env: { STORE_CONFIG: file } }), 2, /"port" in/);
  failed(t, await run('store-nbd', [], { env: { STORE_PORT: 'x' } }), 2, /variable STORE_PORT/);
  failed(
    t,
    await run('store-nbd', ['--config', `${file}.nope`]),
    2,
    /Cannot read the configuration/,
  );
});

await t.test('what cannot be done is exit code 1 and one line that says what to do', async (t) => {
  const folder = t.testdir();
  const dir = ['--dir', join(folder, 'data')];
  failed(t, await run('store-image', ['ls', ...dir]), 1, /no folder.*--dir/);
  failed(t, await run('store-nbd', dir), 1, /no folder.*--dir/);
  t.equal((await run('store-image', ['create', 'vm1', '--size', '1M', ...dir])).code, 0);
  failed(
    t,
    await run('store-image', ['create', 'vm1', '--size', '1M', ...dir]),
    1,
    /already is an image 'vm1'.*choose another name/,
  );
  failed(
    t,
    await run('store-nbd', ['--image', 'vm2', ...dir]),
    1,
    /no image 'vm2'.*store-image ls/,
  );
  failed(t, await run('store-nbd', ['--pool', 'other', ...dir]), 1, /no pool 'other'/);
  failed(t, await run('store', ['read', 'nothing', ...dir]), 1, /no object 'nothing'/);
  const occupant = createServer().listen(0, '127.0.0.1');
  await once(occupant, 'listening');
  t.teardown(() => occupant.close());
  const { port } = occupant.address() as AddressInfo; // it listens on TCP
  failed(
    t,
    await run('store-nbd', ['--port', String(port), ...dir]),
    1,
    new RegExp(`${port}.*taken`),
  );
  const verbose = await run('store-image', ['-v', 'info', 'vm2', ...dir]);
  t.match(verbose.stderr, /\n\s+at /, '-v shows where it happened');
});

await t.test('a server that cannot listen leaves no image behind', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'store-')); // short: so must the path of a socket be
  t.teardown(() => rmSync(folder, { recursive: true }));
  const dir = ['--dir', join(folder, 'data')];
  const create = (...more: string[]): Promise<Result> =>
    run('store-nbd', [...dir, '--image', 'vm1', '--create', '1M', ...more]);
  const images = async (): Promise<string> => (await run('store-image', ['ls', ...dir])).stdout;
  const socket = join(folder, 'taken.sock');
  const occupants = [createServer().listen(0, '127.0.0.1'), createServer().listen(socket)];
  for (const occupant of occupants) {
    if (!occupant.listening) await once(occupant, 'listening');
    t.teardown(() => occupant.close());
  }
  const { port } = occupants[0]?.address() as AddressInfo; // it listens on TCP
  failed(t, await create('--port', String(port)), 1, /port is taken/);
  t.notMatch(await images(), /vm1/, 'a port');
  failed(t, await create('--socket', socket), 1, /another program serves there/);
  t.notMatch(await images(), /vm1/, 'a Unix socket');
  const metrics = ['--port', '0', '--metrics', String(port)];
  const { code, stdout } = await create(...metrics);
  t.same({ code, stdout }, { code: 1, stdout: '' });
  t.notMatch(await images(), /vm1/, 'the port of the metrics');
  const { child } = await serve(t, [...dir, '--image', 'vm1', '--create', '1M', '--port', '0']);
  child.kill('SIGTERM');
  t.same(await once(child, 'exit'), [0, null]);
  t.match(await images(), /vm1/, 'and where it can listen it makes one');
});

await t.test('store-nbd serves, prints one line, keeps others out, and stops with 0', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'store-')); // short: so must the path of a socket be
  t.teardown(() => rmSync(folder, { recursive: true }));
  const dir = ['--dir', join(folder, 'data')];
  const socket = join(folder, 'nbd.sock');
  const {
    child,
    line: uri,
    stdout,
  } = await serve(t, [...[...dir, '--image', 'vm1', '--create', '10M', '--socket', socket]]);
  t.equal(uri, `nbd+unix:///?socket=${socket}`);
  t.ok(statSync(socket).isSocket());
  const status = readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8');
  const threads = Number(/Threads:\s+(\d+)/.exec(status)?.[1]);
  t.ok(threads > 16, `${threads} threads: sixteen of the pool, and what Node needs itself`);
  child.kill('SIGHUP'); // there is nothing to read again
  const second = await run('store-nbd', [...dir, '--image', 'vm1', '--port', '0']);
  t.equal(child.signalCode, null, 'it goes on');
  failed(t, second, 1, new RegExp(`in use by process ${child.pid ?? 0}`));
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number | null]; // the arguments of 'exit'
  t.equal(code, 0);
  t.equal(stdout(), `${uri}\n`, 'exactly one line');
  t.notOk(existsSync(socket));
  const again = await serve(t, [
    ...dir,
    '--image',
    'vm1',
    '--create',
    '--size',
    '10M',
    '--port',
    '0',
  ]);
  t.match(again.line, /^nbd:\/\/127\.0\.0\.1:\d+\/$/);
  again.child.kill('SIGINT');
  t.same(await once(again.child, 'exit'), [0, null], 'Ctrl-C is no failure either');
});

await t.test('store-nbd --print-attach says how to attach the image', async (t) => {
  const args = [
    '--dir',
    join(t.testdir(), 'data'),
    '--image',
    'vm1',
    '--create',
    '1M',
    '--port',
    '0',
  ];
  const { child, line: uri, stdout } = await serve(t, [...args, '--print-attach']);
  const port = /:(\d+)\//.exec(uri)?.[1] ?? '';
  child.kill('SIGTERM');
  await once(child, 'exit');
  t.ok(stdout().includes(`nbd-client 127.0.0.1 ${port} /dev/nbd0\n`));
  t.ok(stdout().includes(`nbdfuse /tmp/store-nbd ${uri} &\n`));
});

await t.test('objects go in and out of a pool, also the header of an old image', async (t) => {
  const on = ['--dir', join(t.testdir(), 'data'), '--pool', 'testpool'];
  const write = ['-v', 'write', ...on];
  t.equal((await run('store', [...write, 'testobj', '--data-literal', 'hello world'])).code, 0);
  t.equal((await run('store', ['read', ...on, 'testobj'])).stdout, 'hello world');
  const part = await run('store', ['read', ...on, 'testobj', '--offset', '6', '--length', '4']);
  t.equal(part.stdout, 'worl');
  await run('store', ['write', ...on, 'testobj', '--offset', '6', '--data-literal', 'there']);
  t.equal((await run('store', ['read', ...on, 'testobj'])).stdout, 'hello there');
  await run('store', ['write', ...on, 'testobj', '--data-literal', 'short']);
  t.equal((await run('store', ['read', ...on, 'testobj'])).stdout, 'short');

  const input = Buffer.from([0, 0, 0, 0, 6, 0x40, 0, 0]);
  const header = ['write', ...on, 'testblock', '--data-file', '-'];
  t.equal((await run('store', header, { input })).code, 0);
  const info = await run('store-image', ['info', ...on, 'testblock', '--json']);
  t.match(JSON.parse(info.stdout), { size: 104_857_600, kind: 'ancestor' });
  const { child } = await serve(t, [...on, '--image', 'testblock', '--port', '0']);
  child.kill('SIGTERM');
  t.same(await once(child, 'exit'), [0, null]);
  t.equal((await run('store-image', ['upgrade', ...on, 'testblock'])).code, 0);
  t.match((await run('store-image', ['ls', ...on])).stdout, /testblock/);
  const overwrite = await run('store', [...header], { input });
  failed(t, overwrite, 1, /'testblock' is an image/);
  const check = await run('store', ['check', ...on]);
  t.match(check, { code: 0, stdout: /^\d+ objects, .* compared\n$/ });
});

await t.test('every program and command has help with an example', async (t) => {
  const all: [Program, ...string[]][] = [
    ['store'],
    ['store', 'write'],
    ['store', 'read'],
    ['store', 'rm'],
    ['store', 'ls'],
    ['store', 'stat'],
    ['store', 'check'],
    ['store', 'file-store'],
    ['store-nbd'],
    ['store-image'],
    ...['create', 'ls', 'info', 'resize', 'rm', 'upgrade'].map((command): [Program, string] => [
      'store-image',
      command,
    ]),
  ];
  for (const [program, ...command] of all) {
    const { code, stdout, stderr } = await run(program, [...command, '--help']);
    t.equal(code, 0);
    t.equal(stderr, '');
    t.match(stdout, new RegExp(`^Usage: ${program}`));
    t.match(stdout, new RegExp(`Example:\\n  ${[program, ...command].join(' ')}`));
  }
});

await t.test('a folder of somebody else is left alone', async (t) => {
  const folder = t.testdir();
  mkdirSync(join(folder, 'photos'));
  const made = await run('store-image', ['create', '--size', '1M', '--dir', folder]);
  failed(t, made, 1, /choose an empty folder/);
});
