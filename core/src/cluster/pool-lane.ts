/** The way of one pool's requests to one daemon: its session, opened with the first of them. */
import { DaemonClient, type ClientCounters } from '../client/daemon-client.js';
import type { ClientRequest } from '../client/client-request.js';
import type { RequestKeeper } from '../client/request-keeper.js';
import { ServedPool } from '../client/served-pool.js';
import type { Env, Timer } from '../env/env.js';
import type { ListenAddress, TlsClientContext } from '../env/network.js';
import type { MapDaemon, MapPool } from '../map/storage-map.js';
import type { ClaimedChain } from '../pool/chain.js';
import type { StoreError } from '../util/errors.js';
import type { ClusterGuide } from './cluster-guide.js';

export interface ClusterStoreOptions {
  readonly env: Env;
  /** The store's from now on, and closed with it. */
  readonly guide: ClusterGuide;
  /** What this client is, for the daemons' logs: `store-nbd vm1`. */
  readonly name: string;
  /** Null: in the clear. */
  readonly tls: TlsClientContext | null;
  /** After so long without an answer a request fails, however many daemons were asked. */
  readonly deadlineMs: number;
  /** Small requests go as datagrams of at most so many bytes; 0: everything goes over connections. */
  readonly datagramBytes: number;
}

/** So long a daemon may take to say what became of requests that are for another one by now. */
const PARTING_MS = 300;

/** Who decides where requests go. */
export interface LaneOwner {
  readonly options: ClusterStoreOptions;
  ended(lane: PoolLane, request: ClientRequest, error: StoreError | null, body: Buffer): void;
  unreachable(lane: PoolLane): void;
  chain(handle: number): ClaimedChain | undefined;
}

export class PoolLane extends ServedPool implements RequestKeeper {
  /** Id of the daemon. */
  readonly daemon: number;
  readonly #owner: LaneOwner;
  readonly #diskId: Buffer;
  #address: string;
  #client: DaemonClient | null = null;
  #parting: Timer | null = null;

  constructor(owner: LaneOwner, pool: MapPool, { id, diskId, address }: MapDaemon) {
    super({ name: pool.name, objectBytes: pool.objectBytes, handle: 0 });
    this.#owner = owner;
    this.daemon = id;
    this.#diskId = Buffer.from(diskId, 'hex');
    this.#address = address;
  }

  /** Null: nothing was sent to it yet. */
  get counters(): ClientCounters | null {
    return this.#client?.counters ?? null;
  }

  /** Its daemon can be asked, as far as is known. */
  get isConnected(): boolean {
    return this.#client?.isReady === true;
  }

  /** For messages. */
  get title(): string {
    return `daemon ${this.daemon} (${this.#address})`;
  }

  submit(request: ClientRequest): void {
    request.pool = this;
    (this.#client ?? this.#open()).submit(request);
  }

  /** What is with this daemon, and not answered. */
  open(): readonly ClientRequest[] {
    return this.#client?.open() ?? [];
  }

  /** See `DaemonClient.takeBack`. */
  takeBack(which: (request: ClientRequest) => boolean): ClientRequest[] {
    return this.#client?.takeBack(which) ?? [];
  }

  /**
   * Sees that requests under way which are for another daemon by now come back soon: this one has a moment to answer them,
   * as one that lives does. Then it is hung up on, and what is sent to it later goes over a new connection. One that hangs, or
   * whose host is gone without a word, keeps its connection for long, and nobody else may run them before it is closed.
   */
  part(isElsewhere: (request: ClientRequest) => boolean): void {
    if (this.#parting !== null || this.#client?.holds(isElsewhere) !== true) return;
    this.#parting = this.#owner.options.env.timers.after(PARTING_MS, () => {
      this.#parting = null;
      if (this.#client?.holds(isElsewhere) === true)
        this.#client.hangUp(
          'it is not the primary any more of groups whose requests it does not answer',
        );
    });
  }

  /** See `DaemonClient.hurry`. */
  hurry(): void {
    this.#client?.hurry();
  }

  addressIs(address: string): void {
    if (address === this.#address) return;
    this.#address = address;
    this.#client?.moveTo(listenAddress(address));
  }

  ended(request: ClientRequest, error: StoreError | null, body: Buffer): void {
    this.#owner.ended(this, request, error, body);
  }

  unreachable(): void {
    this.#owner.unreachable(this);
  }

  chain(handle: number): ClaimedChain | undefined {
    return this.#owner.chain(handle);
  }

  async close(): Promise<void> {
    this.#parting?.cancel();
    await this.#client?.close();
  }

  /**
   * The pool is opened by its name on each connection, by the daemon's own map. If it was removed and another of that name
   * was made, and this client has not heard of it: requests that were under way belong to groups by the old map, and the
   * daemon refuses those that it is not the primary of in the new pool; its ticket is made with the secret of the old pool,
   * so where tickets are asked for the daemon does not let it in at all; and another size of objects is noticed here.
   */
  #open(): DaemonClient {
    const { env, guide, name, tls, deadlineMs, datagramBytes } = this.#owner.options;
    const client = new DaemonClient({
      ...{ env, name, tls, deadlineMs, datagramBytes },
      address: listenAddress(this.#address),
      ticket: null,
      ticketFor: () => guide.ticketFor(this.name),
      expectedDiskId: this.#diskId,
      keeper: this,
    });
    client.addPool(this);
    this.#client = client;
    return client;
  }
}

/** @param address - Of a checked map: `host:port`, or `[host]:port` */
function listenAddress(address: string): ListenAddress {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return { host, port: Number(address.slice(colon + 1)) };
}
