import { silentLog } from '@store/core';
import { Stats, type ServerState } from '@store/gateway-nbd';
import t from 'tap';
import { metricsAddress } from './metrics-address.js';
import { serveMetrics } from './metrics-endpoint.js';
import { nbdSource } from './nbd-metrics.js';

function someState(): ServerState {
  const stats = new Stats();
  stats.inFlight = 2;
  stats.add(0, 0.07, 4096, false);
  stats.add(0, 700, 0, true);
  stats.add(3, 12_000, 0, false);
  const connection = { id: 7, peer: '10.0.0.1:5', user: 'alice', exportName: 'vm"1', seconds: 3 };
  return {
    exports: [{ name: 'vm"1', connections: 1, stats }],
    connections: [{ ...connection, headers: 'structured', stats }],
    connectionCount: 3,
    acceptedCount: 9,
    refusedCount: 1,
    sharedBytes: 65_536,
  };
}

t.test('Prometheus gets counters and a cumulative histogram for each export', async (t) => {
  const endpoint = await serveMetrics(
    { host: '127.0.0.1', port: 0 },
    nbdSource(someState),
    silentLog,
  );
  t.teardown(() => endpoint.close());
  const response = await fetch(endpoint.url);
  t.match(response.headers.get('content-type'), /^text\/plain/);
  const lines = (await response.text()).split('\n');
  for (const line of [
    '# TYPE store_nbd_latency_seconds histogram',
    'store_nbd_connections 3',
    'store_nbd_connections_total 9',
    'store_nbd_connections_refused_total 1',
    'store_nbd_in_flight{export="vm\\"1"} 2',
    'store_nbd_bytes_total{export="vm\\"1",operation="read"} 4096',
    'store_nbd_errors_total{export="vm\\"1",operation="read"} 1',
    'store_nbd_latency_seconds_bucket{export="vm\\"1",operation="read",le="0.00005"} 0',
    'store_nbd_latency_seconds_bucket{export="vm\\"1",operation="read",le="0.0001"} 1',
    'store_nbd_latency_seconds_bucket{export="vm\\"1",operation="read",le="1"} 2',
    'store_nbd_latency_seconds_bucket{export="vm\\"1",operation="read",le="+Inf"} 2',
    'store_nbd_latency_seconds_bucket{export="vm\\"1",operation="flush",le="10"} 0',
    'store_nbd_latency_seconds_bucket{export="vm\\"1",operation="flush",le="+Inf"} 1',
    'store_nbd_latency_seconds_count{export="vm\\"1",operation="read"} 2',
  ])
    t.ok(lines.includes(line), line);
  t.ok(lines.some((line) => line.startsWith('nodejs_eventloop_lag_max_seconds ')));
});

t.test('people get connections as JSON, probes a healthz, everything else a word', async (t) => {
  const endpoint = await serveMetrics(
    { host: '127.0.0.1', port: 0 },
    nbdSource(someState),
    silentLog,
  );
  t.teardown(() => endpoint.close());
  const at = (path: string): string => endpoint.url.replace('/metrics', path);
  t.match(await (await fetch(at('/connections'))).json(), [
    { user: 'alice', inFlight: 2, operations: { read: { count: 2, errors: 1, bytes: 4096 } } },
  ]);
  t.equal((await fetch(at('/healthz'))).status, 200);
  t.equal((await fetch(at('/nothing'))).status, 404);
  t.equal((await fetch(at('/metrics'), { method: 'POST' })).status, 405);
  await t.rejects(
    serveMetrics(metricsAddress(new URL(endpoint.url).port), nbdSource(someState), silentLog),
    {
      code: 'E_SYSTEM',
      message: /port is taken/,
    },
  );
});

t.test('the address is a port, or a host and a port', async (t) => {
  t.strictSame(metricsAddress('9810'), { host: '127.0.0.1', port: 9810 });
  t.strictSame(metricsAddress('[::1]:1'), { host: '::1', port: 1 });
  t.strictSame(metricsAddress('example.org:80'), { host: 'example.org', port: 80 });
  for (const bad of ['', 'x', '1:2:3', '70000', ':9', '1.2.3.4:'])
    t.throws(() => metricsAddress(bad), /neither PORT nor HOST:PORT/, bad);
});
