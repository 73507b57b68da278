/**
 * The primary of one group in its epoch (Lin et al., "PacificA", MSR-TR-2008-25, with an in-sync set as in Kafka).
 *
 * - Every change that an operation makes here is sent to all members in sync, and to those that are joining; an operation is
 *   answered when it is made here and no change of its blocks is under way any more.
 * - A new primary asks the others in sync which changes they may have made that not everybody has made. What it has itself
 *   of those blocks is what everybody gets: a change that was not answered may be made or not, but the same everywhere.
 *   Until then it serves nobody.
 * - It keeps the guards of images in memory (`GuardTable`), and reads those that are stored before it serves anybody.
 * - Reads are answered while every other member that counts has granted a lease; looked at again after the disk was read.
 * - A member that does not answer is removed by the masters, and only then is done without.
 *
 * It lives as long as this daemon stays primary from one epoch to the very next. Whoever was primary before that, even this
 * daemon, was another one.
 */
import { StoreError, type Done, type MapGroup } from '@store/core';
import type { Change, ObjectPlace } from './change.js';
import type { GroupHost, StartOf } from './group-host.js';
import { GuardTable } from './guard-table.js';
import { loadGuards } from './load-guards.js';
import { MemberStream, type StreamOwner } from './member-stream.js';
import {
  firstNumber,
  NUMBERS_PER_EPOCH,
  type Behind,
  type Prepare,
  type Refusal,
  type Tail,
  type TailEntry,
} from './peer-message.js';
import type { Mend } from './read-repair.js';
import type { ReplicaPool } from './replica-pool.js';
import { Rounds } from './rounds.js';
import { mergeTails } from './tails.js';
import { Uncommitted, type Entry } from './uncommitted.js';

/** An operation that waits until the group can do it. */
interface Held {
  readonly run: () => void;
  readonly fail: Done;
  readonly since: number;
  readonly isWrite: boolean;
}

/** A read that was done, and waits for leases. */
interface Unproved {
  readonly done: Done;
  readonly since: number;
}

/** A question to the masters that is not asked again at once. */
const ASK_AGAIN_MS = 1000;
const HELD_MAX = 16_384;
/** A daemon that nothing can be sent to is waited for a little less than one that only says nothing. */
const DOWN_SHARE = 0.7;
/** The numbers of an epoch end long before those of the next one begin. */
const NUMBERS_LEFT_MIN: number = 2 ** 24;

const REFUSED_AS = { full: 'E_NO_SPACE', damaged: 'E_CHECKSUM', leaving: 'E_CLOSED' } as const;

export interface GroupPrimaryOptions {
  readonly host: GroupHost;
  readonly pool: number;
  readonly number: number;
  readonly group: MapGroup;
  /** What this daemon may have made that others have not. */
  readonly tail: readonly TailEntry[];
  /** Nothing goes on any more of what earlier primaries here have let in. */
  readonly isDrained: () => boolean;
  readonly mend: Mend;
}

export class GroupPrimary implements StreamOwner {
  readonly pool: number;
  readonly number: number;
  /** Operations that were let in, and are not done here yet. */
  running = 0;
  readonly guards = new GuardTable();
  /** Changes of clients that were let in and are not answered. */
  readonly rounds = new Rounds();
  readonly #host: GroupHost;
  readonly #isDrained: () => boolean;
  readonly #mend: Mend;
  #epoch: number;
  #inSyncCount: number;
  #nextNumber: number;
  readonly uncommitted = new Uncommitted();
  readonly #streams = new Map<number, MemberStream>();
  /** What members in sync have said, by daemon and start; null when it serves. */
  #tails: Map<string, readonly TailEntry[]> | null;
  #tailAskedAt = -Infinity;
  #isPresenting = false;
  /** It could not be done, and is not tried again before that. */
  #presentAfter = -Infinity;
  /** Number of the last change that made equal what was found. */
  #foundUpTo = 0;
  #held: Held[] = [];
  #unproved: Unproved[] = [];
  #failure: StoreError | null = null;
  readonly #askedAt = new Map<string, number>();
  #isResigning = false;
  /** Why this daemon, in whatever epoch it leads, is to give up as soon as another one is in sync. */
  lacking: string | null = null;

  constructor({ host, pool, number, group, tail, isDrained, mend }: GroupPrimaryOptions) {
    this.#mend = mend;
    this.#host = host;
    this.pool = pool;
    this.number = number;
    this.#isDrained = isDrained;
    this.#epoch = group.epoch;
    this.#inSyncCount = 0;
    this.#nextNumber = firstNumber(group.epoch) + 1;
    this.#tails = new Map([[keyOf(host.self), tail]]);
    this.#takeMembers(group);
    this.#collect();
  }

  get epoch(): number {
    return this.#epoch;
  }

  get now(): number {
    return this.#host.now;
  }

  /**
   * What members may forget. While what a new primary found is not yet the same everywhere that is nothing: they have to
   * say it again if this one dies.
   */
  get committed(): number {
    const { point } = this.uncommitted;
    return this.#tails === null && point >= this.#foundUpTo ? point : 0;
  }

  /** It has given up: nothing is done here in this epoch any more. */
  get hasFailed(): boolean {
    return this.#failure !== null;
  }

  get isServing(): boolean {
    return this.#tails === null && this.#failure === null;
  }

  get streams(): Iterable<MemberStream> {
    return this.#streams.values();
  }

  /** Somebody else is in sync. */
  get hasOthers(): boolean {
    for (const { isInSync } of this.#streams.values()) if (isInSync) return true;
    return false;
  }

  /** Somebody else is in sync, or is as soon as the masters have answered. */
  get mayHaveOthers(): boolean {
    for (const { isCounted } of this.#streams.values()) if (isCounted) return true;
    return false;
  }

  /** The disk of a member that counts is nearly full. */
  get hasFullMember(): boolean {
    const { leases } = this.#host;
    for (const stream of this.#streams.values())
      if (stream.isCounted && leases.isFull(stream.daemon)) return true;
    return false;
  }

  stream(daemon: number): MemberStream | undefined {
    return this.#streams.get(daemon);
  }

  /** Daemons that must make durable what was answered. */
  get counted(): StartOf[] {
    return [...this.#streams.values()];
  }

  /** The very next epoch, of which this daemon is the primary again. */
  epochIs(group: MapGroup): void {
    this.#epoch = group.epoch;
    this.#nextNumber = Math.max(this.#nextNumber, firstNumber(group.epoch) + 1);
    this.#askedAt.clear();
    this.#takeMembers(group);
    for (const stream of this.#streams.values()) stream.restart();
    this.#host.membersChanged(this.pool);
    if (this.lacking !== null && this.hasOthers) {
      this.giveUp(this.lacking);
      return;
    }
    if (this.#tails !== null) this.#collect();
    this.#goOn();
  }

  /**
   * This daemon is not the primary any more, or the group is gone.
   * @returns what it has made that others may not have
   */
  stop(error: StoreError): readonly TailEntry[] {
    this.#failure = error;
    const held = this.#held;
    const unproved = this.#unproved;
    this.#held = [];
    this.#unproved = [];
    const left = this.uncommitted.abandon(error);
    this.#streams.clear();
    for (const { fail } of held) fail(error);
    for (const { done } of unproved) done(error);
    const tails = this.#tails === null ? [] : [...this.#tails.values()].flat();
    return mergeTails([
      ...tails,
      ...left
        .filter(({ isPush }) => !isPush)
        .map(({ change: { object }, first, last }) => ({ object, first, last })),
    ]);
  }

  // --- operations ---

  /**
   * Runs an operation as soon as the group does such: at once as a rule. Those that wait run in order, before any that come
   * later.
   * @param epoch - That the client believes in; 0: it has none
   */
  admit(epoch: number, isWrite: boolean, run: () => void, fail: Done): void {
    const refusal = this.#failure ?? this.epochRefusal(epoch);
    if (refusal !== null) fail(refusal);
    else if (this.#held.length === 0 && this.#mayRun(isWrite)) run();
    else if (this.#held.length >= HELD_MAX)
      fail(new StoreError('E_BUSY', `Too many operations wait for ${this.title}`));
    else {
      const check = (): void => {
        const late = this.epochRefusal(epoch);
        if (late === null) run();
        else fail(late);
      };
      this.#held.push({ run: check, fail, since: this.now, isWrite });
    }
  }

  /** An operation was done here: answers when what it did, or saw, is with all who must have it. */
  whenCommitted(object: ObjectPlace, first: number, last: number, done: Done): void {
    if (this.#failure !== null) done(this.#failure);
    else this.uncommitted.whenCommitted(object.place, first, last, done);
  }

  /** A read was done here: answers when nobody else can have written since, and what it saw is committed. */
  proveRead(object: ObjectPlace, first: number, last: number, done: Done): void {
    if (this.uncommitted.overlaps(object.place, first, last))
      this.whenCommitted(object, first, last, (error) => {
        if (error === null) this.proveLease(done);
        else done(error);
      });
    else this.proveLease(done);
  }

  /** Answers when this is certainly the only primary. */
  proveLease(done: Done): void {
    if (this.#failure !== null) done(this.#failure);
    else if (this.#hasLeases()) done(null);
    else this.#unproved.push({ done, since: this.now });
  }

  /** A number for the version of an object; 0: no change may be made here any more. */
  nextVersion(before: number): number {
    // What is found may have to be given a version before others can be told of it.
    const isReady = this.#tails === null || this.#isPresenting;
    if (this.#failure !== null || !isReady) return 0;
    const version = Math.max(this.#draw(), before + 1);
    return version;
  }

  /** A change is made here: everybody else is told. */
  announce(change: Change): void {
    if (this.#failure !== null) return;
    const number = this.#draw();
    const targets = [...this.#streams.values()].filter(
      (stream) => stream.failure === null || stream.isCounted,
    );
    if (targets.length === 0) {
      this.uncommitted.committedAtOnce(number);
      return;
    }
    const entry = this.uncommitted.add(number, change, targets.length, false);
    for (const stream of targets) stream.send(entry, this.isPartial(stream, change));
  }

  /** Replaced by whoever joins members: whether a member's copy of the object is not complete yet. */
  isPartial: (stream: MemberStream, change: Change) => boolean = () => false;

  /** A change that makes one member equal to the others. */
  push(stream: MemberStream, change: Change, isPartial: boolean): Entry | null {
    if (this.#failure !== null || this.#streams.get(stream.daemon) !== stream) return null;
    const entry = this.uncommitted.add(this.#draw(), change, 1, true);
    stream.send(entry, isPartial);
    return entry;
  }

  /** What was announced could not be made here: somebody else must lead. */
  notMade(): void {
    this.giveUp('a change could not be made here for lack of space');
  }

  /** Another member in sync shall lead: it has what this one has not, or cannot read. */
  giveUp(why: string): void {
    if (this.#failure !== null || this.#isResigning) return;
    // Whoever the masters were asked to list may have what this one has not, and be in sync before it hears of this.
    this.lacking = why;
    const streams = [...this.#streams.values()];
    if (!this.hasOthers) {
      // Nobody has everything but this daemon: who joins begins anew, from what is here.
      for (const stream of streams) stream.failure = new StoreError('E_STALE_MAP', why);
      return;
    }
    this.#isResigning = true;
    this.#host.log.info({ pool: this.pool, group: this.number }, `Gives up ${this.title}: ${why}`);
    this.#failure = new StoreError('E_STALE_MAP', `This daemon gives up ${this.title}: ${why}`);
    const error = this.#failure;
    for (const { fail } of this.#held.splice(0)) fail(error);
    for (const { done } of this.#unproved.splice(0)) done(error);
    this.#host.membersChanged(this.pool);
    this.#askOnce('resign', null, why);
  }

  // --- members ---

  /** Begins to send changes to a member that is to join. */
  addJoining(member: StartOf, attempt: number): MemberStream {
    const options = { isInSync: false, attempt };
    const stream = new MemberStream(this, member.daemon, member.startId, options);
    this.#streams.set(member.daemon, stream);
    this.#host.membersChanged(this.pool);
    return stream;
  }

  /**
   * Sends to a member that has begun to join what is under way to the others. It may have some of it from before, and nothing
   * that is equal is pushed; but whoever leads next must hear from it that others may not have that.
   */
  catchUp(stream: MemberStream): void {
    for (const entry of this.uncommitted.entries()) {
      if (entry.isPush) continue;
      entry.pending += 1;
      stream.send(entry, this.isPartial(stream, entry.change));
    }
  }

  /** A member does not join any more, for now. Only if the masters were not asked to list it. */
  dropJoining(stream: MemberStream): void {
    if (stream.isCounted || this.#streams.get(stream.daemon) !== stream) return;
    this.#streams.delete(stream.daemon);
    stream.end();
    this.#host.membersChanged(this.pool);
  }

  sendTo({ daemon, startId }: MemberStream, prepare: Prepare): void {
    // If there is no link it is sent again when there is one.
    if (this.#host.isUp(daemon, startId)) this.#host.send(daemon, prepare);
  }

  recall({ daemon }: MemberStream): void {
    this.#host.recall(daemon);
  }

  settled(entry: Entry): void {
    this.uncommitted.settled(entry);
  }

  acknowledged(from: StartOf, epoch: number, indexes: readonly number[]): void {
    const stream = this.#streamOf(from, epoch);
    stream?.acknowledged(indexes);
  }

  refused(from: StartOf, { epoch, index, reason }: Refusal): void {
    const stream = this.#streamOf(from, epoch);
    if (stream?.has(index) !== true) return;
    stream.failure = new StoreError(
      REFUSED_AS[reason],
      `Daemon ${from.daemon} cannot make a change (${reason})`,
    );
    this.tick();
  }

  /** Whether a start is waited for, or is as soon as the masters list it. */
  counts({ daemon, startId }: StartOf): boolean {
    const stream = this.#streams.get(daemon);
    return stream?.startId === startId && stream.isCounted;
  }

  behind(from: StartOf, message: Behind): void {
    const stream = this.#streams.get(from.daemon);
    if (stream?.startId !== from.startId) return;
    if (message.epoch > this.#epoch) {
      this.#host.wantMap(from.daemon);
      return;
    }
    if (message.epoch < this.#epoch || message.mapVersion < this.#host.mapVersion)
      this.#host.sendMap(from.daemon);
    stream.resend({ isUrgent: false });
  }

  linkIsUp(from: StartOf): void {
    const stream = this.#streams.get(from.daemon);
    if (stream?.startId === from.startId) stream.resend({ isUrgent: true });
    if (this.#tails !== null) this.#collect();
  }

  tailIs(from: StartOf, { epoch, entries }: Tail): void {
    if (this.#tails === null || epoch !== this.#epoch) return;
    this.#tails.set(keyOf(from), entries);
    this.#collect();
  }

  leaseIsNew(): void {
    if (this.#unproved.length > 0) this.#proveAll();
  }

  /** To be called often. */
  tick(): void {
    if (this.#isResigning) this.#askOnce('resign', null, 'it gave up');
    if (this.#failure !== null) return;
    const { now } = this.#host;
    for (const stream of this.#streams.values()) {
      const why = this.#absence(stream, now);
      if (why === null) continue;
      if (stream.isInSync) this.#askOnce('remove', stream, why);
      // Nobody knows whether it is listed: the next epoch will say.
      else if (stream.isRequested) this.#askOnce('renew', null, why);
      else this.dropJoining(stream);
    }
    if (this.#tails !== null) this.#collect();
    if (this.#nextNumber > firstNumber(this.#epoch + 1) - NUMBERS_LEFT_MIN)
      this.#askOnce('renew', null, 'the numbers of its epoch are used up');
    this.#proveAll();
    this.#refuseLate(now);
    this.#goOn();
  }

  // --- inside ---

  get title(): string {
    return `group ${this.number} of pool ${this.pool}`;
  }

  #draw(): number {
    const number = this.#nextNumber;
    this.#nextNumber += 1;
    return number;
  }

  /** Why a request of somebody who believes in this epoch is refused. @param epoch - 0: it has none */
  epochRefusal(epoch: number): StoreError | null {
    if (this.#failure !== null) return this.#failure;
    if (epoch === 0 || epoch === this.#epoch) return null;
    if (epoch > this.#epoch) this.#host.wantMap(null);
    return new StoreError(
      'E_STALE_MAP',
      `The epoch of ${this.title} is ${this.#epoch} here, not ${epoch}`,
    );
  }

  #mayRun(isWrite: boolean): boolean {
    if (this.#tails !== null) return false;
    if (!isWrite) return true;
    const { minReplicas = 1 } = this.#host.poolOf(this.pool) ?? {};
    return this.#inSyncCount >= minReplicas;
  }

  /** Runs what was held, in order, as far as it may. */
  #goOn(): void {
    while (this.#failure === null) {
      const [next] = this.#held;
      if (next === undefined || !this.#mayRun(next.isWrite)) return;
      this.#held.shift();
      next.run();
    }
  }

  #refuseLate(now: number): void {
    const { holdMs } = this.#host.timing;
    const isLate = ({ since }: { since: number }): boolean => now - since > holdMs;
    const late = [
      ...this.#held.filter(isLate).map(({ fail }) => fail),
      ...this.#unproved.filter(isLate).map(({ done }) => done),
    ];
    if (late.length === 0) return;
    this.#held = this.#held.filter((one) => !isLate(one));
    this.#unproved = this.#unproved.filter((one) => !isLate(one));
    const error = new StoreError('E_STALE_MAP', `${this.#whyNot()}; ask again`);
    for (const fail of late) fail(error);
  }

  #whyNot(): string {
    if (this.#tails !== null)
      return `${this.title} waits for members in sync to say what they have`;
    if (!this.#hasLeases()) return `${this.title} waits for leases of its members`;
    const { minReplicas = 1 } = this.#host.poolOf(this.pool) ?? {};
    return `${this.title} has ${this.#inSyncCount} copies in sync, and writes need ${minReplicas}`;
  }

  #hasLeases(): boolean {
    const { leases, now, mapVersion } = this.#host;
    for (const stream of this.#streams.values())
      if (stream.isCounted && !leases.holds(stream.daemon, stream.startId, mapVersion, now))
        return false;
    return true;
  }

  #proveAll(): void {
    if (this.#unproved.length === 0 || this.#failure !== null || !this.#hasLeases()) return;
    const unproved = this.#unproved;
    this.#unproved = [];
    for (const { done } of unproved) done(null);
  }

  /** Brings the streams in line with the members of the map. */
  #takeMembers(group: MapGroup): void {
    const { self } = this.#host;
    const members = group.members.filter(({ daemon }) => daemon !== self.daemon);
    this.#inSyncCount = group.members.filter(({ inSync }) => inSync !== null).length;
    const gone: MemberStream[] = [];
    for (const stream of this.#streams.values()) {
      const member = members.find(({ daemon }) => daemon === stream.daemon);
      const start =
        member === undefined ? null : (member.inSync ?? this.#host.startOf(stream.daemon));
      if (start !== stream.startId) gone.push(stream);
      // It was in sync and is not: what it has is compared before it counts again.
      else if (stream.isInSync && member?.inSync === null) gone.push(stream);
      else stream.isInSync = member?.inSync !== null;
    }
    for (const stream of gone) this.#streams.delete(stream.daemon);
    for (const { daemon, inSync } of members)
      if (inSync !== null && !this.#streams.has(daemon))
        this.#streams.set(
          daemon,
          new MemberStream(this, daemon, inSync, { isInSync: true, attempt: 0 }),
        );
    for (const stream of gone) stream.end();
  }

  #streamOf({ daemon, startId }: StartOf, epoch: number): MemberStream | undefined {
    const stream = this.#streams.get(daemon);
    return stream?.startId === startId && epoch === this.#epoch ? stream : undefined;
  }

  /** Why a member cannot be waited for; null: it can. */
  #absence(stream: MemberStream, now: number): string | null {
    const host = this.#host;
    const { leases, timing } = host;
    if (stream.failure !== null) return stream.failure.message;
    const { daemon, startId } = stream;
    if (host.isStopping(daemon, startId)) return 'it stops';
    const silentMs = leases.silentMs(daemon, startId, now);
    const limitMs = host.isUp(daemon, startId) ? timing.silentMs : timing.silentMs * DOWN_SHARE;
    if (silentMs > limitMs) return `it has said nothing for ${(silentMs / 1000).toFixed(1)} s`;
    const owedMs = stream.owedMs(now);
    if (owedMs > timing.stalledMs)
      return `it has not made a change for ${(owedMs / 1000).toFixed(1)} s`;
    const current = host.startOf(daemon);
    return current === startId ? null : 'it was started again';
  }

  #askOnce(kind: 'remove' | 'renew' | 'resign', about: StartOf | null, why: string): void {
    const key = `${kind} ${about?.daemon ?? ''}`;
    const { now } = this.#host;
    if (now - (this.#askedAt.get(key) ?? -Infinity) < ASK_AGAIN_MS) return;
    this.#askedAt.set(key, now);
    const who = about === null ? '' : ` daemon ${about.daemon} from`;
    this.#host.log.debug(
      { pool: this.pool, group: this.number, epoch: this.#epoch },
      `Asks to ${kind}${who} ${this.title}: ${why}`,
    );
    const asked = { pool: this.pool, number: this.number, epoch: this.#epoch };
    this.#host.ask(kind, asked, about, () => undefined);
  }

  /** Asks those in sync what they have that others may not have; when all have said it, makes it the same everywhere. */
  #collect(): void {
    const tails = this.#tails;
    if (tails === null || this.#isPresenting || this.#failure !== null) return;
    const missing = [...this.#streams.values()].filter(
      (stream) => stream.isInSync && !tails.has(keyOf(stream)),
    );
    if (missing.length > 0) {
      this.#askTails(missing);
      return;
    }
    const store = this.#host.storeOf(this.pool);
    if (store === null || !this.#isDrained() || this.now < this.#presentAfter) return; // looked at again soon
    this.#isPresenting = true;
    const entries = mergeTails([...tails.values()].flat());
    let left = entries.length + 1;
    let failed: StoreError | null = null;
    const presented: Done = (error) => {
      failed ??= error;
      left -= 1;
      if (left > 0 || this.#failure !== null) return;
      if (failed === null) this.#loadGuards(store, found);
      else found(failed);
    };
    const found: Done = (error) => {
      if (this.#failure !== null) return;
      this.#isPresenting = false;
      if (error !== null) {
        this.#presentAfter = this.now + ASK_AGAIN_MS;
        this.giveUp(`what it has cannot be read: ${error.message}`);
      } else {
        this.#foundUpTo = this.#nextNumber - 1;
        this.#tails = null;
        this.#goOn();
      }
    };
    const present = (entry: TailEntry, isMended: boolean): void => {
      const { object, first, last } = entry;
      store.present(
        object,
        first,
        last,
        (change) => this.announce(change),
        (error) => {
          if (error?.code !== 'E_CHECKSUM' || this.#failure !== null) presented(error);
          else if (!isMended) this.#mend(this, store, object, () => present(entry, true));
          else
            // Blocks that are good nowhere stay bad everywhere, and the members have all others.
            this.#host.areGoodNowhere(this, store, object, { first, last }, (isNowhere) =>
              presented(isNowhere || !this.hasOthers ? null : error),
            );
        },
      );
    };
    for (const entry of entries) present(entry, false);
    presented(null);
  }

  /** What is here of them is what everybody has by now. */
  #loadGuards(store: ReplicaPool, done: Done): void {
    const groups = this.#host.poolOf(this.pool)?.groups.length ?? 0;
    if (groups === 0) done(new StoreError('E_STALE_MAP', `Pool ${this.pool} was removed`));
    else
      loadGuards({
        ...{ store, group: this.number, groups, table: this.guards, log: this.#host.log },
        mend: (object, mended) => this.#mend(this, store, object, mended),
        done,
      });
  }

  #askTails(missing: readonly MemberStream[]): void {
    const { now, timing } = this.#host;
    if (now - this.#tailAskedAt < timing.heartbeatMs / 4) return;
    this.#tailAskedAt = now;
    for (const { daemon, startId } of missing)
      if (this.#host.isUp(daemon, startId))
        this.#host.send(daemon, {
          type: 'askTail',
          pool: this.pool,
          group: this.number,
          epoch: this.#epoch,
        });
  }
}

function keyOf({ daemon, startId }: StartOf): string {
  return `${daemon} ${startId}`;
}

/** Whether the numbers of an epoch are numbers of it. */
export function isOfEpoch(number: number, epoch: number): boolean {
  return number > firstNumber(epoch) && number < firstNumber(epoch) + NUMBERS_PER_EPOCH;
}
