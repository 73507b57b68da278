/** A raise at the primary of a group, with one other member that does and says nothing by itself. */
import {
  encodeGuard,
  GUARD_BYTES,
  guardRef,
  OBJECT_KIND,
  ObjectRef,
  silentLog,
  StoreError,
  type Done,
  type Guard,
  type LayerClaim,
  type MapGroup,
  type MapPool,
} from '@store/core';
import t from 'tap';
import { changeGuard } from './change-guard.js';
import type { GroupHost, StartOf } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import { Group } from './group.js';
import { Leases } from './leases.js';
import type { PeerMessage, Prepare } from './peer-message.js';
import type { ReplicaPool } from './replica-pool.js';
import { REPLICATION_TIMING } from './timing.js';

const ME: StartOf = { daemon: 1, startId: 'a1' };
const OTHER: StartOf = { daemon: 2, startId: 'b2' };
const THIRD: StartOf = { daemon: 3, startId: 'c3' };
const GROUPS = 16;
const GROUP = 7;
const DATA = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

function guard(token: number): Guard {
  return { image: 'vm', token, layer: 0, layerId: 'layer' };
}

function claim(token: number): LayerClaim {
  return { image: 'vm', token, layer: 0, keyPrefix: 'layer_' };
}

/** All in sync; the first one is the primary. */
function mapGroup(epoch: number, first: StartOf, second: StartOf): MapGroup {
  const members = [first, second].map(({ daemon, startId }) => ({ daemon, inSync: startId }));
  return { epoch, hasPrimary: true, lostAt: 0, givenUpAt: 0, members };
}

class Story {
  readonly sent: { readonly to: number; readonly message: PeerMessage }[] = [];
  readonly group: Group;
  /** What is stored; null: nothing. */
  stored: Buffer | null;
  /** Writes of the record that the disk has not made yet. */
  readonly writing: (() => void)[] = [];
  /** Whoever looks for guards waits here. */
  readonly looking: (() => void)[] = [];

  constructor(stored: Buffer | null = null) {
    this.stored = stored;
    const leases = new Leases(REPLICATION_TIMING);
    const host: GroupHost = {
      ...{ now: 1000, self: ME, timing: REPLICATION_TIMING, log: silentLog, mapVersion: 1 },
      leases,
      canAsk: true,
      isLeaving: false,
      poolOf: () => ({ groups: Array.from({ length: GROUPS }) }) as unknown as MapPool,
      storeOf: () => this.store,
      startOf: (daemon) =>
        [ME, OTHER, THIRD].find((start) => start.daemon === daemon)?.startId ?? null,
      isUp: () => true,
      isStopping: () => false,
      send: (to, message) => this.sent.push({ to, message }),
      recall: () => undefined,
      ask: () => undefined,
      wantMap: () => undefined,
      sendMap: () => undefined,
      mend: () => undefined,
      areGoodNowhere: () => undefined,
      soon: (run) => setImmediate(run),
      membersChanged: () => undefined,
    };
    const grant = { type: 'grant', sentAt: 1000, mapVersion: 1, isFull: false } as const;
    leases.granted(OTHER.daemon, OTHER.startId, grant, 1000);
    this.group = new Group(host, 1, GROUP, () => undefined);
    this.group.mapIs(mapGroup(2, ME, OTHER));
    this.primary.tailIs(OTHER, { type: 'tail', pool: 1, group: GROUP, epoch: 2, entries: [] });
  }

  /** As the engine: a whole object is announced when it is made. */
  readonly store = {
    inventory: (...[range, , , done]: Parameters<ReplicaPool['inventory']>) => {
      const object = guardRef('vm', GROUP, GROUPS);
      const isIn = object.hash.high >= range.from && object.hash.high <= range.to;
      const known = { version: 1, length: GUARD_BYTES, isClosed: true, isBroken: false };
      const entries = isIn && this.stored !== null ? [{ object, ...known }] : [];
      this.looking.push(() => done(null, { entries, next: null }));
    },
    present: (...[object, , , emit, done]: Parameters<ReplicaPool['present']>) => {
      if (this.stored !== null) emit({ op: 'whole', object, version: 1, content: this.stored });
      done(null);
    },
    read: (_ref: ObjectRef, _offset: number, target: Buffer, done: Done) => {
      this.stored?.copy(target);
      done(null);
    },
    write: (
      object: ObjectRef,
      _offset: number,
      parts: readonly Buffer[],
      _flags: number,
      done: Done,
    ) => {
      const content = Buffer.concat(parts);
      this.writing.push(() => {
        const version = this.group.nextVersion(0);
        if (version === 0) {
          done(new StoreError('E_STALE_MAP', 'Nothing is changed here any more'));
          return;
        }
        this.stored = content;
        this.group.changed({ op: 'whole', object, version, content });
        done(null);
      });
    },
  } as unknown as ReplicaPool;

  get primary(): GroupPrimary {
    const { primary } = this.group;
    if (primary === null) throw new Error('it is the primary');
    return primary;
  }

  /** It serves from now on. */
  begin(): this {
    for (const look of this.looking.splice(0)) look();
    return this;
  }

  /** @returns What it ends with, when it has */
  raise(token: number): { readonly codes: (string | null)[] } {
    const codes: (string | null)[] = [];
    changeGuard(this.primary, {
      ...{ store: this.store, groupCount: GROUPS, epoch: this.group.epoch },
      change: { kind: 'raise', guard: guard(token) },
      done: (error) => codes.push(error?.code ?? null),
    });
    return { codes };
  }

  disk(): void {
    for (const write of this.writing.splice(0)) write();
  }

  prepares(to: StartOf): Prepare[] {
    return this.sent.flatMap(({ to: daemon, message }) =>
      daemon === to.daemon && message.type === 'prepare' ? [message] : [],
    );
  }

  /** A member has made all that it was sent. */
  acknowledges(from: StartOf): void {
    const indexes = this.prepares(from).map(({ index }) => index);
    this.primary.acknowledged(from, this.group.epoch, indexes);
  }

  refusal(token: number): string | null {
    return this.primary.guards.refusal(claim(token), DATA)?.code ?? null;
  }
}

t.test('a new primary serves nobody before it has read its guards', async (t) => {
  const story = new Story(encodeGuard(guard(5)));
  const codes: (string | null)[] = [];
  const run = (): void => void codes.push(story.refusal(4), story.refusal(5));
  story.primary.admit(2, true, run, (error) => codes.push(error?.code ?? null));
  t.same(codes, []);
  t.equal(story.primary.isServing, false);
  story.begin();
  t.equal(story.primary.isServing, true);
  t.same(codes, ['E_FENCED', null]);
});

t.test('who leads again goes by what is stored, not by what it had let in', async (t) => {
  for (const isStored of [false, true]) {
    const story = new Story(encodeGuard(guard(5))).begin();
    story.raise(6);
    t.equal(story.refusal(5), 'E_FENCED');
    if (isStored) story.disk();
    story.group.mapIs(mapGroup(3, OTHER, ME));
    story.disk();
    story.group.mapIs(mapGroup(4, ME, OTHER));
    const said = { type: 'tail', pool: 1, group: GROUP, epoch: 4, entries: [] } as const;
    story.primary.tailIs(OTHER, said);
    story.begin();
    t.equal(story.primary.isServing, true);
    t.equal(story.refusal(5), isStored ? 'E_FENCED' : null);
    t.same(story.raise(6).codes, [], 'whoever wanted it asks again');
    t.equal(story.refusal(5), 'E_FENCED');
  }
});

t.test('a raise counts at once, and is answered when all before it are over', async (t) => {
  const story = new Story().begin();
  const before = story.primary.rounds.begin();
  const { codes } = story.raise(5);
  t.equal(story.refusal(4), 'E_FENCED', 'nothing of the old writer is let in');
  t.equal(story.refusal(5), null);
  t.same(story.prepares(OTHER), [], 'and nobody has heard of it yet');
  const after = story.primary.rounds.begin();
  story.disk();
  t.match(story.prepares(OTHER), [{ change: { op: 'whole', object: { kind: 4 } } }]);
  t.same(codes, []);
  story.acknowledges(OTHER);
  t.same(codes, [], 'a write that was let in before is not made yet');
  story.primary.rounds.end(before);
  t.same(codes, [null]);
  story.primary.rounds.end(after);
  t.same(codes, [null]);
});

t.test('a raise that comes twice is answered twice, a lower one is refused', async (t) => {
  const story = new Story().begin();
  const first = story.raise(5);
  const second = story.raise(5);
  story.disk();
  story.acknowledges(OTHER);
  t.same([first.codes, second.codes], [[null], [null]]);
  t.same(story.raise(4).codes, ['E_FENCED']);
  t.equal(story.writing.length, 0);
});

t.test('a primary that is deposed does not answer a raise as made', async (t) => {
  for (const isStored of [false, true]) {
    const story = new Story().begin();
    const { codes } = story.raise(5);
    if (isStored) story.disk();
    story.group.mapIs(mapGroup(3, OTHER, ME));
    story.disk();
    t.same(codes, ['E_STALE_MAP']);
  }
});

t.test('a member that joins during a raise must have its record as well', async (t) => {
  const story = new Story().begin();
  const { codes } = story.raise(5);
  story.primary.addJoining(THIRD, 1);
  story.disk();
  t.equal(story.prepares(THIRD).length, 1);
  story.acknowledges(OTHER);
  t.same(codes, [], 'it is waited for, as for any change');
  story.acknowledges(THIRD);
  t.same(codes, [null]);
});
