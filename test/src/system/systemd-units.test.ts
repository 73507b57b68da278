// The unit files under a real systemd, which runs in a container over a copy-on-write view of this machine: started,
// reloaded, stopped and killed as an operator and the system do it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { repositoryFolder } from '../server/store-programs.js';

t.setTimeout(600_000);

const BOOT_MS = 60_000;
const LIMIT_MS = 30_000;
const UNIT = 'store-nbd@a.service';
/** Where the container has the repository: unlike /tmp and /home, a service sees it there. */
const REPOSITORY = '/opt/store';
const URI = 'nbd+unix:///vm1?socket=/run/store/a.sock';

const TARGET = `[Unit]
Description=What a service needs
Requires=basic.target
After=basic.target
`;

/** Writes and reads back until /run/client-stop is there; says how it went. */
const CLIENT = `
import nbd, os
h = nbd.NBD()
h.connect_uri('${URI}')
open('/run/client-on', 'w').close()
count = 0
while not os.path.exists('/run/client-stop'):
    block = bytes([count % 256]) * 4096
    h.pwrite(block, 4096 * (count % 100))
    assert h.pread(4096, 4096 * (count % 100)) == block
    count += 1
print('no error in', count)
`;

/** Runs a command in the container. @returns What it printed */
type Inside = (...command: string[]) => Promise<string>;

/** What systemd says of the service. */
interface Service {
  readonly ActiveState: string;
  readonly MainPID: string;
  readonly NRestarts: string;
  readonly Result: string;
}

async function boot(t: Test): Promise<Inside> {
  const folder = tempFolder(t);
  const [layers, root] = [join(folder, 'layers'), join(folder, 'root')];
  for (const path of [layers, root]) mkdirSync(path);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1G', 'none', layers]);
  t.teardown(() => run('umount', [layers]));
  for (const name of ['upper', 'work']) mkdirSync(join(layers, name));
  const overlay = `lowerdir=/,upperdir=${join(layers, 'upper')},workdir=${join(layers, 'work')}`;
  await run('mount', ['-t', 'overlay', '-o', overlay, 'none', root]);
  t.teardown(() => run('umount', [root]));
  furnish(root);

  const name = `store-test-${process.pid}`;
  const log = { text: '' };
  const container = spawn(
    'systemd-nspawn',
    [
      ...['--boot', '--directory', root, '--machine', name, '--private-network'],
      ...['--register=no', '--keep-unit', '--link-journal=no', '--console=pipe', '--quiet'],
      ...[`--bind-ro=${repositoryFolder}:${REPOSITORY}`, 'systemd.unit=test.target'],
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' },
    },
  );
  for (const stream of [container.stdout, container.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (log.text += text));
  let init = 0;
  t.teardown(async () => {
    if (container.exitCode !== null || container.signalCode !== null) return;
    const exit = once(container, 'exit', { signal: AbortSignal.timeout(LIMIT_MS) });
    // With the first process all others of the container end. Without their parent they would live on.
    if (init !== 0) process.kill(init, 'SIGKILL');
    else container.kill('SIGTERM');
    await exit;
  });
  init = await firstProcess(container.pid ?? 0).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${log.text}`, { cause: error });
  });
  const enter = ['--target', `${init}`, '--all', '--'];
  const inside: Inside = (...command) => run('nsenter', [...enter, ...command]);
  await waitUntil('systemd to start', BOOT_MS, async () => {
    const { stdout } = await runAnyway('nsenter', [...enter, 'systemctl', 'is-system-running']);
    return /running|degraded/.test(stdout);
  });
  return inside;
}

/** The units, and programs where they expect them. */
function furnish(root: string): void {
  const units = join(root, 'etc', 'systemd', 'system');
  for (const name of ['store-nbd@.service', 'store-nbd@.socket'])
    copyFileSync(join(repositoryFolder, 'tools', 'systemd', name), join(units, name));
  writeFileSync(join(units, 'test.target'), TARGET);
  for (const name of ['store-nbd', 'store-image']) {
    const path = join(root, 'usr', 'bin', name);
    writeFileSync(path, `#!/bin/sh\nexec ${REPOSITORY}/node_modules/.bin/${name} "$@"\n`);
    chmodSync(path, 0o755);
  }
  mkdirSync(join(root, 'etc', 'store'), { recursive: true });
  writeFileSync(join(root, 'etc', 'store', 'a.env'), 'STORE_POOL=default\n');
  writeFileSync(join(root, 'etc', 'store', 'client.py'), CLIENT);
}

/** The process that is the first one in the container. */
async function firstProcess(parent: number): Promise<number> {
  let found = 0;
  await waitUntil('the container', BOOT_MS, () => {
    const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').split(' ');
    found = children.map(Number).find((pid) => pid > 0 && commandOf(pid) === 'systemd') ?? 0;
    return found !== 0;
  });
  return found;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return ''; // it has ended
  }
}

async function service(inside: Inside): Promise<Service> {
  const shown = await inside('systemctl', 'show', UNIT);
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(shown)?.[1] ?? '';
  return {
    ActiveState: value('ActiveState'),
    MainPID: value('MainPID'),
    NRestarts: value('NRestarts'),
    Result: value('Result'),
  };
}

/** Reloads, and waits until another process is the main one. @returns It */
async function reload(inside: Inside): Promise<string> {
  const { MainPID: before } = await service(inside);
  await inside('systemctl', 'reload', UNIT);
  let now = await service(inside);
  await waitUntil('another main process', LIMIT_MS, async () => {
    now = await service(inside);
    return now.ActiveState === 'active' && now.MainPID !== before;
  });
  await waitUntil(
    'the old one to end',
    LIMIT_MS,
    async () => !(await processes(inside)).includes(before),
  );
  return now.MainPID;
}

/** Those of the service. */
async function processes(inside: Inside): Promise<string[]> {
  const group = (await inside('systemctl', 'show', '-P', 'ControlGroup', UNIT)).trim();
  if (group === '') return [];
  const listed = await inside('cat', `/sys/fs/cgroup${group}/cgroup.procs`);
  return listed.split('\n').filter(Boolean);
}

t.test(
  'systemd starts, reloads, stops and restarts the server, and no client notices a reload',
  needs({ root: true, commands: ['systemd-nspawn', 'nsenter', 'nbdinfo'] }),
  async (t) => {
    const inside = await boot(t);
    const folder = ['--dir', '/var/lib/store/a', '--pool', 'default'];
    await inside('store-image', 'create', ...folder, 'vm1', '--size', '10M');
    await inside('systemctl', 'start', 'store-nbd@a.socket');
    t.match(await service(inside), { ActiveState: 'inactive' }, 'only the socket is there');
    t.match(await inside('nbdinfo', '--size', URI), /^10485760$/m, 'a client starts the server');
    const isActive = `timeout 30 sh -c "until systemctl is-active ${UNIT}; do sleep 0.1; done"`;
    await inside('sh', '-c', isActive); // it serves before systemd has read that it is ready
    const first = await service(inside);
    t.match(first, { ActiveState: 'active', Result: 'success' });

    const client = inside('/usr/bin/python3', '/etc/store/client.py');
    await inside('sh', '-c', 'timeout 30 sh -c "until [ -e /run/client-on ]; do sleep 0.1; done"');
    const pids = [first.MainPID];
    for (let count = 0; count < 3; count += 1) pids.push(await reload(inside));
    t.equal(new Set(pids).size, 4, `the main process was ${pids.join(', then ')}`);
    await inside('touch', '/run/client-stop');
    t.match(await client, /^no error in \d{2,}/, 'the client met no error');

    await inside('kill', '-KILL', pids.at(-1) ?? '');
    await waitUntil('a restart', LIMIT_MS, async () => {
      const now = await service(inside);
      return now.ActiveState === 'active' && now.NRestarts === '1';
    });
    t.pass('systemd notices the death of a process that took over, and starts another');

    await reload(inside);
    await inside('systemctl', 'stop', UNIT);
    t.match(
      await service(inside),
      { ActiveState: 'inactive', Result: 'success', MainPID: '0' },
      'a process that took over may finish when it is stopped',
    );
    const files = (await inside('ls', '/var/lib/store/a')).split('\n');
    t.notOk(files.includes('store-nbd.ctl'), 'and has cleaned up');

    await inside('systemctl', 'start', UNIT);
    await inside('systemctl', 'reload', UNIT);
    await inside('systemctl', 'stop', 'store-nbd@a.socket', UNIT);
    t.match(
      await service(inside),
      { ActiveState: 'inactive', Result: 'success', MainPID: '0' },
      'it is stopped in the middle of a reload',
    );
    t.equal((await inside('ls', '/run/store')).trim(), '', 'no socket is left');
    const journal = await inside('journalctl', '--no-pager', '-o', 'cat', '-u', UNIT);
    t.notMatch(journal, /with signal SIGKILL/, 'systemd had to kill nothing');
  },
);
