/**
 * Memory and work in flight, bounded for each connection and for the whole server (X9, P6). A request is admitted
 * before a byte of its payload is kept; one that does not fit waits, its connection is not read on, and the client
 * feels it as a full socket.
 *
 * Each connection has a guaranteed share that nobody can take from it, so a client with small requests is served at
 * once even while others hold all the rest. The rest is given out first come, first served: a newcomer never
 * overtakes a request that waits, so large ones do not starve.
 */
import { invariant } from './invariant.js';

/** How much there is, and how much of it is each connection's own. */
export interface BudgetLimits {
  /** Beyond the guarantees, of all connections together. */
  readonly serverRequestsMax: number;
  readonly serverBytesMax: number;
  readonly connectionRequestsMax: number;
  readonly connectionBytesMax: number;
  /** What nobody can take from a connection. */
  readonly guaranteedRequests: number;
  readonly guaranteedBytes: number;
}

/** What all connections share. */
export class ServerBudget<Limits extends BudgetLimits = BudgetLimits> {
  readonly limits: Limits;
  #requests = 0;
  #bytes = 0;
  /** Who waits, in order; called when there is room again, in a later microtask. */
  readonly #waiters = new Set<() => void>();
  #wakeScheduled = false;

  constructor(limits: Limits) {
    this.limits = limits;
  }

  get hasWaiters(): boolean {
    return this.#waiters.size > 0;
  }

  /** Bytes given out beyond the guarantees. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @internal for `ConnectionBudget` */
  fits(requests: number, bytes: number, waiter: () => void): boolean {
    if (requests === 0 && bytes === 0) return true;
    const first = this.#waiters.values().next().value;
    return (
      (first === undefined || first === waiter) &&
      this.#requests + requests <= this.limits.serverRequestsMax &&
      this.#bytes + bytes <= this.limits.serverBytesMax
    );
  }

  /** @internal for `ConnectionBudget`; negative gives back */
  add(requests: number, bytes: number): void {
    this.#requests += requests;
    this.#bytes += bytes;
    invariant(this.#requests >= 0 && this.#bytes >= 0, 'nothing is given back twice');
    if (requests < 0 || bytes < 0) this.#wake();
  }

  wait(waiter: () => void): void {
    this.#waiters.add(waiter);
  }

  leave(waiter: () => void): void {
    if (this.#waiters.delete(waiter)) this.#wake();
  }

  /** Wakes the first; it leaves when it got what it wants, which wakes the next. */
  #wake(): void {
    if (this.#wakeScheduled || this.#waiters.size === 0) return;
    this.#wakeScheduled = true;
    queueMicrotask(() => {
      this.#wakeScheduled = false;
      this.#waiters.values().next().value?.();
    });
  }
}

/** The share of one connection. */
export class ConnectionBudget {
  readonly #server: ServerBudget;
  readonly #retry: () => void;
  #requests = 0;
  #bytes = 0;

  /** @param retry - Called some time after `take` said no, when it may say yes. */
  constructor(server: ServerBudget, retry: () => void) {
    this.#server = server;
    this.#retry = retry;
  }

  get requests(): number {
    return this.#requests;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** True if it holds more than is its own. */
  get holdsShared(): boolean {
    return this.#sharedBytes(this.#bytes) > 0;
  }

  /** Admits a request of `bytes`, or says no and calls back. */
  take(bytes: number): boolean {
    const { connectionRequestsMax, connectionBytesMax } = this.#server.limits;
    if (this.#requests + 1 > connectionRequestsMax || this.#bytes + bytes > connectionBytesMax)
      return false; // what this connection gives back will call `retry`
    const requests =
      this.#sharedRequests(this.#requests + 1) - this.#sharedRequests(this.#requests);
    const shared = this.#sharedBytes(this.#bytes + bytes) - this.#sharedBytes(this.#bytes);
    if (!this.#server.fits(requests, shared, this.#retry)) {
      this.#server.wait(this.#retry);
      return false;
    }
    this.#change(1, bytes);
    this.#server.leave(this.#retry);
    return true;
  }

  /** A request of `bytes` is finished; `replyBytes` of answer wait to be sent. */
  finish(bytes: number, replyBytes: number): void {
    this.#change(-1, replyBytes - bytes);
  }

  /** A piece of an answer, for which `bytes` were taken, is ready: `replyBytes` wait to be sent. */
  finishPiece(bytes: number, replyBytes: number): void {
    this.#change(0, replyBytes - bytes);
  }

  /** An answer without a request that was admitted. */
  addUnsent(bytes: number): void {
    this.#change(0, bytes);
  }

  /** Answers were sent. */
  sent(bytes: number): void {
    this.#change(0, -bytes);
  }

  /** Stops waiting. */
  leave(): void {
    this.#server.leave(this.#retry);
  }

  #change(requests: number, bytes: number): void {
    const { guaranteedRequests, guaranteedBytes } = this.#server.limits;
    const before = this.#requests <= guaranteedRequests && this.#bytes <= guaranteedBytes;
    const sharedRequests = before ? 0 : this.#sharedRequests(this.#requests);
    const sharedBytes = before ? 0 : this.#sharedBytes(this.#bytes);
    this.#requests += requests;
    this.#bytes += bytes;
    invariant(this.#requests >= 0 && this.#bytes >= 0, 'nothing is given back twice');
    const requestsMore = this.#sharedRequests(this.#requests) - sharedRequests;
    const bytesMore = this.#sharedBytes(this.#bytes) - sharedBytes;
    if (requestsMore !== 0 || bytesMore !== 0) this.#server.add(requestsMore, bytesMore);
  }

  #sharedRequests(requests: number): number {
    return Math.max(0, requests - this.#server.limits.guaranteedRequests);
  }

  #sharedBytes(bytes: number): number {
    return Math.max(0, bytes - this.#server.limits.guaranteedBytes);
  }
}
