import { UsageError } from '../usage-error.js';

export interface MetricsAddress {
  readonly host: string;
  readonly port: number;
}

/** `9810`, `0.0.0.0:9810` or `[::1]:9810`. @throws UsageError if it is none of these */
export function metricsAddress(text: string): MetricsAddress {
  const match = /^(?:(\[[\da-f:]+\]|[^:\s]+):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535)
    throw new UsageError(`Bad --metrics: '${text}' is neither PORT nor HOST:PORT`);
  return { host: (match[1] ?? '127.0.0.1').replace(/^\[|\]$/g, ''), port };
}
