/** An `HttpServer` for tests, on a port of loopback that is free. */
import { realClock, realTimers, silentLog } from '@store/core';
import { HttpServer, type HttpServerOptions } from '../http-server.js';
import type { SampleCluster } from './sample-cluster.js';

/** What its changes need. */
export const SAMPLE_TOKEN = 'correct-horse-battery-staple';

/** The part of a test that undoes things. */
interface HasTeardown {
  teardown(undo: () => unknown): void;
}

/** Serves until the test is over. It leads and is well, unless `options` say otherwise. */
export async function sampleServer(
  t: HasTeardown,
  admin: SampleCluster,
  options: Partial<HttpServerOptions> = {},
  port = 0,
): Promise<HttpServer> {
  const server = await HttpServer.listen(
    { host: '127.0.0.1', port },
    {
      admin,
      token: Buffer.from(SAMPLE_TOKEN),
      metrics: () => Promise.resolve('store_up 1\n'),
      isHealthy: () => true,
      leads: () => true,
      masterOf: () => null,
      log: silentLog,
      clock: realClock(),
      timers: realTimers,
      ...options,
    },
  );
  t.teardown(() => server.close());
  return server;
}
