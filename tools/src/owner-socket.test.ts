/** Programs that use a folder which another program has. */
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { run, serving, until, type Serving } from './run-programs.js';
import { failed } from './run-store.js';

t.setTimeout(360_000);

function newFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'store-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function nbd(t: Test, dir: string, ...more: string[]): Promise<Serving> {
  return serving(t, 'store-nbd', ['--dir', dir, '--port', '0', ...more]);
}

await t.test('other programs work on the folder while store-nbd serves it', async (t) => {
  const dir = join(newFolder(t), 'data');
  const { child } = await nbd(t, dir, '--image', 'vm1', '--create', '10M');
  const on = ['--dir', dir];
  const image = (...args: string[]): ReturnType<typeof run> => run('store-image', [...args, ...on]);
  t.equal((await image('create', 'vm2', '--size', '20M')).code, 0);
  t.match((await image('ls')).stdout, /vm1 +10 MiB +ready\nvm2 +20 MiB +ready\n$/);
  t.match((await image('info', 'vm1')).stdout, /size +10 MiB/);
  t.equal((await run('store', ['write', ...on, 'x', '--data-literal', 'y'])).code, 0);
  t.equal((await run('store', ['read', ...on, 'x'])).stdout, 'y');
  const served = new RegExp(
    `'vm1' is served by store-nbd \\(pid ${child.pid ?? 0}\\); stop it first`,
  );
  failed(t, await image('rm', 'vm1'), 1, served);
  failed(t, await image('resize', 'vm1', '--size', '20M'), 1, served);
  t.equal((await image('resize', 'vm2', '--size', '30M')).code, 0);
  t.equal((await image('rm', 'vm2')).code, 0);
  t.match((await image('ls')).stdout, /vm1 +10 MiB +ready\n$/, 'vm1 is as it was');
  failed(t, await run('store', ['check', ...on]), 1, /in use by process/);
  child.kill('SIGTERM');
  t.same(await once(child, 'exit'), [0, null]);
  t.notOk(existsSync(join(dir, 'store.sock')));
  t.equal((await image('rm', 'vm1')).code, 0, 'then it may be removed');
});

await t.test(
  'an image that is served is guarded, one with an old header too, and others are not',
  async (t) => {
    const dir = join(newFolder(t), 'data');
    const on = ['--dir', dir];
    t.equal((await run('store-image', ['create', ...on, 'vm1', '--size', '1M'])).code, 0);
    const header = ['write', ...on, 'old', '--data-file', '-'];
    const input = Buffer.from([0, 0, 0, 0, 0, 0x10, 0, 0]);
    t.equal((await run('store', header, { input })).code, 0);
    const { child } = await nbd(t, dir, '--image', 'old');
    failed(t, await run('store', header, { input }), 1, /'old' is served by store-nbd/);
    failed(t, await run('store', [...header, '--offset', '2'], { input }), 1, /'old' is served/);
    failed(t, await run('store', ['rm', ...on, 'old']), 1, /'old' is served/);
    failed(t, await run('store-image', ['upgrade', ...on, 'old']), 1, /'old' is served/);
    t.equal((await run('store-image', ['rm', ...on, 'vm1'])).code, 0, 'nobody uses this one');
    child.kill('SIGTERM');
    t.same(await once(child, 'exit'), [0, null]);
    t.match((await run('store-image', ['info', ...on, 'old'])).stdout, /size +1 MiB/);
  },
);

await t.test('the socket of an owner that was killed is taken over', async (t) => {
  const dir = join(newFolder(t), 'data');
  const first = await nbd(t, dir, '--image', 'vm1', '--create', '1M');
  first.child.kill('SIGKILL');
  await once(first.child, 'exit');
  t.ok(existsSync(join(dir, 'store.sock')), 'it is left behind');
  t.match((await run('store-image', ['ls', '--dir', dir])).stdout, /vm1/, 'and harms nobody');
  await nbd(t, dir, '--image', 'vm1');
  t.match((await run('store-image', ['ls', '--dir', dir])).stdout, /vm1/);
});

await t.test('an owner that serves nobody is named', async (t) => {
  const dir = join(newFolder(t), 'data');
  const { child } = await nbd(t, dir, '--image', 'vm1', '--create', '1M');
  rmSync(join(dir, 'store.sock'));
  const refused = await run('store-image', ['ls', '--dir', dir]);
  failed(t, refused, 1, new RegExp(`in use by process ${child.pid ?? 0}`));
});

await t.test('a folder whose path is too long for a socket is served all the same', async (t) => {
  const dir = join(newFolder(t), 'a'.repeat(120));
  await nbd(t, dir, '--image', 'vm1', '--create', '1M');
  t.ok(existsSync(join(dir, 'store.sock')));
  t.match((await run('store-image', ['ls', '--dir', dir])).stdout, /vm1/);
});

await t.test('the socket goes over to the process that replaces its owner', async (t) => {
  const dir = join(newFolder(t), 'data');
  const first = await nbd(t, dir, '--image', 'vm1', '--create', '1M');
  const gone = once(first.child, 'exit');
  const second = await serving(t, 'store-nbd', ['--dir', dir, '--image', 'vm1', '--replace']);
  const results = await Promise.all(
    [0, 100, 200, 300].map(async (ms) => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      return run('store-image', ['ls', '--dir', dir]);
    }),
  );
  for (const result of results) t.match(result.stdout, /vm1/, result.stderr);
  t.same(await gone, [0, null]);
  const pid = second.child.pid ?? 0;
  failed(t, await run('store-image', ['rm', 'vm1', '--dir', dir]), 1, new RegExp(`pid ${pid}`));
  second.child.kill('SIGTERM');
  t.same(await once(second.child, 'exit'), [0, null]);
  await until(() => !existsSync(join(dir, 'store.sock')), 'the socket is gone');
});
