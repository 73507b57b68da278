/** A cluster with certificates and keys, as people administer it. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { failed, runStore, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test(
  'with certificates everybody needs a key, and administrators a special one',
  async (t) => {
    const certs = t.testdir();
    await runStore(certs, ['cert', 'init']);
    await runStore(certs, ['cert', 'issue', 'master1']);
    await runStore(certs, ['cert', 'init', '--out', 'other']);
    const at = (name: string): string => join(certs, 'certs', name);
    const cluster = await startCluster(t, [
      ...['--peer-cert', at('master1.crt'), '--peer-key', at('master1.key')],
      ...['--peer-ca-cert', at('ca.crt')],
    ]);
    const { store, adminKey, address } = cluster;
    const tls = ['--ca-cert', at('ca.crt')];
    const admin = [...tls, '--client-key', adminKey];
    const [nobody, stranger, away] = await Promise.all([
      store('status', ...tls),
      store('status', '--ca-cert', join(certs, 'other', 'ca.crt'), '--daemon-timeout', '2'),
      store('status', '--master', '192.0.2.1:4010'),
    ]);
    failed(t, nobody, 1, /wants to know who asks; give --client-key FILE/);
    failed(t, stranger, 1, new RegExp(address));
    failed(t, away, 2, /192\.0\.2\.1 is another machine: add --ca-cert FILE/);

    succeeded(
      t,
      await store('pool', 'create', 'vms', '--groups', '8', ...admin),
      /^Done: Create pool/,
    );
    succeeded(
      t,
      await store('client', 'create', 'host1', '--rights', 'vms=rw', ...admin),
      /^Made client/,
    );
    const host1 = [...tls, '--client-key', 'host1.key'];
    const [look, map, change, rotate] = await Promise.all([
      store('status', ...host1),
      store('map', 'show', ...host1),
      store('pool', 'rm', 'vms', '--yes', ...host1),
      store('client', 'rotate', 'admin', '--out', 'stolen.key', ...host1),
    ]);
    succeeded(t, look, /\npools +1 with 8 groups; 0 images\n/);
    succeeded(t, map, /\nvms +none +8 +-\n$/);
    failed(
      t,
      change,
      1,
      /client host1 may not administer the cluster; use the key of an administrator/,
    );
    failed(t, rotate, 1, /client host1 may not administer/);

    // The administrator's own key is replaced while it is in use.
    const renewed = await store('client', 'rotate', 'admin', '--out', adminKey, ...admin);
    succeeded(t, renewed, /^The new key of client 'admin' is in .*admin\.key/);
    chmodSync(join(cluster.folder, 'host1.key'), 0o644);
    const [again, open] = await Promise.all([
      store('client', 'ls', ...admin),
      store('status', ...host1),
    ]);
    succeeded(t, again, /\nhost1 +no +vms=rw /);
    t.match(open, {
      code: 0,
      stdout: /^Health/,
      stderr: /Every user can get at this key; chmod o=/,
    });
  },
);
