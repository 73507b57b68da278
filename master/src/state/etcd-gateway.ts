/**
 * etcd's JSON gateway: its v3 API as HTTP, which needs no gRPC. Each request has a time limit and goes to the next
 * endpoint when one does not answer; those that must not be repeated stop when it is not certain that nothing was done.
 *
 * @see https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
 */
import { BackOff, messageOf, StoreError, type Env } from '@store/core';
import { EtcdFailure, failureOf, notJson } from './etcd-failure.js';
import { EtcdHttp, EtcdHttpError, type EtcdTls } from './etcd-http.js';
import { EtcdJson } from './etcd-json.js';

const CALLS_MAX = 1000;
const ENDPOINTS_MAX = 32;
/** A token that was just made is refused by a member that lags behind; more often it is not going to be taken. */
const TOKENS_MAX = 5;
/** A watch is ended by a member that lost its leader, instead of being silent. */
const NEEDS_LEADER = { 'Grpc-Metadata-hasleader': 'true' };

export interface EtcdUser {
  readonly name: string;
  readonly password: string;
}

export interface EtcdOptions {
  /** `http://host:port` or `https://host:port`. */
  readonly endpoints: readonly string[];
  readonly tls: EtcdTls | null;
  /** Null: etcd's authentication is off. A certificate alone names nobody to the JSON gateway. */
  readonly user: EtcdUser | null;
  /** For how long one endpoint may think about one request. */
  readonly requestMs?: number;
  /** For how long to try before giving up. */
  readonly patienceMs?: number;
}

export interface EtcdAnswer {
  readonly json: EtcdJson;
  /** When the request that was answered was sent. */
  readonly sentMs: number;
}

export interface CallOptions {
  /** Doing it twice is as good as once. Otherwise a failure in doubt ends it. */
  readonly isRepeatable: boolean;
  readonly requestMs?: number;
  readonly patienceMs?: number;
}

export interface MessageEvents {
  message(json: EtcdJson): void;
  ended(failure: EtcdFailure): void;
}

export class EtcdGateway {
  readonly env: Env;
  readonly requestMs: number;
  readonly patienceMs: number;
  readonly #endpoints: readonly URL[];
  readonly #user: EtcdUser | null;
  readonly #http: EtcdHttp;
  #endpoint = 0;
  #token: string | null = null;
  #newToken: Promise<string> | null = null;
  #clusterId = '';
  #calls = 0;
  #isClosed = false;

  /** @throws StoreError `E_INVALID` about the options */
  constructor(env: Env, options: EtcdOptions) {
    this.env = env;
    this.requestMs = options.requestMs ?? 3000;
    this.patienceMs = options.patienceMs ?? 10_000;
    this.#endpoints = options.endpoints.map(parseEndpoint);
    if (this.#endpoints.length === 0 || this.#endpoints.length > ENDPOINTS_MAX)
      throw new StoreError('E_INVALID', `etcd has 1 to ${ENDPOINTS_MAX} endpoints`);
    this.#user = options.user;
    this.#http = new EtcdHttp(env, options.tls);
  }

  /**
   * Asks until somebody answers.
   * @throws EtcdFailure unless it is `unsent` or `token`, or `in-doubt` and repeatable
   * @throws StoreError `E_UNREACHABLE`, nothing was done; `E_DENIED`, `E_CLOSED`, `E_BUSY`
   */
  async call(path: string, body: object, options: CallOptions): Promise<EtcdAnswer> {
    this.checkOpen();
    if (this.#calls >= CALLS_MAX)
      throw new StoreError('E_BUSY', `${CALLS_MAX} requests to etcd are under way already`);
    this.#calls += 1;
    try {
      return await this.#tryAll(options, async (limitMs) => {
        const token = await this.#currentToken();
        try {
          return await this.#once(path, JSON.stringify(body), limitMs, token);
        } catch (error) {
          if (error instanceof EtcdFailure && error.kind === 'token') this.refuseToken(token);
          throw error;
        }
      });
    } finally {
      this.#calls -= 1;
    }
  }

  /**
   * An answer that goes on: of the current endpoint, which is left for the next if the stream ends. A wait for the first
   * message is the caller's to limit.
   */
  stream(path: string, body: object, events: MessageEvents): { abort(): void } {
    let isAborted = false;
    let request: { abort(): void } | null = null;
    const endpoint = this.#endpoint;
    const url = new URL(path, this.#endpoints[endpoint]);
    const end = (error: unknown): void => {
      if (isAborted) return;
      isAborted = true;
      request?.abort();
      this.#leave(endpoint);
      events.ended(streamFailure(error));
    };
    const begin = (token: string | null): void => {
      if (isAborted) return;
      const headers = { ...NEEDS_LEADER, ...authorization(token) };
      request = this.#http.stream(url, headers, JSON.stringify(body), {
        line: (text) => {
          const json = parseLine(text);
          if (json === null) end(notJson(url.origin, text));
          else if (json.has('error')) {
            const failure = failureOf(url.origin, 0, json);
            if (failure.kind === 'token') this.refuseToken(token);
            end(failure);
          } else events.message(json.object('result'));
        },
        ended: end,
      });
    };
    this.#currentToken().then(begin, end);
    return {
      abort: () => {
        isAborted = true;
        request?.abort();
      },
    };
  }

  /** The token is good for nothing: the next request gets a new one. */
  refuseToken(token: string | null = this.#token): void {
    if (this.#token === token) this.#token = null;
  }

  /** The current endpoint has hung: the next. */
  leaveEndpoint(): void {
    this.#leave(this.#endpoint);
  }

  checkOpen(): void {
    if (this.#isClosed) throw new StoreError('E_CLOSED', 'The connection to etcd is closed');
  }

  close(): void {
    this.#isClosed = true;
    this.#http.close();
  }

  async #tryAll(
    options: CallOptions,
    attempt: (limitMs: number) => Promise<EtcdAnswer>,
  ): Promise<EtcdAnswer> {
    const { clock, timers, random } = this.env;
    const patienceMs = options.patienceMs ?? this.patienceMs;
    const requestMs = options.requestMs ?? this.requestMs;
    const deadline = clock.now() + patienceMs;
    const backOff = new BackOff(random, patienceMs);
    let tokens = 0;
    let told: EtcdFailure | null = null;
    for (let tries = 1; ; tries += 1) {
      const endpoint = this.#endpoint;
      const leftMs = deadline - clock.now();
      try {
        return await attempt(Math.max(1, Math.min(requestMs, leftMs)));
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error;
        if (error.kind === 'token') {
          tokens += 1;
          if (tokens > TOKENS_MAX) throw error.toStoreError();
        } else if (!mayRepeat(error, options)) throw error;
        else this.#leave(endpoint);
        this.checkOpen();
        // One that had hardly any time says nothing about what is wrong.
        if (told === null || leftMs >= requestMs) told = error;
        const pauseMs = tries % this.#endpoints.length === 0 ? backOff.next() : 0;
        if (clock.now() + pauseMs >= deadline) throw this.#nobodyAnswers(patienceMs, told);
        if (pauseMs > 0) await timers.sleep(pauseMs);
        this.checkOpen();
      }
    }
  }

  /** One request to the current endpoint. @throws EtcdFailure */
  async #once(
    path: string,
    body: string,
    limitMs: number,
    token: string | null,
  ): Promise<EtcdAnswer> {
    const url = new URL(path, this.#endpoints[this.#endpoint]);
    const sentMs = this.env.clock.now();
    let answer: { status: number; text: string };
    try {
      answer = await this.#http.exchange(url, authorization(token), body, limitMs);
    } catch (error) {
      if (!(error instanceof EtcdHttpError)) throw error;
      const kind = error.wasSent ? 'in-doubt' : 'unsent';
      throw new EtcdFailure(kind, error.message, { cause: error });
    }
    const json = parseLine(answer.text);
    if (json === null) throw notJson(url.origin, answer.text);
    // A call whose answer could go on may fail after its status was sent.
    if (answer.status !== 200 || json.has('error'))
      throw failureOf(url.origin, answer.status, json);
    this.#checkCluster(url, json);
    return { json, sentMs };
  }

  /** Members of two clusters would each tell a truth of their own. */
  #checkCluster(url: URL, json: EtcdJson): void {
    const id = json.object('header').text('cluster_id');
    if (id === '') return;
    if (this.#clusterId === '') this.#clusterId = id;
    if (this.#clusterId === id) return;
    throw new StoreError(
      'E_INVALID',
      `etcd at ${url.origin} belongs to another cluster than the endpoints before; check --etcd`,
    );
  }

  async #currentToken(): Promise<string | null> {
    if (this.#user === null || this.#token !== null) return this.#token;
    // Everybody who needs one waits for the same.
    this.#newToken ??= this.#authenticate(this.#user).finally(() => {
      this.#newToken = null;
    });
    return this.#newToken;
  }

  async #authenticate(user: EtcdUser): Promise<string> {
    try {
      const { json } = await this.#tryAll({ isRepeatable: true }, (limitMs) =>
        this.#once('/v3/auth/authenticate', JSON.stringify(user), limitMs, null),
      );
      this.#token = json.text('token');
      return this.#token;
    } catch (error) {
      throw error instanceof EtcdFailure ? error.toStoreError() : error;
    }
  }

  /** That one does not answer: the next. */
  #leave(endpoint: number): void {
    if (this.#endpoint === endpoint) this.#endpoint = (endpoint + 1) % this.#endpoints.length;
  }

  #nobodyAnswers(patienceMs: number, cause: EtcdFailure): StoreError {
    const count = this.#endpoints.length;
    const who = count === 1 ? 'etcd does not answer' : `None of ${count} members of etcd answers`;
    return new StoreError(
      'E_UNREACHABLE',
      `${who} within ${Math.round(patienceMs)} ms (${cause.message}); ${adviceOn(cause.cause)}`,
      { cause },
    );
  }
}

function adviceOn(error: unknown): string {
  return error instanceof EtcdHttpError ? error.advice : 'check that it runs, and --etcd';
}

function mayRepeat({ kind }: EtcdFailure, { isRepeatable }: CallOptions): boolean {
  return kind === 'unsent' || (kind === 'in-doubt' && isRepeatable);
}

function parseEndpoint(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.pathname !== '/')
    throw new StoreError(
      'E_INVALID',
      `'${text}' is not an endpoint of etcd; it looks like http://host:2379`,
    );
  return url;
}

function parseLine(text: string): EtcdJson | null {
  try {
    return EtcdJson.parse(text);
  } catch (error) {
    if (error instanceof StoreError) return null;
    throw error;
  }
}

function authorization(token: string | null): Record<string, string> {
  return token === null ? {} : { Authorization: token };
}

/** @param error - A `StoreError` is about ourselves: no token, or closed. */
function streamFailure(error: unknown): EtcdFailure {
  if (error instanceof EtcdFailure) return error;
  const kind = error instanceof StoreError ? 'refused' : 'in-doubt';
  return new EtcdFailure(kind, `A stream of etcd ended: ${messageOf(error)}`, { cause: error });
}
