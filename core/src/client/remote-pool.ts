/** A pool that a daemon serves. See `DaemonClient` for what happens when the way to it breaks. */
import { checkChain, type Chain } from '../pool/chain.js';
import type { ListOptions, ListPage, ObjectPool } from '../pool/object-pool.js';
import { promisedWith, type Done } from '../util/errors.js';
import type { ClientRequest } from './client-request.js';
import type { DaemonClient } from './daemon-client.js';
import { flushRequest, listRequest, lostWrites, RequestPool } from './request-pool.js';
import type { ServedPool } from './served-pool.js';
import { WriteTally } from './write-tally.js';

export class RemotePool extends RequestPool implements ObjectPool {
  readonly #client: DaemonClient;
  /** What all views of the pool share. */
  readonly #served: ServedPool;
  readonly #tally: WriteTally;

  /** @param chain - The chain that data is seen through; 0: none */
  constructor(client: DaemonClient, served: ServedPool, chain = 0) {
    const { name, objectBytes } = served;
    super({ name, objectBytes, chain, pool: served });
    this.#client = client;
    this.#served = served;
    this.#tally = new WriteTally(served.losses);
  }

  /**
   * This pool as the newest layer of a chain: the daemon resolves the layers below, in one request however many there are.
   * @throws StoreError `E_INVALID`; or why the daemon cannot be asked
   */
  async layered(layers: Chain): Promise<ObjectPool> {
    checkChain(layers);
    return this.#view(await this.#client.registerChain({ layers, claim: null }));
  }

  forUser(): ObjectPool {
    return this.#view(this.chain);
  }

  #view(chain: number): RemotePool {
    return new RemotePool(this.#client, this.#served, chain);
  }

  /** Something was written through it or a view of it. */
  get hasWritten(): boolean {
    return this.#served.hasWritten;
  }

  flush(done: Done): void {
    const ticket = this.#tally.flushCalled();
    this.submit(
      flushRequest(this.#served, [], (error) => {
        if (error !== null) {
          this.#tally.flushFailed(ticket);
          done(error);
        } else done(this.#tally.flushed(ticket) ? null : lostWrites(this.name));
      }),
    );
  }

  list(options: ListOptions): Promise<ListPage> {
    const refusal = this.pageRefusal(options);
    if (refusal !== null) return Promise.reject(refusal);
    return promisedWith((done) => this.submit(listRequest(this.#served, [], options, done)));
  }

  protected submit(request: ClientRequest): void {
    this.#client.submit(request);
  }

  protected changed(): void {
    this.#tally.answered();
    this.#served.hasWritten = true;
  }
}
