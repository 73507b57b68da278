/**
 * A daemon's part in its cluster: registers with the master that leads, again whenever the connection was lost, takes the
 * maps and secrets that are pushed to it, and reports how it is. It goes on with what it has while no master answers.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  Blocklist,
  CONTROL,
  contradiction,
  decodeCopyRequest,
  decodeLayerNamesRequest,
  decodeLinks,
  decodeMap,
  decodeScrubRequest,
  encodeCopyContents,
  encodeDaemonScrub,
  encodeGroupRequest,
  encodeLayerNames,
  encodeLinks,
  encodeMap,
  encodeReport,
  isNewer,
  MapView,
  MAP_BYTES_MAX,
  MasterLink,
  messageOf,
  NO_ANSWER,
  numberIn,
  REPORTED_POOLS_MAX,
  saying,
  PoolSecret,
  SecretRing,
  StoreError,
  textIn,
  type ControlChannel,
  type ControlMessage,
  type ControlOp,
  type CopyContents,
  type CopyRequest,
  type DaemonRegistration,
  type DaemonReport,
  type DaemonScrub,
  type Disk,
  type Env,
  type GroupRequest,
  type LayerNamesRequest,
  type MasterAddress,
  type ScrubRequest,
  type StorageMap,
  type Timer,
  type TlsClientContext,
} from '@store/core';
import { rangeOf } from '../replication/join.js';
import type { PoolWork } from '../replication/pool-work.js';
import type { ServedStore } from '../server/open-pools.js';
import { engineNameOf, type MapSource } from './clustered-store.js';
import { copyContents } from './copy-contents.js';
import { GroupReports } from './group-reports.js';
import { MembershipFiles, type Membership } from './membership-files.js';
import { canListRanges, PoolMeter } from './pool-meter.js';

/** The engine, and what else a member needs of it. */
export interface MemberStore extends ServedStore {
  readonly diskId: Buffer;
  readonly startId: Buffer;
  /** Another one after each loss of what was answered and not flushed. */
  readonly lineage: Buffer;
  readonly lostUnflushed: boolean;
  clearPool(name: string): Promise<number>;
}

/** How much the server does, and the disk has. */
export type MemberCounts = Pick<
  DaemonReport,
  | 'capacityBytes'
  | 'freeBytes'
  | 'reads'
  | 'writes'
  | 'readBytes'
  | 'writeBytes'
  | 'readMs'
  | 'writeMs'
>;

/** What masters want to know of the copies that this daemon leads, and have done about them. */
export interface MemberCopies {
  /** Daemons that this one has a link with. */
  readonly reached: readonly number[];
  scrubIs(request: ScrubRequest): DaemonScrub;
  /** @param bytesPerSecond - 0: by what clients feel */
  recoverAt(bytesPerSecond: number): void;
}

export interface ClusterMemberOptions {
  readonly env: Env;
  readonly disk: Disk;
  readonly store: MemberStore;
  /** Where masters listen for daemons. */
  readonly masters: readonly MasterAddress[];
  readonly tls: TlsClientContext | null;
  readonly labels: { readonly host: string; readonly rack: string };
  readonly counts: () => MemberCounts;
  /** The copies of its groups on other daemons; without it there are none. */
  readonly copies?: MemberCopies;
  /** Who may come in has changed. */
  readonly admits: (who: { secrets: SecretRing; blocklist: Blocklist }) => void;
  /** There is a newer map. */
  readonly mapIs?: (view: MapView) => void;
  /** What replication does, for reports; without it this daemon has the only copy of what it has. */
  readonly replication?: () => MemberReplication;
  readonly defect: (error: unknown) => void;
}

/** What a member's replication says of itself. */
export interface MemberReplication {
  /** Of each pool of which it leads groups. */
  readonly work: readonly PoolWork[];
  /** The disk takes nothing new. */
  readonly isFull: boolean;
}

/** Where this daemon can be reached. */
export interface MemberPlaces {
  readonly address: string;
  /** Empty: nowhere. */
  readonly peerAddress: string;
}

const REPORT_MS = 2000;
/** After it has registered: a master that has just begun to lead knows nothing of how full disks are. */
const FIRST_REPORT_MS = 50;
/** A decision about a group; asked for again if it is still wanted. */
const GROUP_MS = 4000;
const REGISTER_MS = 20_000;
/** A master is asked for a newer map so often at most, whatever clients say. */
const ASK_MAP_MS = 200;
const NOT_JOINED = 0;

export class ClusterMember implements MapSource {
  readonly #options: ClusterMemberOptions;
  readonly #files: MembershipFiles;
  readonly #meter: PoolMeter;
  readonly #groupReports: GroupReports;
  #membership: Membership | null;
  #view: MapView | null;
  #link: MasterLink | null = null;
  #reportTimer: Timer | null = null;
  #removed: readonly number[] = [];
  #emptied = new Set<number>();
  /** Of the state of this master that the secrets are from. */
  #secretsSerial = -1;
  #isClearing = false;
  #isAskingMap = false;
  /** Not before. */
  #askMapAt = 0;
  #isClosed = false;
  #whenServing: (() => void)[] = [];
  #refused: ((error: StoreError) => void)[] = [];
  /** Why the master refused this daemon the last time; said once. */
  #refusal = '';
  /** Times that a master has said how fast copies are to be made equal. */
  #ratesHeard = 0;

  /** @throws StoreError `E_FORMAT` if what the folder says of its cluster is damaged */
  constructor(options: ClusterMemberOptions) {
    this.#options = options;
    this.#files = new MembershipFiles(options.disk, options.env.log);
    this.#meter = new PoolMeter(options.env, options.store, (pool) => this.#ledGroups(pool));
    this.#groupReports = new GroupReports(options.env.clock);
    this.#membership = this.#files.read();
    const map = this.#membership === null ? null : this.#files.readMap();
    const isOurs = map !== null && map.clusterId === this.#membership?.clusterId;
    this.#view = isOurs ? new MapView(map) : null;
  }

  get view(): MapView | null {
    return this.#view;
  }

  get daemonId(): number {
    return this.#membership?.daemonId ?? NOT_JOINED;
  }

  knowsPool(name: string): boolean {
    return this.#membership?.secrets.some(({ pool }) => pool === name) === true;
  }

  wantMap(epochSeen: number): void {
    const { env, defect } = this.#options;
    const now = env.clock.now();
    // Who says so may be wrong, or lie.
    if (this.#isAskingMap || now < this.#askMapAt || this.#link?.isUp !== true) return;
    this.#isAskingMap = true;
    this.#askMapAt = now + ASK_MAP_MS;
    this.#askMap(this.#link)
      .catch((error: unknown) => {
        if (!(error instanceof StoreError)) defect(error);
        const text = `No newer map, though a client has one (epoch ${epochSeen}): ${messageOf(error)}`;
        env.log.debug({}, text);
      })
      .finally(() => (this.#isAskingMap = false));
  }

  /** Asks the masters for a decision about a group. @throws StoreError what they answer, or why they do not */
  async askAboutGroup(request: GroupRequest): Promise<void> {
    const link = this.#link;
    if (link?.isUp !== true)
      throw new StoreError('E_UNREACHABLE', 'No master can be asked just now');
    const ask = { deadlineMs: GROUP_MS, repeats: true };
    await link.ask(CONTROL.group, encodeGroupRequest(request), ask);
  }

  /** A map that another daemon has; what is wrong with it is in the log. */
  takeMap(bytes: Buffer): void {
    try {
      if (!this.#isClosed && this.#membership !== null) this.#takeMap(bytes);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#options.env.log.debug({}, `A map of another daemon was not taken: ${error.message}`);
    }
  }

  get isConnected(): boolean {
    return this.#link?.isUp === true;
  }

  /** Begins to look for a master. Until one was found, what the folder keeps is served. */
  join(places: MemberPlaces): void {
    this.#admit();
    const { env, masters, tls, defect } = this.#options;
    this.#link = new MasterLink({
      env,
      masters,
      entrance: 'peer',
      tls,
      name: 'store file-store',
      key: null,
      payloadMax: MAP_BYTES_MAX,
      events: {
        met: (channel) => this.#register(channel, places),
        asked: (op, message) => this.#asked(op, message),
        lost: (error) => env.log.warn({ code: error.code }, `No master: ${error.message}`),
        defect,
      },
    });
    this.#reportLater();
  }

  /**
   * Resolves when there is a map to serve by.
   * @throws StoreError if a master refuses this daemon and nothing was ever served: another cluster's folder
   */
  serving(): Promise<void> {
    if (this.#view !== null) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#whenServing.push(resolve);
      this.#refused.push(reject);
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#reportTimer?.cancel();
    this.#link?.close();
  }

  async #register(channel: ControlChannel, places: MemberPlaces): Promise<void> {
    const { store, counts, labels, env } = this.#options;
    const registration: DaemonRegistration = {
      clusterId: this.#membership?.clusterId ?? '',
      diskId: store.diskId.toString('hex'),
      startId: store.startId.toString('hex'),
      ...places,
      ...labels,
      capacityBytes: counts().capacityBytes,
      lostUnflushed: this.#hasLost(),
      mapVersion: this.#view?.map.version ?? 0,
    };
    const ratesBefore = this.#ratesHeard;
    let answer: ControlMessage;
    try {
      answer = await channel.ask(
        CONTROL.register,
        { ...registration },
        { deadlineMs: REGISTER_MS },
      );
    } catch (error) {
      if (error instanceof StoreError && error.retry === 'never') {
        if (error.message !== this.#refusal)
          env.log.error({ code: error.code }, `The master refuses this daemon: ${error.message}`);
        this.#refusal = error.message;
        for (const refuse of this.#refused.splice(0)) refuse(error);
      }
      throw error;
    }
    const clusterId = textIn(answer.fields, 'clusterId', 32);
    const daemonId = numberIn(answer.fields, 'daemonId', 2 ** 32 - 1);
    // What comes right behind the answer is newer, and may have been taken before the answer is.
    if (answer.fields['recoveryRate'] !== undefined && this.#ratesHeard === ratesBefore) {
      const rate = numberIn(answer.fields, 'recoveryRate', Number.MAX_SAFE_INTEGER);
      this.#options.copies?.recoverAt(rate);
    }
    const lineage = store.lineage.toString('hex');
    const { secrets, ...known } = this.#membership ?? { secrets: [] };
    if (!isDeepStrictEqual(known, { clusterId, daemonId, lineage })) {
      this.#membership = { clusterId, daemonId, secrets, lineage };
      this.#files.write(this.#membership);
    }
    // From now on the master sends what changes; what is there already is asked for. The two may cross.
    this.#secretsSerial = -1;
    this.#takeSecrets((await channel.ask(CONTROL.secrets, {})).payload);
    const { payload } = await channel.ask(CONTROL.map, { after: this.#view?.map.version ?? 0 });
    if (payload.length > 0) this.#takeMap(payload);
    this.#refusal = '';
    this.#reportLater(FIRST_REPORT_MS);
    env.log.info(
      { daemon: daemonId, cluster: clusterId },
      `Registered with ${channel.name.replace(/^The/, 'the')}`,
    );
  }

  /**
   * Whether something was lost that no master has heard of. The start that lost it may have met none, and have ended: so
   * lineages are compared.
   */
  #hasLost(): boolean {
    const { lineage, lostUnflushed } = this.#options.store;
    const { lineage: known = '' } = this.#membership ?? {};
    return known === '' ? lostUnflushed : known !== lineage.toString('hex');
  }

  async #asked(op: ControlOp, { fields, payload }: ControlMessage): Promise<ControlMessage> {
    switch (op) {
      case CONTROL.map:
        this.#takeMap(payload);
        return NO_ANSWER;
      case CONTROL.secrets:
        this.#takeSecrets(payload);
        return NO_ANSWER;
      case CONTROL.keptMap: {
        const map = this.#files.readMap();
        const secrets = this.#membership?.secrets.map((secret) => secret.toText()) ?? [];
        const bytes = map === null ? Buffer.alloc(0) : encodeMap(map);
        const payload = Buffer.concat([bytes, Buffer.from(JSON.stringify(secrets))]);
        return Promise.resolve({ fields: { mapBytes: bytes.length }, payload });
      }
      case CONTROL.scrub:
        return saying(encodeDaemonScrub(this.#copies.scrubIs(decodeScrubRequest(fields))));
      case CONTROL.copy:
        return saying(encodeCopyContents(await this.#contentsOf(decodeCopyRequest(fields))));
      case CONTROL.links: {
        const links = new Set(this.#copies.reached);
        return saying(encodeLinks(decodeLinks(fields).filter((daemon) => links.has(daemon))));
      }
      case CONTROL.layerNames:
        return saying(encodeLayerNames(await this.#namesOf(decodeLayerNamesRequest(fields))));
      case CONTROL.recovery:
        this.#ratesHeard += 1;
        this.#copies.recoverAt(numberIn(fields, 'bytesPerSecond', Number.MAX_SAFE_INTEGER));
        return NO_ANSWER;
      default:
        throw new StoreError('E_BAD_FRAME', `A daemon is not asked for operation ${op}`);
    }
  }

  async #contentsOf({ pool: id, group }: CopyRequest): Promise<CopyContents> {
    const { store, env } = this.#options;
    const mapPool = this.#view?.poolById(id);
    if (this.#view === null || mapPool === undefined || group >= mapPool.groups.length)
      throw new StoreError('E_NOT_FOUND', `This daemon knows no group ${group} of pool ${id}`);
    const name = engineNameOf(this.#view.map.clusterId, id);
    const pool = await store.openPool(name, { create: false });
    if (!canListRanges(pool)) throw new StoreError('E_INVALID', 'This daemon keeps no copies');
    return copyContents(pool, rangeOf(mapPool, group), env);
  }

  async #namesOf(request: LayerNamesRequest): Promise<Map<string, string>> {
    return this.#view === null ? new Map() : this.#meter.namesOf(this.#view, request);
  }

  get #copies(): MemberCopies {
    const { copies } = this.#options;
    if (copies === undefined) throw new StoreError('E_INVALID', 'This daemon keeps no copies');
    return copies;
  }

  async #askMap(link: MasterLink): Promise<void> {
    const ask = { deadlineMs: REPORT_MS, repeats: true };
    const after = this.#view?.map.version ?? 0;
    const { payload } = await link.ask(CONTROL.map, { after }, ask);
    if (payload.length > 0 && !this.#isClosed) this.#takeMap(payload);
  }

  /** A map that is damaged, of another cluster or older changes nothing, and the master hears why. */
  #takeMap(bytes: Buffer): void {
    const { env } = this.#options;
    const { clusterId } = this.#membership ?? { clusterId: '' };
    let map: StorageMap;
    try {
      map = decodeMap(bytes);
      if (map.clusterId !== clusterId)
        throw new StoreError(
          'E_DENIED',
          `The map is of cluster ${map.clusterId}, not ${clusterId}`,
        );
    } catch (error) {
      env.log.error(
        {},
        `A map from the master was refused, the old one stays: ${messageOf(error)}`,
      );
      throw error;
    }
    if (this.#view !== null && !isNewer(map, this.#view.map)) {
      if (map.version === this.#view.map.version) return;
      throw new StoreError(
        'E_STALE_MAP',
        `This daemon has map ${this.#view.map.version}, newer than ${map.version}`,
      );
    }
    const problem = this.#view === null ? null : contradiction(this.#view.map, map);
    if (problem !== null) {
      const text = `A map from the master was refused, as it contradicts the one that is here: ${problem}. The state of the masters was set back; see store master recover --help`;
      env.log.error({ version: map.version }, text);
      throw new StoreError('E_VERSION', text);
    }
    // Kept before it counts: a daemon that starts again never goes back behind what it has acted on.
    this.#files.writeMap(map);
    this.#view = new MapView(map);
    env.log.debug({ version: map.version }, 'A new map');
    this.#admit();
    this.#options.mapIs?.(this.#view);
    for (const serve of this.#whenServing.splice(0)) serve();
  }

  #takeSecrets(payload: Buffer): void {
    const membership = this.#membership;
    if (membership === null) throw new StoreError('E_BAD_FRAME', 'Secrets come after registration');
    const { serial, secrets, removed } = secretsIn(payload);
    if (serial < this.#secretsSerial) return;
    this.#secretsSerial = serial;
    const text = (list: readonly PoolSecret[]): string =>
      list.map((secret) => secret.toText()).join('');
    if (text(secrets) !== text(membership.secrets)) {
      this.#membership = { ...membership, secrets };
      this.#files.write(this.#membership);
    }
    this.#removed = removed;
    this.#admit();
    void this.#clear();
  }

  /** Tickets of all pools of the cluster, less those that are blocked. */
  #admit(): void {
    const { blockedClients = [], blockedTickets = [] } = this.#view?.map ?? {};
    this.#options.admits({
      secrets: new SecretRing(this.#membership?.secrets ?? [], { areHandedOut: true }),
      blocklist: new Blocklist(blockedTickets, blockedClients),
    });
  }

  /** Removes what the master says is no more, one pool after the other. */
  async #clear(): Promise<void> {
    const { store, env, defect } = this.#options;
    if (this.#isClearing) return;
    this.#isClearing = true;
    for (const id of this.#removed) {
      if (this.#isClosed || this.#emptied.has(id)) continue;
      try {
        // The map that no longer has it must be here first: nobody writes to it any more then.
        if (this.#view === null || this.#view.poolById(id) !== undefined) continue;
        const name = engineNameOf(this.#view.map.clusterId, id);
        const present = (await store.listPools()).includes(name);
        const count = present ? await store.clearPool(name) : 0;
        env.log.info({ pool: id, objects: count }, 'The objects of a removed pool are gone');
        this.#emptied.add(id);
      } catch (error) {
        if (!(error instanceof StoreError)) defect(error);
        env.log.warn({ pool: id }, `A removed pool is not empty yet: ${messageOf(error)}`);
      }
    }
    this.#isClearing = false;
  }

  #reportLater(ms = REPORT_MS): void {
    this.#reportTimer?.cancel();
    this.#reportTimer = this.#options.env.timers.after(ms, () => {
      if (this.#isClosed) return;
      if (this.#view !== null) this.#meter.look(this.#view);
      if (this.#removed.length > 0) void this.#clear();
      void this.#report().finally(() => this.#reportLater());
    });
  }

  #ledGroups(pool: number): ReadonlySet<number> | null {
    const { replication } = this.#options;
    if (replication === undefined) return null;
    return replication().work.find((work) => work.pool === pool)?.led ?? new Set();
  }

  async #report(): Promise<void> {
    const link = this.#link;
    if (link?.isUp !== true) return;
    const replication = this.#options.replication?.();
    const report: DaemonReport = {
      ...this.#options.counts(),
      mapVersion: this.#view?.map.version ?? 0,
      pools: this.#meter.pools,
      images: this.#meter.images,
      emptied: [...this.#emptied]
        .filter((id) => this.#removed.includes(id))
        .slice(0, REPORTED_POOLS_MAX),
      groups: this.#groupReports.next(replication?.work ?? [], this.#meter.pools),
      isFull: replication?.isFull ?? false,
    };
    try {
      await link.ask(CONTROL.report, encodeReport(report), {
        deadlineMs: REPORT_MS,
        repeats: true,
      });
    } catch (error) {
      if (!(error instanceof StoreError)) this.#options.defect(error);
      this.#options.env.log.debug({}, `A report was not taken: ${messageOf(error)}`);
    }
  }
}

/** @throws StoreError `E_BAD_FRAME` if it is not what masters send */
function secretsIn(payload: Buffer): {
  serial: number;
  secrets: PoolSecret[];
  removed: number[];
} {
  try {
    const document = JSON.parse(payload.toString()) as Record<string, unknown>;
    const { serial, secrets, removed } = document;
    if (!Number.isInteger(serial)) throw new Error('a number is missing');
    if (!Array.isArray(secrets) || !Array.isArray(removed)) throw new Error('a list is missing');
    const [texts, ids] = [secrets as unknown[], removed as unknown[]];
    if (!ids.every((id) => Number.isInteger(id))) throw new Error('no numbers of pools');
    return {
      serial: Number(serial),
      secrets: texts.map((text) => PoolSecret.parse('secrets of the master', String(text))),
      removed: ids.map(Number),
    };
  } catch (error) {
    throw new StoreError(
      'E_BAD_FRAME',
      `Secrets from the master cannot be used: ${messageOf(error)}`,
    );
  }
}
