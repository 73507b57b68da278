/** What `store client` refuses, run as people run it. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { failed } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('no file is lost, and no client made whose key has no place', async (t) => {
  const { store, json, folder } = await startCluster(t);
  const kept = join(folder, 'taken.key');
  writeFileSync(kept, 'mine');
  mkdirSync(join(folder, 'locked'));
  chmodSync(join(folder, 'locked'), 0o500);
  const rights = ['--rights', 'vms=rw'];
  const [taken, locked, nowhere, slash] = await Promise.all([
    store('client', 'create', 'taken', ...rights),
    process.getuid?.() === 0
      ? null
      : store('client', 'create', 'a', ...rights, '--out', 'locked/k'),
    store('client', 'create', 'b', ...rights, '--out', 'missing/k'),
    store('client', 'create', '../c', ...rights),
  ]);
  failed(t, taken, 1, /taken\.key is there already.*--out FILE/);
  if (locked !== null) failed(t, locked, 1, /Cannot write locked\/k/);
  failed(t, nowhere, 1, /Cannot write missing\/k: .*--out FILE/);
  failed(t, slash, 2, /not fit for the name of a file; say where to with --out FILE/);
  t.match(await json('client', 'ls'), { length: 1 }, 'only the administrator');

  t.same(await json('client', 'create', 'taken', '--admin', '--out', 'other.key'), {
    ...{ name: 'taken', file: 'other.key', isAdmin: true, rights: {} },
  });
  failed(t, await store('client', 'rotate', 'taken'), 1, /taken\.key is no key of client 'taken'/);
  t.equal(readFileSync(kept, 'utf8'), 'mine');
  const before = readFileSync(join(folder, 'other.key'), 'utf8');
  t.match(await json('status', '--client-key', 'other.key'), {}, 'the old key is still good');
  t.match(await json('client', 'rotate', 'taken', '--out', 'other.key'), { file: 'other.key' });
  t.not(readFileSync(join(folder, 'other.key'), 'utf8'), before);
});

await t.test('what cannot be is told in one line', async (t) => {
  const { store } = await startCluster(t);
  const usage = await Promise.all([
    store('client', 'create', 'a'),
    store('client', 'create', 'a', '--rights', 'vms'),
    store('client', 'create', 'a', '--rights', 'vms=x,db=r'),
    store('client', 'create', 'a', '--rights', 'vms=r,vms=rw'),
    store('client', 'create'),
    store('client', 'set', 'admin'),
  ]);
  const says = [
    /--rights POOL=rw, or --admin; for example: store client create a --rights vms=rw/,
    /Rights are written POOL=r.*not 'vms'/,
    /not 'vms=x'/,
    /Pool 'vms' is named twice/,
    /Missing required argument 'name'/,
    /Say what to change/,
  ];
  for (const [index, result] of usage.entries()) failed(t, result, 2, says[index] ?? /never/);
  const refused = await Promise.all([
    store('client', 'create', 'a b', '--admin'),
    store('client', 'create', 'admin', '--admin'),
    store('client', 'set', 'nobody', '--admin'),
    store('client', 'rotate', 'nobody'),
    store('client', 'rm', 'nobody', '--yes'),
    store('client', 'rm', 'admin', '--yes'),
    store('client', 'set', 'admin', '--no-admin'),
  ]);
  const reasons = [
    /A client has a name of 1 to 100 letters/,
    /There is a client "admin" already; for a new key: store client rotate admin/,
    /There is no client 'nobody'; see store client ls/,
    /There is no client "nobody"; see store client ls/,
    /There is no client "nobody"/,
    /"admin" is the only administrator/,
    /"admin" is the only administrator/,
  ];
  for (const [index, result] of refused.entries()) failed(t, result, 1, reasons[index] ?? /never/);
});
