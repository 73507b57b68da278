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
import type { MapGroup, MapPool } from '@store/core';
import type { Change, ObjectPlace } from './change.js';
import type { GroupHost } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import type { MemberStream } from './member-stream.js';
import type { GroupEpoch, PeerMessage } from './peer-message.js';
import type { PeerQuestions } from './peer-questions.js';
import type { HashRange, InventoryEntry, ObjectDigest, ReplicaPool } from './replica-pool.js';
import type { Entry } from './uncommitted.js';

/** Entries of an inventory that are asked for at once. */
const PAGE = 256;
/** Pushes that are not acknowledged, together: the next object waits. */
const OWED_MAX = 16;
const ASK_AGAIN_MS = 1000;
/** Behind every place. */
const END = '\uffff';
const GONE: ObjectDigest = {
  version: 0,
  length: 0,
  isInline: false,
  states: new Uint8Array(),
  checks: new Uint32Array(),
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
  /** Whether more may be pushed just now; if not, `goOn` is called when it may. */
  readonly mayPush: (bytes: number) => boolean;
  /** It is over: the member is in sync, or it cannot be done now. */
  readonly over: (join: Join, isDone: boolean) => void;
}

/** One side of the walk. */
interface Side {
  entries: InventoryEntry[];
  after: Buffer | null;
  isAtEnd: boolean;
}

export class Join {
  readonly stream: MemberStream;
  readonly primary: GroupPrimary;
  readonly #parts: JoinParts;
  readonly #ours: Side = { entries: [], after: null, isAtEnd: false };
  readonly #theirs: Side = { entries: [], after: null, isAtEnd: false };
  /** All objects up to this place are complete, but for those in `#partial`. */
  #cursor = '';
  /** Objects of which changes were sent before they were compared. */
  readonly #partial = new Map<string, ObjectPlace>();
  /** The object that is being compared has been. */
  #completed: string | null = null;
  #owed: Entry[] = [];
  #phase: 'walking' | 'syncing' | 'requested' | 'over' = 'walking';
  #isBusy = false;
  #askedAt = -Infinity;

  constructor(parts: JoinParts) {
    this.#parts = parts;
    this.stream = parts.stream;
    this.primary = parts.primary;
  }

  get phase(): string {
    return this.#phase;
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
    if (this.#phase === 'over' || this.#isBusy) return;
    if (this.primary.hasFailed || this.primary.stream(this.stream.daemon) !== this.stream)
      this.#end(false);
    else if (this.stream.isInSync) this.#end(true);
    else if (this.#phase === 'walking') this.#walk();
    else if (this.#phase === 'syncing') this.#sync();
    else this.#request();
  }

  /** It is given up. */
  cancel(): void {
    if (this.#phase === 'over') return;
    this.primary.dropJoining(this.stream);
    this.#end(false);
  }

  #end(isDone: boolean): void {
    this.#phase = 'over';
    this.#parts.over(this, isDone);
  }

  #walk(): void {
    this.#owed = this.#owed.filter(({ pending }) => pending > 0);
    if (this.#owed.length >= OWED_MAX || !this.#parts.mayPush(0)) return;
    if (this.#needsPage(this.#ours)) this.#readOurs();
    else if (this.#needsPage(this.#theirs)) this.#askTheirs();
    else this.#next();
  }

  #needsPage({ entries, isAtEnd }: Side): boolean {
    return entries.length === 0 && !isAtEnd;
  }

  #readOurs(): void {
    const { store, range } = this.#parts;
    this.#busy((ready) =>
      store.inventory(range, this.#ours.after, PAGE, (error, page) => {
        if (error === null && page !== undefined) take(this.#ours, page.entries, page.next);
        ready(error === null);
      }),
    );
  }

  #askTheirs(): void {
    const { range } = this.#parts;
    const { after } = this.#theirs;
    this.#question(
      (id) => ({ type: 'askInventory', id, ...this.#group(), range, after, limit: PAGE }),
      (answer) => {
        if (answer.type !== 'inventory') return false;
        take(this.#theirs, answer.entries, answer.next);
        return true;
      },
    );
  }

  /** The next object in the order of both sides. */
  #next(): void {
    const [ours] = this.#ours.entries;
    const [theirs] = this.#theirs.entries;
    if (ours === undefined && theirs === undefined) {
      this.#rest();
      return;
    }
    const place = least(ours?.object.place ?? END, theirs?.object.place ?? END);
    const here = ours?.object.place === place ? ours : null;
    const there = theirs?.object.place === place ? theirs : null;
    if (here !== null) this.#ours.entries.shift();
    if (there !== null) this.#theirs.entries.shift();
    const object = (here ?? there)?.object;
    if (object === undefined) return;
    this.#parts.progress.objectsCompared += 1;
    const isTouched = this.#partial.has(place);
    if (
      here?.isBroken === true ||
      (here !== null && there !== null && !isTouched && areEqual(here, there))
    ) {
      this.#passed(place);
      this.goOn();
    } else this.#compare(object, there !== null || isTouched);
  }

  /** Objects that were changed before they were compared, and that neither walk has met: they are new. */
  #rest(): void {
    this.#cursor = END;
    for (const object of this.#partial.values()) {
      this.#compare(object, true);
      return;
    }
    this.#phase = 'syncing';
    this.goOn();
  }

  #compare(object: ObjectPlace, isThere: boolean): void {
    if (!isThere) {
      this.#level(object, null);
      return;
    }
    this.#question(
      (id) => ({ type: 'askDigest', id, ...this.#group(), object }),
      (answer) => {
        if (answer.type !== 'digest') return false;
        this.#level(object, answer.digest);
        return true;
      },
      { goesOn: true },
    );
  }

  /** Pushes what differs. @param theirs - Null: it is not there */
  #level(object: ObjectPlace, theirs: ObjectDigest | null): void {
    const { store, progress } = this.#parts;
    const { place } = object;
    // Its version may have been taken from a change of an operation a moment ago: then it does not mean what it says.
    const digest = this.#partial.has(place) ? { ...(theirs ?? GONE), version: 0 } : theirs;
    let hasPushed = false;
    this.#busy((ready) =>
      store.difference(
        object,
        digest,
        (change, isLast) => {
          hasPushed = true;
          const bytes = bytesOf(change);
          progress.bytesPushed += bytes;
          this.#parts.mayPush(bytes);
          if (isLast) this.#complete(place);
          const entry = this.primary.push(this.stream, change, !isLast);
          if (entry !== null) this.#owed.push(entry);
        },
        (error, found) => {
          if (hasPushed) progress.objectsPushed += 1;
          const isGood = error === null && found?.unverified.length === 0;
          if (isGood) this.#passed(place);
          // What cannot be read here is mended first, by a scrub or a read; the walk comes again.
          ready(isGood);
        },
      ),
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
    this.#question(
      (id) => ({ type: 'sync', id, pool }),
      (answer) => {
        if (answer.type !== 'synced' || !answer.isDone) return false;
        this.#phase = 'requested';
        return true;
      },
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

  /** Asks the member. @param options.goesOn - What takes the answer has begun something else */
  #question(
    make: (id: number) => PeerMessage,
    take: (answer: PeerMessage) => boolean,
    { goesOn = false }: { goesOn?: boolean } = {},
  ): void {
    this.#busy((ready) =>
      this.#parts.questions.ask(this.stream, make, (answer) => {
        if (this.#phase === 'over') return;
        if (answer === null) ready(false);
        else if (goesOn) {
          this.#isBusy = false;
          if (!take(answer)) ready(false);
        } else ready(take(answer));
      }),
    );
  }

  /** Does one thing that takes its time. */
  #busy(work: (ready: (isGood: boolean) => void) => void): void {
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

function take(side: Side, entries: readonly InventoryEntry[], next: Buffer | null): void {
  side.entries = [...entries];
  side.after = next;
  side.isAtEnd = next === null;
}

function areEqual(a: InventoryEntry, b: InventoryEntry): boolean {
  const isClosed = a.isClosed && b.isClosed && !a.isBroken && !b.isBroken;
  return isClosed && a.version === b.version && a.length === b.length;
}

function least(a: string, b: string): string {
  return a < b ? a : b;
}

function bytesOf(change: Change): number {
  if (change.op === 'write') return change.checks.length * 4096;
  return change.op === 'whole' ? change.content.length : 0;
}
