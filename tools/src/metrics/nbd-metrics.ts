/**
 * The state of an NBD server as Prometheus metrics. The server counts; nothing is computed before somebody asks.
 * A series names the export, never the client: clients come and go, and would fill every dashboard with the dead.
 */
import {
  LATENCY_BOUNDS_MS,
  type ConnectionState,
  type OperationName,
  type OperationStats,
  type ServerState,
} from '@store/gateway-nbd';
import type { Registry } from 'prom-client';
import { addClientMetrics, type NetworkStore } from './client-metrics.js';
import type { MetricsSource } from './metrics-endpoint.js';
import { histogramSamples, newRegistry, type Labels, type Sample } from './registry.js';

/**
 * A registry with the metrics of `state()` and of this process.
 * @param remote - The way to the daemon; null: it works without one
 */
export function nbdRegistry(
  state: () => ServerState,
  remote: NetworkStore | null = null,
): Registry {
  const { registry, add } = newRegistry();
  if (remote !== null) addClientMetrics(add, remote);
  add('gauge', 'store_nbd_connections', 'Connections now', () => [
    { labels: {}, value: state().connectionCount },
  ]);
  add('counter', 'store_nbd_connections_total', 'Connections accepted', () => [
    { labels: {}, value: state().acceptedCount },
  ]);
  add('counter', 'store_nbd_connections_refused_total', 'Connections over the limit', () => [
    { labels: {}, value: state().refusedCount },
  ]);
  add(
    'gauge',
    'store_nbd_shared_bytes',
    'Payloads and unsent answers beyond the guarantees',
    () => [{ labels: {}, value: state().sharedBytes }],
  );
  add('gauge', 'store_nbd_export_connections', 'Connections that use an export', () =>
    state().exports.map(({ name, connections }) => sample(name, {}, connections)),
  );
  add('gauge', 'store_nbd_in_flight', 'Requests not answered yet', () =>
    state().exports.map(({ name, stats }) => sample(name, {}, stats.inFlight)),
  );
  add('counter', 'store_nbd_refused_total', 'Requests that were malformed or not allowed', () =>
    state().exports.map(({ name, stats }) => sample(name, {}, stats.refused)),
  );
  add('counter', 'store_nbd_errors_total', 'Requests that failed', () =>
    perOperation(state(), ({ errors }) => errors),
  );
  add('counter', 'store_nbd_bytes_total', 'Bytes read or written', () =>
    perOperation(state(), ({ bytes }) => bytes),
  );
  add('histogram', 'store_nbd_latency_seconds', 'From a request to its answer', () =>
    latencies(state(), 'store_nbd_latency_seconds'),
  );
  return registry;
}

/** What `store-nbd` tells: its metrics, and its connections for people. */
export function nbdSource(
  state: () => ServerState,
  remote: NetworkStore | null = null,
): MetricsSource {
  return {
    registry: nbdRegistry(state, remote),
    pages: { '/connections': () => connections(state()) },
  };
}

function connections(state: ServerState): object[] {
  return state.connections.map(describe);
}

function describe({ stats, ...connection }: ConnectionState): object {
  const operations = Object.entries(stats.operations)
    .filter(([, { count }]) => count > 0)
    .map(([name, { count, errors, bytes, totalMs }]) => [
      name,
      { count, errors, bytes, meanMs: Number((totalMs / count).toFixed(3)) },
    ]);
  const { inFlight, refused } = stats;
  return { ...connection, inFlight, refused, operations: Object.fromEntries(operations) as object };
}

function sample(exportName: string, labels: Labels, value: number): Sample {
  return { labels: { export: exportName, ...labels }, value };
}

function perOperation(state: ServerState, value: (stats: OperationStats) => number): Sample[] {
  return eachOperation(state, (name, operation, stats) => [
    sample(name, { operation }, value(stats)),
  ]);
}

function latencies(state: ServerState, metric: string): Sample[] {
  return eachOperation(state, (name, operation, { buckets, totalMs, count }) =>
    histogramSamples(metric, { export: name, operation }, LATENCY_BOUNDS_MS, {
      buckets,
      sumMs: totalMs,
      count,
    }),
  );
}

/** Operations that never happened are left out. */
function eachOperation(
  state: ServerState,
  visit: (exportName: string, operation: OperationName, stats: OperationStats) => Sample[],
): Sample[] {
  return state.exports.flatMap(({ name, stats }) =>
    Object.entries(stats.operations).flatMap(([operation, one]) =>
      // Object.entries forgets the type of its keys
      one.count === 0 ? [] : visit(name, operation as OperationName, one),
    ),
  );
}
