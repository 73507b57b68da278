import t from 'tap';
import { contradiction } from './map-history.js';
import type { MapDaemon, MapGroup, MapPool, StorageMap } from './storage-map.js';

const idOf = (number: number): string => number.toString(16).padStart(32, '0');

function daemonOf(id: number, disk = id): MapDaemon {
  return {
    id,
    diskId: idOf(disk),
    startId: null,
    address: `127.0.0.1:${4000 + id}`,
    peerAddress: null,
    host: 'h',
    rack: 'r',
    weight: 1,
    membership: 'in',
  };
}

function groupOf(epoch: number): MapGroup {
  return { epoch, members: [], hasPrimary: false, lostAt: 0, givenUpAt: 0 };
}

function poolOf(id: number, name: string, epochs: readonly number[]): MapPool {
  return {
    id,
    name,
    replicas: 1,
    minReplicas: 1,
    objectBytes: 2 ** 22,
    failureDomain: 'disk',
    durability: 'flush',
    groups: epochs.map(groupOf),
  };
}

function mapOf(pools: readonly MapPool[], daemons: readonly MapDaemon[] = []): StorageMap {
  const blocked = { blockedClients: [], blockedTickets: [] };
  return { clusterId: idOf(9), version: 1, daemons, pools, ...blocked };
}

const before = mapOf([poolOf(1, 'a', [3, 4]), poolOf(3, 'c', [1, 1])], [daemonOf(1), daemonOf(2)]);

t.test('what can follow', async (t) => {
  t.equal(contradiction(before, before), null);
  const grown = [poolOf(1, 'a', [3, 5]), poolOf(3, 'c', [2, 2]), poolOf(4, 'd', [1, 1])];
  t.equal(contradiction(before, mapOf(grown, [daemonOf(1), daemonOf(7)])), null);
  t.equal(contradiction(before, mapOf([])), null, 'everything removed');
  t.equal(contradiction(mapOf([]), before), null);
});

t.test('what cannot', async (t) => {
  const refused = (pools: MapPool[], why: RegExp, daemons: MapDaemon[] = []): void => {
    t.match(contradiction(before, mapOf(pools, daemons)), why);
  };
  refused([poolOf(1, 'b', [3, 4])], /pool 1 is 'b', and was 'a'/);
  refused([poolOf(1, 'a', [3])], /other groups/);
  refused([poolOf(1, 'a', [3, 3])], /group 1 of pool 'a' goes back/);
  refused([poolOf(2, 'x', [9, 9])], /number 2, which was used before/);
  refused([], /daemon 2 is another disk/, [daemonOf(2, 5)]);
});
