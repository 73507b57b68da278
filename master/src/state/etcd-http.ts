/**
 * One request to etcd over HTTP. Node's own client: `fetch` of Node 20 takes no certificates, and does not say whether a
 * request that failed had been sent, on which it depends whether a commit is in doubt.
 */
import http from 'node:http';
import https from 'node:https';
import { messageOf, type Env, type Timer } from '@store/core';
import { tlsProblem } from './etcd-tls-error.js';

/** A page of a read or a watch: etcd itself stops far below that. */
export const ANSWER_BYTES_MAX: number = 64 * 1024 * 1024;
const SOCKETS_MAX = 64;
const ADVICE = 'check that it runs, and --etcd';

/** What etcd's certificate must be signed by, and what we show; PEM. */
export interface EtcdTls {
  /** Null: the authorities the system trusts. */
  readonly ca: Buffer | null;
  /** Null: etcd does not ask for one. */
  readonly client: { readonly cert: Buffer; readonly key: Buffer } | null;
}

/** There was no answer. */
export class EtcdHttpError extends Error {
  override name = 'EtcdHttpError';
  /** False: nothing has reached etcd, for certain. */
  readonly wasSent: boolean;
  /** What a person can do about it. */
  readonly advice: string;

  constructor(
    message: string,
    wasSent: boolean,
    { cause, advice = ADVICE }: { cause?: unknown; advice?: string | undefined } = {},
  ) {
    super(message, { cause });
    this.wasSent = wasSent;
    this.advice = advice;
  }
}

export interface StreamEvents {
  line(text: string): void;
  /** Never after `abort`. */
  ended(error: EtcdHttpError): void;
}

export class EtcdHttp {
  readonly #env: Env;
  readonly #agent: http.Agent;
  readonly #secureAgent: https.Agent;
  readonly #requests = new Set<http.ClientRequest>();

  constructor(env: Env, tls: EtcdTls | null) {
    this.#env = env;
    const pool = { keepAlive: true, maxSockets: SOCKETS_MAX };
    this.#agent = new http.Agent(pool);
    this.#secureAgent = new https.Agent({
      ...pool,
      minVersion: 'TLSv1.2',
      ...(tls !== null && tls.ca !== null ? { ca: tls.ca } : {}),
      ...(tls?.client ?? {}),
    });
  }

  /** @throws EtcdHttpError */
  exchange(
    url: URL,
    headers: Readonly<Record<string, string>>,
    body: string,
    limitMs: number,
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      const request = this.#send(url, headers, body, {
        answered: (answer) => {
          answer.on('data', (chunk: Buffer) => {
            bytes += chunk.length;
            chunks.push(chunk);
            if (bytes > ANSWER_BYTES_MAX) request.destroy(new Error('the answer is too long'));
          });
          answer.on('end', () => {
            timer.cancel();
            resolve({
              status: answer.statusCode ?? 0,
              text: Buffer.concat(chunks).toString().trim(),
            });
          });
        },
        failed: (error) => {
          timer.cancel();
          reject(error);
        },
      });
      const timer: Timer = this.#env.timers.after(limitMs, () => {
        request.destroy(new Error(`no answer within ${Math.round(limitMs)} ms`));
      });
    });
  }

  /** An answer that goes on until `abort`; each line is one message. Without a deadline: that is the caller's. */
  stream(
    url: URL,
    headers: Readonly<Record<string, string>>,
    body: string,
    events: StreamEvents,
  ): { abort(): void } {
    let isOver = false;
    const end = (error: EtcdHttpError): void => {
      if (isOver) return;
      isOver = true;
      events.ended(error);
    };
    const request = this.#send(url, headers, body, {
      answered: (answer) => {
        const lines = new LineSplitter();
        answer.on('data', (chunk: Buffer) => {
          for (const line of lines.push(chunk)) if (!isOver) events.line(line);
          if (lines.bytes > ANSWER_BYTES_MAX) request.destroy(new Error('a message is too long'));
        });
        answer.on('end', () => end(new EtcdHttpError('etcd ended the stream', true)));
      },
      failed: end,
    });
    return {
      abort: () => {
        isOver = true;
        request.destroy();
      },
    };
  }

  /** Everything under way fails. */
  close(): void {
    for (const request of this.#requests) request.destroy(new Error('closed'));
    this.#agent.destroy();
    this.#secureAgent.destroy();
  }

  #send(
    url: URL,
    headers: Readonly<Record<string, string>>,
    body: string,
    events: { answered(answer: http.IncomingMessage): void; failed(error: EtcdHttpError): void },
  ): http.ClientRequest {
    const isSecure = url.protocol === 'https:';
    const options = {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
    };
    const request = isSecure
      ? https.request(url, { ...options, agent: this.#secureAgent })
      : http.request(url, { ...options, agent: this.#agent });
    let wasSent = false;
    request.on('socket', (socket) => {
      if (request.reusedSocket) wasSent = true;
      else socket.once(isSecure ? 'secureConnect' : 'connect', () => (wasSent = true));
    });
    this.#requests.add(request);
    const fail = (error: unknown): void => {
      const tls = tlsProblem(error);
      const message = `${url.origin}: ${tls?.problem ?? messageOf(error)}`;
      events.failed(new EtcdHttpError(message, wasSent, { cause: error, advice: tls?.advice }));
    };
    request.on('error', fail);
    request.on('close', () => this.#requests.delete(request));
    request.on('response', (answer) => {
      answer.on('error', fail);
      events.answered(answer);
    });
    request.end(body);
    return request;
  }
}

/** Cuts a stream of bytes into lines. */
class LineSplitter {
  #parts: Buffer[] = [];
  /** Of the line that is not complete. */
  bytes = 0;

  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#parts.push(chunk.subarray(start, end));
      const line = Buffer.concat(this.#parts).toString().trim();
      if (line !== '') lines.push(line);
      this.#parts = [];
      this.bytes = 0;
      start = end + 1;
    }
    this.#parts.push(chunk.subarray(start));
    this.bytes += chunk.length - start;
    return lines;
  }
}
