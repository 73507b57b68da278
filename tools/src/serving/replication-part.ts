/**
 * The copies of a daemon's groups on other daemons: its links, its replication, and the engine's pools that hold what it
 * has. Everything is decided in `ReplicaNode`; here it gets what it needs of the world.
 */
import {
  encodeMap,
  messageOf,
  StoreError,
  type CheckedPool,
  type Env,
  type GroupRequest,
  type ListenAddress,
  type ListenOptions,
  type MapPool,
  type MapView,
} from '@store/core';
import {
  engineNameOf,
  PeerLinks,
  poolWork,
  ReplicaNode,
  replicationState,
  ScrubFile,
  type ClusterMember,
  type FileStore,
  type MemberCopies,
  type MemberReplication,
  type PeerSecurity,
  type ReplicaPool,
  type ReplicationState,
} from '@store/daemon';

export interface ReplicationPartOptions {
  readonly env: Env;
  readonly store: FileStore;
  readonly member: ClusterMember;
  readonly security: PeerSecurity;
  readonly defect: (error: unknown) => void;
}

/** So long a daemon that stops waits until its groups are led by others. */
const LEAVE_MS = 2000;

export class ReplicationPart {
  readonly #options: ReplicationPartOptions;
  readonly #links: PeerLinks;
  readonly #node: ReplicaNode;
  /** Of the engine, by their number in the cluster. */
  readonly #pools = new Map<number, ReplicaPool>();
  readonly #opening = new Set<number>();
  #isClosed = false;

  constructor(options: ReplicationPartOptions) {
    const { env, store, member, security, defect } = options;
    this.#options = options;
    const startId = store.startId.toString('hex');
    const diskId = store.diskId.toString('hex');
    const links = new PeerLinks({
      env,
      security,
      self: () => {
        const { view, daemonId: daemon } = member;
        return view === null ? null : { clusterId: view.map.clusterId, daemon, diskId, startId };
      },
      view: () => member.view,
      defect,
    });
    const node = new ReplicaNode({
      clock: env.clock,
      timers: env.timers,
      random: env.random,
      log: env.log,
      peers: links,
      masters: {
        get isUp() {
          return member.isConnected;
        },
        ask: (request, done) => this.#ask(request, done),
      },
      poolOf: (id) => this.#pools.get(id) ?? null,
      view: () => member.view,
      get daemonId() {
        return member.daemonId;
      },
      startId,
      wantMap: () => member.wantMap(0),
      mapBytes: () => (member.view === null ? null : encodeMap(member.view.map)),
      takeMap: (bytes) => member.takeMap(bytes),
      scrubNotes: new ScrubFile(store.engine.disk, env.log),
      defect,
    });
    links.start({
      up: (daemon, start) => node.peerUp(daemon, start),
      down: (daemon) => node.peerDown(daemon),
      received: (daemon, start, message) => node.received(daemon, start, message),
    });
    this.#links = links;
    this.#node = node;
  }

  /** Lets other daemons connect. @returns the address they can connect to @throws StoreError */
  listen(address: ListenAddress, options: ListenOptions): Promise<ListenAddress> {
    return this.#links.listen(address, options);
  }

  /** There is a newer map. */
  mapIs(view: MapView): void {
    if (this.#isClosed) return;
    const { daemonId } = this.#options.member;
    const { clusterId, pools } = view.map;
    for (const id of this.#pools.keys())
      if (view.poolById(id) === undefined) this.#pools.delete(id);
    for (const pool of pools)
      if (!this.#pools.has(pool.id) && holdsSomeOf(daemonId, pool)) this.#open(clusterId, pool.id);
    this.#node.mapIs(view);
    this.#links.mapIs();
  }

  /** See `Replicate`. */
  poolFor({ id, name, objectBytes }: MapPool, below: CheckedPool): CheckedPool | null {
    if (!isReplicaPool(below)) return null;
    this.#pools.set(id, below);
    return this.#node.poolFor(id, name, objectBytes);
  }

  /** For metrics. */
  state(): ReplicationState {
    return replicationState(this.#node);
  }

  /** For reports. */
  report(): MemberReplication {
    return { work: poolWork(this.#node), isFull: this.#node.isFull };
  }

  /** What masters want done about it. */
  get copies(): MemberCopies {
    return this.#node;
  }

  /** Lets others lead this daemon's groups, so that nobody waits until its silence is noticed. */
  async leave(): Promise<void> {
    const isOut = await new Promise<boolean>((resolve) => this.#node.leave(LEAVE_MS, resolve));
    if (!isOut)
      this.#options.env.log.warn(
        {},
        'Stopping before all others do without this daemon: groups wait until its silence is noticed, and those of which it has the only copy until it is back',
      );
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#node.close();
    await this.#links.close();
  }

  #ask(request: GroupRequest, done: (error: StoreError | null) => void): void {
    this.#options.member.askAboutGroup(request).then(
      () => done(null),
      (error: unknown) => {
        if (error instanceof StoreError) done(error);
        else this.#options.defect(error);
      },
    );
  }

  #open(clusterId: string, id: number): void {
    if (this.#opening.has(id)) return;
    this.#opening.add(id);
    const { store, env, defect, member } = this.#options;
    store
      .openPool(engineNameOf(clusterId, id), { create: true })
      .then((pool) => {
        // It may have been removed meanwhile.
        if (isReplicaPool(pool) && member.view?.poolById(id) !== undefined)
          this.#pools.set(id, pool);
      })
      .catch((error: unknown) => {
        if (!(error instanceof StoreError)) defect(error);
        env.log.error({ pool: id }, `A pool of the cluster cannot be opened: ${messageOf(error)}`);
      })
      .finally(() => this.#opening.delete(id));
  }
}

function holdsSomeOf(daemonId: number, { groups }: MapPool): boolean {
  return groups.some(({ members }) => members.some(({ daemon }) => daemon === daemonId));
}

/** Whether the engine announces its changes and makes those of others. */
function isReplicaPool(pool: CheckedPool): pool is ReplicaPool {
  return 'announceTo' in pool;
}
