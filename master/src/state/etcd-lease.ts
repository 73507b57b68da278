import { StoreError } from '@store/core';
import { EtcdFailure } from './etcd-failure.js';
import type { EtcdGateway } from './etcd-gateway.js';
import { LeaseClock } from './lease-clock.js';
import type { StateLease } from './state-store.js';

/** So many endpoints can be tried while a lease lasts. */
const TRIES_PER_LEASE = 4;

/** A lease of etcd. Its leader counts the time; when the leader changes, all leases begin anew. */
export class EtcdLease implements StateLease {
  readonly id: string;
  readonly #gateway: EtcdGateway;
  readonly #ttlMs: number;
  readonly #trusted: LeaseClock;

  /** @throws StoreError, EtcdFailure */
  static async grant(gateway: EtcdGateway, ttlMs: number): Promise<EtcdLease> {
    // Whole seconds, up: etcd keeps it longer then than we count on it.
    const body = { TTL: `${Math.ceil(ttlMs / 1000)}` };
    const { json, sentMs } = await gateway.call('/v3/lease/grant', body, timesOf(gateway, ttlMs));
    const grantedMs = json.number('TTL') * 1000;
    return new EtcdLease(gateway, json.text('ID'), Math.min(ttlMs, grantedMs), sentMs);
  }

  private constructor(gateway: EtcdGateway, id: string, ttlMs: number, sentMs: number) {
    this.id = id;
    this.#gateway = gateway;
    this.#ttlMs = ttlMs;
    this.#trusted = new LeaseClock(gateway.env.clock, ttlMs, sentMs);
  }

  async keepAlive(): Promise<void> {
    const { json, sentMs } = await storeErrors(
      this.#gateway.call(
        '/v3/lease/keepalive',
        { ID: this.id },
        timesOf(this.#gateway, this.#ttlMs),
      ),
    );
    // A lease that etcd does not know has no time to live, which is no error to it.
    if (json.object('result').number('TTL') > 0) {
      this.#trusted.renewed(sentMs);
      return;
    }
    this.#trusted.end();
    throw new StoreError('E_NOT_FOUND', 'The lease is over, and its keys are gone');
  }

  remainingMs(): number {
    return this.#trusted.remainingMs();
  }

  /** @param patienceMs - After that it ends by itself. */
  async revoke(patienceMs: number = this.#gateway.patienceMs): Promise<void> {
    this.#trusted.end();
    const options = { isRepeatable: true, patienceMs };
    try {
      await this.#gateway.call('/v3/lease/revoke', { ID: this.id }, options);
    } catch (error) {
      if (error instanceof EtcdFailure && error.kind === 'no-lease') return;
      throw error instanceof EtcdFailure ? error.toStoreError() : error;
    }
  }
}

/** What etcd said, as whoever uses a state store understands it. */
export async function storeErrors<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw error instanceof EtcdFailure ? error.toStoreError() : error;
  }
}

function timesOf(gateway: EtcdGateway, ttlMs: number) {
  return {
    isRepeatable: true,
    requestMs: Math.min(gateway.requestMs, ttlMs / TRIES_PER_LEASE),
    patienceMs: Math.min(gateway.patienceMs, ttlMs),
  };
}
