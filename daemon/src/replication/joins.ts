/** Which members join which groups now, how fast, and when what failed is tried again. */
import type { GroupHost } from './group-host.js';
import type { Group } from './group.js';
import type { GroupPrimary } from './group-primary.js';
import { Join, joinersOf, rangeOf, type JoinProgress } from './join.js';
import type { MemberStream } from './member-stream.js';
import type { PeerQuestions } from './peer-questions.js';
import type { Mend } from './read-repair.js';
import type { Change } from './change.js';
import { RecoveryPace } from './recovery-pace.js';

/** Joins of this daemon's groups at a time; the others wait for their turn. */
const ACTIVE_MAX = 4;
const BACK_OFF_MS = 500;
const BACK_OFF_MS_MAX = 30_000;

/** What is known of one member that joined, or tried to. */
interface Attempts {
  count: number;
  failures: number;
  notBefore: number;
}

export class Joins {
  readonly progress: JoinProgress = { objectsCompared: 0, objectsPushed: 0, bytesPushed: 0 };
  readonly pace: RecoveryPace;
  readonly #host: GroupHost;
  readonly #questions: PeerQuestions;
  readonly #mend: Mend;
  readonly #active = new Map<MemberStream, Join>();
  readonly #attempts = new Map<string, Attempts>();
  /** `goOn` will be called when the pace has something for them again. */
  #isWaking = false;
  /** By pool: what the joins that are over have gone through, in copies of groups. */
  readonly #copiesDone = new Map<number, number>();

  constructor(host: GroupHost, questions: PeerQuestions, mend: Mend) {
    this.#mend = mend;
    this.#host = host;
    this.#questions = questions;
    this.pace = new RecoveryPace();
  }

  get activeCount(): number {
    return this.#active.size;
  }

  /** Copies of groups of a pool that were gone through since the start, with the parts of those under way. */
  copiesDone(pool: number): number {
    let copies = this.#copiesDone.get(pool) ?? 0;
    for (const { primary, shareDone } of this.#active.values())
      if (primary.pool === pool) copies += shareDone;
    return copies;
  }

  /** Members that a group has to bring in sync and could, and how much of their copies is still to be gone through. */
  ahead({ primary, map }: Group): { joining: number; copiesLeft: number } {
    let [joining, copiesLeft] = [0, 0];
    for (const daemon of primary === null || map === null ? [] : joinersOf(map)) {
      const startId = this.#host.startOf(daemon);
      if (startId === null || !this.mayJoin(daemon, startId)) continue;
      const stream = primary?.stream(daemon);
      const join = stream === undefined ? undefined : this.#active.get(stream);
      joining += 1;
      copiesLeft += 1 - (join?.shareDone ?? 0);
    }
    return { joining, copiesLeft };
  }

  /** Who stops would be waited for again. */
  mayJoin(daemon: number, startId: string): boolean {
    return this.#host.isUp(daemon, startId) && !this.#host.isStopping(daemon, startId);
  }

  /** A primary has begun: it asks here how complete the copies of members are. */
  serve(primary: GroupPrimary): void {
    primary.isPartial = (stream, change) => this.#isPartial(stream, change);
  }

  /** Something that joins may wait for has happened. */
  goOn(): void {
    for (const join of [...this.#active.values()]) join.goOn();
  }

  /** Changes of a stream were acknowledged. */
  acknowledged(stream: MemberStream | undefined): void {
    if (stream !== undefined) this.#active.get(stream)?.goOn();
  }

  /** To be called often, with all groups that this daemon serves. */
  tick(groups: Iterable<Group>): void {
    this.pace.tick(this.#host.now);
    this.goOn();
    for (const group of groups) {
      const { primary, map } = group;
      if (primary?.isServing !== true || map === null) continue;
      // Of a join that ended while the masters were asked to list the member, and did not.
      for (const stream of [...primary.streams])
        if (!stream.isCounted && !this.#active.has(stream)) primary.dropJoining(stream);
      for (const daemon of joinersOf(map)) this.#begin(group, primary, daemon);
    }
  }

  #begin(group: Group, primary: GroupPrimary, daemon: number): void {
    const host = this.#host;
    const startId = host.startOf(daemon);
    const store = host.storeOf(group.pool);
    const pool = host.poolOf(group.pool);
    if (startId === null || store === null || pool === undefined) return;
    if (primary.stream(daemon) !== undefined || !this.mayJoin(daemon, startId)) return;
    if (host.leases.isFull(daemon) || this.#active.size >= ACTIVE_MAX) return;
    const key = `${group.key} ${daemon} ${startId}`;
    const attempts = this.#attempts.get(key) ?? { count: 0, failures: 0, notBefore: 0 };
    if (host.now < attempts.notBefore) return;
    attempts.count += 1;
    this.#attempts.set(key, attempts);
    const stream = primary.addJoining({ daemon, startId }, attempts.count);
    const join = new Join({
      ...{ host, questions: this.#questions, primary, stream, store },
      range: rangeOf(pool, group.number),
      progress: this.progress,
      mend: (object, done) => this.#mend(primary, store, object, done),
      mayPush: (bytes) => this.#mayPush(bytes),
      over: (one, isDone) => {
        this.#active.delete(one.stream);
        const before = this.#copiesDone.get(group.pool) ?? 0;
        this.#copiesDone.set(group.pool, before + one.shareDone);
        if (isDone) this.#attempts.delete(key);
        else {
          attempts.failures += 1;
          const pauseMs = Math.min(BACK_OFF_MS * 2 ** attempts.failures, BACK_OFF_MS_MAX);
          attempts.notBefore = host.now + pauseMs;
        }
      },
    });
    this.#active.set(stream, join);
    primary.catchUp(stream);
    host.soon(() => join.goOn());
  }

  #mayPush(bytes: number): boolean {
    const mayPush = this.pace.mayPush(bytes, this.#host.now);
    if (!mayPush && !this.#isWaking) {
      this.#isWaking = true;
      this.#host.soon(() => {
        this.#isWaking = false;
        this.goOn();
      }, this.pace.waitMs);
    }
    return mayPush;
  }

  #isPartial(stream: MemberStream, change: Change): boolean {
    if (stream.isCounted) return false;
    return this.#active.get(stream)?.isPartial(change) ?? true;
  }
}
