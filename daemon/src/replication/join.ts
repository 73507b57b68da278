/**
 * Makes one member of a group equal to the primary, while clients go on writing.
 *
 * From the first moment the member gets every change, as all others do. Meanwhile the objects of both are walked through in
 * one order (hash, key). Copies that are closed and have the same version are equal, and nothing is sent; all others are
 * compared by their checksums under the primary's order of blocks, and what differs is pushed in the same stream as the
 * changes, so that nothing older ever lands on something newer. What the primary does not have is deleted, but never for a
 * record that nobody can read.
 *
 * Until an object was compared the member's copy of it is *partial*: changes are made, but under a version that equals
 * nobody's. A walk that is broken off so leaves nothing that could be taken for complete.
 *
 * After the last object the member makes everything durable; then the masters are asked to list it, and from that moment
 * on it counts as in sync until a newer epoch says what became of it (Kafka calls this the maximal in-sync set).
 */
import { invariant, type MapGroup, type MapPool } from '@store/core';
import type { Change, ObjectPlace } from './change.js';
import type { GroupHost } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import type { MemberStream } from './member-stream.js';
import type { GroupEpoch } from './peer-message.js';
import type { PeerQuestions } from './peer-questions.js';
import { areEqual, PairWalk, type Pair } from './pair-walk.js';
import type { HashRange, ObjectDigest, ReplicaPool } from './replica-pool.js';
import type { Entry } from './uncommitted.js';

/**
 * Pushes that are not acknowledged, together: the next object, or piece of one, waits. What clients change takes the same
 * way, and waits behind them.
 */
const OWED_MAX = 16;
const OWED_BYTES_MAX: number = 2 * 1024 * 1024;
const ASK_AGAIN_MS = 1000;
/** Behind every place. */
const END = '\uffff';
const GONE: ObjectDigest = {
  version: 0,
  length: 0,
  isInline: false,
  states: new Uint8Array(),
  checks: new Uint32Array(),
  prints: new Uint32Array(),
  unknown: [],
};

/** What has been done so far, for people and for tests. */
export interface JoinProgress {
  objectsCompared: number;
  objectsPushed: number;
  bytesPushed: number;
}

export interface JoinParts {
  readonly host: GroupHost;
  readonly questions: PeerQuestions;
  readonly primary: GroupPrimary;
  readonly stream: MemberStream;
  readonly store: ReplicaPool;
  readonly range: HashRange;
  readonly progress: JoinProgress;
  /** Mends blocks of this daemon's own copy, with those of others. */
  readonly mend: (object: ObjectPlace, done: (isMended: boolean) => void) => void;
  /** Whether more may be pushed just now; if not, `goOn` is called when it may. @param bytes - That are pushed now */
  readonly mayPush: (bytes: number) => boolean;
  /** It is over: the member is in sync, or it cannot be done now. */
  readonly over: (join: Join, isDone: boolean) => void;
}

/** Ends one step of a join. */
type Ready = (isGood: boolean) => void;

export class Join {
  readonly stream: MemberStream;
  readonly primary: GroupPrimary;
  readonly #parts: JoinParts;
  readonly #walk: PairWalk;
  /** All objects up to this place are complete, but for those in `#partial`. */
  #cursor = '';
  /** Objects of which changes were sent before they were compared. */
  readonly #partial = new Map<string, ObjectPlace>();
  /** The object that is being compared has been. */
  #completed: string | null = null;
  #owed: Entry[] = [];
  /** Takes the next piece of an object, which waits until it may. */
  #nextPiece: (() => void) | null = null;
  #phase: 'walking' | 'syncing' | 'requested' | 'over' = 'walking';
  #isBusy = false;
  #askedAt = -Infinity;

  constructor(parts: JoinParts) {
    this.#parts = parts;
    this.stream = parts.stream;
    this.primary = parts.primary;
    const { store, questions, range, stream } = parts;
    this.#walk = new PairWalk({
      ...{ store, questions, range, member: stream },
      group: () => this.#group(),
    });
  }

  get phase(): string {
    return this.#phase;
  }

  /** How much of the group's hashes was gone through, 0..1. Hashes are spread evenly, so it is the share of its objects. */
  get shareDone(): number {
    if (this.#cursor === '' || this.#cursor === END) return this.#cursor === '' ? 0 : 1;
    const { from, to } = this.#parts.range;
    const high = Buffer.from(this.#cursor.slice(0, 4), 'latin1').readUInt32BE(); // see `placeOf`
    return (high - from) / (to - from + 1);
  }

  /** Whether a change of an operation leaves the member's copy incomplete. Called for each that is sent. */
  isPartial({ object }: Change): boolean {
    const { place } = object;
    if (this.#phase !== 'walking' || place === this.#completed) return false;
    if (place <= this.#cursor && !this.#partial.has(place)) return false;
    this.#partial.set(place, object);
    return true;
  }

  /** Something has changed: an answer came, room was made. */
  goOn(): void {
    if (this.#phase === 'over') return;
    if (this.#nextPiece !== null) this.#takePiece(this.#nextPiece);
    if (this.#isOver || this.#isBusy) return; // which may have changed
    if (this.#isForlorn) this.#end(false);
    else if (this.stream.isInSync) this.#end(true);
    else if (this.#isInVain && !this.stream.isCounted) this.cancel();
    else if (this.#phase === 'walking') this.#next();
    else if (this.#phase === 'syncing') this.#sync();
    else this.#request();
  }

  /** It is given up. */
  cancel(): void {
    if (this.#phase === 'over') return;
    this.primary.dropJoining(this.stream);
    this.#end(false);
  }

  get #isOver(): boolean {
    return this.#phase === 'over';
  }

  /** Nothing that is pushed arrives any more. */
  get #isForlorn(): boolean {
    return this.primary.hasFailed || this.primary.stream(this.stream.daemon) !== this.stream;
  }

  /** It has failed, or is not to be listed again: it stops. */
  get #isInVain(): boolean {
    const { failure, daemon, startId } = this.stream;
    return failure !== null || this.#parts.host.isStopping(daemon, startId);
  }

  #mayPush(): boolean {
    this.#owed = this.#owed.filter(({ pending }) => pending > 0);
    let bytes = 0;
    for (const { change } of this.#owed) bytes += bytesOf(change);
    const hasRoom = this.#owed.length < OWED_MAX && bytes < OWED_BYTES_MAX;
    return hasRoom && this.#parts.mayPush(0);
  }

  #takePiece(next: () => void): void {
    if (!this.#isForlorn && !this.#isInVain && !this.#mayPush()) return;
    this.#nextPiece = null;
    next();
  }

  #end(isDone: boolean): void {
    this.#phase = 'over';
    this.#parts.over(this, isDone);
  }

  #next(): void {
    if (!this.#mayPush()) return;
    this.#busy((ready) =>
      this.#walk.next((found) => {
        if (this.#phase === 'over') return;
        if (found === 'failed') ready(false);
        else if (found === null) this.#rest(ready);
        else this.#meet(found, ready);
      }),
    );
  }

  #meet(pair: Pair, ready: Ready): void {
    const { object, ours, theirs } = pair;
    const isTouched = this.#partial.has(object.place);
    this.#parts.progress.objectsCompared += 1;
    if (ours?.isBroken === true || (!isTouched && areEqual(pair))) {
      this.#passed(object.place);
      ready(true);
    } else this.#compare(object, theirs !== null || isTouched, ready);
  }

  /** Objects that were changed before they were compared, and that neither walk has met: they are new. */
  #rest(ready: Ready): void {
    this.#cursor = END;
    for (const object of this.#partial.values()) {
      this.#compare(object, true, ready);
      return;
    }
    this.#phase = 'syncing';
    ready(true);
  }

  #compare(object: ObjectPlace, isThere: boolean, ready: Ready): void {
    if (!isThere) {
      this.#level(object, null, ready);
      return;
    }
    this.#parts.questions.ask(
      this.stream,
      (id) => ({ type: 'askDigest', id, ...this.#group(), object }),
      (answer) => {
        if (this.#phase === 'over') return;
        if (answer?.type === 'digest') this.#level(object, answer.digest, ready);
        else ready(false);
      },
    );
  }

  /** Pushes what differs. @param theirs - Null: it is not there */
  #level(object: ObjectPlace, theirs: ObjectDigest | null, ready: Ready, isMended = false): void {
    const { store, progress } = this.#parts;
    const { place } = object;
    // Its version may have been taken from a change of an operation a moment ago: then it does not mean what it says.
    const digest = this.#partial.has(place) ? { ...(theirs ?? GONE), version: 0 } : theirs;
    let [hasPushed, lost] = [false, 0];
    store.difference(
      object,
      digest,
      (change, isLast) => {
        hasPushed = true;
        if (change.op === 'write' && change.isLost === true) lost += 1;
        const bytes = bytesOf(change);
        progress.bytesPushed += bytes;
        this.#parts.mayPush(bytes);
        if (isLast) this.#complete(place);
        const entry = this.primary.push(this.stream, change, !isLast);
        if (entry !== null) this.#owed.push(entry);
      },
      (error, found) => {
        if (this.#phase === 'over') return;
        if (hasPushed) progress.objectsPushed += 1;
        const unverified = found?.unverified ?? [];
        if (error !== null) ready(false);
        else if (unverified.length === 0) {
          if (lost > 0) this.#sayLost(object, lost);
          this.#passed(place);
          ready(true);
        } else {
          invariant(!isMended, 'what is marked as lost is not reported');
          this.#parts.mend(object, () => {
            // Once more from the beginning, whether all of it is good now or not.
            if (this.#phase === 'over') return;
            this.#completed = null;
            this.#partial.set(place, object);
            this.#level(object, theirs, ready, true);
          });
        }
      },
      {
        between: (next) => {
          this.#nextPiece = next;
          this.#takePiece(next);
        },
        marksLost: isMended,
      },
    );
  }

  #sayLost({ key }: ObjectPlace, blocks: number): void {
    const { pool, number: group } = this.primary;
    this.#parts.host.log.error(
      { pool, group, object: key.toString('latin1'), blocks },
      'Blocks of an object are good nowhere: they cannot be read any more',
    );
  }

  #complete(place: string): void {
    this.#completed = place;
    this.#partial.delete(place);
  }

  #passed(place: string): void {
    // Changed since the last comparison was begun, and not finished by it: once more, at the end.
    if (this.#completed === place || !this.#partial.has(place)) this.#partial.delete(place);
    this.#completed = null;
    if (place > this.#cursor) this.#cursor = place;
  }

  #sync(): void {
    this.#owed = this.#owed.filter(({ pending }) => pending > 0);
    if (this.#owed.length > 0) return;
    const { pool } = this.primary;
    this.#busy((ready) =>
      this.#parts.questions.ask(
        this.stream,
        (id) => ({ type: 'sync', id, pool }),
        (answer) => {
          if (this.#phase === 'over') return;
          const isDone = answer?.type === 'synced' && answer.isDone;
          if (isDone) this.#phase = 'requested';
          ready(isDone);
        },
      ),
    );
  }

  #request(): void {
    const { host } = this.#parts;
    const { stream, primary } = this;
    if (stream.isRequested && host.now - this.#askedAt < ASK_AGAIN_MS) return;
    this.#askedAt = host.now;
    stream.isRequested = true;
    host.membersChanged(primary.pool);
    host.ask('joined', primary, stream, () => undefined); // the next epoch says what became of it
  }

  #group(): GroupEpoch {
    const { pool, number: group, epoch } = this.primary;
    return { pool, group, epoch };
  }

  /** Does one thing that takes its time. */
  #busy(work: (ready: Ready) => void): void {
    this.#isBusy = true;
    const turn = { isFirst: true, isReady: false };
    work((isGood) => {
      this.#isBusy = false;
      turn.isReady = true;
      if (this.#phase === 'over') return;
      if (!isGood) this.cancel();
      else if (!turn.isFirst) this.goOn();
    });
    turn.isFirst = false;
    // Not from within: a walk over what is in memory would be as deep as it is long.
    if (turn.isReady) this.#parts.host.soon(() => this.goOn());
  }
}

/** Hashes of a group. */
export function rangeOf(pool: Pick<MapPool, 'groups'>, group: number): HashRange {
  const size = 2 ** 32 / pool.groups.length;
  return { from: group * size, to: (group + 1) * size - 1 };
}

/** Members of a group that are to join, and could. */
export function joinersOf(group: MapGroup): number[] {
  return group.members.filter(({ inSync }) => inSync === null).map(({ daemon }) => daemon);
}

function bytesOf(change: Change): number {
  if (change.op === 'write') return change.checks.length * 4096;
  return change.op === 'whole' ? change.content.length : 0;
}
