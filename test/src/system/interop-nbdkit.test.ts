// nbdkit's nbd plugin in front of us: as a plain relay, over TLS, and as a bad line that fails and dawdles.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { StoreServer } from '../server/store-server.js';
import { tlsSetup } from '../tls-files/tls-setup.js';

t.setTimeout(600_000);

const MIB = 1024 ** 2;
const NBDKIT = needs({ commands: ['nbdkit', 'nbdcopy', 'nbdinfo'] });

interface Relay {
  readonly uri: string;
  /** What nbdkit logged so far. */
  readonly said: () => string;
}

/** nbdkit on a Unix socket, with its nbd plugin connected to `uri`; it ends with the test. */
async function relay(
  t: HasTeardown,
  folder: string,
  uri: string,
  {
    filters = [],
    settings = [],
  }: { filters?: readonly string[]; settings?: readonly string[] } = {},
): Promise<Relay> {
  const socket = join(folder, 'nbdkit.sock');
  const args = ['-f', '-U', socket, ...filters.map((filter) => `--filter=${filter}`), 'nbd'];
  const child = spawn('nbdkit', [...args, `uri=${uri}`, ...settings], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  });
  await waitUntil('nbdkit', 10_000, () => {
    if (child.exitCode !== null) throw new Error(`nbdkit exited with ${child.exitCode}\n${said}`);
    return existsSync(socket);
  });
  return { uri: `nbd+unix:///?socket=${socket}`, said: () => said };
}

function makeFile(path: string): Buffer {
  const content = Buffer.alloc(16 * MIB);
  randomBytes(3 * MIB).copy(content, 5 * MIB);
  writeFileSync(path, content);
  return content;
}

t.test('nbdkit relays data and holes both ways', NBDKIT, async (t) => {
  const folder = tempFolder(t);
  const server = await StoreServer.start(t, {
    dir: join(folder, 'data'),
    image: 'vm1',
    createBytes: 16 * MIB,
    socket: join(folder, 'store.sock'),
  });
  const { uri } = await relay(t, folder, server.uri);
  const content = makeFile(join(folder, 'in.raw'));
  await run('nbdcopy', ['--flush', '--connections=4', join(folder, 'in.raw'), uri]);
  await run('nbdcopy', ['--connections=4', uri, join(folder, 'out.raw')]);
  t.ok(readFileSync(join(folder, 'out.raw')).equals(content));
  const map = await run('nbdinfo', ['--map', server.uri]);
  t.match(map, /5242880 +3145728 +0 +data/);
  t.equal(await run('nbdinfo', ['--map', uri]), map);
  for (const can of ['fua', 'trim', 'fast-zero', 'cache', 'multi-conn'])
    t.equal((await runAnyway('nbdinfo', ['--can', can, uri])).code, 0, can);
  await server.stop();
});

t.test(
  'nbdkit relays over TLS, so that a client without it gets in',
  needs({ commands: ['nbdkit', 'nbdcopy', 'openssl'] }),
  async (t) => {
    const setup = await tlsSetup(t);
    const server = await setup.serve(t);
    const folder = tempFolder(t);
    const settings = ['tls=require', `tls-certificates=${await setup.client('relay')}`];
    const { uri } = await relay(t, folder, server.uri, { settings });
    const content = makeFile(join(folder, 'in.raw'));
    await run('nbdcopy', ['--flush', join(folder, 'in.raw'), uri]);
    await run('nbdcopy', [uri, join(folder, 'out.raw')]);
    t.ok(readFileSync(join(folder, 'out.raw')).equals(content));
    await server.stop();
  },
);

t.test('a slow line that fails now and then costs errors, never bytes', NBDKIT, async (t) => {
  const folder = tempFolder(t);
  const server = await StoreServer.start(t, {
    dir: join(folder, 'data'),
    image: 'vm1',
    createBytes: 16 * MIB,
    socket: join(folder, 'store.sock'),
  });
  const content = makeFile(join(folder, 'in.raw'));
  const { uri, said } = await relay(t, folder, server.uri, {
    filters: ['retry-request', 'error', 'delay'],
    settings: [
      'retry-request-delay=1',
      'retry-request-retries=20',
      'error-rate=10%',
      'delay-write=5ms',
      'delay-read=5ms',
    ],
  });
  await run('nbdcopy', ['--flush', join(folder, 'in.raw'), uri]);
  await run('nbdcopy', [uri, join(folder, 'out.raw')]);
  t.ok(readFileSync(join(folder, 'out.raw')).equals(content), 'through the bad line');
  t.match(said(), /injecting EIO error into/, 'the line did fail');
  await run('nbdcopy', [server.uri, join(folder, 'direct.raw')]);
  t.ok(readFileSync(join(folder, 'direct.raw')).equals(content), 'and without it');
  await server.stop();
});
