import { realEnv, silentLog, StoreError, type DaemonRegistration } from '@store/core';
import t from 'tap';
import type { StateSnapshot } from '../state/state-store.js';
import { newCluster, type ClusterState } from './cluster-state.js';
import { createClient } from './decide-clients.js';
import { registerDaemon } from './decide-daemons.js';
import { createPool, removePool } from './decide-pools.js';
import { changesBetween, CLUSTER_KEY, decodeState } from './state-keys.js';

const { random } = realEnv(silentLog);
const CLUSTER_ID = 'c'.repeat(32);

const REGISTRATION: DaemonRegistration = {
  clusterId: '',
  diskId: '1'.repeat(32),
  startId: '2'.repeat(32),
  address: '127.0.0.1:4000',
  peerAddress: '',
  host: 'host1',
  rack: 'rack1',
  capacityBytes: 1024 ** 4,
  lostUnflushed: false,
  mapVersion: 0,
};

/** A cluster with something of everything, but for blocked names. */
function sample(): ClusterState {
  const rights = { isAdmin: true, rights: { '*': 'rwa' } };
  let { state } = createClient(newCluster(CLUSTER_ID, 1), 'admin', rights, { random, now: 1 });
  ({ state } = registerDaemon(state, REGISTRATION, 2));
  for (const name of ['p', 'q']) state = createPool(state, name, { groups: 4 }, { random });
  const incident = { time: 5, pool: 'p', group: 1, epoch: 9, daemon: 1, what: 'Lost.' };
  const behind = [{ pool: 2, group: 3, daemon: 1, since: 4 }];
  const incidents = new Map([[1, incident]]);
  return { ...removePool(state, 'p'), behind, incidents, recoveryRate: 1e7 };
}

function snapshotOf(state: ClusterState): StateSnapshot {
  const { changes } = changesBetween(null, state, 'term');
  const entries = changes.flatMap(({ key, value }) =>
    value === null ? [] : [{ key, value, revision: 7 }],
  );
  return { revision: 7, entries };
}

t.test('what is stored is what is read', (t) => {
  const state = sample();
  const found = decodeState(snapshotOf(state));
  if (found === null) throw new Error('it was stored');
  t.equal(found.revision, 7);
  t.same(found.state.map, state.map);
  t.same([...found.state.daemons], [...state.daemons]);
  t.same([...found.state.clients], [...state.clients]);
  t.same([...found.state.removedPools], [...state.removedPools]);
  t.same([...found.state.incidents], [...state.incidents]);
  t.same(found.state.behind, state.behind);
  t.equal(found.state.recoveryRate, 1e7);
  const older = snapshotOf(state).entries.map((entry) => {
    if (entry.key !== CLUSTER_KEY) return entry;
    const text = entry.value.toString().replace(/"recoveryRate":\d+,/, '');
    return { ...entry, value: Buffer.from(text) };
  });
  t.equal(
    decodeState({ revision: 7, entries: older })?.state.recoveryRate,
    0,
    'of an older release',
  );
  t.equal(decodeState({ revision: 7, entries: [] }), null);
  t.end();
});

t.test('a state with any bit flipped is read or refused, and never more than that', (t) => {
  const { entries } = snapshotOf(sample());
  let [refusedCount, mapCount] = [0, 0];
  for (const { key, value } of entries)
    for (let bit = 0; bit < value.length * 8; bit += 1) {
      const damaged = Buffer.from(value);
      damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      const changed = entries.map((entry) =>
        entry.key === key ? { ...entry, value: damaged } : entry,
      );
      try {
        decodeState({ revision: 7, entries: changed });
        if (key.startsWith('map/')) t.fail(`bit ${bit} of ${key} went unnoticed`);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        refusedCount += 1;
        if (key.startsWith('map/') && error.message.includes(`'${key}'`)) mapCount += 1;
      }
    }
  const map = entries.find(({ key }) => key.startsWith('map/'));
  t.equal(mapCount, 8 * (map?.value.length ?? 0), 'each bit of the map, by its key');
  t.ok(refusedCount > mapCount);
  t.end();
});

t.test('a daemon that only comes back changes nothing', (t) => {
  const state = sample();
  const again = { ...REGISTRATION, clusterId: CLUSTER_ID, mapVersion: 3 };
  t.equal(registerDaemon(state, again, 9).state, state);
  const other = { ...again, startId: '3'.repeat(32) };
  t.not(registerDaemon(state, other, 9).state, state);
  t.end();
});
