/** Walks through the objects of two copies of a group, this daemon's and another member's, in one order: (hash, key). */
import type { StartOf } from './group-host.js';
import type { ObjectPlace } from './change.js';
import type { GroupEpoch } from './peer-message.js';
import type { PeerQuestions } from './peer-questions.js';
import type { HashRange, InventoryEntry, ReplicaPool } from './replica-pool.js';

/** Entries of an inventory that are asked for at once. */
const PAGE = 256;

/** An object that at least one of the two has. */
export interface Pair {
  readonly object: ObjectPlace;
  readonly ours: InventoryEntry | null;
  readonly theirs: InventoryEntry | null;
}

export interface PairWalkParts {
  readonly store: ReplicaPool;
  readonly questions: PeerQuestions;
  readonly range: HashRange;
  readonly member: StartOf;
  /** As it is when something is asked: the epoch may change on the way. */
  readonly group: () => GroupEpoch;
}

interface Side {
  entries: InventoryEntry[];
  /** How many of them were taken. */
  at: number;
  after: Buffer | null;
  isAtEnd: boolean;
}

export class PairWalk {
  readonly #parts: PairWalkParts;
  readonly #ours: Side = { entries: [], at: 0, after: null, isAtEnd: false };
  readonly #theirs: Side = { entries: [], at: 0, after: null, isAtEnd: false };

  constructor(parts: PairWalkParts) {
    this.#parts = parts;
  }

  /** Finds the next object. Once at a time. @param done - Null: that was all; `failed`: one of the two did not say */
  next(done: (found: Pair | null | 'failed') => void): void {
    if (needsPage(this.#ours)) this.#readOurs(done);
    else if (needsPage(this.#theirs)) this.#askTheirs(done);
    else done(this.#take());
  }

  #readOurs(done: (found: Pair | null | 'failed') => void): void {
    const { store, range } = this.#parts;
    store.inventory(range, this.#ours.after, PAGE, (error, page) => {
      if (error !== null || page === undefined) done('failed');
      else {
        fill(this.#ours, page.entries, page.next);
        this.next(done);
      }
    });
  }

  #askTheirs(done: (found: Pair | null | 'failed') => void): void {
    const { questions, member, range, group } = this.#parts;
    const { after } = this.#theirs;
    questions.ask(
      member,
      (id) => ({ type: 'askInventory', id, ...group(), range, after, limit: PAGE }),
      (answer) => {
        if (answer?.type !== 'inventory') done('failed');
        else {
          fill(this.#theirs, answer.entries, answer.next);
          this.next(done);
        }
      },
    );
  }

  #take(): Pair | null {
    const ours = this.#ours.entries[this.#ours.at];
    const theirs = this.#theirs.entries[this.#theirs.at];
    if (ours === undefined && theirs === undefined) return null;
    const isOurs =
      ours !== undefined && (theirs === undefined || ours.object.place <= theirs.object.place);
    const isTheirs =
      theirs !== undefined && (ours === undefined || theirs.object.place <= ours.object.place);
    if (isOurs) this.#ours.at += 1;
    if (isTheirs) this.#theirs.at += 1;
    const { object } = (isOurs ? ours : theirs) as InventoryEntry; // one of them is there
    return { object, ours: isOurs ? ours : null, theirs: isTheirs ? theirs : null };
  }
}

/** Whether two closed copies are certainly equal: versions are never given twice. */
export function areEqual({ ours, theirs }: Pair): boolean {
  if (ours === null || theirs === null) return false;
  const isClosed = ours.isClosed && theirs.isClosed && !ours.isBroken && !theirs.isBroken;
  return isClosed && ours.version === theirs.version && ours.length === theirs.length;
}

function needsPage({ entries, at, isAtEnd }: Side): boolean {
  return at === entries.length && !isAtEnd;
}

function fill(side: Side, entries: readonly InventoryEntry[], next: Buffer | null): void {
  side.entries = [...entries];
  side.at = 0;
  side.after = next;
  side.isAtEnd = next === null;
}
