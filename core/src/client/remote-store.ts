/** The store of one daemon, over the network: what the tools open for `--storage-daemon`. */
import type { ObjectStore } from '../pool/object-store.js';
import { messageOf, promised, StoreError } from '../util/errors.js';
import { POOL_NAME_BYTES_MAX } from '../util/limits.js';
import {
  decodeOpenPoolAnswer,
  decodePoolNames,
  encodeListPools,
  encodeOpenPool,
} from '../wire/greeting.js';
import { OP } from '../wire/ops.js';
import { DaemonClient, type ClientCounters, type DaemonClientOptions } from './daemon-client.js';
import { RemotePool } from './remote-pool.js';
import { ServedPool } from './served-pool.js';

/**
 * Connects to a daemon.
 * @throws StoreError `E_UNREACHABLE`, `E_TIMEOUT`, `E_DENIED`, `E_PROTOCOL_VERSION`
 */
export async function openRemoteStore(options: DaemonClientOptions): Promise<RemoteStore> {
  const client = new DaemonClient(options);
  try {
    await client.connect();
  } catch (error) {
    await client.close();
    throw error;
  }
  return new RemoteStore(client);
}

export class RemoteStore implements ObjectStore {
  readonly #client: DaemonClient;
  readonly #pools = new Map<string, Promise<RemotePool>>();
  #closed: Promise<void> | null = null;

  constructor(client: DaemonClient) {
    this.#client = client;
  }

  get counters(): ClientCounters {
    return this.#client.counters;
  }

  /** Requests that were not answered. */
  get openCount(): number {
    return this.#client.openCount;
  }

  openPool(name: string, { create }: { create: boolean }): Promise<RemotePool> {
    if (this.#closed !== null) return Promise.reject(closedError());
    const known = this.#pools.get(name);
    // Who makes it if it is not there must not hear from who does not.
    if (known !== undefined) return create ? known.catch(() => this.#openNew(name, create)) : known;
    return this.#openNew(name, create);
  }

  #openNew(name: string, create: boolean): Promise<RemotePool> {
    const opening = this.#open(name, create);
    this.#pools.set(name, opening);
    opening.catch(() => this.#pools.delete(name));
    return opening;
  }

  async #open(name: string, create: boolean): Promise<RemotePool> {
    const bytes = Buffer.byteLength(name);
    if (bytes < 1 || bytes > POOL_NAME_BYTES_MAX || name.includes('\0'))
      throw new StoreError(
        'E_INVALID',
        `A pool name has 1 to ${POOL_NAME_BYTES_MAX} bytes and no NUL, this one has ${bytes}`,
      );
    const body = await this.#client.ask(OP.openPool, encodeOpenPool({ name, create }));
    const { pool: handle, objectBytes } = decodeOpenPoolAnswer(body);
    const served = new ServedPool({ name, objectBytes, handle });
    this.#client.addPool(served);
    return new RemotePool(this.#client, served);
  }

  async listPools(): Promise<string[]> {
    if (this.#closed !== null) throw closedError();
    const all: string[] = [];
    for (;;) {
      const body = await this.#client.ask(OP.listPools, encodeListPools(all.at(-1) ?? ''));
      const { names, isLast } = decodePoolNames(body);
      all.push(...names);
      if (isLast || names.length === 0) return all;
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** @throws StoreError if what was written could not be made durable */
  async #close(): Promise<void> {
    const failures: unknown[] = [];
    for (const opening of this.#pools.values()) {
      try {
        const pool = await opening;
        if (pool.hasWritten) await promised((done) => pool.flush(done));
      } catch (error) {
        failures.push(error);
      }
    }
    await this.#client.close();
    const [first] = failures;
    if (first !== undefined)
      throw first instanceof StoreError
        ? first
        : new StoreError('E_SYSTEM', messageOf(first), { cause: first });
  }
}

function closedError(): StoreError {
  return new StoreError('E_CLOSED', 'The store is closed');
}
