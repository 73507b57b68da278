/** `store map` and `store why`, run as people run them. */
import { checkMap, type StorageMap } from '@store/core';
import t from 'tap';
import { failed, succeeded } from '../run-store.js';
import { startCluster } from './run-cluster.js';

t.setTimeout(360_000);

await t.test('the map, and why an object lies where it does', async (t) => {
  const cluster = await startCluster(t);
  const { store, json } = cluster;
  succeeded(
    t,
    await store('map', 'show'),
    /^cluster +[\da-f]{32}\nversion +\d+\n[^]*No daemons\n\nNo pools/,
  );
  await cluster.daemon('disk1', '--host', 'a');
  await cluster.daemon('disk2', '--host', 'b');
  await store('pool', 'create', 'vms', '--groups', '4');

  const map = (await json('map', 'show')) as StorageMap;
  t.doesNotThrow(() => checkMap(map), 'it is the whole map');
  t.match(map, {
    daemons: [{ id: 1 }, { id: 2 }],
    pools: [{ name: 'vms', groups: { length: 4 } }],
  });
  const shown = await store('map', 'show');
  succeeded(t, shown, new RegExp(`\\nversion +${map.version}\\nblocked +0 clients, 0 tickets\\n`));
  t.match(shown.stdout, /\nPOOL +DAEMON +GROUPS +PRIMARY OF\nvms +1 +4 +2\nvms +2 +4 +2\n$/);
  const groups = await store('map', 'show', '--groups', 'vms');
  succeeded(t, groups, /^GROUP +EPOCH +PRIMARY +MEMBERS\n {4}0 +2 +[12] +[12], [12]\n/);
  t.equal(groups.stdout.trimEnd().split('\n').length, 5);
  t.same(await json('map', 'show', '--groups', 'vms'), map.pools[0]);
  failed(
    t,
    await store('map', 'show', '--groups', 'no'),
    1,
    /There is no pool 'no'; see store pool/,
  );

  const answer = await json('why', 'vms', 'hello');
  t.match(answer, {
    pool: 'vms',
    key: 'hello',
    hash: /^[\da-f]{16}$/,
    members: [{ role: 'primary', state: 'up' }],
    reasons: [/The hash of the key is/, /the first 2 bits/, /holds it as its primary; it is up/],
  });
  t.same(await json('why', '--pool', 'vms', 'hello'), answer);
  const odd = await store('why', 'vms', 'a\u001b[2J\nb');
  succeeded(
    t,
    odd,
    /^Key 'a\\u001b\[2J\\u000ab' of pool 'vms' lies in group \d \(epoch 2\)\nDAEMON/,
  );
  failed(t, await store('why', 'no', 'hello'), 1, /There is no pool 'no'/);
  failed(t, await store('why', 'hello'), 2, /Say which pool/);
  failed(t, await store('why', 'vms', 'one', 'two'), 2, /store why POOL KEY/);
});
