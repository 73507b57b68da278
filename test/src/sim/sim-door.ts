/**
 * Where clients that speak the protocol come in at a simulated daemon: the server that ships, over streams of the simulated
 * network, in front of the replication.
 */
import {
  Blocklist,
  SecretRing,
  silentLog,
  StoreError,
  type CheckedPool,
  type Connection,
  type Env,
  type Listener,
  type MapView,
} from '@store/core';
import type { SimRandom } from '@store/core/sim';
import { DaemonServer, type ServedStore } from '@store/daemon';
import { SimConnection } from './sim-streams.js';
import type { StreamMessage } from './sim-messages.js';
import type { LinkEnd } from './sim-network.js';
import type { SimProcess } from './sim-process.js';

export interface SimDoorOptions {
  readonly process: SimProcess;
  readonly random: SimRandom;
  readonly diskId: string;
  readonly startId: string;
  readonly view: () => MapView | null;
  readonly poolFor: (id: number, name: string, objectBytes: number) => CheckedPool;
  readonly defect: (error: unknown) => void;
}

export class SimDoor {
  readonly #options: SimDoorOptions;
  readonly #connections = new Map<LinkEnd, SimConnection>();
  #accept: (connection: Connection) => void = () => undefined;

  constructor(options: SimDoorOptions) {
    this.#options = options;
    const { diskId, startId, defect } = options;
    const server = new DaemonServer({
      env: this.#env(),
      store: this.#store(),
      identity: {
        diskId: Buffer.from(diskId, 'hex'),
        startId: Buffer.from(startId, 'hex'),
        lineage: Buffer.alloc(16, diskId),
      },
      door: {
        secrets: new SecretRing([]),
        blocklist: new Blocklist(),
        ...{ tls: null, peerTls: null, insecure: true },
      },
      datagramBytes: 0,
      poison: true,
      defect,
    });
    void server.listen({ host: '127.0.0.1', port: 1 }, 'listen');
  }

  linked(end: LinkEnd): void {
    const { process, random } = this.#options;
    const connection = new SimConnection(end, process, random);
    this.#connections.set(end, connection);
    this.#accept(connection);
  }

  unlinked(end: LinkEnd): void {
    this.#connections.get(end)?.broken();
    this.#connections.delete(end);
  }

  received(end: LinkEnd, message: StreamMessage): void {
    this.#connections.get(end)?.received(message);
  }

  #env(): Env {
    const { process, random } = this.#options;
    const nothing = (): never => {
      throw new StoreError('E_SYSTEM', 'A daemon of the simulator only listens');
    };
    return {
      ...{ clock: process.clock, timers: process.timers, log: silentLog },
      random: { bytes: (count) => random.bytes(count) },
      network: {
        listen: (address, accept) => {
          this.#accept = accept;
          const listener: Listener = { address, close: () => Promise.resolve(), release: nothing };
          return Promise.resolve(listener);
        },
        ...{ listenOn: nothing, adopt: nothing, connect: nothing, openDatagrams: nothing },
      },
      openDisk: nothing,
    };
  }

  /** As `ClusteredStore`, without pools of its own. */
  #store(): ServedStore {
    const { view, poolFor } = this.#options;
    return {
      openPool: (name) => {
        const map = view();
        const pool = map?.poolNamed(name);
        if (pool === undefined)
          return Promise.reject(new StoreError('E_STALE_MAP', `There is no pool '${name}' yet`));
        return Promise.resolve(poolFor(pool.id, pool.name, pool.objectBytes));
      },
      listPools: () => Promise.resolve(view()?.map.pools.map(({ name }) => name) ?? []),
      close: () => Promise.resolve(),
    };
  }
}
