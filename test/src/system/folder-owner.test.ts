// One folder has one owner; whoever comes second goes through it, or learns who it is, in one line.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { CommandResult } from '../host/command.js';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { runProgram, runProgramWell } from '../server/store-programs.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(360_000);

const MIB = 1024 ** 2;

function optionsIn(folder: string): { dir: string; image: string; socket: string } {
  return { dir: join(folder, 'data'), image: 'vm1', socket: join(folder, 'nbd.sock') };
}

const nbdArguments = (dir: string, ...more: string[]): string[] => [
  ...['--dir', dir, '--pool', 'testpool', '--image', 'vm1'],
  ...(more.includes('--port') ? [] : ['--port', '0']),
  ...more,
];

/** An expected failure: exit code 1 and one line that says what is wrong, no stack trace. */
function failsInOneLine(t: Test, result: CommandResult, ...says: readonly RegExp[]): void {
  t.equal(result.code, 1, 'exit code');
  t.equal(result.stdout, '', 'nothing on standard output');
  const lines = result.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  t.equal(lines.length, 1, `one line for people:\n${result.stderr}`);
  for (const one of says) t.match(lines[0], one);
  t.notMatch(result.stderr, /\n\s+at /, 'no stack trace');
}

t.test(
  'a second server on a folder names the process that owns it; store-image goes through it',
  async (t) => {
    const options = optionsIn(tempFolder(t));
    const server = await StoreServer.start(t, { ...options, createBytes: 16 * MIB });
    const owner = new RegExp(`\\b${server.pid}\\b`);
    failsInOneLine(t, await runProgram('store-nbd', nbdArguments(options.dir)), owner, /--dir/);
    const create = ['create', '--dir', options.dir, '--pool', 'testpool', 'vm2', '--size', '1M'];
    t.equal((await runProgram('store-image', create)).code, 0, 'through the owner');
    const remove = ['rm', '--dir', options.dir, '--pool', 'testpool', 'vm1'];
    failsInOneLine(t, await runProgram('store-image', remove), owner, /stop it first/);
    const client = await NbdClient.connect(server.uri);
    t.equal(
      (await client.write(0, Buffer.alloc(4096, 1), 1)).error,
      0,
      'the owner goes on serving',
    );
    await client.disconnect();
    await server.stop();
    t.match(
      await runProgramWell('store-image', ['ls', '--dir', options.dir, '--pool', 'testpool']),
      'vm1',
    );
  },
);

t.test('the folder of a killed process is taken over at once', async (t) => {
  const options = optionsIn(tempFolder(t));
  const first = await StoreServer.start(t, { ...options, createBytes: 16 * MIB });
  await first.kill9();
  t.match(
    await runProgramWell('store-image', ['ls', '--dir', options.dir, '--pool', 'testpool']),
    'vm1',
  );
  const second = await StoreServer.start(t, options);
  await second.stop();
});

t.test('SIGINT drains and exits 0, as SIGTERM does, also with a client connected', async (t) => {
  const options = optionsIn(tempFolder(t));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const server = await StoreServer.start(t, { ...options, createBytes: 16 * MIB });
    const client = await NbdClient.connect(server.uri);
    t.equal((await client.write(0, Buffer.alloc(4096, 3))).error, 0);
    const code = await server.exitAfter(() => process.kill(server.pid, signal));
    t.equal(code, 0, signal);
    client.connection.destroy();
  }
  const server = await StoreServer.start(t, options);
  const client = await NbdClient.connect(server.uri);
  t.same((await client.read(0, 4096)).data, Buffer.alloc(4096, 3));
  await client.disconnect();
  await server.stop();
});

t.test('a port that is taken is named', async (t) => {
  const options = optionsIn(tempFolder(t));
  await (await StoreServer.start(t, { ...options, createBytes: 16 * MIB })).stop();
  const occupant = createServer();
  await new Promise<void>((resolve) => occupant.listen(0, '127.0.0.1', resolve));
  t.teardown(() => occupant.close());
  const port = (occupant.address() as AddressInfo).port; // it listens on TCP
  const result = await runProgram('store-nbd', nbdArguments(options.dir, '--port', `${port}`));
  failsInOneLine(t, result, new RegExp(`\\b${port}\\b`), /in use|taken/);
});

t.test('a missing image is named, and how to make it', async (t) => {
  const options = optionsIn(tempFolder(t));
  await (await StoreServer.start(t, { ...options, createBytes: 16 * MIB })).stop();
  const args = ['--dir', options.dir, '--pool', 'testpool', '--image', 'other', '--port', '0'];
  failsInOneLine(t, await runProgram('store-nbd', args), /other/, /create/);
});

t.test('an image that exists is not made again', async (t) => {
  const { dir } = optionsIn(tempFolder(t));
  const create = ['create', '--dir', dir, '--pool', 'testpool', 'vm1', '--size', '1M'];
  await runProgramWell('store-image', create);
  failsInOneLine(t, await runProgram('store-image', create), /vm1/, /exist|already/);
});

t.test('a file where the folder should be is refused', async (t) => {
  const file = join(tempFolder(t), 'file');
  writeFileSync(file, 'not a folder');
  failsInOneLine(
    t,
    await runProgram('store-nbd', nbdArguments(file, '--create', '--size', '1M')),
    /file/,
  );
});

t.test('a folder with other things in it is left alone', async (t) => {
  const folder = tempFolder(t);
  writeFileSync(join(folder, 'thesis.txt'), 'years of work');
  const args = nbdArguments(folder, '--create', '--size', '1M');
  failsInOneLine(t, await runProgram('store-nbd', args), /empty|not.*store/i);
});

t.test('a folder of another format version is refused and left as it is', async (t) => {
  const { dir } = optionsIn(tempFolder(t));
  await runProgramWell('store-image', [
    ...['create', '--dir', dir, '--pool', 'testpool', 'vm1', '--size', '1M'],
  ]);
  const file = join(dir, 'format');
  const original = readFileSync(file, 'utf8');
  t.match(original, /^store \d+\n/);
  writeFileSync(file, original.replace(/^store \d+/, 'store 999'));
  const list = ['ls', '--dir', dir, '--pool', 'testpool'];
  failsInOneLine(t, await runProgram('store-image', list), /version 999/, /release|upgrade/);
  writeFileSync(file, original);
  t.match(await runProgramWell('store-image', list), 'vm1');
});

t.test('a folder that cannot be written is refused', needs({ root: true }), async (t) => {
  const folder = join(tempFolder(t), 'read-only');
  mkdirSync(folder);
  await run('mount', ['-t', 'tmpfs', '-o', 'ro', 'none', folder]);
  t.teardown(() => run('umount', [folder]));
  const args = nbdArguments(folder, '--create', '--size', '1M');
  failsInOneLine(t, await runProgram('store-nbd', args), /read-only/, /read-only|permission/i);
});
