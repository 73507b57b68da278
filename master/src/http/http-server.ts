/**
 * A master for machines and browsers: `/healthz` for probes, `/metrics` for Prometheus, `/api/v1` as JSON, and the
 * dashboard at `/`. Everybody who reaches the port may look; whoever changes something shows the token.
 *
 * Only the master that leads knows how the cluster is: the others send people to it. `/healthz` and `/metrics` are
 * about this process, and are answered by each.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import {
  errnoOf,
  InvariantError,
  messageOf,
  StoreError,
  type Clock,
  type Log,
  type Timers,
} from '@store/core';
import type { AdminService } from '../admin/admin-service.js';
import { apiRoutes, type ApiRoute } from './api-routes.js';
import { answerApi, wrongMethod } from './api.js';
import { dashboardFiles, type DashboardFile, type DashboardFiles } from './dashboard-files.js';
import { EventStream } from './event-stream.js';
import { isOurHost } from './host-check.js';
import { closeIfUnread, send, sendJson } from './http-answer.js';
import { HttpFailure, statusOf } from './http-failure.js';
import { HTTP_LIMITS, type HttpLimits } from './http-limits.js';
import { requestPath, type RequestPath } from './request-path.js';
import { SECURITY_HEADERS } from './security-headers.js';

export interface HttpAddress {
  readonly host: string;
  /** 0: one that is free. */
  readonly port: number;
}

export interface HttpServerOptions {
  readonly admin: AdminService;
  /** Who knows these bytes may change the cluster; null: nobody may over HTTP. */
  readonly token: Buffer | null;
  /** Names that people type to get here, besides the address and loopback. Default: none. */
  readonly hostNames?: readonly string[];
  /** The text for Prometheus. */
  readonly metrics: () => Promise<string>;
  readonly isHealthy: () => boolean;
  /** Whether this master leads. */
  readonly leads: () => boolean;
  /** If it does not: the HTTP address of the one that does, `http://10.0.0.1:9822`; null: not known. */
  readonly masterOf: () => string | null;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly limits?: Partial<HttpLimits>;
}

const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
/** How often Node looks for requests that take too long. */
const CHECK_MS = 1000;

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #limits: HttpLimits;
  readonly #server: Server;
  readonly #names: ReadonlySet<string>;
  readonly #files: DashboardFiles = dashboardFiles();
  readonly #routes: readonly ApiRoute[];
  readonly #events: EventStream;
  #url = '';

  /** @throws StoreError `E_SYSTEM` if it cannot listen there */
  static async listen(address: HttpAddress, options: HttpServerOptions): Promise<HttpServer> {
    const server = new HttpServer(address, options);
    await server.#listen(address);
    return server;
  }

  private constructor({ host }: HttpAddress, options: HttpServerOptions) {
    this.#options = options;
    const limits = { ...HTTP_LIMITS, ...options.limits };
    this.#limits = limits;
    this.#names = new Set([host, ...(options.hostNames ?? [])].map((name) => name.toLowerCase()));
    this.#routes = apiRoutes(options.admin);
    this.#events = new EventStream({ ...options, limits });
    this.#server = createServer(
      {
        maxHeaderSize: limits.headerBytes,
        headersTimeout: limits.headersMs,
        requestTimeout: limits.requestMs,
        keepAliveTimeout: limits.keepAliveMs,
        connectionsCheckingInterval: CHECK_MS,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = limits.connections;
    this.#server.timeout = limits.idleMs;
  }

  /** Where it listens: `http://127.0.0.1:9822`. */
  get url(): string {
    return this.#url;
  }

  /** Browsers that watch. */
  get watchers(): number {
    return this.#events.count;
  }

  /** Requests under way are cut off: a browser asks again, and Prometheus does anyway. */
  close(): Promise<void> {
    this.#events.close();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #listen({ host, port }: HttpAddress): Promise<void> {
    const shown = host.includes(':') ? `[${host}]` : host;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => {
        const message = `Cannot serve HTTP on ${shown}:${port}: ${why(error)}`;
        reject(new StoreError('E_SYSTEM', message, { cause: error }));
      });
      this.#server.listen(port, host, resolve);
    });
    const bound = this.#server.address();
    this.#url = `http://${shown}:${typeof bound === 'object' && bound !== null ? bound.port : port}`;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A connection that breaks under an answer is the peer's business.
    response.on('error', () => undefined);
    for (const [name, value] of SECURITY_HEADERS) response.setHeader(name, value);
    try {
      await this.#answer(request, response);
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      this.#fail(request, response, error);
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!isOurHost(request.headers.host, this.#names))
      throw new HttpFailure(
        421,
        'E_DENIED',
        'This master does not go by that name; use its IP address, or give it the name at its start',
      );
    const path = requestPath(request.url ?? '');
    const [first, second] = path.segments;
    if (first === 'api' && second === 'v1') {
      await this.#answerApi(request, response, { ...path, segments: path.segments.slice(2) });
      return;
    }
    const name = `/${path.segments.join('/')}`;
    const file = this.#files.get(name);
    if (file === undefined && name !== '/healthz' && name !== '/metrics')
      throw new HttpFailure(404, 'E_NOT_FOUND', 'There is /, /api/v1, /metrics and /healthz');
    if (request.method !== 'GET' && request.method !== 'HEAD') throw wrongMethod(['GET']);
    if (file !== undefined) this.#sendFile(request, response, name, file);
    else if (name === '/metrics')
      send(response, 200, PROMETHEUS_TYPE, await this.#options.metrics());
    else if (this.#options.isHealthy()) send(response, 200, 'text/plain; charset=utf-8', 'ok\n');
    else send(response, 503, 'text/plain; charset=utf-8', 'This master is not healthy\n');
  }

  async #answerApi(
    request: IncomingMessage,
    response: ServerResponse,
    path: RequestPath,
  ): Promise<void> {
    if (!this.#options.leads()) {
      this.#sendToLeader(request, response);
      return;
    }
    if (path.segments.join('/') === 'events') {
      if (request.method === 'GET') this.#events.add(response);
      else if (request.method === 'HEAD')
        response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).end();
      else throw wrongMethod(['GET']);
      return;
    }
    const { token } = this.#options;
    const bodyBytesMax = this.#limits.bodyBytes;
    const rules = { routes: this.#routes, token, bodyBytesMax };
    const { status, value } = await answerApi(request, path, rules);
    if (value === undefined) response.writeHead(status).end();
    else sendJson(response, status, value);
  }

  #sendFile(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    { type, bytes, etag }: DashboardFile,
  ): void {
    // A page reads from where it came, so it must come from the leader; its parts are the same everywhere.
    if (name === '/' && !this.#options.leads() && this.#options.masterOf() !== null) {
      this.#sendToLeader(request, response);
      return;
    }
    response.setHeader('cache-control', 'no-cache');
    response.setHeader('etag', etag);
    const known = (request.headers['if-none-match'] ?? '').split(',').map((one) => one.trim());
    if (known.some((one) => one.replace(/^W\//, '') === etag)) response.writeHead(304).end();
    else send(response, 200, type, bytes);
  }

  #sendToLeader(request: IncomingMessage, response: ServerResponse): void {
    const leader = this.#options.masterOf();
    if (leader === null)
      throw new HttpFailure(
        503,
        'E_NOT_LEADER',
        'No master leads just now, as far as this one knows',
        {
          'retry-after': '1',
        },
      );
    const location = `${leader.replace(/\/$/, '')}${request.url ?? '/'}`;
    response.setHeader('location', location);
    const message = `The master that leads is at ${leader}`;
    closeIfUnread(request, response);
    sendJson(response, 307, { code: 'E_NOT_LEADER', message });
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (response.headersSent || request.socket.destroyed) {
      response.destroy();
      return;
    }
    closeIfUnread(request, response);
    if (error instanceof HttpFailure) {
      for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
      sendJson(response, error.status, { code: error.code, message: error.message });
    } else if (error instanceof StoreError) {
      if (error.code === 'E_NOT_LEADER' && this.#options.masterOf() !== null)
        this.#sendToLeader(request, response);
      else sendJson(response, statusOf(error), { code: error.code, message: error.message });
    } else {
      const { method, url } = request;
      this.#options.log.error({ err: error, method, url }, 'Answering an HTTP request failed');
      const message = 'The master failed to answer that; its log says why';
      sendJson(response, 500, { code: 'E_SYSTEM', message });
    }
  }
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
