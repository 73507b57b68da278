/**
 * A master: listens for daemons and clients, stands for election, and while it leads decides and tells. One that does
 * not lead says who does.
 */
import {
  CONTROL,
  encodeMap,
  hostOfPeer,
  isLoopbackPeer,
  makeTicket,
  messageOf,
  StoreError,
  TicketFile,
  type Connection,
  type ControlMessage,
  type ControlOp,
  type DaemonRegistration,
  type DaemonReport,
  type Env,
  type GroupRequest,
  type JsonFields,
  type ListenAddress,
  type MasterStatus,
  type Listener,
  type StorageMap,
  type Timer,
  type TlsContext,
} from '@store/core';
import { ClusterAdmin } from '../admin/cluster-admin.js';
import { runAdminCommand } from '../admin/admin-commands.js';
import { ClusterLeader, type NewCluster } from '../cluster/cluster-leader.js';
import { ticketNameOf, type ClientRecord, type ClusterState } from '../cluster/cluster-state.js';
import { pruneBlocked, rightsOf, TICKET_SECONDS } from '../cluster/decide-clients.js';
import { registerDaemon } from '../cluster/decide-daemons.js';
import { decideGroupRequest } from '../cluster/decide-groups.js';
import { RemovalPatience } from './removal-patience.js';
import type { GroupTargets } from '../cluster/group-targets.js';
import { aliveIn } from '../cluster/roster-view.js';
import { TEND_LIMITS, type TendLimits } from '../cluster/tend-groups.js';
import { poolRemoved } from '../cluster/decide-pools.js';
import { Compactor } from '../state/compactor.js';
import { JUMP } from '../recovery/rebuild-state.js';
import { Election, type Leadership, type LeaderInfo } from '../state/election.js';
import type { StateStore } from '../state/state-store.js';
import { GroupTender } from './group-tender.js';
import { Guest, type Entrance, type Principal } from './guest.js';
import type { Host } from './host.js';
import { MasterPresence } from './master-presence.js';
import { Roster, type DaemonConnection } from './roster.js';
import { securePeer, startDeaf, type SecuredConnection } from './secure-connection.js';
import { sumOf, TrafficRecorder } from './traffic.js';

/** Where a master can be reached, as other masters tell. */
export interface MasterPlaces {
  /** `host:port`; empty: nowhere. */
  readonly listen: string;
  readonly peer: string;
  /** `http://host:port`, or empty. */
  readonly http: string;
}

export interface MasterOptions {
  readonly env: Env;
  readonly store: StateStore;
  /** Where clients connect, and where daemons do. */
  readonly listenTls: TlsContext | null;
  /** Demands a certificate of whoever connects. */
  readonly peerTls: TlsContext | null;
  /** Everybody may speak plainly, from everywhere, and needs no key. */
  readonly insecure: boolean;
  /** What a new cluster begins with; null: there must be one. */
  readonly begin: (() => NewCluster) | null;
  /** For how long a leader that died is waited for. */
  readonly ttlMs: number;
  /** How groups are tended; what is left out is as always. */
  readonly tend?: Partial<TendLimits>;
  readonly defect: (error: unknown) => void;
}

const LOOK_MS = 1000;
/** A daemon of the same disk is asked whether it is still there. */
const SAME_DISK_MS = 1500;
/** Daemons that are alive find a new leader sooner. */
const ORIGINAL_MS = 3000;
/** After a state could not be used it is looked at again: one that is damaged, and one whose store did not answer. */
const RETRY_MS = 5000;
const RETRY_SOON_MS = 250;
/** Tickets are good from a moment ago on: clocks differ. */
const ISSUED_BEFORE_SECONDS = 60;
/** Who asks a master that leads no more is told so for so long, rather than left to guess what became of it. */
const LEAVE_MS = 1000;
const LEAVE_LOOK_MS = 10;
/** What an operator wants of daemons. */
const ASK_DAEMON_MS = 4000;
const CONNECTIONS_MAX = 16_384;

export class Master implements Host {
  readonly env: Env;
  readonly listenTls: TlsContext | null;
  readonly admin: ClusterAdmin;
  readonly tendLimits: TendLimits;
  readonly #options: MasterOptions;
  readonly #masterId: Buffer;
  readonly #listeners: Listener[] = [];
  readonly #guests = new Set<Guest>();
  /** Connections that are not guests yet. */
  #handshakes = 0;
  readonly #daemons = new Map<number, Guest>();
  readonly #listening = new Set<() => void>();
  #places: MasterPlaces = { listen: '', peer: '', http: '' };
  #election: Election | null = null;
  #presence: MasterPresence | null = null;
  #leadership: Leadership | null = null;
  #leader: ClusterLeader | null = null;
  #compactor: Compactor | null = null;
  #tender: GroupTender | null = null;
  #roster: Roster;
  readonly #patience: RemovalPatience;
  #traffic: TrafficRecorder;
  #encoded: { version: number; bytes: Buffer; map: StorageMap } | null = null;
  /** Why it leads nobody though it was elected. */
  #trouble: StoreError | null = null;
  #look: Timer | null = null;
  #isClosed = false;

  constructor(options: MasterOptions) {
    this.#options = options;
    this.env = options.env;
    this.listenTls = options.listenTls;
    this.tendLimits = { ...TEND_LIMITS, ...options.tend };
    this.#masterId = options.env.random.bytes(16);
    this.#roster = new Roster(options.env);
    this.#patience = new RemovalPatience(options.env.clock);
    this.#traffic = new TrafficRecorder(options.env);
    this.admin = new ClusterAdmin(this);
    this.#lookLater();
  }

  /** Begins to listen. @returns where one can connect @throws StoreError `E_SYSTEM` */
  async listen(address: ListenAddress, entrance: Entrance): Promise<ListenAddress> {
    const listener = await this.env.network.listen(address, (connection) => {
      void this.#accept(connection, entrance);
    });
    this.#listeners.push(listener);
    return listener.address;
  }

  /** Stands for election from now on. @param places - What to tell those who look for the leader. */
  stand(places: MasterPlaces): void {
    this.#places = places;
    const { env, store } = this.#options;
    this.#presence = new MasterPresence(env, store, this.#masterId.toString('hex'), places.listen);
    this.#election = new Election(this.env, this.#options.store, {
      address: JSON.stringify(places),
      ttlMs: this.#options.ttlMs,
      events: {
        won: (leadership) => void this.#won(leadership),
        lost: (leadership, reason) => this.#lost(leadership, reason),
        follows: (leader) => this.#follows(leader),
      },
    });
  }

  get isLeader(): boolean {
    return this.#leader !== null && this.#leadership?.isLeader() === true;
  }

  /** Why it cannot lead, for `status` and `/healthz`; null: it can. */
  get trouble(): StoreError | null {
    return this.#trouble;
  }

  /** It leads, or knows who does. */
  get isHealthy(): boolean {
    return this.isLeader || this.leaderPlaces() !== null;
  }

  get roster(): Roster {
    return this.#roster;
  }

  /** Where placement wants groups; null: this master does not lead. */
  get targets(): GroupTargets | null {
    return this.#tender?.targets ?? null;
  }

  get traffic(): TrafficRecorder {
    return this.#traffic;
  }

  /** All masters of the cluster. */
  get masters(): readonly MasterStatus[] {
    return this.#presence?.statuses() ?? [];
  }

  get places(): MasterPlaces {
    return this.#places;
  }

  get guestCount(): number {
    return this.#guests.size;
  }

  /** @throws StoreError `E_NOT_LEADER` */
  get leader(): ClusterLeader {
    this.needLeader();
    if (this.#leader === null) throw this.#notLeader();
    return this.#leader;
  }

  get state(): ClusterState {
    return this.leader.state;
  }

  needLeader(): void {
    if (!this.isLeader) throw this.#notLeader();
  }

  /** Where the leader is; null: nobody knows, or it is this one. */
  leaderPlaces(): MasterPlaces | null {
    const info = this.#election?.whoLeads() ?? null;
    if (info === null || this.#leadership !== null) return null;
    return placesOf(info);
  }

  /** Tells of anything that people are shown. */
  watch(listener: () => void): () => void {
    this.#listening.add(listener);
    return () => this.#listening.delete(listener);
  }

  checkWay(entrance: Entrance, peer: string, isTls: boolean): void {
    if (isTls || this.#options.insecure || isLoopbackPeer(peer)) return;
    const certificates =
      entrance === 'peer' ? '--peer-cert, --peer-key, --peer-ca-cert' : '--ca-cert';
    throw new StoreError(
      'E_DENIED',
      `This master speaks in the clear with programs on its own machine only; use TLS (${certificates})`,
    );
  }

  facts(entrance: Entrance): { clusterId: Buffer; masterId: Buffer; leader: string | null } {
    const id = this.#leader?.state.map.clusterId ?? '0'.repeat(32);
    const base = { clusterId: Buffer.from(id, 'hex'), masterId: this.#masterId };
    if (this.isLeader) return { ...base, leader: null };
    if (this.#trouble !== null) throw this.#notLeader();
    return { ...base, leader: this.leaderPlaces()?.[entrance] ?? '' };
  }

  withoutKey(peer: string, name: string): Principal {
    const { insecure } = this.#options;
    if (insecure || (this.listenTls === null && isLoopbackPeer(peer)))
      return { name: `${name} at ${peer}`, client: null, isAdmin: true };
    throw new StoreError(
      'E_DENIED',
      'This master wants to know who asks; give --client-key FILE, made with: store client create NAME (the first one lies in the --state-dir of the master: admin.key)',
    );
  }

  clientNamed(name: string): ClientRecord {
    const client = this.state.clients.get(name);
    if (client !== undefined) return client;
    throw new StoreError(
      'E_DENIED',
      `There is no client "${name}" (any more); an administrator can make one: store client create ${name}`,
    );
  }

  encodedMap(): { version: number; bytes: Buffer } {
    const { map } = this.state;
    if (this.#encoded?.map !== map)
      this.#encoded = { map, version: map.version, bytes: encodeMap(map) };
    return this.#encoded;
  }

  secretsFor(daemonId: number): JsonFields {
    const { serial, secrets, removedPools } = this.state;
    return {
      serial,
      secrets: [...secrets.values()].flat().map((secret) => secret.toText()),
      removed: [...removedPools]
        .filter(([, { daemons }]) => daemons.includes(daemonId))
        .map(([id]) => id),
    };
  }

  ticketFor({ client, name }: Principal, poolName: string): JsonFields {
    const { map, secrets } = this.state;
    const pool = map.pools.find((one) => one.name === poolName);
    if (pool === undefined)
      throw new StoreError(
        'E_NOT_FOUND',
        `There is no pool '${poolName}'; make it with: store pool create ${poolName}`,
      );
    // Of the record as it is now: rights may have changed since it came in.
    const now = client === null ? null : this.clientNamed(client.name);
    if (now !== null && now.generation !== client?.generation)
      throw new StoreError('E_DENIED', `The key of ${name} was changed; use the new one`);
    const rights = now === null ? 'rwa' : rightsOf(now, poolName);
    if (rights === null)
      throw new StoreError(
        'E_DENIED',
        `${name} may not use pool '${poolName}'; an administrator can allow it: store client set ${now?.name ?? ''} --rights ${poolName}=rw`,
      );
    const [secret] = secrets.get(pool.id) ?? [];
    if (secret === undefined)
      throw new StoreError('E_FORMAT', `The secret of pool '${poolName}' is missing`);
    const seconds = Math.floor(this.env.clock.wallSeconds());
    const fields = {
      client: now === null ? 'local' : ticketNameOf(now),
      rights,
      issued: Math.max(0, seconds - ISSUED_BEFORE_SECONDS),
      expires: seconds + TICKET_SECONDS,
    };
    const ticket = makeTicket(secret, fields, this.env.random);
    return { ticket: TicketFile.of(secret, ticket).toText() };
  }

  /** What a client may do can have changed since it was met. @throws StoreError `E_DENIED` */
  #asOfNow(principal: Principal): Principal {
    if (principal.client === null) return principal;
    const { name, generation } = principal.client;
    const client = this.clientNamed(name);
    if (client.generation !== generation)
      throw new StoreError('E_DENIED', `The key of client "${name}" was changed`);
    return { ...principal, client, isAdmin: client.isAdmin };
  }

  async administer(principal: Principal, fields: JsonFields): Promise<ControlMessage> {
    const result = await runAdminCommand(this.admin, this.#asOfNow(principal), fields);
    // It may be long: a map of a large cluster has megabytes.
    return { fields: {}, payload: Buffer.from(JSON.stringify(result ?? null)) };
  }

  async register(
    registration: DaemonRegistration,
    peer: string,
  ): Promise<{ daemonId: number; startId: string }> {
    const { map } = this.state;
    if (registration.clusterId === map.clusterId && registration.mapVersion > map.version)
      await this.#checkAge(registration);
    this.#refuseForgotten(registration);
    await this.#refuseTwins(registration, peer);
    const located = {
      ...registration,
      address: locate(registration.address, peer),
      peerAddress: registration.peerAddress === '' ? '' : locate(registration.peerAddress, peer),
    };
    const now = Math.floor(this.env.clock.wallSeconds());
    const daemon = await this.leader.decide((state) => {
      const decided = registerDaemon(state, located, now, aliveIn(this.#roster.view()));
      return { state: decided.state, result: decided.daemon };
    });
    return { daemonId: daemon.id, startId: registration.startId };
  }

  daemonArrived(connection: DaemonConnection, guest: Guest): void {
    const before = this.#daemons.get(connection.daemonId);
    this.#daemons.set(connection.daemonId, guest);
    this.#roster.arrived(connection);
    if (before !== undefined && before !== guest)
      before.channel.fail(new StoreError('E_CLOSED', 'The daemon has connected again'));
    this.env.log.info({ daemon: connection.daemonId, from: connection.peer }, 'A daemon is up');
    this.#tender?.look();
    this.#tell();
  }

  daemonLeft(connection: DaemonConnection, error: StoreError): void {
    const { daemonId } = connection;
    if (!this.#roster.left(connection)) return;
    this.#daemons.delete(daemonId);
    if (!this.#isClosed)
      this.env.log.warn({ daemon: daemonId }, `A daemon is down: ${error.message}`);
    this.#tell();
  }

  async reported(
    connection: DaemonConnection,
    report: DaemonReport,
    elapsedMs: number,
  ): Promise<void> {
    this.#roster.reported(connection, report, elapsedMs);
    this.#tell();
    for (const pool of report.emptied)
      if (this.state.removedPools.has(pool))
        await this.leader.decide((state) => ({
          state: poolRemoved(state, pool, connection.daemonId),
          result: null,
        }));
  }

  async decideGroup(connection: DaemonConnection, request: GroupRequest): Promise<number> {
    const isAlive = aliveIn(this.#roster.view());
    this.#patience.check(this.state, request, isAlive);
    await this.leader.decide((state) => ({
      state: decideGroupRequest(state, request, connection, isAlive),
      result: null,
    }));
    if (request.kind === 'joined') this.#tender?.joined();
    this.env.log.debug({ ...request, daemon: connection.daemonId }, 'A group has changed');
    return this.state.map.version;
  }

  /** Asks the daemons that are connected. @returns what each answers, or why it does not, by its id */
  async askDaemons(
    op: ControlOp,
    fields: JsonFields,
    {
      isMeant = () => true,
      deadlineMs = ASK_DAEMON_MS,
    }: { isMeant?: (daemon: number) => boolean; deadlineMs?: number } = {},
  ): Promise<Map<number, ControlMessage | StoreError>> {
    const asked = [...this.#daemons].filter(([id]) => isMeant(id));
    const answers = asked.map(async ([id, { channel }]) => {
      try {
        return [id, await channel.ask(op, fields, { deadlineMs })] as const;
      } catch (error) {
        if (error instanceof StoreError) return [id, error] as const;
        throw error;
      }
    });
    return new Map<number, ControlMessage | StoreError>(await Promise.all(answers));
  }

  defect(error: unknown): void {
    this.#options.defect(error);
  }

  /** Resigns, and lets everybody find another master. The store stays the caller's. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#look?.cancel();
    for (const listener of this.#listeners) await listener.close();
    await this.#election?.close();
    await this.#presence?.close();
    await this.#stopCompacting();
    this.#stopTending();
    const guests = [...this.#guests];
    const deadline = this.env.clock.now() + LEAVE_MS;
    while (guests.some(({ channel }) => channel.isAsked) && this.env.clock.now() < deadline)
      await this.env.timers.sleep(LEAVE_LOOK_MS);
    for (const { channel } of guests)
      channel.end(new StoreError('E_CLOSED', 'The master is stopping'));
    await Promise.all(guests.map(({ done }) => done));
  }

  async #accept(connection: Connection, entrance: Entrance): Promise<void> {
    if (this.#isClosed || this.#guests.size + this.#handshakes >= CONNECTIONS_MAX) {
      startDeaf(connection);
      connection.destroy();
      return;
    }
    const tls = entrance === 'peer' ? this.#options.peerTls : null;
    let secured: SecuredConnection;
    this.#handshakes += 1;
    try {
      secured = await securePeer(this.env, connection, tls);
    } catch (error) {
      this.env.log.warn({ peer: connection.peer }, `A daemon was refused: ${messageOf(error)}`);
      return;
    } finally {
      this.#handshakes -= 1;
    }
    const guest = new Guest(this, secured, entrance, tls !== null);
    this.#guests.add(guest);
    void guest.done.then(() => this.#guests.delete(guest));
  }

  async #won(leadership: Leadership): Promise<void> {
    for (const { channel } of [...this.#guests]) channel.end(this.#notLeader()); // those of an earlier term
    this.#leadership = leadership;
    this.#roster = new Roster(this.env);
    while (leadership.isLeader() && this.#leadership === leadership && !this.#isClosed)
      try {
        const { store, begin } = this.#options;
        const changed = (state: ClusterState): void => this.#changed(state);
        const leader = await ClusterLeader.take({
          env: this.env,
          store,
          leadership,
          begin,
          changed,
        });
        if (!leadership.isLeader()) return;
        this.#leader = leader;
        this.#compactor = new Compactor(this.env, store);
        this.#tender = new GroupTender({
          env: this.env,
          leader,
          view: this.#roster.view(),
          limits: this.tendLimits,
          defect: (error) => this.defect(error),
        });
        this.#trouble = null;
        this.#rateSent = leader.state.recoveryRate; // who registers hears it
        this.#changed(leader.state);
        this.env.log.info(
          { cluster: leader.state.map.clusterId, map: leader.state.map.version },
          'This master leads',
        );
        return;
      } catch (error) {
        if (!(error instanceof StoreError)) {
          this.defect(error);
          return;
        }
        if (!leadership.isLeader()) return;
        if (this.#trouble?.message !== error.message)
          this.env.log.error({ code: error.code }, `This master cannot lead: ${error.message}`);
        this.#trouble = error;
        await this.env.timers.sleep(error.retry === 'never' ? RETRY_MS : RETRY_SOON_MS);
      }
  }

  #lost(leadership: Leadership, reason: string): void {
    if (this.#leadership !== leadership) return;
    this.#leadership = null;
    this.#leader = null;
    this.#stopTending();
    this.#trouble = null; // that of the next leader is its own
    void this.#stopCompacting();
    if (!this.#isClosed) this.env.log.warn({}, `This master does not lead any more: ${reason}`);
    this.#sendAway();
    this.#tell();
  }

  #follows(leader: LeaderInfo | null): void {
    if (leader !== null)
      this.env.log.info({ leader: placesOf(leader)?.listen }, 'Another master leads');
  }

  #stopTending(): void {
    this.#tender?.stop();
    this.#tender = null;
  }

  async #stopCompacting(): Promise<void> {
    const compactor = this.#compactor;
    this.#compactor = null;
    await compactor?.close();
  }

  /** @throws StoreError `E_FORMAT` if a daemon has seen more than the state knows */
  async #checkAge({ address, mapVersion }: DaemonRegistration): Promise<void> {
    // What was read may have been out of date. A decision is stored only if it was made from what is there.
    await this.leader.decide((state) => ({ state: { ...state }, result: null }));
    const { version } = this.state.map;
    if (mapVersion > version)
      this.#standDown(
        new StoreError(
          'E_FORMAT',
          `Daemon ${address} has seen map ${mapVersion} of this cluster, and the state of this master is at ${version}: it is an old copy. This master decides nothing more; see store master recover --help`,
        ),
      );
  }

  /** @throws StoreError `E_DENIED` if the daemon knows what a recovery did not: it would be overwritten unseen */
  #refuseForgotten({ address, clusterId, mapVersion }: DaemonRegistration): void {
    const { recoveredFrom, map } = this.state;
    const isForgotten = mapVersion > recoveredFrom && mapVersion < recoveredFrom + JUMP;
    if (recoveredFrom === 0 || clusterId !== map.clusterId || !isForgotten) return;
    throw new StoreError(
      'E_DENIED',
      `Daemon ${address} has seen map ${mapVersion}, and this state was recovered from map ${recoveredFrom}: it knows of groups that the recovery did not. Stop the masters and run store master recover again, with this daemon running`,
    );
  }

  /** A state that is older than what daemons have seen must decide nothing. */
  #standDown(error: StoreError): never {
    this.#trouble = error;
    this.#leader = null;
    this.#stopTending();
    this.env.log.error({}, error.message);
    this.#sendAway();
    throw error;
  }

  /** Everybody looks for the leader anew: who asks something at once, the others in a moment. */
  #sendAway(): void {
    const guests = [...this.#guests];
    this.env.timers.after(LEAVE_MS, () => {
      for (const { channel } of guests) channel.end(this.#notLeader());
    });
  }

  /** @throws StoreError `E_IN_USE` if a daemon with the same disk, but of another start, is alive */
  async #refuseTwins({ diskId, startId }: DaemonRegistration, peer: string): Promise<void> {
    const known = this.state.map.daemons.find((daemon) => daemon.diskId === diskId);
    const twin = known === undefined ? undefined : this.#daemons.get(known.id);
    if (known !== undefined && known.startId !== startId && twin === undefined)
      this.#waitForOriginal(diskId);
    if (twin === undefined || twin.daemon?.startId === startId) return;
    try {
      await twin.channel.ask(CONTROL.ping, {}, { deadlineMs: SAME_DISK_MS });
    } catch {
      if (!twin.channel.isOpen) return; // the old one is gone, and nobody had noticed yet
      throw new StoreError(
        'E_BUSY',
        `Disk ${diskId} was served from ${twin.channel.peer} a moment ago; this one is taken as soon as that one is certainly gone`,
      );
    }
    throw new StoreError(
      'E_IN_USE',
      `Disk ${diskId} is served by another daemon already, at ${twin.channel.peer} (this one is at ${peer}): one of the two has a copy of the other's folder. Stop one of them, and keep its folder away`,
    );
  }

  /** A new leader does not know yet who is alive: a copy of a folder must not be quicker than the original. */
  #waitForOriginal(diskId: string): void {
    if (this.#roster.lookedForMs >= ORIGINAL_MS) return;
    throw new StoreError(
      'E_BUSY',
      `This master has just begun to lead, and waits whether the start of disk ${diskId} that it knows comes back`,
    );
  }

  #changed(state: ClusterState): void {
    if (!this.isLeader) return;
    this.#sendRate(state);
    for (const guest of this.#guests) {
      guest.sendMap();
      const client = guest.principal?.client ?? null;
      if (client !== null && state.clients.get(client.name)?.generation !== client.generation)
        this.#dismiss(guest, client.name);
    }
    if (this.#secretsSent !== state.secrets || this.#removedSent !== state.removedPools) {
      this.#secretsSent = state.secrets;
      this.#removedSent = state.removedPools;
      for (const guest of this.#daemons.values()) guest.sendSecrets();
    }
    this.#tell();
  }

  /** Also when it is only found later that a change of it was stored. Who does not answer registers again, and hears it then. */
  #sendRate({ recoveryRate: bytesPerSecond }: ClusterState): void {
    if (this.#rateSent === bytesPerSecond) return;
    this.#rateSent = bytesPerSecond;
    this.askDaemons(CONTROL.recovery, { bytesPerSecond }).catch((error: unknown) =>
      this.defect(error),
    );
  }

  /** In a later turn: who changed its own key gets the new one first. */
  #dismiss({ channel }: Guest, client: string): void {
    const error = new StoreError(
      'E_DENIED',
      `The key of client "${client}" was changed or removed`,
    );
    this.env.timers.after(0, () => channel.end(error));
  }

  #secretsSent: unknown = null;
  /** How fast daemons were told to make copies equal. */
  #rateSent = 0;
  #removedSent: unknown = null;

  #tell(): void {
    for (const listener of [...this.#listening]) listener();
  }

  #lookLater(): void {
    this.#look = this.env.timers.after(LOOK_MS, () => {
      if (this.#isClosed) return;
      if (this.#traffic.look(() => sumOf(this.#roster.traffics))) this.#tell();
      if (this.isLeader) this.#prune();
      this.#tender?.look();
      this.#lookLater();
    });
  }

  #prune(): void {
    const leader = this.#leader;
    const now = Math.floor(this.env.clock.wallSeconds());
    if (leader === null || pruneBlocked(leader.state, now) === leader.state) return;
    leader
      .decide((state) => ({ state: pruneBlocked(state, now), result: null }))
      .catch((error: unknown) =>
        this.env.log.warn({}, `Old blocks were not removed: ${messageOf(error)}`),
      );
  }

  #notLeader(): StoreError {
    if (this.#trouble !== null)
      return new StoreError('E_NOT_LEADER', `This master cannot lead: ${this.#trouble.message}`);
    const where = this.leaderPlaces()?.listen ?? '';
    return new StoreError(
      'E_NOT_LEADER',
      where === '' ? 'No master leads just now' : `The master at ${where} leads, not this one`,
    );
  }
}

function placesOf({ address }: LeaderInfo): MasterPlaces | null {
  try {
    const { listen, peer, http } = JSON.parse(address) as Partial<MasterPlaces>; // a master's own words
    return { listen: listen ?? '', peer: peer ?? '', http: http ?? '' };
  } catch {
    return null; // somebody leads who is no master of this release
  }
}

/** `0.0.0.0:4148` of who comes from 10.0.0.7 is `10.0.0.7:4148`. */
function locate(address: string, peer: string): string {
  const match = /^(?:0\.0\.0\.0|\[::\]):(\d+)$/.exec(address);
  if (match === null) return address;
  const host = hostOfPeer(peer);
  return `${host.includes(':') ? `[${host}]` : host}:${match[1] ?? ''}`;
}
