/** One group on one of its members: what it does when a change that others were told of cannot be made here. */
import {
  BLOCK_STATE,
  ObjectRef,
  OBJECT_KIND,
  silentLog,
  StoreError,
  type Done,
  type MapGroup,
  type MapPool,
} from '@store/core';
import t from 'tap';
import type { Change } from './change.js';
import type { GroupHost, StartOf } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import { Group } from './group.js';
import { Leases } from './leases.js';
import type { PeerMessage } from './peer-message.js';
import type { ReplicaPool } from './replica-pool.js';
import { REPLICATION_TIMING } from './timing.js';

const ME: StartOf = { daemon: 1, startId: 'a1' };
const OTHER: StartOf = { daemon: 2, startId: 'b2' };
const THIRD: StartOf = { daemon: 3, startId: 'c3' };
const OBJECT = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

function change(version: number): Change {
  return {
    ...{ op: 'states', object: OBJECT, version, first: 3, count: 1 },
    ...{ state: BLOCK_STATE.absent, length: 4096 * 4 },
  };
}

/** The primary first. @param inSync - Of the members */
function mapGroup(epoch: number, ...members: [StartOf, boolean][]): MapGroup {
  return {
    epoch,
    hasPrimary: true,
    lostAt: 0,
    givenUpAt: 0,
    members: members.map(([{ daemon, startId }, inSync]) => ({
      daemon,
      inSync: inSync ? startId : null,
    })),
  };
}

/** A group on daemon 1, whose other member does and says nothing by itself. */
class GroupAlone {
  readonly asked: string[] = [];
  readonly sent: PeerMessage[] = [];
  /** Changes of the other one that are being made. */
  readonly applying: Done[] = [];
  /** Flushes of what was made. */
  readonly flushing: Done[] = [];
  /** What the others say of blocks that are bad here and could not be mended. */
  areGoodNowhere = false;
  isLeaving = false;
  readonly stopping = new Set<string>();
  readonly group: Group;

  constructor() {
    // Nothing was made before, and no image has a guard, so that a new primary has nothing to read.
    const inventory: ReplicaPool['inventory'] = (...[, , , done]) =>
      done(null, { entries: [], next: null });
    const store = {
      inventory,
      apply: (made: Change, done: Done) => {
        if (made.op !== 'states' || made.count > 0) this.applying.push(done);
      },
      flush: (done) => this.flushing.push(done),
      present: (...[, , , , done]) => done(new StoreError('E_CHECKSUM', 'Block 3 is bad')),
    } as Partial<ReplicaPool> as ReplicaPool;
    const pool = { groups: Array.from({ length: 16 }) } as unknown as MapPool;
    const isLeaving = (): boolean => this.isLeaving;
    const host: GroupHost = {
      get isLeaving() {
        return isLeaving();
      },
      ...{ now: 1000, self: ME, timing: REPLICATION_TIMING, log: silentLog, mapVersion: 1 },
      leases: new Leases(REPLICATION_TIMING),
      canAsk: true,
      poolOf: () => pool,
      storeOf: () => store,
      startOf: (daemon) => (daemon === OTHER.daemon ? OTHER.startId : ME.startId),
      isUp: () => true,
      isStopping: (_, startId) => this.stopping.has(startId),
      send: (_daemon, message) => this.sent.push(message),
      recall: () => undefined,
      ask: (kind, { epoch }) => this.asked.push(`${kind} ${epoch}`),
      wantMap: () => undefined,
      sendMap: () => undefined,
      mend: (...[, , , done]) => done(false),
      areGoodNowhere: (...[, , , , done]) => done(this.areGoodNowhere),
      soon: (run) => setImmediate(run),
      membersChanged: () => undefined,
    };
    this.group = new Group(host, 1, 7, () => undefined);
  }

  get primary(): GroupPrimary {
    const { primary } = this.group;
    if (primary === null) throw new Error('it is the primary');
    return primary;
  }

  /** The other one, as the primary, sends its first change: in each epoch that it is sent in the same one. */
  prepare(epoch: number, made: Change, isPartial = false): void {
    this.group.prepare(OTHER, {
      ...{ type: 'prepare', pool: 1, group: 7, epoch, index: 0, number: 2 * 2 ** 32 + 1 },
      ...{ committed: 0, isPartial, change: made },
    });
  }

  /** What the next primary is told of what was made here. */
  tailFor(epoch: number): unknown {
    this.sent.length = 0;
    this.group.askTail(OTHER, { type: 'askTail', pool: 1, group: 7, epoch });
    return this.sent.find(({ type }) => type === 'tail');
  }
}

t.test('who lacks what a joining member may have gives up when that one is in sync', (t) => {
  for (const isListed of [true, false]) {
    const { group, primary, asked, sent } = started();
    primary.addJoining(OTHER, 1).isRequested = true;
    const version = group.nextVersion(0);
    group.changed(change(version));
    t.match(sent, [{ type: 'prepare', change: { version } }], 'the member is told of it');
    group.notMade(true);
    t.equal(primary.hasFailed, false, 'nobody else could serve yet');
    group.mapIs(mapGroup(3, [ME, true], [OTHER, isListed]));
    t.equal(primary.hasFailed, isListed);
    t.same(asked, isListed ? ['resign 3'] : []);
    group.mapIs(mapGroup(4, [ME, true], [OTHER, true]));
    t.equal(primary.hasFailed, true, 'who joined anew leads just as well');
  }
  t.end();
});

function started(): GroupAlone {
  const alone = new GroupAlone();
  alone.group.mapIs(mapGroup(2, [ME, true], [OTHER, false]));
  return alone;
}

t.test('what is made after its primary gave up is told to whoever leads next', (t) => {
  const alone = new GroupAlone();
  const { group } = alone;
  group.mapIs(mapGroup(2, [ME, true], [OTHER, true]));
  group.primary?.tailIs(OTHER, { type: 'tail', pool: 1, group: 7, epoch: 2, entries: [] });
  const version = group.nextVersion(0);
  t.not(version, 0);
  alone.primary.giveUp('of something else');
  group.changed(change(version));
  t.match(
    alone.sent.filter(({ type }) => type === 'prepare'),
    [],
    'nobody was told',
  );
  group.mapIs(mapGroup(3, [OTHER, true], [ME, true]));
  t.match(alone.tailFor(3), { entries: [{ object: OBJECT }] });
  t.end();
});

t.test('a new primary whose block is bad leads only if nobody has it good', (t) => {
  for (const isNowhere of [true, false]) {
    const alone = new GroupAlone();
    alone.areGoodNowhere = isNowhere;
    alone.group.mapIs(mapGroup(2, [ME, true], [OTHER, true]));
    const entries = [{ object: OBJECT, first: 3, last: 3 }];
    alone.primary.tailIs(OTHER, { type: 'tail', pool: 1, group: 7, epoch: 2, entries });
    t.equal(alone.primary.isServing, isNowhere);
    t.same(alone.asked, isNowhere ? [] : ['resign 2']);
  }
  t.end();
});

t.test('who begins to join hears of what is under way to the others', (t) => {
  const alone = new GroupAlone();
  const { group, sent } = alone;
  group.mapIs(mapGroup(2, [ME, true], [OTHER, true], [THIRD, false]));
  const { primary } = alone;
  primary.tailIs(OTHER, { type: 'tail', pool: 1, group: 7, epoch: 2, entries: [] });
  const version = group.nextVersion(0);
  group.changed(change(version));
  let committed = 0;
  primary.whenCommitted(OBJECT, 3, 3, () => (committed += 1));
  sent.length = 0;
  const stream = primary.addJoining(THIRD, 1);
  primary.catchUp(stream);
  t.match(sent, [{ type: 'prepare', index: 2 ** 32, change: { version } }]);
  primary.acknowledged(OTHER, 2, [0]);
  t.equal(committed, 0, 'it is waited for, like one in sync');
  primary.acknowledged(THIRD, 2, [2 ** 32]);
  t.equal(committed, 1);
  t.end();
});

t.test('a tail waits for changes that have a version already', (t) => {
  const alone = started();
  const { group } = alone;
  const [made, notMade] = [group.nextVersion(0), group.nextVersion(0)];
  t.ok(notMade > made);
  group.mapIs(mapGroup(3, [OTHER, true], [ME, true]));
  t.equal(alone.tailFor(3), undefined, 'their blocks are not known yet');
  group.changed(change(made));
  t.equal(alone.sent.length, 0);
  group.notMade(false);
  t.match(alone.sent, [{ type: 'tail', entries: [{ object: OBJECT }] }]);
  t.end();
});

t.test('what fails after it was asked for again in a new epoch is refused there', (t) => {
  const alone = new GroupAlone();
  const { group, sent, applying } = alone;
  const prepare = (epoch: number): void => alone.prepare(epoch, change(5));
  const members: [StartOf, boolean][] = [
    [OTHER, true],
    [ME, false],
  ];
  group.mapIs(mapGroup(2, ...members));
  prepare(2);
  group.mapIs(mapGroup(3, ...members));
  prepare(3);
  t.equal(applying.length, 1, 'it is made once');
  applying[0]?.(new StoreError('E_NO_SPACE', 'full'));
  t.match(sent, [{ type: 'refusal', epoch: 3, index: 0, reason: 'full' }]);
  prepare(3);
  t.match(sent, [{ type: 'refusal' }, { type: 'refusal' }], 'and never acknowledged');
  group.mapIs(mapGroup(4, ...members));
  sent.length = 0;
  prepare(4);
  t.match(sent, [{ type: 'refusal', epoch: 4 }], 'nor made later: something newer may be there');
  t.equal(applying.length, 1);
  t.end();
});

t.test('who leaves makes the changes of a member in sync, and none of one that joins', (t) => {
  for (const isInSync of [true, false]) {
    const alone = new GroupAlone();
    alone.isLeaving = true;
    alone.group.mapIs(mapGroup(2, [OTHER, true], [ME, isInSync]));
    alone.prepare(2, change(5), !isInSync);
    t.equal(alone.applying.length, isInSync ? 1 : 0);
    t.match(alone.sent, isInSync ? [] : [{ type: 'refusal', reason: 'leaving' }], 'at once');
  }
  t.end();
});

t.test('a change that must be durable is acknowledged when it is', async (t) => {
  const write: Change = {
    ...{ op: 'write', object: OBJECT, version: 5, first: 3, length: 4096 * 4 },
    ...{ blocks: [Buffer.alloc(4096)], checks: Uint32Array.of(0), isDurable: true },
  };
  const alone = new GroupAlone();
  const { group, sent, applying, flushing } = alone;
  const members: [StartOf, boolean][] = [
    [OTHER, true],
    [ME, true],
  ];
  const prepare = (epoch: number): void => alone.prepare(epoch, write);
  group.mapIs(mapGroup(2, ...members));
  prepare(2);
  applying[0]?.(null);
  prepare(2);
  group.mapIs(mapGroup(3, ...members));
  prepare(3);
  t.same(sent, [], 'it is made, and not durable, however often it comes');
  flushing[0]?.(new StoreError('E_NO_SPACE', 'no room for metadata'));
  await new Promise(setImmediate);
  t.equal(flushing.length, 2, 'it is tried again');
  t.same(sent, []);
  flushing[1]?.(null);
  t.match(sent, [{ type: 'ack', epoch: 3 }]);
});

t.test('a member that stops is done without at once', (t) => {
  const alone = new GroupAlone();
  alone.group.mapIs(mapGroup(2, [ME, true], [OTHER, true], [THIRD, false]));
  const { primary } = alone;
  primary.tailIs(OTHER, { type: 'tail', pool: 1, group: 7, epoch: 2, entries: [] });
  primary.addJoining(THIRD, 1);
  t.equal(primary.counts(OTHER), true);
  t.equal(primary.counts(THIRD), false);
  alone.stopping.add('b1');
  primary.tick();
  t.same(alone.asked, [], 'it was another start');
  alone.stopping.add(THIRD.startId);
  primary.tick();
  t.equal(primary.stream(THIRD.daemon), undefined, 'who joins is not asked about');
  alone.stopping.add(OTHER.startId);
  primary.tick();
  primary.tick();
  t.same(alone.asked, ['remove 2']);
  t.equal(primary.counts(OTHER), true, 'until it is removed');
  alone.group.mapIs(mapGroup(3, [ME, true], [OTHER, false], [THIRD, false]));
  t.equal(primary.counts(OTHER), false);
  t.end();
});
