/** The state of a storage daemon as Prometheus metrics: its engine, what it serves over the network, its copies. */
import {
  LATENCY_BUCKETS_MS,
  type DaemonServerState,
  type ReplicationState,
  type StoreState,
} from '@store/daemon';
import type { Registry } from 'prom-client';
import { histogramSamples, newRegistry, single, type AddMetric, type Sample } from './registry.js';

export interface DaemonState {
  readonly store: StoreState;
  readonly server: DaemonServerState;
  /** Null: it belongs to no cluster. */
  readonly replication: ReplicationState | null;
}

/** A registry with the metrics of `state()` and of this process. */
export function daemonRegistry(state: () => DaemonState): Registry {
  const { registry, add } = newRegistry();
  addStore(add, () => state().store);
  addServer(add, () => state().server);
  addReplication(add, () => state().replication);
  return registry;
}

function addStore(add: AddMetric, state: () => StoreState): void {
  const counter = (name: string, help: string, value: (state: StoreState) => number): void =>
    add('counter', name, help, () => single(value(state())));
  const gauge = (name: string, help: string, value: (state: StoreState) => number): void =>
    add('gauge', name, help, () => single(value(state())));
  counter(
    'store_engine_checksum_errors_total',
    'Blocks that did not match their checksum',
    ({ counters }) => counters.checksumErrors,
  );
  counter(
    'store_engine_arrived_damaged_total',
    'Writes whose bytes did not match the checksums they came with',
    ({ counters }) => counters.arrivedDamaged,
  );
  counter('store_engine_flushes_total', 'Flushes', ({ counters }) => counters.flushes);
  counter(
    'store_engine_opens_total',
    'Times that parts of objects were opened for writing',
    ({ counters }) => counters.opens,
  );
  counter(
    'store_engine_closes_total',
    'Objects that were closed after writing',
    ({ counters }) => counters.closes,
  );
  counter(
    'store_engine_parked_writes_total',
    'Writes answered before they were in their place',
    ({ counters }) => counters.parkedWrites,
  );
  gauge('store_engine_open_objects', 'Objects open for writing', (now) => now.openObjects);
  gauge('store_engine_cached_objects', 'Objects kept in memory', (now) => now.cachedObjects);
  gauge(
    'store_engine_parked_bytes',
    'Bytes answered and not in their place yet',
    (now) => now.parkedBytes,
  );
  gauge(
    'store_engine_dirty_bytes',
    'Bytes written and not covered by a sync',
    (now) => now.dirtyBytes,
  );
  gauge('store_disk_bytes', 'Size of the file system', (now) => now.space?.totalBytes ?? NaN);
  gauge('store_disk_free_bytes', 'Free there', (now) => now.space?.freeBytes ?? NaN);
  gauge('store_disk_failed', '1 after the disk has failed', (now) => (now.hasFailed ? 1 : 0));
}

function addServer(add: AddMetric, state: () => DaemonServerState): void {
  add('gauge', 'store_daemon_connections', 'Connections now', () => single(state().connections));
  add('counter', 'store_daemon_connections_total', 'Connections accepted', () =>
    single(state().counters.connections),
  );
  add('gauge', 'store_daemon_sessions', 'Sessions that are remembered', () =>
    single(state().sessions),
  );
  add('gauge', 'store_daemon_in_flight', 'Requests not answered yet', () =>
    single(state().running),
  );
  add('gauge', 'store_daemon_held_bytes', 'Requests and answers in memory', () =>
    single(state().heldBytes),
  );
  add('counter', 'store_daemon_refused_total', 'Connections and datagrams turned away', () =>
    [...state().counters.refused].map(([reason, value]) => ({ labels: { reason }, value })),
  );
  add('counter', 'store_daemon_repeated_total', 'Requests answered again from what was kept', () =>
    single(state().counters.repeated),
  );
  add('counter', 'store_daemon_dropped_total', 'Requests that nobody waited for any more', () =>
    single(state().counters.dropped),
  );
  add('counter', 'store_daemon_datagrams_total', 'Datagrams', () => {
    const { datagramsIn, datagramsOut } = state().counters;
    return [
      { labels: { direction: 'in' }, value: datagramsIn },
      { labels: { direction: 'out' }, value: datagramsOut },
    ];
  });
  addOperations(add, state);
}

/** Of a daemon that belongs to no cluster nothing is told. */
function addReplication(add: AddMetric, state: () => ReplicationState | null): void {
  const tell = (
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    value: (state: ReplicationState) => number,
  ): void =>
    add(type, name, help, () => {
      const now = state();
      return now === null ? [] : single(value(now));
    });
  const counter = tell.bind(null, 'counter');
  const gauge = tell.bind(null, 'gauge');
  gauge('store_replication_groups_led', 'Groups it is primary of', (now) => now.groupsLed);
  gauge(
    'store_replication_uncommitted',
    'Changes that not all copies have made yet',
    (now) => now.uncommitted,
  );
  gauge('store_replication_joins', 'Copies it is making now', (now) => now.joinsActive);
  counter(
    'store_replication_pushed_bytes_total',
    'Sent to make other copies equal',
    (now) => now.bytesPushed,
  );
  counter(
    'store_scrub_errors_total',
    'Blocks and objects that were not what they must be',
    (now) => now.scrubErrors,
  );
  counter('store_scrub_repaired_total', 'Of those, mended', (now) => now.scrubRepaired);
  counter(
    'store_scrub_contradictions_total',
    'Verified copies of one version that differ: a defect of this program',
    (now) => now.scrubContradictions,
  );
}

/** Operations that never happened are left out. */
function addOperations(add: AddMetric, state: () => DaemonServerState): void {
  const each = (visit: (operation: string, counters: Operation) => Sample[]): Sample[] =>
    [...state().counters.operations].flatMap(([operation, counters]) =>
      counters.count === 0 ? [] : visit(operation, counters),
    );
  add('counter', 'store_daemon_bytes_total', 'Bytes read or written', () =>
    each((operation, { bytes }) => [{ labels: { operation }, value: bytes }]),
  );
  add('counter', 'store_daemon_errors_total', 'Requests that failed', () =>
    each((operation, { errors }) =>
      [...errors].map(([code, value]) => ({ labels: { operation, code }, value })),
    ),
  );
  const latency = 'store_daemon_latency_seconds';
  add('histogram', latency, 'From the arrival of a request to its answer', () =>
    each((operation, counters) =>
      histogramSamples(latency, { operation }, LATENCY_BUCKETS_MS, counters),
    ),
  );
}

type Operation =
  DaemonServerState['counters']['operations'] extends ReadonlyMap<string, infer T> ? T : never;
