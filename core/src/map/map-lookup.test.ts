import t from 'tap';
import { locatorHash } from '../util/locator-hash.js';
import { groupOf, isNewer, MapView } from './map-lookup.js';
import type { MapDaemon, MapGroup, MapPool, StorageMap } from './storage-map.js';

const idOf = (number: number): string => number.toString(16).padStart(32, '0');

const daemons: MapDaemon[] = [1, 2, 5].map((id) => ({
  id,
  diskId: idOf(id),
  startId: null,
  address: `127.0.0.1:${4000 + id}`,
  peerAddress: null,
  host: 'h',
  rack: 'r',
  weight: 1,
  membership: 'in',
}));
const groups: MapGroup[] = [[5, 1], [2, 5], [1, 2], []].map((members) => ({
  epoch: 1,
  members: members.map((daemon) => ({ daemon, inSync: null })),
  hasPrimary: false,
  lostAt: 0,
  givenUpAt: 0,
}));
const pool: MapPool = {
  id: 3,
  name: 'vms',
  replicas: 2,
  minReplicas: 1,
  objectBytes: 2 ** 22,
  failureDomain: 'disk',
  durability: 'flush',
  groups,
};
const map: StorageMap = {
  clusterId: idOf(99),
  version: 4,
  daemons,
  pools: [pool],
  blockedClients: [],
  blockedTickets: [],
};

t.test('pools and daemons are found by what names them, and only by that', async (t) => {
  const view = new MapView(map);
  t.equal(view.poolById(3), pool);
  t.equal(view.poolNamed('vms'), pool);
  t.equal(view.daemonById(5), daemons[2]);
  t.equal(view.daemonOfDisk(idOf(2)), daemons[1]);
  t.equal(view.poolById(1), undefined);
  t.equal(view.poolNamed('toString'), undefined);
  t.equal(view.daemonById(3), undefined);
  t.equal(view.daemonOfDisk(idOf(3)), undefined);
  t.same(
    groups.map((group) => view.daemonsOf(group).map(({ id }) => id)),
    [[5, 1], [2, 5], [1, 2], []],
  );
});

t.test('a group is the top bits of the hash, from one group to 65,536', async (t) => {
  const sized = (count: number): Pick<MapPool, 'groups'> => ({
    groups: new Array<MapGroup>(count).fill({
      epoch: 1,
      members: [],
      hasPrimary: false,
      lostAt: 0,
      givenUpAt: 0,
    }),
  });
  const high = 0xdeadbeef;
  t.equal(groupOf(sized(1), { high, low: 1 }), 0);
  t.equal(groupOf(sized(2), { high, low: 1 }), 1);
  t.equal(groupOf(sized(128), { high, low: 1 }), 0xdeadbeef >>> 25);
  t.equal(groupOf(sized(65_536), { high, low: 1 }), 0xdead);
  t.equal(groupOf(sized(65_536), { high: 0xffffffff, low: 0 }), 65_535);
  const seen = new Set<number>();
  for (let index = 0; index < 1000; index += 1)
    seen.add(groupOf(sized(64), locatorHash(Buffer.from(`key-${index}`))));
  t.equal(seen.size, 64);
});

t.test('a map is newer by its version, but never than one of another cluster', async (t) => {
  t.ok(isNewer({ ...map, version: 5 }, map));
  t.notOk(isNewer(map, map));
  t.notOk(isNewer(map, { ...map, version: 5 }));
  t.notOk(isNewer({ ...map, version: 5, clusterId: idOf(1) }, map));
});
