/** `store client`: keys from their beginning to their end, run as people run it. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ClientKey } from '@store/core';
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('a client gets a key, other rights, another key, and goes', async (t) => {
  const { store, json, folder } = await startCluster(t);
  const path = join(folder, 'host1.key');
  const made = await store('client', 'create', 'host1', '--rights', 'vms=rw,logs=r');
  succeeded(
    t,
    made,
    /^Made client 'host1', its key is in host1\.key\nIt may use pools: vms=rw, logs=r;/,
  );
  t.equal(statSync(path).mode & 0o777, 0o600);
  const first = readFileSync(path, 'utf8');
  t.equal(ClientKey.parse(path, first).client, 'host1');
  t.notOk(made.stdout.includes(ClientKey.parse(path, first).key.toString('base64url')));
  const as = ['--client-key', 'host1.key'];

  t.match(await json('status', ...as), { health: 'warning' }, 'it may look');
  const refused = await Promise.all([
    store('pool', 'create', 'vms', ...as),
    store('pool', 'rm', 'vms', '--dry-run', ...as),
    store('client', 'ls', ...as),
    store('client', 'set', 'host1', '--admin', ...as),
    store('daemon', 'in', '1', ...as),
  ]);
  for (const result of refused) failed(t, result, 1, /client host1 may not administer the cluster/);

  t.match(await json('client', 'ls'), [
    { name: 'admin', isAdmin: true, rights: { '*': 'rwa' } },
    { name: 'host1', isAdmin: false, rights: { vms: 'rw', logs: 'r' }, rotated: null },
  ]);
  const listed = await store('client', 'ls');
  succeeded(
    t,
    listed,
    /^NAME +ADMIN +RIGHTS +CREATED +NEW KEY\nadmin +yes +\*=rwa +\d{4}-\d\d-\d\d \d\d:\d\d +-\n/,
  );
  t.same(await json('client', 'set', 'host1', '--rights', '*=r', '--rights', 'vms=rwa'), {
    ...{ name: 'host1', isAdmin: false, rights: { '*': 'r', vms: 'rwa' } },
  });
  succeeded(
    t,
    await store('client', 'set', 'host1', '--admin'),
    /may now change the cluster, and use/,
  );
  t.match(await json('pool', 'create', 'vms', ...as), { change: "Create pool 'vms'" });
  t.match(await json('client', 'set', 'host1', '--no-admin'), {
    isAdmin: false,
    rights: { '*': 'r' },
  });

  t.same(await json('client', 'rotate', 'host1'), { name: 'host1', file: 'host1.key' });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.not(readFileSync(path, 'utf8'), first);
  succeeded(t, await store('status', ...as), /^Health/);
  writeFileSync(join(folder, 'old.key'), first, { mode: 0o600 });
  failed(t, await store('status', '--client-key', 'old.key'), 1, /key/);

  failed(t, await store('client', 'rm', 'host1'), 2, /no terminal.*--yes/);
  t.same(await json('client', 'rm', 'host1', '--yes'), { removed: 'host1' });
  failed(t, await store('status', ...as), 1, /host1/);
});
