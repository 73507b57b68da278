import type { ClusterStatus } from '@store/core';
import type { DaemonServerState, StoreState } from '@store/daemon';
import t from 'tap';
import { daemonRegistry, type DaemonState } from './daemon-metrics.js';
import { masterRegistry } from './master-metrics.js';

const pool = {
  ...{ name: 'vms', usedBytes: 30, storedBytes: 10, groupsDown: 1, groupsReadOnly: 2 },
  ...{ groupsDegraded: 5, groupsJoining: 3, groupsMisplaced: 4 },
  recovery: { bytesLeft: 7, bytesPerSecond: 2, secondsLeft: 3.5 },
  scrub: { lastLightSeconds: null, lastDeepSeconds: null, errorsFound: 6, errorsRepaired: 6 },
};
// What the metrics below need of it.
const status = {
  ...{ health: 'warning', problems: [], daemons: [], pools: [pool] },
  recovery: { bytesLeft: 70, bytesPerSecond: 20, secondsLeft: 3.5 },
} as unknown as ClusterStatus;

t.test('a master that leads tells what is missing and being copied, by pool', async (t) => {
  const leader = { isLeader: true, connections: 1, status };
  const lines = (await masterRegistry(() => leader).metrics()).split('\n');
  for (const line of [
    'store_cluster_bytes_left 70',
    'store_cluster_copied_bytes_per_second 20',
    'store_pool_used_bytes{pool="vms"} 30',
    'store_pool_stored_bytes{pool="vms"} 10',
    'store_pool_groups_down{pool="vms"} 1',
    'store_pool_groups_read_only{pool="vms"} 2',
    'store_pool_groups_degraded{pool="vms"} 5',
    'store_pool_groups_joining{pool="vms"} 3',
    'store_pool_groups_misplaced{pool="vms"} 4',
    'store_pool_bytes_left{pool="vms"} 7',
    'store_pool_scrub_errors{pool="vms"} 6',
  ])
    t.ok(lines.includes(line), line);
  const other = { isLeader: false, connections: 0, status: null };
  t.notMatch(await masterRegistry(() => other).metrics(), /^store_(pool|cluster)_\S+ \d/m);
});

t.test('a daemon of a cluster tells of its copies, and no other one does', async (t) => {
  const counters = { refused: new Map(), operations: new Map() };
  const state: Omit<DaemonState, 'replication'> = {
    store: { counters: {}, space: null } as unknown as StoreState,
    server: { counters } as unknown as DaemonServerState,
  };
  const replication = {
    ...{ groupsLed: 8, uncommitted: 1, joinsActive: 2, bytesPushed: 300 },
    ...{ scrubErrors: 4, scrubRepaired: 3, scrubContradictions: 0 },
  };
  const text = await daemonRegistry(() => ({ ...state, replication })).metrics();
  const lines = text.split('\n');
  for (const line of [
    'store_replication_groups_led 8',
    'store_replication_uncommitted 1',
    'store_replication_joins 2',
    'store_replication_pushed_bytes_total 300',
    'store_scrub_errors_total 4',
    'store_scrub_repaired_total 3',
    'store_scrub_contradictions_total 0',
  ])
    t.ok(lines.includes(line), line);
  const alone = await daemonRegistry(() => ({ ...state, replication: null })).metrics();
  t.notMatch(alone, /^store_(replication|scrub)_\S+ \d/m);
});
