/**
 * Looks through the groups that this daemon is primary of, so that damage is found while there is a good copy to mend it
 * from. Light, once a day: do all members have the same objects in the same versions? Deep, once a week: is every byte what
 * its checksum says, on every member, and are the copies equal?
 *
 * Only what was read and verified is ever pushed. Where two verified copies of one version differ the primary's wins; that
 * must not happen, and is counted apart.
 *
 * One group at a time, spread over the period, paced by how long each object takes. When each group was done last is kept, so
 * a restart goes on where it was.
 */
import type { ScrubCounts, ScrubFinding, ScrubKind } from '@store/core';
import type { ObjectPlace } from './change.js';
import type { GroupHost } from './group-host.js';
import type { Group } from './group.js';
import type { GroupPrimary } from './group-primary.js';
import { rangeOf } from './join.js';
import type { MemberStream } from './member-stream.js';
import { areEqual, PairWalk, type Pair } from './pair-walk.js';
import type { PeerQuestions } from './peer-questions.js';
import type { Mend } from './read-repair.js';
import type { ObjectDigest, ReplicaPool } from './replica-pool.js';

export interface ScrubPeriods {
  readonly lightSeconds: number;
  readonly deepSeconds: number;
}

export const SCRUB_PERIODS: ScrubPeriods = { lightSeconds: 86_400, deepSeconds: 7 * 86_400 };

type ScrubFound = { -readonly [Name in keyof ScrubCounts]: ScrubCounts[Name] };

/** When a group was done last, seconds since 1970; 0: never. */
export interface ScrubTimes {
  light: number;
  deep: number;
}

/** Keeps what must outlive the process. */
export interface ScrubNotes {
  read(): ReadonlyMap<string, ScrubTimes>;
  write(times: ReadonlyMap<string, ScrubTimes>): void;
}

export interface ScrubParts {
  readonly host: GroupHost;
  readonly questions: PeerQuestions;
  readonly notes: ScrubNotes;
  readonly periods: ScrubPeriods;
  readonly wallSeconds: () => number;
  /** 0 <= n < 1. */
  readonly random: () => number;
  readonly after: (ms: number, run: () => void) => void;
  /** Mends blocks of this daemon's own copy. */
  readonly mend: Mend;
}

const FINDINGS_MAX = 1000;
/** After an object nothing is done for so many times as long as it took. */
const REST_SHARE = 2;
const REST_MS_MIN = 2;
/** What takes longer than it does to read an object is time in which others did not answer. */
const REST_MS_MAX = 10_000;
/** Copies that differ may only be on their way to be equal: looked at so often before it counts. */
const LOOKS_MAX = 4;
const LOOK_AGAIN_MS = 1000;
const LOOK_FOR_WORK_MS = 1000;

const NEVER: ScrubTimes = { light: 0, deep: 0 };

interface Run {
  readonly kind: ScrubKind;
  readonly group: Group;
  readonly primary: GroupPrimary;
  readonly store: ReplicaPool;
  readonly members: MemberStream[];
}

export class Scrub {
  readonly found: ScrubFound = {
    ...{ groupsDone: 0, objectsDone: 0, errors: 0 },
    ...{ repaired: 0, contradictions: 0 },
  };
  readonly findings: ScrubFinding[] = [];
  readonly #parts: ScrubParts;
  /** As they are kept: of groups that were done. */
  readonly #times: Map<string, ScrubTimes>;
  /** Where the periods of groups begin that were never done. */
  readonly #begins = new Map<string, ScrubTimes>();
  readonly #foundIn = new Map<number, Pick<ScrubFound, 'errors' | 'repaired'>>();
  /** Groups that somebody wants to be done now. */
  readonly #wanted = new Map<string, ScrubKind>();
  #run: Run | null = null;
  #lookedAt = -Infinity;

  constructor(parts: ScrubParts) {
    this.#parts = parts;
    this.#times = new Map(parts.notes.read());
  }

  /** The group that is being looked through. */
  get running(): {
    readonly pool: number;
    readonly group: number;
    readonly kind: ScrubKind;
  } | null {
    const run = this.#run;
    return run === null ? null : { pool: run.group.pool, group: run.group.number, kind: run.kind };
  }

  get wantedCount(): number {
    return this.#wanted.size;
  }

  /** What was found of one pool. */
  foundIn(pool: number): Readonly<Pick<ScrubFound, 'errors' | 'repaired'>> {
    return this.#foundIn.get(pool) ?? { errors: 0, repaired: 0 };
  }

  /** Somebody wants these groups to be done now. */
  start(groups: Iterable<Group>, kind: ScrubKind): number {
    let count = 0;
    for (const { primary, key } of groups) {
      if (primary === null) continue;
      this.#wanted.set(key, kind);
      count += 1;
    }
    this.#lookedAt = -Infinity;
    return count;
  }

  /** The oldest times of those groups that this daemon leads: how up to date all of it is. 0: one was never done. */
  oldest(groups: Iterable<Group>): ScrubTimes {
    const oldest = { light: Infinity, deep: Infinity };
    for (const { primary, key } of groups) {
      if (primary === null) continue;
      const { light, deep } = this.#times.get(key) ?? NEVER;
      oldest.light = Math.min(oldest.light, light);
      oldest.deep = Math.min(oldest.deep, deep);
    }
    return {
      light: oldest.light === Infinity ? 0 : oldest.light,
      deep: oldest.deep === Infinity ? 0 : oldest.deep,
    };
  }

  /** To be called often, with all groups of this daemon. */
  tick(groups: Iterable<Group>): void {
    const { now } = this.#parts.host;
    if (this.#run !== null || now - this.#lookedAt < LOOK_FOR_WORK_MS) return;
    this.#lookedAt = now;
    for (const group of groups) {
      // Whoever leads it now was not asked.
      if (group.primary === null) this.#wanted.delete(group.key);
      const kind = this.#due(group);
      if (kind !== null && this.#begin(group, kind)) return;
    }
  }

  /** What is to be done with a group now; null: nothing. */
  #due({ key, primary }: Group): ScrubKind | null {
    if (primary?.isServing !== true) return null;
    const wanted = this.#wanted.get(key);
    if (wanted !== undefined) return wanted;
    const { periods, wallSeconds, random } = this.#parts;
    const seconds = wallSeconds();
    let begin = this.#begins.get(key);
    if (begin === undefined) {
      // All at once would be as bad as none.
      begin = {
        light: seconds - random() * periods.lightSeconds,
        deep: seconds - random() * periods.deepSeconds,
      };
      this.#begins.set(key, begin);
    }
    const done = this.#times.get(key) ?? NEVER;
    if (seconds - (done.deep || begin.deep) > periods.deepSeconds) return 'deep';
    return seconds - (done.light || begin.light) > periods.lightSeconds ? 'light' : null;
  }

  #begin(group: Group, kind: ScrubKind): boolean {
    const { primary } = group;
    const store = this.#parts.host.storeOf(group.pool);
    if (primary === null || store === null) return false;
    const members = [...primary.streams].filter(({ isInSync }) => isInSync);
    const run: Run = { kind, group, primary, store, members };
    this.#run = run;
    if (kind === 'deep') this.#verifyOwn(run);
    else this.#nextMember(run);
    return true;
  }

  #end(run: Run, isDone: boolean): void {
    this.#run = null;
    this.#wanted.delete(run.group.key);
    if (!isDone) return;
    const seconds = this.#parts.wallSeconds();
    const { light, deep } = this.#times.get(run.group.key) ?? NEVER;
    this.#times.set(run.group.key, {
      light: Math.max(light, seconds),
      deep: run.kind === 'deep' ? seconds : deep,
    });
    this.found.groupsDone += 1;
    this.#parts.notes.write(this.#times);
  }

  #isOver({ primary }: Run): boolean {
    return primary.hasFailed;
  }

  /** Every object of the primary's own copy. */
  #verifyOwn(run: Run): void {
    const { host, mend } = this.#parts;
    const pool = host.poolOf(run.group.pool);
    if (pool === undefined) {
      this.#end(run, false);
      return;
    }
    const page = (after: Buffer | null): void => {
      run.store.inventory(rangeOf(pool, run.group.number), after, 64, (error, found) => {
        if (error !== null || found === undefined || this.#isOver(run)) {
          this.#end(run, false);
          return;
        }
        const entries = [...found.entries];
        const next = (): void => {
          const entry = entries.shift();
          if (this.#isOver(run)) this.#end(run, false);
          else if (entry === undefined)
            if (found.next === null) this.#nextMember(run);
            else page(found.next);
          else if (entry.isBroken) {
            this.#note(run, host.self.daemon, entry.object, 'its record is damaged', false);
            mend(run.primary, run.store, entry.object, () => this.#rest(1, next));
          } else verify(entry.object, next);
        };
        const verify = (object: ObjectPlace, goOn: () => void): void => {
          const startedAt = host.now;
          run.store.verify(object, (failure, bad) => {
            this.found.objectsDone += 1;
            const over = (): void => this.#rest(host.now - startedAt, goOn);
            if (failure !== null || bad === undefined || bad === null || bad.length === 0) over();
            else
              mend(run.primary, run.store, object, (isMended) => {
                const what = `${bad.length} blocks did not match their checksums`;
                this.#note(run, host.self.daemon, object, what, isMended);
                over();
              });
          });
        };
        next();
      });
    };
    page(null);
  }

  #nextMember(run: Run): void {
    const member = run.members.shift();
    const { host, questions } = this.#parts;
    const pool = host.poolOf(run.group.pool);
    if (this.#isOver(run) || pool === undefined) {
      this.#end(run, false);
      return;
    }
    if (member === undefined) {
      this.#end(run, true);
      return;
    }
    const walk = new PairWalk({
      ...{ store: run.store, questions, member },
      range: rangeOf(pool, run.group.number),
      group: () => groupOf(run.primary),
    });
    const next = (): void =>
      walk.next((found) => {
        if (found === 'failed' || this.#isOver(run)) this.#end(run, false);
        else if (found === null) this.#nextMember(run);
        else this.#pair(run, member, found, next);
      });
    next();
  }

  #pair(run: Run, member: MemberStream, pair: Pair, done: () => void): void {
    const startedAt = this.#parts.host.now;
    const over = (): void => this.#rest(this.#parts.host.now - startedAt, done);
    if (pair.ours?.isBroken === true)
      over(); // this daemon's own copy is mended first
    else if (run.kind === 'deep') this.#verifyTheirs(run, member, pair.object, over);
    else if (areEqual(pair)) {
      this.found.objectsDone += 1;
      over();
    } else this.#compare(run, member, pair.object, 1, over);
  }

  #verifyTheirs(run: Run, member: MemberStream, object: ObjectPlace, done: () => void): void {
    this.#parts.questions.ask(
      member,
      (id) => ({ type: 'askVerify', id, ...groupOf(run.primary), object }),
      (answer) => {
        const bad = answer?.type === 'verified' ? (answer.bad ?? []) : [];
        this.found.objectsDone += 1;
        if (bad.length === 0) {
          this.#compare(run, member, object, 1, done);
          return;
        }
        const push = (blocks: readonly number[]): void => {
          const [block, ...rest] = blocks;
          if (block === undefined || this.#isOver(run)) {
            done();
            return;
          }
          run.store.present(
            object,
            block,
            block,
            (change) => run.primary.push(member, change, false),
            (error) => {
              const what = `block ${block} did not match its checksum`;
              this.#note(run, member.daemon, object, what, error === null);
              push(rest);
            },
          );
        };
        push(bad);
      },
    );
  }

  /** Whether the two copies are equal; copies that clients are changing are given time to become so. */
  #compare(
    run: Run,
    member: MemberStream,
    object: ObjectPlace,
    looks: number,
    done: () => void,
  ): void {
    this.#parts.questions.ask(
      member,
      (id) => ({ type: 'askDigest', id, ...groupOf(run.primary), object }),
      (answer) => {
        if (answer?.type !== 'digest' || this.#isOver(run)) {
          done();
          return;
        }
        const theirs = answer.digest;
        run.store.digest(object, (error, ours) => {
          if (error !== null || ours === undefined || sameDigests(ours, theirs)) done();
          else if (looks < LOOKS_MAX)
            this.#parts.after(LOOK_AGAIN_MS, () =>
              this.#compare(run, member, object, looks + 1, done),
            );
          else this.#level(run, member, object, ours, theirs, done);
        });
      },
    );
  }

  #level(
    run: Run,
    member: MemberStream,
    object: ObjectPlace,
    ours: ObjectDigest | null,
    theirs: ObjectDigest | null,
    done: () => void,
  ): void {
    const isContradiction =
      theirs?.version === ours?.version &&
      theirs?.unknown.length === 0 &&
      ours?.unknown.length === 0;
    if (isContradiction) this.found.contradictions += 1;
    const what = isContradiction
      ? 'its copies have one version and other bytes'
      : theirs === null
        ? 'it was missing'
        : ours === null
          ? 'it was not deleted'
          : 'it was another version';
    run.store.difference(
      object,
      theirs === null ? null : { ...theirs, version: 0 },
      (change, isLast) => {
        // What says that the copy is complete is not sent if something was left out.
        const isEnd = change.op === 'states' && change.count === 0;
        if (isLast || !isEnd) run.primary.push(member, change, false);
      },
      (error, found) => {
        const isWhole = error === null && found?.unverified.length === 0;
        this.#note(run, member.daemon, object, what, isWhole);
        done();
      },
    );
  }

  #note(
    { group }: Run,
    daemon: number,
    object: ObjectPlace,
    what: string,
    isRepaired: boolean,
  ): void {
    const { errors, repaired } = this.foundIn(group.pool);
    const repairs = isRepaired ? 1 : 0;
    this.#foundIn.set(group.pool, { errors: errors + 1, repaired: repaired + repairs });
    this.found.errors += 1;
    this.found.repaired += repairs;
    const finding = {
      number: this.found.errors,
      ...{ pool: group.pool, group: group.number, daemon, what, isRepaired },
      object: object.key.toString('latin1').replace(/[^\x20-\x7e]/g, '?'),
    };
    this.findings.push(finding);
    if (this.findings.length > FINDINGS_MAX) this.findings.shift();
    this.#parts.host.log.error(finding, `A scrub has found an object of which ${what}`);
  }

  #rest(tookMs: number, goOn: () => void): void {
    const ms = Math.min(Math.max(REST_MS_MIN, tookMs * REST_SHARE), REST_MS_MAX);
    this.#parts.after(ms, goOn);
  }
}

function groupOf({ pool, number: group, epoch }: GroupPrimary): {
  pool: number;
  group: number;
  epoch: number;
} {
  return { pool, group, epoch };
}

function sameDigests(a: ObjectDigest | null, b: ObjectDigest | null): boolean {
  if (a === null || b === null) return a === b;
  const sameHeads = a.version === b.version && a.length === b.length && a.isInline === b.isInline;
  return (
    sameHeads &&
    a.unknown.length === 0 &&
    b.unknown.length === 0 &&
    Buffer.from(a.states).equals(Buffer.from(b.states)) &&
    a.checks.length === b.checks.length &&
    a.checks.every((check, index) => check === b.checks[index]) &&
    a.prints.every((print, index) => print === b.prints[index])
  );
}
