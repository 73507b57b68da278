/**
 * HTTP for whoever watches the server: `/metrics` for Prometheus, `/connections` as JSON for people, `/healthz` for
 * probes. It only reads; it knows no secrets, but names of exports and clients.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import { errnoOf, messageOf, StoreError, type Log } from '@store/core';
import type { Registry } from 'prom-client';
import type { MetricsAddress } from './metrics-address.js';

export interface MetricsEndpoint {
  readonly url: string;
  close(): Promise<void>;
}

const REQUEST_MS_MAX = 5000;

/** What is told to who asks. */
export interface MetricsSource {
  readonly registry: Registry;
  /** JSON for people, by path. */
  readonly pages: Readonly<Record<string, () => object>>;
}

/**
 * Serves a source until `close`.
 * @throws StoreError `E_SYSTEM` if it cannot listen there
 */
export async function serveMetrics(
  address: MetricsAddress,
  { registry, pages }: MetricsSource,
  log: Log,
): Promise<MetricsEndpoint> {
  const paths = ['/metrics', ...Object.keys(pages)].join(', ');
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      log.error({ err: error }, 'Answering a metrics request failed');
      response.destroy();
    });
  });
  server.requestTimeout = REQUEST_MS_MAX;
  server.headersTimeout = REQUEST_MS_MAX;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').replace(/\?.*/, '');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      send(response, 405, 'text/plain', 'Only GET\n');
    else if (path === '/metrics')
      send(response, 200, registry.contentType, await registry.metrics());
    else if (path === '/healthz') send(response, 200, 'text/plain', 'ok\n');
    else {
      const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
      if (page === undefined) send(response, 404, 'text/plain', `There is ${paths} and /healthz\n`);
      else send(response, 200, 'application/json', `${JSON.stringify(page(), null, 2)}\n`);
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new StoreError('E_SYSTEM', `Cannot serve metrics on ${text(address)}: ${why(error)}`, {
          cause: error,
        }),
      ),
    );
    server.listen(address.port, address.host, resolve);
  });
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
  server.unref();
  return {
    url: `http://${text({ host: address.host, port })}/metrics`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

function text({ host, port }: MetricsAddress): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

function why(error: unknown): string {
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return 'the port is taken; choose another one';
    case 'EACCES':
      return 'no permission; choose a port from 1024 up';
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return 'this machine does not have that address';
    default:
      return messageOf(error);
  }
}
