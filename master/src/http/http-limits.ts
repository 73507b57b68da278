/** What strangers may take of a master: it answers whoever reaches its port, and decides for the whole cluster. */
import { invariant } from '@store/core';

export interface HttpLimits {
  readonly connections: number;
  readonly headerBytes: number;
  readonly bodyBytes: number;
  /** From the first byte of a request to the end of its headers, or of its body. */
  readonly headersMs: number;
  readonly requestMs: number;
  /** Without a byte in either direction. */
  readonly idleMs: number;
  readonly keepAliveMs: number;
  /** Browsers that watch. */
  readonly watchers: number;
  /** Between two reports to whoever watches. */
  readonly pushMs: number;
  /** Between two signs of life while there is nothing to report. */
  readonly aliveMs: number;
  /** A watcher that has not taken a report for so long is dropped. */
  readonly stalledMs: number;
}

export const HTTP_LIMITS: HttpLimits = {
  connections: 512,
  headerBytes: 16 * 1024,
  bodyBytes: 64 * 1024,
  headersMs: 10_000,
  requestMs: 20_000,
  idleMs: 60_000,
  keepAliveMs: 5000,
  watchers: 64,
  pushMs: 1000,
  aliveMs: 15_000,
  stalledMs: 20_000,
};

invariant(
  HTTP_LIMITS.watchers < HTTP_LIMITS.connections,
  'watchers leave connections for everything else',
);
invariant(HTTP_LIMITS.headersMs <= HTTP_LIMITS.requestMs, 'headers are a part of the request');
invariant(HTTP_LIMITS.aliveMs < HTTP_LIMITS.idleMs, 'a watched connection is never idle');
