/** `store scrub`, `store repair` and `store recovery`, run as people run them. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { failed, runStore, succeeded, type Result } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(600_000);

await t.test('groups are looked through, and what is damaged is mended and told of', async (t) => {
  const { store, json, daemon, folder } = await startCluster(t);
  for (const dir of ['disk1', 'disk2']) await daemon(dir);
  succeeded(t, await store('pool', 'create', 'vms', '--groups', '2', '--replicas', '2'), /./);
  const content = 'a text that is found again on the disk. '.repeat(2000);
  const file = join(folder, 'content');
  writeFileSync(file, content);
  succeeded(t, await store('write', '--pool', 'vms', 'thing', '--data-file', file), /^/);
  succeeded(
    t,
    await store('scrub', 'start'),
    /^2 groups will be looked through by [12] daemons?; /,
  );
  const well = await store('repair', '--pool', 'vms');
  succeeded(t, well, /^2 of 2 groups were looked through, \d+ copies of objects: all is well\n$/);
  succeeded(t, await store('scrub', 'status'), /^DAEMON +NOW +WAITING +GROUPS/);
  const damaged = damage(join(folder, 'disk2'), content.slice(0, 40));
  t.ok(damaged, 'the bytes lie in a file of the folder');
  const mended = (await json('repair', '--pool', 'vms')) as Record<string, unknown>;
  t.match(mended, { groups: 2, looked: 2, found: 1, mended: 1 });
  t.match(mended['findings'], [{ daemon: 2, object: /thing/, isRepaired: true }]);
  succeeded(t, await store('scrub', 'status'), /\nmended: pool vms, group \d, daemon 2: .*thing/);
  await store('pool', 'create', 'other', '--groups', '1', '--replicas', '2');
  const found = (pool: string): Promise<Result> => store('scrub', 'status', '--pool', pool);
  const [ofThis, ofOther, ofNone] = await Promise.all([
    found('vms'),
    found('other'),
    found('none'),
  ]);
  succeeded(t, ofThis, /\nmended: pool vms, /);
  t.notMatch(ofOther.stdout, /mended:/, 'of another pool');
  failed(t, ofNone, 1, /There is no pool 'none'/);
  failed(t, await store('repair', '--pool', 'none'), 1, /There is no pool 'none'/);
});

await t.test('a speed of recovery is taken by all daemons, and kept', async (t) => {
  const { store, daemon } = await startCluster(t);
  const first = await store('recovery', 'set', '--rate', '1M');
  succeeded(t, first, /^No daemon is connected; those that come will .* at 1 MiB\/s\n$/);
  succeeded(t, await store('scrub', 'start'), /^Nothing is looked through/);
  await daemon('disk1');
  const set = await store('recovery', 'set', '--rate', '100M');
  succeeded(
    t,
    set,
    /^1 daemon will make copies equal at 100 MiB\/s, and those that come as well\n$/,
  );
  succeeded(t, await store('status'), /^copying +at 100 MiB\/s in each daemon/m);
  succeeded(t, await store('recovery', 'set', '--rate', 'auto'), /by what clients feel/);
  t.notMatch((await store('status')).stdout, /^copying/m);
});

await t.test('mistakes are told before a master is asked', async (t) => {
  const folder = t.testdir();
  const store = (...args: string[]): Promise<Result> =>
    runStore(folder, args, { STORE_MASTER: '127.0.0.1:1' });
  const results = await Promise.all([
    store('scrub', 'start', '--pool', ' vms'),
    store('recovery', 'set'),
    store('recovery', 'set', '--rate', 'fast'),
    store('recovery', 'set', '--rate', '1K'),
  ]);
  const says = [/begins or ends with a space/, /--rate/, /'fast' is not a size/, /at least 64 KiB/];
  for (const [index, result] of results.entries()) failed(t, result, 2, says[index] ?? /never/);
});

/** Flips a byte wherever a file has this text. */
function damage(folder: string, text: string): boolean {
  let isDone = false;
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, name);
    if (!statSync(path).isFile()) continue;
    const bytes = readFileSync(path);
    const at = bytes.indexOf(text);
    if (at < 0) continue;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    isDone = true;
  }
  return isDone;
}
