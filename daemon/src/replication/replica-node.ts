/**
 * The replication of one daemon: all groups that it is a member of, its leases, the joins it drives, and its flushes.
 * Synchronous: it is told what happens (a map, a message, a link, time), and does what follows from it before it returns.
 */
import {
  BLOCKS_PER_OBJECT,
  FINDINGS_TOLD_MAX,
  groupOf,
  StoreError,
  type DaemonScrub,
  type Done,
  type GroupRequestKind,
  type LocatorHash,
  type MapPool,
  type MapView,
  type ScrubRequest,
  type Timer,
} from '@store/core';
import type { Change, ObjectPlace } from './change.js';
import { FailoverNotes } from './failover-notes.js';
import { Flushes } from './flushes.js';
import type { GroupHost, StartOf } from './group-host.js';
import { Group } from './group.js';
import type { GroupPrimary } from './group-primary.js';
import { Joins } from './joins.js';
import { Leases } from './leases.js';
import { Leftovers } from './leftovers.js';
import { PeerAnswers } from './peer-answers.js';
import type { GroupEpoch, PeerMessage } from './peer-message.js';
import { PeerQuestions } from './peer-questions.js';
import type { ReplicationPorts } from './ports.js';
import { areGoodNowhere, mendBlocks, type AskNowhere, type Mend } from './read-repair.js';
import { ReplicatedPool } from './replicated-pool.js';
import type { ReplicaPool } from './replica-pool.js';
import { Scrub, SCRUB_PERIODS, type ScrubPeriods } from './scrub.js';
import { checkTiming, REPLICATION_TIMING, type ReplicationTiming } from './timing.js';

/** What may be set. */
export interface ReplicationOptions {
  readonly timing?: ReplicationTiming;
  readonly scrubPeriods?: ScrubPeriods;
  /** So long what has moved away is kept, milliseconds. */
  readonly keepMs?: number;
}

const LEAVE_LOOK_MS = 20;
/** A map is asked for so often at most. */
const WANT_MAP_MS = 100;

export class ReplicaNode implements GroupHost {
  readonly timing: ReplicationTiming;
  readonly leases: Leases;
  readonly joins: Joins;
  readonly scrub: Scrub;
  readonly leftovers: Leftovers;
  readonly questions: PeerQuestions;
  readonly mend: Mend = (primary, store, object, done) =>
    mendBlocks(this, primary, store, object, { first: 0, last: BLOCKS_PER_OBJECT }, done);
  readonly areGoodNowhere: AskNowhere = (primary, store, object, range, done) =>
    areGoodNowhere(this, primary, store, object, range, done);
  readonly #ports: ReplicationPorts;
  readonly #flushes: Flushes;
  readonly #answers: PeerAnswers;
  readonly #failoverNotes: FailoverNotes;
  /** By pool, then by number; those this daemon is a member of, and some that it was. */
  readonly #groups = new Map<number, (Group | undefined)[]>();
  readonly #pools = new Map<number, ReplicatedPool>();
  readonly #announcing = new WeakSet<ReplicaPool>();
  /** Starts that there are links to. */
  readonly #up = new Map<number, string>();
  #view: MapView | null = null;
  #mapWantedAt = -Infinity;
  #heartbeatAt = -Infinity;
  #timer: Timer | null = null;
  #isLeaving = false;
  /** Starts of others that have said that they stop. */
  readonly #stopping = new Map<number, string>();
  /** Starts of others that do without this one, since it stops. */
  readonly #doneWithout = new Map<number, { startId: string; mapVersion: number }>();
  #isClosed = false;

  constructor(ports: ReplicationPorts, options: ReplicationOptions = {}) {
    const { timing = REPLICATION_TIMING, scrubPeriods = SCRUB_PERIODS, keepMs } = options;
    checkTiming(timing);
    this.#ports = ports;
    this.timing = timing;
    this.leases = new Leases(timing);
    // Of all that is asked of others: flushes and joins both ask them to make durable what they have.
    let lastId = 0;
    const nextId = (): number => (lastId += 1);
    this.questions = new PeerQuestions(
      (daemon, message) => this.send(daemon, message),
      () => this.now,
      nextId,
    );
    const { mend } = this;
    this.joins = new Joins(this, this.questions, mend);
    this.#flushes = new Flushes({
      get now() {
        return ports.clock.now();
      },
      send: (daemon, message) => this.send(daemon, message),
      flushHere: (pool, done) => this.#flushHere(pool, done),
      nextId,
    });
    this.#answers = new PeerAnswers(this);
    this.#failoverNotes = new FailoverNotes(ports.log);
    this.leftovers = new Leftovers(this, keepMs);
    this.scrub = new Scrub({
      ...{ host: this, questions: this.questions },
      notes: ports.scrubNotes,
      periods: scrubPeriods,
      wallSeconds: () => ports.clock.wallSeconds(),
      random: () => ports.random.bytes(4).readUInt32LE() / 2 ** 32,
      after: (ms, run) => this.#after(ms, run),
      mend,
    });
    this.#tickLater();
  }

  get now(): number {
    return this.#ports.clock.now();
  }

  get self(): StartOf {
    return { daemon: this.#ports.daemonId, startId: this.#ports.startId };
  }

  /** Has groups that this daemon leads looked through, or only says how that stands. */
  scrubIs({ kind, pool }: ScrubRequest): DaemonScrub {
    const { scrub } = this;
    let begun = 0;
    if (kind !== 'status') {
      const groups = [...this.groups()].filter((group) => pool === 0 || group.pool === pool);
      begun = scrub.start(groups, kind);
    }
    return {
      startId: this.#ports.startId,
      running: scrub.running,
      wanted: scrub.wantedCount,
      begun,
      found: { ...scrub.found },
      findings: scrub.findings
        .filter((finding) => pool === 0 || finding.pool === pool)
        .slice(-FINDINGS_TOLD_MAX),
    };
  }

  /** Daemons that it has a link with. */
  get reached(): readonly number[] {
    return [...this.#up.keys()];
  }

  /** How fast copies are made equal. @param bytesPerSecond - 0: by what clients feel */
  recoverAt(bytesPerSecond: number): void {
    this.joins.pace.wanted = bytesPerSecond;
  }

  get log(): ReplicationPorts['log'] {
    return this.#ports.log;
  }

  get mapVersion(): number {
    return this.#view?.map.version ?? 0;
  }

  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  get canAsk(): boolean {
    return this.#ports.masters.isUp;
  }

  /** The disk takes nothing new. */
  get isFull(): boolean {
    for (const pool of this.#groups.keys())
      if (this.#ports.poolOf(pool)?.isFull === true) return true;
    return false;
  }

  poolOf(pool: number): MapPool | undefined {
    return this.#view?.poolById(pool);
  }

  storeOf(pool: number): ReplicaPool | null {
    const store = this.#ports.poolOf(pool);
    if (store !== null && !this.#announcing.has(store)) {
      this.#announcing.add(store);
      this.#listenTo(pool, store);
    }
    return store;
  }

  startOf(daemon: number): string | null {
    return this.#view?.daemonById(daemon)?.startId ?? null;
  }

  isUp(daemon: number, startId: string): boolean {
    return this.#up.get(daemon) === startId;
  }

  isStopping(daemon: number, startId: string): boolean {
    return this.#stopping.get(daemon) === startId;
  }

  send(daemon: number, message: PeerMessage): void {
    if (!this.#isClosed) this.#ports.peers.send(daemon, message);
  }

  recall(daemon: number): void {
    this.#ports.peers.recall(daemon);
  }

  ask(
    kind: GroupRequestKind,
    group: { readonly pool: number; readonly number: number; readonly epoch: number },
    about: StartOf | null,
    done: (error: StoreError | null) => void,
  ): void {
    const { pool, number, epoch } = group;
    const first = this.group({ pool, group: number })?.map?.members[0];
    this.#failoverNotes.asks(kind, (about ?? first)?.daemon ?? 0);
    this.#ports.masters.ask(
      {
        ...{ kind, pool, group: number, epoch, startId: this.#ports.startId },
        member: about?.daemon ?? 0,
        memberStart: about?.startId ?? '',
      },
      done,
    );
  }

  wantMap(from: number | null): void {
    const { now } = this;
    if (now - this.#mapWantedAt < WANT_MAP_MS) return;
    this.#mapWantedAt = now;
    if (from !== null) this.send(from, { type: 'askMap', version: this.mapVersion });
    else this.#ports.wantMap();
  }

  sendMap(daemon: number): void {
    const bytes = this.#ports.mapBytes();
    if (bytes !== null) this.send(daemon, { type: 'newerMap', bytes });
  }

  soon(run: () => void, ms = 0): void {
    this.#after(ms, run);
  }

  #after(ms: number, run: () => void): void {
    this.#ports.timers.after(ms, () => {
      if (!this.#isClosed) this.#guard(run);
    });
  }

  membersChanged(): void {
    this.#flushes.membersChanged();
  }

  /** The group of an object; undefined: this daemon was never a member of it. */
  groupOf(pool: number, hash: LocatorHash): Group | undefined {
    const groups = this.#groups.get(pool);
    return groups?.[groupOf({ groups: groups as unknown as MapPool['groups'] }, hash)];
  }

  group({ pool, group }: Pick<GroupEpoch, 'pool' | 'group'>): Group | undefined {
    return this.#groups.get(pool)?.[group];
  }

  /** Of the groups of a pool that this daemon serves. */
  primariesOf(pool: number): GroupPrimary[] {
    const primaries: GroupPrimary[] = [];
    for (const group of this.#groups.get(pool) ?? []) {
      const primary = group?.primary;
      if (primary !== undefined && primary !== null) primaries.push(primary);
    }
    return primaries;
  }

  /** All groups that this daemon holds or held since its start. */
  *groups(): Generator<Group> {
    for (const groups of this.#groups.values())
      for (const group of groups) if (group !== undefined) yield group;
  }

  /** A pool as clients use it. */
  poolFor(pool: number, name: string, objectBytes: number): ReplicatedPool {
    let replicated = this.#pools.get(pool);
    if (replicated === undefined) {
      replicated = new ReplicatedPool(this, { pool, name, objectBytes });
      this.#pools.set(pool, replicated);
    }
    return replicated;
  }

  /** Makes what was answered in these groups durable, here and at all who must have it. */
  flush(pool: number, primaries: readonly GroupPrimary[], done: Done): void {
    this.#flushes.flush(pool, primaries, done);
  }

  /** A map, newer than the one before. */
  mapIs(view: MapView): void {
    if (this.#isClosed) return;
    this.#guard(() => {
      this.#view = view;
      const wanted = new Set<number>();
      for (const pool of view.map.pools) this.#takePool(pool, wanted);
      for (const [id, groups] of this.#groups)
        if (view.poolById(id) === undefined) {
          for (const group of groups) group?.mapIs(null);
          this.#groups.delete(id);
        }
      this.leftovers.mapIs(view);
      wanted.delete(this.#ports.daemonId);
      this.#ports.peers.want(wanted);
      this.#flushes.membersChanged();
      this.joins.goOn();
      this.#heartbeat();
    });
  }

  /** There is a link to a start of a daemon. */
  peerUp(daemon: number, startId: string): void {
    this.#guard(() => {
      this.#up.set(daemon, startId);
      this.leases.heard(daemon, startId, this.now);
      const from = { daemon, startId };
      this.#heartbeatTo(from);
      this.#flushes.linkIsUp(from);
      for (const group of this.groups()) group.primary?.linkIsUp(from);
      if (this.#isLeaving) this.send(daemon, { type: 'leaving' });
      this.joins.goOn();
    });
  }

  peerDown(daemon: number): void {
    this.#up.delete(daemon);
  }

  /** A message of a start of a daemon, over a link to it. */
  received(daemon: number, startId: string, message: PeerMessage): void {
    if (this.#isClosed) return;
    this.#guard(() => {
      this.leases.heard(daemon, startId, this.now);
      this.#take({ daemon, startId }, message);
    });
  }

  /**
   * Leaves its groups to others, as far as there are others, and has itself removed from those that others lead: nobody has
   * to wait for the grace period then. What the map says here is not enough to know: a join that began before may have been
   * decided since, and one without anything to push needs nothing from here. So everybody there is a link with is told, and
   * answers. Where nobody else is in sync yet, those that join are waited for.
   * @param done - Called when it counts nowhere (`true`), or cannot know that within `withinMs`
   */
  leave(withinMs: number, done: (isOut: boolean) => void): void {
    this.#isLeaving = true;
    const until = this.now + withinMs;
    const look = (): void => {
      const groups = [...this.groups()];
      const held = groups.filter(
        (group) => group.primary?.mayHaveOthers === true || this.joins.ahead(group).joining > 0,
      );
      for (const { primary } of held)
        if (primary?.hasOthers === true) primary.giveUp('the daemon is stopping');
      const waiting = new Set<number>();
      for (const [daemon, startId] of this.#up)
        if (!this.#isDoneWithout({ daemon, startId })) waiting.add(daemon);
      for (const { primary, isInSync, map } of groups) {
        const first = map?.hasPrimary === true ? map.members[0] : undefined;
        if (primary === null && isInSync && first !== undefined) waiting.add(first.daemon);
      }
      for (const daemon of waiting) this.send(daemon, { type: 'leaving' });
      const isOut = held.length === 0 && waiting.size === 0;
      if (isOut || this.now >= until || !this.canAsk) done(isOut);
      else this.#after(LEAVE_LOOK_MS, look);
    };
    look();
  }

  close(): void {
    if (this.#isClosed) return;
    const error = new StoreError('E_CLOSED', 'The daemon is stopping');
    for (const group of this.groups()) group.close(error);
    this.#flushes.close(error);
    this.questions.close();
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #isDoneWithout({ daemon, startId }: StartOf): boolean {
    const said = this.#doneWithout.get(daemon);
    return said?.startId === startId && this.mapVersion >= said.mapVersion;
  }

  /** It says so again and again, until it is answered. */
  #leaves(from: StartOf): void {
    const isNew = !this.isStopping(from.daemon, from.startId);
    this.#stopping.set(from.daemon, from.startId);
    let counts = false;
    for (const { primary } of this.groups()) {
      if (primary === null) continue;
      if (isNew || primary.counts(from)) primary.tick(); // it is not waited for any longer
      counts ||= primary.counts(from);
    }
    if (!counts) this.send(from.daemon, { type: 'doneWithout', mapVersion: this.mapVersion });
  }

  #take(from: StartOf, message: PeerMessage): void {
    switch (message.type) {
      case 'heartbeat':
        this.#grant(from, message.sentAt, message.mapVersion);
        return;
      case 'grant':
        this.leases.granted(from.daemon, from.startId, message, this.now);
        if (message.mapVersion > this.mapVersion) this.wantMap(from.daemon);
        for (const group of this.groups()) group.primary?.leaseIsNew();
        return;
      case 'prepare':
        this.#groupFor(message)?.prepare(from, message);
        return;
      case 'ack': {
        const primary = this.group(message)?.primary;
        primary?.acknowledged(from, message.epoch, message.indexes);
        this.joins.acknowledged(primary?.stream(from.daemon));
        return;
      }
      case 'refusal':
        this.group(message)?.primary?.refused(from, message);
        return;
      case 'leaving':
        this.#leaves(from);
        return;
      case 'doneWithout':
        this.#doneWithout.set(from.daemon, { ...from, mapVersion: message.mapVersion });
        if (message.mapVersion > this.mapVersion) this.wantMap(from.daemon);
        return;
      case 'behind':
        this.group(message)?.primary?.behind(from, message);
        return;
      case 'askTail':
        this.#groupFor(message)?.askTail(from, message);
        return;
      case 'tail':
        this.group(message)?.primary?.tailIs(from, message);
        return;
      case 'sync':
        this.#sync(from, message.id, message.pool);
        return;
      case 'synced':
        this.#flushes.synced(from, message.id, message.isDone);
        this.questions.answered(from, message);
        return;
      case 'askInventory':
      case 'askDigest':
      case 'askBlocks':
      case 'askVerify':
        this.#answers.asked(from, message);
        return;
      case 'inventory':
      case 'digest':
      case 'blocks':
      case 'verified':
        this.questions.answered(from, message);
        return;
      case 'askMap':
        if (this.mapVersion > message.version) this.sendMap(from.daemon);
        return;
      case 'newerMap':
        this.#ports.takeMap(message.bytes);
        return;
    }
  }

  /** The group a message is about. One that is not known here is in a map that is still to come. */
  #groupFor(message: GroupEpoch & PeerMessage): Group | undefined {
    const group = this.group(message);
    if (group === undefined) this.wantMap(null);
    return group;
  }

  #grant(from: StartOf, sentAt: number, mapVersion: number): void {
    if (mapVersion > this.mapVersion) this.wantMap(from.daemon);
    // Leases belong to a start: only to the one that the masters know.
    if (this.startOf(from.daemon) !== from.startId) return;
    if (!this.leases.grant(from.daemon, from.startId, this.now)) return;
    this.send(from.daemon, {
      type: 'grant',
      sentAt,
      mapVersion: this.mapVersion,
      isFull: this.isFull,
    });
  }

  #sync(from: StartOf, id: number, pool: number): void {
    this.#flushHere(pool, (error) =>
      this.send(from.daemon, { type: 'synced', id, isDone: error === null }),
    );
  }

  #flushHere(pool: number, done: Done): void {
    const store = this.storeOf(pool);
    if (store === null) done(new StoreError('E_STALE_MAP', `Pool ${pool} is not open here yet`));
    else store.flush(done);
  }

  #takePool(pool: MapPool, wanted: Set<number>): void {
    const self = this.#ports.daemonId;
    let groups = this.#groups.get(pool.id);
    for (let number = 0; number < pool.groups.length; number += 1) {
      const group = pool.groups[number];
      if (group === undefined) continue;
      const isMember = group.members.some(({ daemon }) => daemon === self);
      if (!isMember && groups?.[number] === undefined) continue;
      if (groups === undefined) {
        groups = Array.from({ length: pool.groups.length }, () => undefined);
        this.#groups.set(pool.id, groups);
      }
      const known = (groups[number] ??= new Group(this, pool.id, number, (primary) =>
        this.joins.serve(primary),
      ));
      known.mapIs(group);
      if (isMember) for (const { daemon } of group.members) wanted.add(daemon);
    }
  }

  #listenTo(pool: number, store: ReplicaPool): void {
    store.announceTo({
      nextVersion: (object: ObjectPlace, before: number) =>
        this.groupOf(pool, object.hash)?.nextVersion(before) ?? 0,
      changed: (change: Change) => {
        this.groupOf(pool, change.object.hash)?.changed(change);
      },
      notMade: (object: ObjectPlace, wasAnnounced: boolean) => {
        this.groupOf(pool, object.hash)?.notMade(wasAnnounced);
      },
    });
  }

  #heartbeat(): void {
    this.#heartbeatAt = this.now;
    const told = new Set<number>();
    for (const { primary, map } of this.groups()) {
      if (primary === null || map === null) continue;
      // Also those that are to join: their answer says how full they are.
      for (const { daemon, inSync } of map.members) {
        const startId = inSync ?? this.startOf(daemon);
        if (startId === null || told.has(daemon) || daemon === this.#ports.daemonId) continue;
        told.add(daemon);
        this.#heartbeatTo({ daemon, startId });
      }
    }
  }

  #heartbeatTo({ daemon, startId }: StartOf): void {
    if (!this.isUp(daemon, startId)) return;
    this.send(daemon, { type: 'heartbeat', sentAt: this.now, mapVersion: this.mapVersion });
  }

  #tickLater(): void {
    this.#timer = this.#ports.timers.after(this.timing.heartbeatMs / 2, () => {
      if (this.#isClosed) return;
      this.#guard(() => this.#tick());
      this.#tickLater();
    });
  }

  #tick(): void {
    const { now } = this;
    if (now - this.#heartbeatAt >= this.timing.heartbeatMs * 0.9) this.#heartbeat();
    for (const group of this.groups()) group.tick();
    this.#flushes.tick();
    this.questions.tick(({ daemon, startId }) => this.isUp(daemon, startId));
    this.joins.tick(this.groups());
    this.scrub.tick(this.groups());
    this.leftovers.tick();
    this.#failoverNotes.tick(now);
  }

  /** What is thrown here is a defect of ours. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#ports.defect(error);
    }
  }
}
