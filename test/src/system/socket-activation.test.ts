// Sockets that somebody else opened (LISTEN_FDS), and what systemd hears and is told to do.
import { spawn } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { isAlive, ReplaceableServer } from '../server/replaceable-server.js';
import { programPath, repositoryFolder, runProgramWell } from '../server/store-programs.js';

t.setTimeout(360_000);

const IMAGE = ['--pool', 'testpool', '--image', 'vm1', '--create', '1M'];

t.test(
  'nbdinfo -- [ store-nbd … ] passes its socket',
  needs({ commands: ['nbdinfo'] }),
  async (t) => {
    const dir = join(tempFolder(t), 'data');
    const program = ['[', programPath('store-nbd'), '--dir', dir, ...IMAGE, ']'];
    t.equal(
      (await run('nbdinfo', ['--size', '--', ...program])).trim().split('\n').at(-1),
      '1048576',
    );
  },
);

t.test(
  'a server on two passed sockets is replaced, and serves on both',
  needs({ commands: ['systemd-socket-activate'] }),
  async (t) => {
    const folder = tempFolder(t);
    const dir = join(folder, 'data');
    const sockets = [join(folder, 'one'), join(folder, 'two')];
    await runProgramWell('store-image', [
      ...['create', '--dir', dir, '--pool', 'testpool', 'vm1', '--size', '1M'],
    ]);
    const activator = spawn(
      'systemd-socket-activate',
      [
        ...sockets.flatMap((path) => ['-l', path]),
        ...[programPath('store-nbd'), '--dir', dir, '--pool', 'testpool', '--image', 'vm1'],
      ],
      { stdio: 'ignore', env: { ...process.env, PATH: process.env['PATH'] ?? '' } },
    );
    const pids = new Set([activator.pid ?? 0]);
    const owner = (): number => {
      const file = join(dir, 'lock');
      const pid = existsSync(file) ? Number(readFileSync(file, 'utf8').replace(/\D/g, '')) : 0;
      pids.add(pid);
      return pid;
    };
    t.teardown(() => {
      for (const pid of pids) if (pid > 0 && isAlive(pid)) process.kill(pid, 'SIGKILL');
    });
    await waitUntil('the sockets', 10_000, () => sockets.every((path) => existsSync(path)));
    const uris = sockets.map((path) => `nbd+unix:///?socket=${path}`);
    const clients = await Promise.all(uris.map((uri) => NbdClient.connect(uri)));
    const first = owner();
    t.equal(first, activator.pid, 'it is the process that was activated');
    process.kill(first, 'SIGUSR2');
    await waitUntil('a successor', 20_000, () => ![0, first].includes(owner()) && !isAlive(first));
    for (const client of clients) t.equal((await client.read(0, 512)).error, 0);
    for (const uri of uris) await (await NbdClient.connect(uri)).disconnect();
    for (const client of clients) await client.disconnect();
    const last = owner();
    process.kill(last, 'SIGTERM');
    await waitUntil('it to stop', 20_000, () => !isAlive(last));
    t.ok(
      sockets.every((path) => existsSync(path)),
      'the files stay: they are of whoever made them',
    );
  },
);

t.test('what LISTEN_FDS cannot mean is said in one line', async (t) => {
  const dir = join(tempFolder(t), 'data');
  const shell = `export LISTEN_PID=$$ LISTEN_FDS=$1; shift; exec "$@"`;
  const started = (count: string, ...more: string[]) =>
    runAnyway('sh', [
      ...['-c', shell, 'sh', count, programPath('store-nbd'), '--dir', dir, ...IMAGE, ...more],
    ]);
  const many = await started('99');
  t.equal(many.code, 2);
  t.match(many.stderr, /^store-nbd: LISTEN_FDS is '99'; it is the number of sockets/);
  const both = await started('1', '--port', '0');
  t.equal(both.code, 2);
  t.match(both.stderr, /^store-nbd: A socket was passed .* leave out one of them\n$/);
});

for (const place of ['a path', 'an abstract name'] as const)
  t.test(`systemd hears READY, RELOADING, MAINPID and STOPPING (${place})`, async (t) => {
    const folder = tempFolder(t);
    const path = join(folder, 'notify');
    const heard = join(folder, 'heard');
    const name = place === 'a path' ? path : `@store-test-${process.pid}`;
    // Node has no datagram sockets of this kind.
    const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0'))
open(sys.argv[2], 'w').write('listening\\n')
while True:
    line = s.recv(4096).decode().replace('\\n', ' ')
    open(sys.argv[2], 'a').write(line + '\\n')`;
    const listener = spawn('/usr/bin/python3', ['-c', script, name, heard], { stdio: 'inherit' });
    t.teardown(() => listener.kill('SIGKILL'));
    await waitUntil('the listener', 10_000, () => existsSync(heard));
    const server = await ReplaceableServer.start(t, {
      dir: join(folder, 'data'),
      args: [...IMAGE, '--port', '0'],
      env: { NOTIFY_SOCKET: name },
    });
    const first = server.pid;
    await server.restart('SIGUSR2');
    const second = server.pid;
    await server.stop();
    const lines = (): string[] => readFileSync(heard, 'utf8').trim().split('\n').slice(1);
    await waitUntil('the goodbye', 5000, () => lines().includes('STOPPING=1'));
    const shape = lines().map((line) => line.replace(/ STATUS=.*/, ''));
    t.same(shape, [
      `READY=1 MAINPID=${first}`,
      'RELOADING=1',
      'RELOADING=1',
      `READY=1 MAINPID=${second}`,
      `MAINPID=${second}`,
      'STOPPING=1',
    ]);
  });

t.test(
  'systemd has nothing to say against the unit files',
  needs({ commands: ['systemd-analyze'] }),
  async (t) => {
    const folder = tempFolder(t);
    const units = join(repositoryFolder, 'tools', 'systemd');
    const service = readFileSync(join(units, 'store-nbd@.service'), 'utf8');
    const file = join(folder, 'store-nbd@.service');
    writeFileSync(file, service.replace('/usr/bin/store-nbd', programPath('store-nbd')));
    copyFileSync(join(units, 'store-nbd@.socket'), join(folder, 'store-nbd@.socket'));
    for (const unit of ['store-nbd@.service', 'store-nbd@.socket']) {
      const { code, stderr } = await runAnyway('systemd-analyze', ['verify', join(folder, unit)]);
      t.same({ code, stderr }, { code: 0, stderr: '' }, unit);
    }
  },
);
