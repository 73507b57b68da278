/**
 * One group on one of its members: makes the changes of the primary in their order, or is the primary itself.
 *
 * It acts by the newest map this daemon has, and by nothing older: a message of another epoch changes nothing. What it has
 * made and others may not have (its *tail*) is kept until the primary says that everybody has it, through all epochs, for
 * whoever becomes primary next.
 */
import {
  BLOCK_STATE,
  invariant,
  StoreError,
  type Done,
  type MapGroup,
  type MapMember,
} from '@store/core';
import { blocksOf, type Change } from './change.js';
import type { GroupHost, StartOf } from './group-host.js';
import { GroupPrimary } from './group-primary.js';
import { ATTEMPT_STRIDE } from './member-stream.js';
import {
  firstNumber,
  type AskTail,
  type GroupEpoch,
  type Prepare,
  type Refusal,
  type TailEntry,
} from './peer-message.js';
import type { ReplicaPool } from './replica-pool.js';
import { mergeTails } from './tails.js';

/** The version of what is not complete: equals that of no other copy. */
export const PARTIAL_VERSION = 1;
/** Members do not all ask for the place of a silent primary at once. */
const RANK_MS = 150;
const TAKE_AGAIN_MS = 1000;
const FLUSH_AGAIN_MS = 250;

/** A change that was made here, or is being made. */
interface Made extends TailEntry {
  isDone: boolean;
  /** Why it could not be made. It is not tried again: a later one of the same blocks may be there already. */
  failure: Refusal['reason'] | null;
  /** Index in the present stream under which it is to be acknowledged; -1: in none. */
  index: number;
}

export class Group {
  readonly pool: number;
  readonly number: number;
  readonly #host: GroupHost;
  #epoch = 0;
  #map: MapGroup | null = null;
  #epochSince = 0;
  #primary: GroupPrimary | null = null;
  /** As a member: the index of the stream that comes next. */
  #nextIndex = 0;
  /** What it has said of a change that it cannot make: it makes no other of this epoch. */
  #refusal: Refusal | null = null;
  /** By number. */
  readonly #made = new Map<number, Made>();
  /** As `#made`, of changes that were made here as the primary of an earlier epoch. */
  #madeAsPrimary: TailEntry[] = [];
  /** Changes that have got their version and were not announced yet. */
  #begun = 0;
  /** Those of earlier epochs whose operations have not all come to their end. */
  #retired: GroupPrimary[] = [];
  /** See `GroupPrimary.lacking`; kept while this start is in sync. */
  #lacking: string | null = null;
  #tailAsked: { from: StartOf; epoch: number } | null = null;
  #takeAskedAt = -Infinity;
  /** Makes a new primary ready for whoever joins members to it. */
  readonly #isPrimaryNow: (primary: GroupPrimary) => void;

  constructor(
    host: GroupHost,
    pool: number,
    number: number,
    isPrimaryNow: (primary: GroupPrimary) => void,
  ) {
    this.#host = host;
    this.pool = pool;
    this.number = number;
    this.#isPrimaryNow = isPrimaryNow;
  }

  /** Tells it from all other groups. */
  get key(): string {
    return `${this.pool}/${this.number}`;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** As the present map has it; null: there is no such group any more. */
  get map(): MapGroup | null {
    return this.#map;
  }

  /** Null: this daemon is not the primary. */
  get primary(): GroupPrimary | null {
    return this.#primary;
  }

  /** This daemon, as a member. */
  get #me(): MapMember | undefined {
    const { daemon } = this.#host.self;
    return this.#map?.members.find((member) => member.daemon === daemon);
  }

  /** This very start is in sync. */
  get isInSync(): boolean {
    return this.#me?.inSync === this.#host.self.startId;
  }

  get isMember(): boolean {
    return this.#me !== undefined;
  }

  /** A new map. @param group - Null: the pool is no more */
  mapIs(group: MapGroup | null): void {
    const before = this.#epoch;
    if (group !== null && group.epoch === before) {
      this.#map = group;
      return;
    }
    invariant(group === null || group.epoch > before, 'maps only go on');
    this.#map = group;
    this.#epoch = group?.epoch ?? before;
    this.#host.leases.release(this.key);
    this.#epochSince = this.#host.now;
    this.#nextIndex = 0;
    this.#refusal = null;
    this.#tailAsked = null;
    for (const made of this.#made.values()) made.index = -1;
    this.#lacking = this.isInSync ? (this.#primary?.lacking ?? this.#lacking) : null;
    const { self } = this.#host;
    const isPrimary =
      group?.hasPrimary === true && group.members[0]?.daemon === self.daemon && this.isInSync;
    if (!isPrimary) {
      this.#leaveOffice();
      // One that joins keeps it: what it has made must not be made again when an epoch ends.
      if (!this.isMember) this.#forgetMade();
      return;
    }
    if (this.#primary !== null && group.epoch === before + 1 && !this.#primary.hasFailed) {
      this.#primary.epochIs(group);
      return;
    }
    this.#leaveOffice();
    const tail = this.#tail();
    this.#forgetMade();
    this.#primary = new GroupPrimary({
      ...{ host: this.#host, pool: this.pool, number: this.number, group, tail },
      isDrained: () => this.#isDrained(),
      mend: this.#host.mend,
    });
    this.#isPrimaryNow(this.#primary);
    this.#primary.lacking = this.#lacking;
    if (this.#lacking !== null && this.#primary.hasOthers) this.#primary.giveUp(this.#lacking);
  }

  /** The daemon stops. */
  close(error: StoreError): void {
    this.#primary?.stop(error);
    this.#primary = null;
  }

  // --- as a member ---

  prepare(from: StartOf, message: Prepare): void {
    if (!this.#isFromPrimary(from, message)) return;
    const { index, number } = message;
    // Who left its place to others joins again at its next start. What it has is complete, and what joins begin with is not.
    if (this.#host.isLeaving && !this.isInSync) {
      this.#refuse(from.daemon, index, 'leaving');
      return;
    }
    this.#trim(message.committed);
    if (index > this.#nextIndex && index % ATTEMPT_STRIDE === 0) {
      // A new stream: what was refused of the last one is compared anew.
      this.#nextIndex = index;
      this.#refusal = null;
    }
    if (this.#refusal !== null) {
      this.#host.send(from.daemon, this.#refusal); // it may have been lost
      return;
    }
    if (index > this.#nextIndex) {
      this.#sayBehind(from.daemon);
      return;
    }
    const known = this.#made.get(number);
    if (index < this.#nextIndex) {
      // It comes again: its answer was lost, or is still to come.
      if (known?.failure === null ? known.isDone : known === undefined)
        this.#acknowledge(from.daemon, index);
      return;
    }
    const store = this.#host.storeOf(this.pool);
    if (store === null) {
      this.#sayBehind(from.daemon);
      return;
    }
    this.#nextIndex += 1;
    if (known !== undefined) {
      // Made in an earlier epoch. Making it again could undo a later one.
      known.index = index;
      if (known.failure !== null) this.#refuse(from.daemon, index, known.failure);
      else if (known.isDone) this.#acknowledge(from.daemon, index);
      return;
    }
    const { object } = message.change;
    const made: Made = { object, ...blocksOf(message.change), isDone: false, failure: null, index };
    this.#made.set(number, made);
    const { change, isPartial } = message;
    const isWhole = change.op === 'whole' || change.op === 'delete';
    const isMade: Done = (error) => {
      made.isDone = error === null;
      if (error !== null) this.#couldNot(from, made, error, store);
      else if (made.index >= 0) this.#acknowledge(this.#primaryNow(from), made.index);
    };
    const isDurable = change.op === 'write' && change.isDurable === true;
    store.apply(
      isPartial && !isWhole ? { ...change, version: PARTIAL_VERSION } : change,
      (error) => {
        if (error === null && isDurable) this.#whenDurable(store, isMade);
        else isMade(error);
      },
    );
  }

  /** A disk that is too full for metadata may have room again soon; if not, the primary does not wait for ever. */
  #whenDurable(store: ReplicaPool, done: Done): void {
    store.flush((error) => {
      if (error?.code === 'E_NO_SPACE')
        this.#host.soon(() => this.#whenDurable(store, done), FLUSH_AGAIN_MS);
      else done(error);
    });
  }

  askTail(from: StartOf, message: AskTail): void {
    if (!this.#isFromPrimary(from, message) || !this.isInSync) return;
    this.#tailAsked = { from, epoch: message.epoch };
    this.#sayTail();
  }

  /** To be called often. */
  tick(): void {
    this.#primary?.tick();
    this.#watchPrimary();
  }

  // --- as the primary, of changes that the engine makes ---

  /** See `ChangeTap.nextVersion`; 0: nothing may be changed here. */
  nextVersion(before: number): number {
    const version = this.#primary?.nextVersion(before) ?? 0;
    if (version > 0) this.#begun += 1;
    return version;
  }

  changed(change: Change): void {
    this.#begun -= 1;
    if (this.#primary?.hasFailed === false) this.#primary.announce(change);
    else if (this.isInSync)
      // It was on its way when another one took over, or this one gave up: whoever leads next hears of it.
      this.#madeAsPrimary.push({ object: change.object, ...blocksOf(change) });
    this.#sayTail();
  }

  /** What has got a version could not be made, or was announced and could not. @param wasAnnounced */
  notMade(wasAnnounced: boolean): void {
    if (!wasAnnounced) {
      this.#begun -= 1;
      this.#sayTail();
    } else this.#primary?.notMade();
  }

  // --- inside ---

  #isFromPrimary(from: StartOf, { epoch }: GroupEpoch): boolean {
    const first = this.#map?.members[0];
    if (epoch > this.#epoch || this.#map === null) {
      this.#host.wantMap(from.daemon);
      this.#sayBehind(from.daemon);
      return false;
    }
    if (epoch < this.#epoch) {
      this.#sayBehind(from.daemon);
      return false;
    }
    return (
      this.#map.hasPrimary &&
      first?.daemon === from.daemon &&
      first.inSync === from.startId &&
      this.isMember
    );
  }

  #primaryNow(from: StartOf): number {
    return this.#map?.members[0]?.daemon ?? from.daemon;
  }

  #sayBehind(daemon: number): void {
    this.#host.send(daemon, {
      type: 'behind',
      pool: this.pool,
      group: this.number,
      epoch: this.#epoch,
      index: this.#nextIndex,
      mapVersion: this.#host.mapVersion,
    });
  }

  #acknowledge(daemon: number, index: number): void {
    this.#host.send(daemon, {
      type: 'ack',
      pool: this.pool,
      group: this.number,
      epoch: this.#epoch,
      indexes: [index],
    });
  }

  #couldNot(from: StartOf, made: Made, error: StoreError, store: ReplicaPool): void {
    made.failure = error.code === 'E_NO_SPACE' ? 'full' : 'damaged';
    // A later change may have been made already, and with it this copy would pass for complete.
    const nothing = { first: 0, count: 0, state: BLOCK_STATE.absent, length: 0 };
    const { object } = made;
    store.apply({ op: 'states', object, version: PARTIAL_VERSION, ...nothing }, () => undefined);
    const isOurs = ['E_NO_SPACE', 'E_CHECKSUM', 'E_INVALID'].includes(error.code);
    // Else the disk has failed: the process ends.
    if (!isOurs) return;
    this.#host.log.error(
      { pool: this.pool, group: this.number, code: error.code },
      `A change of the primary cannot be made here: ${error.message}`,
    );
    // In an epoch that has not asked for it yet it is refused when it does.
    if (made.index >= 0) this.#refuse(this.#primaryNow(from), made.index, made.failure);
  }

  #refuse(daemon: number, index: number, reason: Refusal['reason']): void {
    this.#refusal = {
      type: 'refusal',
      pool: this.pool,
      group: this.number,
      epoch: this.#epoch,
      index,
      reason,
    };
    this.#host.send(daemon, this.#refusal);
  }

  #trim(committed: number): void {
    if (committed === 0) return;
    for (const [number, made] of this.#made) {
      if (number > committed) break;
      if (made.isDone || made.failure !== null) this.#made.delete(number);
    }
    if (committed >= firstNumber(this.#epoch)) this.#madeAsPrimary = [];
  }

  #tail(): TailEntry[] {
    return mergeTails([...this.#made.values(), ...this.#madeAsPrimary]);
  }

  #forgetMade(): void {
    for (const [number, made] of this.#made)
      if (made.isDone || made.failure !== null) this.#made.delete(number);
    this.#madeAsPrimary = [];
  }

  #leaveOffice(): void {
    const primary = this.#primary;
    if (primary === null) return;
    this.#primary = null;
    this.#retired.push(primary);
    const why = `This daemon is not the primary of ${primary.title} any more`;
    this.#madeAsPrimary.push(...primary.stop(new StoreError('E_STALE_MAP', why)));
    this.#host.membersChanged(this.pool);
  }

  /**
   * No operation that was let in by an earlier primary goes on here. One that did could come after what clients have done
   * elsewhere since. They end soon: nothing more is changed by them.
   */
  #isDrained(): boolean {
    this.#retired = this.#retired.filter(({ running }) => running > 0);
    return this.#retired.length === 0;
  }

  /** Not while changes are on their way whose blocks are not known yet. */
  #sayTail(): void {
    const asked = this.#tailAsked;
    if (asked === null || this.#begun > 0 || asked.epoch !== this.#epoch) return;
    this.#tailAsked = null;
    this.#host.send(asked.from.daemon, {
      type: 'tail',
      pool: this.pool,
      group: this.number,
      epoch: this.#epoch,
      entries: this.#tail(),
    });
  }

  /** Asks for the place of a primary that has been silent for so long that it serves nobody any more. */
  #watchPrimary(): void {
    const first = this.#map?.members[0];
    const { self, now, timing, leases } = this.#host;
    if (this.#map?.hasPrimary !== true || first === undefined || first.inSync === null) return;
    if (first.daemon === self.daemon || !this.isInSync) return;
    const inSync = this.#map.members.filter((member) => member.inSync !== null);
    const rank = inSync.findIndex(({ daemon }) => daemon === self.daemon);
    const patienceMs = timing.graceMs + (rank - 1) * RANK_MS;
    const ungrantedMs = leases.ungrantedMs(first.daemon, first.inSync, now);
    if (Math.min(ungrantedMs, now - this.#epochSince) < patienceMs) return;
    if (now - this.#takeAskedAt < TAKE_AGAIN_MS || !this.#host.canAsk) return;
    this.#takeAskedAt = now;
    const { daemon, inSync: startId } = first;
    leases.withhold(daemon, startId, this.key, now);
    this.#host.log.debug(
      { pool: this.pool, group: this.number, epoch: this.#epoch, primary: daemon },
      'The primary of a group is silent: asks to take its place',
    );
    this.#host.ask('take', this, null, (error) => {
      // Nothing was decided by this, and nothing will be.
      if (error !== null && error.retry === 'never') leases.release(this.key);
    });
  }
}
