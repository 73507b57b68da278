/** A whole cluster in one process, on loopback, made of the real parts: for tests that break it. */
import { join } from 'node:path';
import {
  Blocklist,
  ClientKey,
  MasterGuide,
  realEnv,
  RealTlsContext,
  realTlsClient,
  SecretRing,
  silentLog,
  StoreError,
  type Env,
  type MasterAddress,
  type TlsClientContext,
} from '@store/core';
import { reservePort } from '@store/core/testing';
import {
  ClusteredStore,
  ClusterMember,
  DaemonServer,
  openFileStore,
  type FileStore,
} from '@store/daemon';
import { TestAuthority } from '@store/daemon/testing';
import {
  createClient,
  EmbeddedState,
  EtcdState,
  Master,
  newCluster,
  type StateStore,
} from '@store/master';
import type { EtcdCluster } from '@store/master/testing';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';

export const liveEnv: Env = realEnv(silentLog);
const TTL_MS = 2000;

/** Throws what would end a real program. */
function die(error: unknown): never {
  throw error;
}

export interface LiveOptions {
  /** Everybody needs certificates and keys. */
  readonly secured?: boolean;
  readonly ttlMs?: number;
  /** Several masters keep their state here; otherwise there is one, with a folder of its own. */
  readonly etcd?: EtcdCluster;
  /** How many masters; default 1. */
  readonly masters?: number;
}

/** In whose world a part of the cluster lives, and how it sees it. */
export interface PartOptions {
  readonly env?: Env;
}

export interface GuideOptions extends PartOptions {
  /** Those that it knows; default: all. */
  readonly masters?: readonly LiveMaster[];
}

/** A master of its own folder or of a store that several share. */
export class LiveMaster {
  readonly master: Master;
  readonly store: StateStore;
  isRunning = false;
  peer: MasterAddress = { host: '127.0.0.1', port: 0 };
  listen: MasterAddress = { host: '127.0.0.1', port: 0 };

  constructor(store: StateStore, cluster: LiveCluster, { env = liveEnv }: PartOptions = {}) {
    this.store = store;
    const { tls } = cluster;
    this.master = new Master({
      env,
      store,
      listenTls:
        tls === null
          ? null
          : new RealTlsContext({ ...tls.server, ca: tls.ca, isCertificateOptional: true }),
      peerTls: tls === null ? null : new RealTlsContext({ ...tls.server, ca: tls.ca }),
      insecure: false,
      begin: () => {
        const { state, key } = createClient(
          newCluster(liveEnv.random.bytes(16).toString('hex'), 1),
          'admin',
          { isAdmin: true, rights: { '*': 'rwa' } },
          { random: liveEnv.random, now: 1 },
        );
        cluster.adminKey = key;
        return { state, undo: () => undefined };
      },
      ttlMs: cluster.options.ttlMs ?? TTL_MS,
      defect: die,
    });
  }

  async start(): Promise<void> {
    for (const kind of ['peer', 'listen'] as const) {
      if (this[kind].port === 0) this[kind] = { host: '127.0.0.1', port: await reservePort() };
      await this.master.listen(this[kind], kind);
    }
    const text = ({ host, port }: MasterAddress): string => `${host}:${port}`;
    this.master.stand({ peer: text(this.peer), listen: text(this.listen), http: '' });
    this.isRunning = true;
  }

  async stop(): Promise<void> {
    if (!this.isRunning) return;
    this.isRunning = false;
    await this.master.close();
    await this.store.close();
  }
}

/** A storage daemon in its folder. */
export class LiveDaemon {
  readonly folder: string;
  store!: FileStore; // by start()
  server!: DaemonServer; // by start()
  member!: ClusterMember; // by start()
  isRunning = false;
  port = 0;
  /** How fast it was told to make copies equal; it keeps none. */
  recoveryRate = 0;
  readonly #cluster: LiveCluster;
  readonly #labels: { host: string; rack: string };
  readonly #env: Env;

  constructor(
    cluster: LiveCluster,
    folder: string,
    labels: { host: string; rack: string },
    { env = liveEnv }: PartOptions = {},
  ) {
    this.#env = env;
    this.#cluster = cluster;
    this.folder = folder;
    this.#labels = labels;
  }

  /** @param tls - Instead of the cluster's own. */
  async start(tls: TlsClientContext | null = this.#cluster.peerTls()): Promise<void> {
    this.store = await openFileStore(this.#env, this.folder, { create: true, onFailure: die });
    this.member = new ClusterMember({
      env: this.#env,
      disk: this.store.engine.disk,
      store: this.store,
      masters: this.#cluster.masters.map(({ peer }) => peer),
      tls,
      labels: this.#labels,
      counts: () => ({ ...NO_COUNTS }),
      admits: (who) => this.server.replaceSecrets(who),
      copies: {
        reached: [],
        recoverAt: (bytesPerSecond) => (this.recoveryRate = bytesPerSecond),
        scrubIs: () => die(new Error('This daemon keeps no copies')),
      },
      defect: die,
    });
    const { tls: keys } = this.#cluster;
    this.server = new DaemonServer({
      env: this.#env,
      store: new ClusteredStore(this.store, this.member),
      identity: this.store,
      door: {
        secrets: new SecretRing([], { areHandedOut: true }),
        blocklist: new Blocklist(),
        tls: keys === null ? null : new RealTlsContext(keys.server),
        peerTls: null,
        insecure: false,
      },
      datagramBytes: 0,
      defect: die,
    });
    if (this.port === 0) this.port = await reservePort();
    await this.server.listen({ host: '127.0.0.1', port: this.port }, 'listen');
    this.isRunning = true;
    this.member.join({ address: `127.0.0.1:${this.port}`, peerAddress: '' });
  }

  /** Starts it, and waits until it serves. @throws StoreError if the master refuses it */
  async join(): Promise<this> {
    await this.start();
    await this.member.serving();
    await until('the daemon is connected', () => this.member.isConnected);
    return this;
  }

  async stop(): Promise<void> {
    if (!this.isRunning) return;
    this.isRunning = false;
    this.member.close();
    await this.server.close({ drainMs: 1000 });
    await this.store.close();
  }
}

export class LiveCluster {
  readonly options: LiveOptions;
  readonly masters: LiveMaster[] = [];
  readonly daemons: LiveDaemon[] = [];
  readonly folder: string;
  /** Null: all of it speaks in the clear. */
  readonly tls: {
    readonly ca: Buffer;
    readonly server: { readonly cert: Buffer; readonly key: Buffer };
    readonly daemon: { readonly cert: Buffer; readonly key: Buffer };
    /** A certificate of that name. */
    issue(name: string): { readonly cert: Buffer; readonly key: Buffer };
  } | null;
  /** Set when the cluster began. */
  adminKey: ClientKey | null = null;

  /** Masters, of which one leads, and `daemons` daemons. */
  static async start(
    t: HasTeardown,
    daemons: number,
    options: LiveOptions = {},
  ): Promise<LiveCluster> {
    const cluster = new LiveCluster(t, options);
    for (let index = 0; index < (options.masters ?? 1); index += 1)
      await cluster.addMaster(await cluster.openState());
    await until('a master leads', () => cluster.leader() !== undefined);
    for (let index = 0; index < daemons; index += 1) await cluster.addDaemon();
    return cluster;
  }

  constructor(t: HasTeardown, options: LiveOptions = {}) {
    this.options = options;
    this.folder = tempFolder(t, 'live-cluster');
    t.teardown(() => this.stop());
    if (options.secured === true) {
      const authority = new TestAuthority();
      t.teardown(() => authority.remove());
      this.tls = {
        ca: authority.ca,
        server: authority.issue('store', ['IP:127.0.0.1', 'DNS:localhost']),
        daemon: authority.issue('daemon'),
        issue: (name) => authority.issue(name),
      };
    } else this.tls = null;
  }

  openState(env: Env = liveEnv): Promise<StateStore> {
    const { etcd } = this.options;
    if (etcd !== undefined)
      return Promise.resolve(
        new EtcdState(env, { endpoints: etcd.endpoints, cluster: 'test', tls: null, user: null }),
      );
    return EmbeddedState.open(env, join(this.folder, 'state'), { create: true });
  }

  /** @param part - `replaces`: listens where that one did, which has stopped. */
  async addMaster(
    store: StateStore,
    part: PartOptions & { readonly replaces?: LiveMaster } = {},
  ): Promise<LiveMaster> {
    const master = new LiveMaster(store, this, part);
    const { replaces } = part;
    if (replaces !== undefined) [master.peer, master.listen] = [replaces.peer, replaces.listen];
    this.masters.push(master);
    await master.start();
    return master;
  }

  /** Stops the only master and starts another one in its place, on the same ports. */
  async restartMaster(): Promise<LiveMaster> {
    const [old] = this.masters.splice(0);
    await old?.stop();
    const part = old === undefined ? {} : { replaces: old };
    const master = await this.addMaster(await this.openState(), part);
    await until('the new master leads', () => this.leader() === master);
    return master;
  }

  leader(): LiveMaster | undefined {
    return this.masters.find(({ master, isRunning }) => isRunning && master.isLeader);
  }

  /** @throws Error if nobody leads */
  leading(): LiveMaster {
    const leader = this.leader();
    if (leader === undefined) throw new Error('Nobody leads');
    return leader;
  }

  newDaemon(labels?: { host: string; rack: string }, part: PartOptions = {}): LiveDaemon {
    const number = this.daemons.length + 1;
    const daemon = new LiveDaemon(
      this,
      join(this.folder, `disk${number}`),
      labels ?? { host: `host${number}`, rack: `rack${number % 2}` },
      part,
    );
    this.daemons.push(daemon);
    return daemon;
  }

  addDaemon(): Promise<LiveDaemon> {
    return this.newDaemon().join();
  }

  peerTls(): TlsClientContext | null {
    return this.tls === null ? null : realTlsClient({ ca: this.tls.ca, ...this.tls.daemon });
  }

  clientTls(): TlsClientContext | null {
    return this.tls === null ? null : realTlsClient({ ca: this.tls.ca });
  }

  /** @param key - Default: the administrator's, if anybody needs a key. */
  guide(
    key: ClientKey | null = this.tls === null ? null : this.adminKey,
    tls: TlsClientContext | null = this.clientTls(),
    { env = liveEnv, masters = this.masters }: GuideOptions = {},
  ): Promise<MasterGuide> {
    return MasterGuide.open({
      env,
      masters: masters.map(({ listen }) => listen),
      tls,
      key,
      name: 'test',
      deadlineMs: 5000,
      defect: die,
    });
  }

  /** A client that may do what `rights` say. @returns its key */
  async client(name: string, rights: Record<string, string>, isAdmin = false): Promise<ClientKey> {
    const { admin } = this.leading().master;
    return ClientKey.parse(name, await admin.createClient(name, { isAdmin, rights }));
  }

  async stop(): Promise<void> {
    for (const daemon of this.daemons) await daemon.stop();
    for (const master of this.masters.splice(0)) await master.stop();
  }
}

const NO_COUNTS = {
  capacityBytes: 100 * 1024 ** 3,
  freeBytes: 50 * 1024 ** 3,
  reads: 0,
  writes: 0,
  readBytes: 0,
  writeBytes: 0,
  readMs: 0,
  writeMs: 0,
};

/** Waits until `condition` holds. @throws Error naming `what` after `ms` */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 15_000,
): Promise<void> {
  const start = liveEnv.clock.now();
  while (!(await condition())) {
    if (liveEnv.clock.now() - start > ms) throw new Error(`Not within ${ms} ms: ${what}`);
    await liveEnv.timers.sleep(10);
  }
}

/** The code of the error that `work` ends with; null: it ends well. */
export async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (error instanceof StoreError) return error.code;
    throw error;
  }
}
