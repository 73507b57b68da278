import t from 'tap';
import { realEnv } from '../env/real-env.js';
import { silentLog } from '../env/silent-log.js';
import type { MapDaemon, MapPool } from '../map/storage-map.js';
import { ChangeTally } from './change-tally.js';
import { PoolLane, type LaneOwner } from './pool-lane.js';

const POOL: MapPool = {
  ...{ id: 1, name: 'pool', replicas: 1, minReplicas: 1, objectBytes: 4 * 1024 * 1024 },
  ...{ failureDomain: 'disk', durability: 'flush', groups: [] },
};
const OWNER: LaneOwner = {
  options: {
    env: realEnv(silentLog),
    // Nothing is sent here, so nobody is asked.
    get guide(): never {
      throw new Error('not asked');
    },
    ...{ name: 'test', tls: null, deadlineMs: 1000, datagramBytes: 0 },
  },
  ended: () => undefined,
  unreachable: () => undefined,
  chain: () => undefined,
};

function laneTo(id: number): PoolLane {
  const daemon: MapDaemon = {
    ...{ id, diskId: 'd'.repeat(32), startId: null, address: '127.0.0.1:1', peerAddress: null },
    ...{ host: 'host', rack: 'rack', weight: 1, membership: 'in' },
  };
  return new PoolLane(OWNER, POOL, daemon);
}

const [one, two] = [laneTo(1), laneTo(2)];
const ALL: ReadonlySet<number> = new Set([1, 2, 3]);
const NONE: ReadonlySet<number> = new Set();

t.test('the first flush is about all groups, the next about those that were changed', async (t) => {
  const tally = new ChangeTally();
  const first = tally.flushCalled();
  t.ok(first.coversAll);
  tally.flushed(first, NONE);
  t.strictSame([...tally.flushCalled().changes.keys()], []);
  tally.changed(2, one, 0);
  tally.changed(3, two, 0);
  const second = tally.flushCalled();
  t.notOk(second.coversAll);
  t.strictSame([...second.changes.keys()].sort(), [2, 3]);
});

t.test('what a flush could not do is left to the next one', async (t) => {
  const tally = new ChangeTally();
  const first = tally.flushCalled();
  tally.flushed(first, ALL);
  const again = tally.flushCalled();
  t.ok(again.coversAll, 'nothing is known yet');
  tally.flushed(again, NONE);
  tally.changed(1, one, 0);
  tally.changed(2, one, 0);
  tally.flushed(tally.flushCalled(), new Set([2]));
  t.strictSame([...tally.flushCalled().changes.keys()], [2]);
});

t.test('a flush covers those that are under way, whatever becomes of them', async (t) => {
  const tally = new ChangeTally();
  tally.flushed(tally.flushCalled(), NONE);
  tally.changed(1, one, 0);
  const first = tally.flushCalled();
  tally.changed(2, two, 0);
  const second = tally.flushCalled();
  t.strictSame([...second.changes.keys()].sort(), [1, 2]);
  tally.flushed(first, NONE);
  t.strictSame([...second.changes.keys()].sort(), [1, 2], 'each has its own list');
});

t.test('a group remembers its last daemon, and the epoch of its oldest change', async (t) => {
  const tally = new ChangeTally();
  tally.flushed(tally.flushCalled(), NONE);
  tally.changed(1, one, 4);
  tally.changed(1, two, 7);
  tally.changed(2, one, 6);
  tally.changed(2, one, 5);
  const [left] = [tally.flushCalled()];
  t.strictSame(
    [...left.changes],
    [
      [1, { lane: two, hasMoved: true, epoch: 4, losses: 0 }],
      [2, { lane: one, hasMoved: false, epoch: 5, losses: 0 }],
    ],
    'answers come in any order',
  );
  tally.changed(2, one, 9);
  tally.flushed(left, new Set([2]));
  const again = tally.flushCalled();
  t.strictSame([...again.changes], [[2, { lane: one, hasMoved: false, epoch: 5, losses: 0 }]]);
});

t.test('a group remembers how often its daemon had lost something before', async (t) => {
  const tally = new ChangeTally();
  const lane = laneTo(3);
  tally.flushed(tally.flushCalled(), NONE);
  tally.changed(1, lane, 1);
  lane.losses.count += 1;
  tally.changed(1, lane, 1);
  tally.changed(2, lane, 1);
  const losses = [...tally.flushCalled().changes.values()].map((change) => change.losses);
  t.strictSame(losses, [0, 1], 'what was lost was lost to who had written before');
});
