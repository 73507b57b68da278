/** A daemon's part in a cluster, as the flags of `store file-store` say. */
import { hostname } from 'node:os';
import type { ListenOptions, MasterAddress, TlsClientContext } from '@store/core';
import {
  ClusteredStore,
  ClusterMember,
  MembershipFiles,
  type DaemonServer,
  type FileStore,
  type MemberCopies,
  type MemberCounts,
  type PeerSecurity,
  type ReplicationState,
} from '@store/daemon';
import { formatHostPort, parseHostPort, type HostPort } from '../host-port.js';
import { isLoopback } from '../loopback.js';
import { dieOf, type Context } from '../program.js';
import { UsageError } from '../usage-error.js';
import type { DaemonSecurity } from './daemon-security.js';
import type { ClusterGiven, FileStoreGiven } from './file-store-settings.js';
import { ReplicationPart } from './replication-part.js';

const NOTICE_MS = 5000;

export class ClusterPart {
  /** What this daemon serves. */
  readonly store: ClusteredStore;
  readonly #member: ClusterMember;
  readonly #replication: ReplicationPart;
  readonly #context: Context;
  readonly #given: ClusterGiven;
  #server: DaemonServer | null = null;

  /** Null: this daemon belongs to no cluster. @throws StoreError @throws UsageError */
  static of(
    context: Context,
    given: FileStoreGiven,
    store: FileStore,
    security: DaemonSecurity,
  ): ClusterPart | null {
    const { cluster, insecure } = given;
    const membership = new MembershipFiles(store.engine.disk, context.log).read();
    if (cluster === null && membership !== null)
      throw new UsageError(
        `The folder is a part of cluster ${membership.clusterId}, which knows what may be served of it: add --master HOST:PORT, where its master listens for daemons`,
      );
    if (cluster === null) return null;
    const client = security.peerClientTls;
    const server = security.door.peerTls;
    const tls = client === null || server === null ? null : { server, client };
    if (tls === null && !insecure) needNoTls(cluster.masters);
    return new ClusterPart(context, cluster, store, client, { tls, insecure });
  }

  private constructor(
    context: Context,
    given: ClusterGiven,
    store: FileStore,
    tls: TlsClientContext | null,
    security: PeerSecurity,
  ) {
    this.#context = context;
    this.#given = given;
    const copies = (): MemberCopies => this.#replication.copies;
    this.#member = new ClusterMember({
      env: context.env,
      disk: store.engine.disk,
      store,
      masters: given.masters,
      tls,
      labels: { host: given.host ?? hostname(), rack: given.rack },
      counts: () => countsOf(store, this.#server),
      admits: (who) => this.#server?.replaceSecrets(who),
      copies: {
        get reached() {
          return copies().reached;
        },
        scrubIs: (request) => copies().scrubIs(request),
        recoverAt: (rate) => copies().recoverAt(rate),
      },
      mapIs: (view) => this.#replication.mapIs(view),
      replication: () => this.#replication.report(),
      defect: (error) => dieOf(context.log, error),
    });
    this.#replication = new ReplicationPart({
      ...{ env: context.env, store, member: this.#member, security },
      defect: (error) => dieOf(context.log, error),
    });
    this.store = new ClusteredStore(store, this.#member, (pool, below) =>
      this.#replication.poolFor(pool, below),
    );
  }

  /** Lets other daemons connect. @returns where @throws StoreError */
  async listen(address: HostPort, options: ListenOptions): Promise<string> {
    const bound = await this.#replication.listen(address, options);
    return 'host' in bound ? formatHostPort(bound) : bound.path;
  }

  /**
   * Joins the cluster and waits until there is something to serve.
   * @param places - Where the server is bound.
   * @throws StoreError if a master refuses this daemon
   */
  async join(
    server: DaemonServer,
    places: { address: string; peerAddress: string | null },
  ): Promise<void> {
    const { log, env, stop } = this.#context;
    this.#server = server;
    const { view } = this.#member;
    if (view !== null) this.#replication.mapIs(view);
    this.#member.join({
      address: this.#advertised(places.address),
      peerAddress: places.peerAddress === null ? '' : this.#advertised(places.peerAddress),
    });
    const timer = env.timers.after(NOTICE_MS, () =>
      log.warn(
        { masters: this.#given.masters.map(formatHostPort) },
        'Waiting for a master; nothing is served until one has answered',
      ),
    );
    const stopped = new Promise<void>((resolve) =>
      stop.addEventListener('abort', () => resolve(), { once: true }),
    );
    await Promise.race([this.#member.serving(), stopped]);
    timer.cancel();
  }

  /** For metrics. */
  replicationState(): ReplicationState {
    return this.#replication.state();
  }

  /** Before it stops: others lead its groups from now on. */
  leave(): Promise<void> {
    return this.#replication.leave();
  }

  async close(): Promise<void> {
    this.#member.close();
    await this.#replication.close();
  }

  #advertised(bound: string): string {
    const { advertise } = this.#given;
    return advertise === null
      ? bound
      : formatHostPort({ host: advertise, port: parseHostPort(bound).port });
  }
}

/** @throws UsageError if a master is on another machine: nobody would know who is there */
function needNoTls(masters: readonly MasterAddress[]): void {
  const exposed = masters.find(({ host }) => !isLoopback(host));
  if (exposed === undefined) return;
  throw new UsageError(
    `The master at ${exposed.host} is on another machine: add --peer-cert, --peer-key and --peer-ca-cert (see store cert --help), or --insecure`,
  );
}

function countsOf(store: FileStore, server: DaemonServer | null): MemberCounts {
  const { space } = store.state();
  const operations = server?.state().counters.operations;
  const sum = (names: readonly string[], field: 'count' | 'bytes' | 'sumMs'): number =>
    Math.round(names.reduce((total, name) => total + (operations?.get(name)?.[field] ?? 0), 0));
  const writes = ['write', 'zero', 'discard', 'compareAndSwap', 'delete'];
  return {
    capacityBytes: space?.totalBytes ?? 0,
    freeBytes: space?.freeBytes ?? 0,
    reads: sum(['read'], 'count'),
    writes: sum(writes, 'count'),
    readBytes: sum(['read'], 'bytes'),
    writeBytes: sum(['write'], 'bytes'),
    readMs: sum(['read'], 'sumMs'),
    writeMs: sum(writes, 'sumMs'),
  };
}
