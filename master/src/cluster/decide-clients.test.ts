import { codeOf } from '@store/core/testing';
import { SimRandom } from '@store/core/sim';
import t from 'tap';
import { newCluster, type ClusterState } from './cluster-state.js';
import { createClient, removeClient, setClient } from './decide-clients.js';

const NOW = 1_800_000_000;
const ADMIN = { isAdmin: true, rights: { '*': 'rwa' } };
const GUEST = { isAdmin: false, rights: { vms: 'rw' } };

function clusterOf(clients: Readonly<Record<string, typeof ADMIN | typeof GUEST>>): ClusterState {
  const random = new SimRandom(1, 1);
  return Object.entries(clients).reduce(
    (state, [name, rights]) => createClient(state, name, rights, { random, now: NOW }).state,
    newCluster('0123456789abcdef0123456789abcdef', NOW),
  );
}

const refused = (work: () => unknown): Promise<string | null> =>
  codeOf(new Promise((resolve) => resolve(work())));

await t.test('the only administrator stays one', async (t) => {
  const state = clusterOf({ admin: ADMIN, guest: GUEST });
  t.equal(await refused(() => removeClient(state, 'admin', NOW)), 'E_IN_USE');
  t.equal(await refused(() => setClient(state, 'admin', GUEST)), 'E_IN_USE');
  const reduced = setClient(state, 'admin', { isAdmin: true, rights: {} });
  t.match(reduced.clients.get('admin'), { isAdmin: true, rights: {} }, 'its rights are its own');
  t.notOk(removeClient(state, 'guest', NOW).clients.has('guest'));
});

await t.test('one of several administrators can go, or become a plain client', async (t) => {
  const state = clusterOf({ admin: ADMIN, other: ADMIN });
  const removed = removeClient(state, 'admin', NOW);
  t.same([...removed.clients.keys()], ['other']);
  t.same(removed.map.blockedClients, ['admin#1'], 'its tickets are worth nothing');
  t.equal(setClient(state, 'other', GUEST).clients.get('other')?.isAdmin, false);
});
