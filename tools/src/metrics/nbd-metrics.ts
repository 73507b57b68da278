/**
 * The state of an NBD server as Prometheus metrics. The server counts; nothing is computed before somebody asks.
 * A series names the export, never the client: clients come and go, and would fill every dashboard with the dead.
 */
import {
  LATENCY_BOUNDS_MS,
  type OperationName,
  type OperationStats,
  type ServerState,
} from '@store/gateway-nbd';
import { collectDefaultMetrics, Registry, type Metric } from 'prom-client';

type Kind = 'counter' | 'gauge' | 'histogram';
type Labels = Readonly<Record<string, string | number>>;

interface Sample {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}

/** A registry with the metrics of `state()` and of this process. */
export function nbdRegistry(state: () => ServerState): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const add = (type: Kind, name: string, help: string, samples: () => Sample[]): void => {
    // prom-client's own counters want to be told of each change; a registry asks a metric for nothing but this.
    const metric = {
      name,
      get: () => Promise.resolve({ name, help, type, aggregator: 'sum', values: samples() }),
    };
    registry.registerMetric(metric as unknown as Metric);
  };
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

function sample(exportName: string, labels: Labels, value: number): Sample {
  return { labels: { export: exportName, ...labels }, value };
}

function perOperation(state: ServerState, value: (stats: OperationStats) => number): Sample[] {
  return eachOperation(state, (name, operation, stats) => [
    sample(name, { operation }, value(stats)),
  ]);
}

/** Prometheus wants cumulative buckets, their sum and their count. */
function latencies(state: ServerState, metric: string): Sample[] {
  return eachOperation(state, (name, operation, stats) => {
    const samples: Sample[] = [];
    let cumulative = 0;
    stats.buckets.forEach((count, index) => {
      cumulative += count;
      const bound = LATENCY_BOUNDS_MS[index];
      const le = bound === undefined ? '+Inf' : bound / 1000;
      const labels = { operation, le };
      samples.push({ ...sample(name, labels, cumulative), metricName: `${metric}_bucket` });
    });
    const total = sample(name, { operation }, stats.totalMs / 1000);
    samples.push({ ...total, metricName: `${metric}_sum` });
    samples.push({ ...sample(name, { operation }, stats.count), metricName: `${metric}_count` });
    return samples;
  });
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
