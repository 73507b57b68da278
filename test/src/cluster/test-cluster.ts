/** A cluster without masters: daemons in memory on loopback, and a test that makes their maps. */
import {
  Blocklist,
  ClusterStore,
  MapView,
  MemStore,
  realEnv,
  SecretRing,
  silentLog,
  type ClusterStoreOptions,
  type MapDaemon,
  type MapGroup,
  type MapPool,
  type StorageMap,
} from '@store/core';
import { reservePort } from '@store/core/testing';
import { ServedMemory } from '@store/daemon/testing';
import { FakeGuide } from './fake-guide.js';
import { MappedStore, type SharedData } from './mapped-store.js';

export const POOL = 'pool';
const CLUSTER = 'c'.repeat(32);
const env = realEnv(silentLog);

export interface TestClusterOptions {
  readonly daemons?: number;
  readonly groups?: number;
  /** What pools say they have; there is one copy of everything, or the daemons share it. */
  readonly replicas?: number;
  /** All daemons serve the same data; otherwise each has its own. */
  readonly isShared?: boolean;
  readonly pools?: readonly string[];
  /** Of the tickets that daemons ask for; they ask for none without. */
  readonly secrets?: SecretRing;
}

export class TestDaemon {
  readonly id: number;
  readonly mapped: MappedStore;
  /** The map that it goes by. */
  view: MapView | null = null;
  start = 1;
  lineage = 1;
  served: ServedMemory | null = null;

  readonly #secrets: SecretRing;

  constructor(id: number, data: SharedData, secrets: SecretRing, present: () => MapView) {
    this.id = id;
    this.#secrets = secrets;
    this.mapped = new MappedStore(id, data, () => this.view ?? present());
  }

  get diskId(): Buffer {
    return Buffer.alloc(16, this.id);
  }

  get startId(): Buffer {
    return Buffer.alloc(16, this.start);
  }

  /** `host:port`. */
  get address(): string {
    const address = this.served?.address;
    return address !== undefined && 'port' in address
      ? `${address.host}:${address.port}`
      : '127.0.0.1:1';
  }

  /** Serves, at an address of its own or at one that it had. */
  async run(address?: string): Promise<void> {
    const [host = '', port] = (address ?? `127.0.0.1:${await reservePort()}`).split(':');
    const served = new ServedMemory({
      store: this.mapped,
      door: {
        secrets: this.#secrets,
        blocklist: new Blocklist(),
        ...{ tls: null, peerTls: null, insecure: false },
      },
      identity: {
        diskId: this.diskId,
        startId: this.startId,
        lineage: Buffer.alloc(16, this.lineage),
      },
    });
    served.address = await served.server.listen({ host, port: Number(port) }, 'listen');
    this.served = served;
  }

  /** Hangs up on everybody. Resolves when what it had begun is over. */
  async stop(): Promise<void> {
    const { served } = this;
    this.served = null;
    await served?.server.close({ drainMs: 0 });
  }
}

export class TestCluster {
  readonly daemons: readonly TestDaemon[];
  readonly guide: FakeGuide;
  #map: StorageMap;
  readonly #groupCount: number;
  readonly #replicas: number;
  #lastPool = 0;
  readonly #stores: ClusterStore[] = [];

  private constructor(options: TestClusterOptions) {
    const { daemons = 4, groups = 64, isShared = true, secrets = new SecretRing([]) } = options;
    const shared = { store: new MemStore(), hashes: new Map(), guards: new Map() };
    this.#groupCount = groups;
    this.#replicas = options.replicas ?? 1;
    this.daemons = Array.from({ length: daemons }, (_, index) => {
      const data = isShared ? shared : { store: new MemStore(), hashes: new Map() };
      return new TestDaemon(index + 1, data, secrets, () => new MapView(this.#map));
    });
    const nothing = { blockedClients: [], blockedTickets: [] };
    this.#map = { clusterId: CLUSTER, version: 1, daemons: [], pools: [], ...nothing };
    this.guide = new FakeGuide(this.#map);
    this.guide.newest = () => this.#map;
    this.guide.make = (name) => this.makePool(name);
  }

  static async start(options: TestClusterOptions = {}): Promise<TestCluster> {
    const cluster = new TestCluster(options);
    await Promise.all(cluster.daemons.map((daemon) => daemon.run()));
    for (const name of options.pools ?? [POOL]) cluster.makePool(name);
    return cluster;
  }

  get map(): StorageMap {
    return this.#map;
  }

  open(options: Partial<ClusterStoreOptions> = {}): ClusterStore {
    const store = new ClusterStore({
      env,
      guide: this.guide,
      name: 'test',
      tls: null,
      deadlineMs: 10_000,
      datagramBytes: 0,
      ...options,
    });
    this.#stores.push(store);
    return store;
  }

  daemon(id: number): TestDaemon {
    const daemon = this.daemons[id - 1];
    if (daemon === undefined) throw new Error(`there is no daemon ${id}`);
    return daemon;
  }

  makePool(name: string): void {
    const ids = this.#map.pools.map(({ id }) => id);
    const groups = Array.from({ length: this.#groupCount }, (_, group) =>
      this.#group(1 + (group % this.daemons.length)),
    );
    const pool: MapPool = {
      ...{
        id: Math.max(0, ...ids, this.#lastPool) + 1,
        name,
        replicas: this.#replicas,
        minReplicas: 1,
      },
      ...{ objectBytes: 4 * 1024 * 1024, failureDomain: 'disk', durability: 'flush', groups },
    };
    this.#lastPool = pool.id;
    this.change({ pools: [...this.#map.pools, pool] });
  }

  removePool(name: string): void {
    this.change({ pools: this.#map.pools.filter((pool) => pool.name !== name) });
  }

  /** Moves groups to other daemons; 0: nobody serves them. */
  move(groups: ReadonlyMap<number, number>): void {
    this.change({ pools: this.moved(groups).pools });
  }

  /** The map that `move` would make. */
  moved(moves: ReadonlyMap<number, number>): StorageMap {
    const pools = this.#map.pools.map((pool) => ({
      ...pool,
      groups: pool.groups.map((group, index) => {
        const daemon = moves.get(index);
        if (daemon === undefined) return group;
        const { members, hasPrimary } = this.#group(daemon);
        return { ...group, members, hasPrimary, epoch: group.epoch + 1 };
      }),
    }));
    return { ...this.#map, version: this.#map.version + 1, pools };
  }

  /** Makes the next map, of the addresses of now. The guide has it at once unless it is cut off. */
  change(what: Partial<StorageMap> = {}): void {
    const daemons = this.daemons.map((daemon): MapDaemon => ({
      id: daemon.id,
      diskId: daemon.diskId.toString('hex'),
      startId: daemon.startId.toString('hex'),
      address: daemon.address,
      peerAddress: null,
      ...{ host: `host${daemon.id}`, rack: 'rack', weight: 1, membership: 'in' },
    }));
    this.#map = { ...this.#map, daemons, ...what, version: this.#map.version + 1 };
    this.guide.bring(this.#map);
  }

  /** Begins a new epoch of a group, for a reason of its own or because answered writes to it were lost. */
  nextEpoch(number: number, lost: 'nothing' | 'unflushed' | 'all' = 'nothing'): void {
    const pools = this.#map.pools.map((pool) => ({
      ...pool,
      groups: pool.groups.map((group, index) => {
        const epoch = group.epoch + 1;
        if (index !== number) return group;
        return {
          ...group,
          epoch,
          lostAt: lost === 'nothing' ? group.lostAt : epoch,
          givenUpAt: lost === 'all' ? epoch : group.givenUpAt,
        };
      }),
    }));
    this.change({ pools });
  }

  async close(): Promise<void> {
    for (const { mapped } of this.daemons) mapped.release();
    await Promise.allSettled(this.#stores.map((store) => store.close()));
    for (const daemon of this.daemons) {
      const { served } = daemon;
      await daemon.stop();
      if ((served?.defects.length ?? 0) > 0) throw served?.defects[0];
    }
  }

  #group(daemon: number): MapGroup {
    const inSync = this.daemons[daemon - 1]?.startId.toString('hex') ?? null;
    const members = daemon === 0 ? [] : [{ daemon, inSync }];
    return { epoch: 1, members, hasPrimary: daemon !== 0, lostAt: 0, givenUpAt: 0 };
  }
}
