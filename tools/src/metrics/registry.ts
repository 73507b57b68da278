/**
 * A registry of Prometheus metrics that are computed when somebody asks: who counts keeps plain numbers, and pays
 * nothing for being watched.
 */
import { collectDefaultMetrics, Registry, type Metric } from 'prom-client';

export type Labels = Readonly<Record<string, string | number>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}

/** Adds a metric. @param samples - Asked at each scrape. */
export type AddMetric = (
  type: 'counter' | 'gauge' | 'histogram',
  name: string,
  help: string,
  samples: () => Sample[],
) => void;

/** A registry with what Node tells of this process, and how to add to it. */
export function newRegistry(): { registry: Registry; add: AddMetric } {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const add: AddMetric = (type, name, help, samples) => {
    // prom-client's own counters want to be told of each change; a registry asks a metric for nothing but this.
    const metric = {
      name,
      get: () => Promise.resolve({ name, help, type, aggregator: 'sum', values: samples() }),
    };
    registry.registerMetric(metric as unknown as Metric);
  };
  return { registry, add };
}

/** One sample without labels. */
export function single(value: number): Sample[] {
  return [{ labels: {}, value }];
}

/**
 * A histogram as Prometheus wants it: cumulative buckets, their sum and their count.
 * @param boundsMs - Upper ends; `buckets` has one more, for the rest.
 */
export function histogramSamples(
  metric: string,
  labels: Labels,
  boundsMs: readonly number[],
  { buckets, sumMs, count }: { buckets: Iterable<number>; sumMs: number; count: number },
): Sample[] {
  const samples: Sample[] = [];
  let cumulative = 0;
  let index = 0;
  for (const inBucket of buckets) {
    cumulative += inBucket;
    const bound = boundsMs[index];
    index += 1;
    const le = bound === undefined ? '+Inf' : bound / 1000;
    samples.push({ labels: { ...labels, le }, value: cumulative, metricName: `${metric}_bucket` });
  }
  samples.push({ labels, value: sumMs / 1000, metricName: `${metric}_sum` });
  samples.push({ labels, value: count, metricName: `${metric}_count` });
  return samples;
}
