/**
 * Bugs that a cluster like this one may have, each as a change to a running one. The simulator is worth what it finds of
 * these. Nothing in what ships knows of them: methods are replaced for one run, messages are changed on their way.
 */
import {
  Group,
  GroupPrimary,
  GuardTable,
  Join,
  Leases,
  MemberStream,
  ReplicaNode,
  Rounds,
  Session,
  Uncommitted,
  type PeerMessage,
  type ReplicationOptions,
  type ReplicationPorts,
} from '@store/daemon/testing';
import { OBJECT_KIND, type MapGroup } from '@store/core';
import {
  ClusterPool,
  ConflictGate,
  HeaderStore,
  PoolRouter,
  type HeaderDraft,
} from '@store/core/testing';
import type { SimClient } from './sim-client.js';
import type { DaemonProcess } from './sim-daemon.js';
import { REAL_DECISIONS, type Decisions } from './sim-master.js';
import type { PeerEnvelope, Request } from './sim-messages.js';
import type { MessageFilter } from './sim-network.js';
import type { ProfileName } from './profiles.js';
import type { SimReplicaPool } from './sim-replica-pool.js';

export interface Sabotage {
  readonly name: string;
  /** It must be found within so many seeds, from 1 on. */
  readonly seedsMax: number;
  readonly profile: ProfileName;
  /** Nobody has found it within reasonable time yet: it is there to be tried, and no test demands it. */
  readonly isRare?: boolean;
  /** Replaces methods for all that there is in this run. @returns how to put them back */
  readonly patch?: () => () => void;
  /** Each new process of a daemon, before it does anything. */
  readonly daemon?: (process: DaemonProcess) => void;
  readonly ports?: (ports: ReplicationPorts) => ReplicationPorts;
  readonly node?: (node: ReplicaNode) => void;
  readonly pool?: (pool: SimReplicaPool) => void;
  readonly client?: (client: SimClient) => void;
  readonly filter?: MessageFilter;
  readonly decisions?: Partial<Decisions>;
  readonly settings?: ReplicationOptions;
}

export const NO_SABOTAGE: Sabotage = { name: 'none', seedsMax: 0, profile: 'usual' };

/** Puts another method in the place of one, which it is given. */
function replaced<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (original: T[K]) => T[K],
): () => void {
  const before = Object.getOwnPropertyDescriptor(prototype, name);
  Object.defineProperty(prototype, name, {
    configurable: true,
    writable: true,
    value: make(prototype[name]),
  });
  return () => {
    if (before === undefined) Reflect.deleteProperty(prototype, name);
    else Object.defineProperty(prototype, name, before);
  };
}

/** As `replaced`, for what is read like a field. */
function getter<T extends object>(
  prototype: T,
  name: keyof T,
  get: (this: T) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(prototype, name);
  Object.defineProperty(prototype, name, { configurable: true, get });
  return () => {
    if (before !== undefined) Object.defineProperty(prototype, name, before);
  };
}

/** Changes what daemons send to each other. */
function sending(change: (message: PeerMessage) => PeerMessage | null): MessageFilter {
  return (_from, _to, message) => {
    if (message.type !== 'peer') return message;
    const changed = change((message as PeerEnvelope).message);
    return changed === null ? null : ({ type: 'peer', message: changed } as PeerEnvelope);
  };
}

const ANSWERING: readonly Sabotage[] = [
  {
    name: 'a write is answered before the members have it',
    seedsMax: 5,
    profile: 'usual',
    patch: () =>
      replaced(
        GroupPrimary.prototype,
        'whenCommitted',
        () =>
          (...[, , , done]) =>
            done(null),
      ),
  },
  {
    name: 'a write is answered when all but one have it',
    seedsMax: 10,
    profile: 'failover',
    patch: () =>
      replaced(
        Uncommitted.prototype,
        'add',
        (add) =>
          function (this: Uncommitted, number, change, pending, isPush) {
            return add.call(this, number, change, Math.max(1, pending - 1), isPush);
          },
      ),
  },
  {
    name: 'a change is acknowledged before it is made',
    seedsMax: 10,
    profile: 'usual',
    pool: (pool) => {
      const apply = pool.apply.bind(pool);
      pool.apply = (change, done) => {
        apply(change, () => undefined);
        done(null);
      };
    },
  },
  {
    name: 'a change that was refused counts as acknowledged',
    seedsMax: 20,
    profile: 'full',
    filter: sending((message) => {
      if (message.type !== 'refusal') return message;
      const { pool, group, epoch, index } = message;
      return { type: 'ack', pool, group, epoch, indexes: [index] };
    }),
  },
  {
    name: 'a member that is slow is not waited for',
    seedsMax: 20,
    profile: 'failover',
    patch: () =>
      replaced(
        MemberStream.prototype,
        'owedMs',
        (owedMs) =>
          function (this: MemberStream, now) {
            const ms = owedMs.call(this, now);
            if (ms > 600) this.end();
            return ms > 600 ? 0 : ms;
          },
      ),
  },
  {
    name: 'changes are made in any order',
    seedsMax: 20,
    profile: 'failover',
    daemon: ({ daemon, process }) => {
      const { random } = daemon.disk;
      // Whoever opens a pool of this process gets it like that.
      late.set(daemon.disk, (work) => process.later(random.below(4), work));
    },
    pool: (pool) => {
      const apply = pool.apply.bind(pool);
      const later = late.get(pool.disk);
      pool.apply = (change, done) => later?.(() => apply(change, done));
    },
  },
  {
    name: 'operations on a block have no order',
    seedsMax: 20,
    profile: 'failover',
    pool: (pool) => {
      pool.hooks.skipOrder = true;
    },
  },
];

/** How work of a process is put off. */
const late = new WeakMap<object, (work: () => void) => void>();

const LEASES: readonly Sabotage[] = [
  {
    name: 'reads need no lease',
    seedsMax: 30,
    profile: 'leases',
    patch: () =>
      replaced(
        GroupPrimary.prototype,
        'proveLease',
        () =>
          function (this: GroupPrimary, done) {
            done(null);
          },
      ),
  },
  {
    name: 'a read is answered with what is not everywhere yet',
    seedsMax: 60,
    profile: 'failover',
    patch: () =>
      replaced(
        GroupPrimary.prototype,
        'proveRead',
        () =>
          function (this: GroupPrimary, ...[, , , done]) {
            this.proveLease(done);
          },
      ),
  },
  {
    name: 'a lease is counted from when it was granted',
    isRare: true,
    seedsMax: 300,
    profile: 'leases',
    patch: () =>
      replaced(
        Leases.prototype,
        'granted',
        (granted) =>
          function (this: Leases, daemon, startId, grant, now) {
            granted.call(this, daemon, startId, { ...grant, sentAt: now }, now);
          },
      ),
  },
  {
    name: 'the grace period is shorter than the lease',
    seedsMax: 150,
    profile: 'leases',
    patch: () =>
      replaced(
        Leases.prototype,
        'ungrantedMs',
        (ungrantedMs) =>
          function (this: Leases, daemon, startId, now) {
            return ungrantedMs.call(this, daemon, startId, now) + 2000;
          },
      ),
  },
  {
    name: 'a member that asked for the place of a primary still grants it leases',
    isRare: true,
    seedsMax: 300,
    profile: 'leases',
    patch: () => replaced(Leases.prototype, 'withhold', () => () => undefined),
  },
  {
    name: 'leases go by the clock on the wall',
    seedsMax: 60,
    profile: 'leases',
    ports: (ports) => ({
      ...ports,
      get daemonId() {
        return ports.daemonId;
      },
      clock: { ...ports.clock, now: () => ports.clock.wallSeconds() * 1000 },
    }),
  },
];

const FLUSHES: readonly Sabotage[] = [
  {
    name: 'a flush asks no other member',
    seedsMax: 10,
    profile: 'power',
    node: (node) => {
      node.flush = (pool, _primaries, done) => node.storeOf(pool)?.flush(done);
    },
  },
  {
    name: 'a member says that it has synced, and has not',
    seedsMax: 10,
    profile: 'power',
    node: (node) => {
      const received = node.received.bind(node);
      node.received = (daemon, startId, message) => {
        if (message.type === 'sync')
          node.send(daemon, { type: 'synced', id: message.id, isDone: true });
        else received(daemon, startId, message);
      };
    },
  },
  {
    name: 'a sync syncs nothing',
    seedsMax: 10,
    profile: 'power',
    pool: (pool) => {
      pool.hooks.skipSync = true;
    },
  },
  {
    name: 'a durable write is not flushed',
    seedsMax: 20,
    profile: 'power',
    filter: (_from, _to, message) =>
      message.type === 'request' ? ({ ...message, flags: 0 } as Request) : message,
  },
  {
    name: 'a member acknowledges a durable write before it is',
    seedsMax: 20,
    profile: 'power',
    filter: sending((message) =>
      message.type === 'prepare' && message.change.op === 'write'
        ? { ...message, change: { ...message.change, isDurable: false } }
        : message,
    ),
  },
  {
    name: 'a flush does not say what was lost',
    seedsMax: 60,
    profile: 'power',
    client: ({ hooks }) => {
      hooks.forgetsLosses = true;
    },
  },
  {
    name: 'a loss is not noted by the masters',
    seedsMax: 60,
    profile: 'power',
    decisions: {
      registerDaemon: (state, registration, now, isAlive) =>
        REAL_DECISIONS.registerDaemon(
          state,
          { ...registration, lostUnflushed: false },
          now,
          isAlive,
        ),
    },
  },
  {
    name: 'a member that joins makes nothing durable first',
    seedsMax: 100,
    profile: 'power',
    node: ({ questions }) => {
      const ask = questions.ask.bind(questions);
      questions.ask = (to, make, done) => {
        const message = make(0);
        if (message.type === 'sync') done({ type: 'synced', id: 0, isDone: true });
        else ask(to, make, done);
      };
    },
  },
];

const EPOCHS: readonly Sabotage[] = [
  {
    name: 'changes of an older epoch are made',
    seedsMax: 20,
    profile: 'joins',
    patch: () =>
      replaced(
        Group.prototype,
        'prepare',
        (prepare) =>
          function (this: Group, from, message) {
            prepare.call(this, from, { ...message, epoch: Math.max(message.epoch, this.epoch) });
          },
      ),
  },
  {
    name: 'a change counts as committed when it is sent',
    seedsMax: 5,
    profile: 'usual',
    daemon: (process) => {
      process.sending = (_, message) =>
        message.type === 'prepare' && message.number > 0
          ? { ...message, committed: message.number }
          : message;
    },
  },
  {
    name: 'acknowledgements of an older epoch count',
    isRare: true,
    seedsMax: 300,
    profile: 'failover',
    patch: () =>
      replaced(
        GroupPrimary.prototype,
        'acknowledged',
        (acknowledged) =>
          function (this: GroupPrimary, from, _epoch, indexes) {
            acknowledged.call(this, from, this.epoch, indexes);
          },
      ),
  },
  {
    name: 'masters decide about whatever epoch there is',
    isRare: true,
    seedsMax: 60,
    profile: 'joins',
    decisions: {
      decideGroupRequest: (state, request, from, isAlive) => {
        const group = state.map.pools[0]?.groups[request.group];
        const { epoch } = group ?? request;
        return REAL_DECISIONS.decideGroupRequest(state, { ...request, epoch }, from, isAlive);
      },
    },
  },
  {
    name: 'a new start has the standing of the old one',
    seedsMax: 30,
    profile: 'lastReplica',
    decisions: {
      registerDaemon: (state, registration, now, isAlive) => {
        const known = state.map.daemons.find(({ diskId }) => diskId === registration.diskId);
        const old = known?.startId ?? null;
        const next = REAL_DECISIONS.registerDaemon(state, registration, now, isAlive);
        if (known === undefined || old === null || old === registration.startId) return next;
        const pools = state.map.pools.map((pool) => ({
          ...pool,
          groups: pool.groups.map((group) => ({
            ...group,
            epoch: group.epoch + 1,
            members: group.members.map((member) =>
              member.inSync === old ? { ...member, inSync: registration.startId } : member,
            ),
          })),
        }));
        return { ...next, state: { ...next.state, map: { ...next.state.map, pools } } };
      },
    },
  },
  {
    name: 'a late copy of a write is made as well',
    seedsMax: 60,
    profile: 'usual',
    client: ({ hooks }) => {
      hooks.sendsTwice = true;
    },
  },
];

/** What the masters make of a group that an operator gives up, changed. */
function givingUp(
  name: string,
  seedsMax: number,
  change: (next: MapGroup, before: MapGroup) => MapGroup,
): Sabotage {
  return {
    ...{ name, seedsMax, profile: 'givenUp' },
    decisions: {
      acceptDataLoss: (state, loss, context) => {
        const next = REAL_DECISIONS.acceptDataLoss(state, loss, context);
        const pools = next.map.pools.map((pool) => ({
          ...pool,
          groups: pool.groups.map((group, at) => {
            const before = state.map.pools[0]?.groups[at];
            return at === loss.group && before !== undefined ? change(group, before) : group;
          }),
        }));
        return { ...next, map: { ...next.map, pools } };
      },
    },
  };
}

const GIVING_UP: readonly Sabotage[] = [
  givingUp('what is given up is not noted as lost', 30, (next, { lostAt, givenUpAt }) => ({
    ...next,
    lostAt,
    givenUpAt,
  })),
  givingUp('of what is given up only what was not flushed is noted', 30, (next, before) => ({
    ...next,
    givenUpAt: before.givenUpAt,
  })),
  {
    name: 'a client does not hear that a group was given up',
    seedsMax: 60,
    profile: 'givenUp',
    client: ({ hooks }) => {
      hooks.forgetsGivenUps = true;
    },
  },
  {
    name: 'who joins keeps what is newer than what is there',
    seedsMax: 20,
    profile: 'givenUp',
    pool: (pool) => {
      const difference = pool.difference.bind(pool);
      pool.difference = (object, theirs, emit, done, options) =>
        difference(
          object,
          theirs,
          (change, isLast) => {
            if (theirs === null || theirs.version <= change.version) emit(change, isLast);
          },
          done,
          options,
        );
    },
  },
];

const TAKING_OVER: readonly Sabotage[] = [
  {
    name: 'members tell a new primary of nothing',
    isRare: true,
    seedsMax: 100,
    profile: 'cutOff',
    filter: sending((message) => (message.type === 'tail' ? { ...message, entries: [] } : message)),
  },
  {
    name: 'a new primary tells nobody what it found',
    seedsMax: 150,
    profile: 'usual',
    pool: (pool) => {
      pool.present = (...args) => args[4](null);
    },
  },
  {
    name: 'members forget changes that not everybody has',
    isRare: true,
    seedsMax: 100,
    profile: 'cutOff',
    filter: sending((message) =>
      message.type === 'prepare' ? { ...message, committed: message.number } : message,
    ),
  },
];

const JOINING: readonly Sabotage[] = [
  {
    name: 'a join takes what was changed meanwhile for complete',
    isRare: true,
    seedsMax: 100,
    profile: 'joins',
    patch: () => replaced(Join.prototype, 'isPartial', () => () => false),
  },
  {
    name: 'changes of what is not complete keep their version',
    isRare: true,
    seedsMax: 300,
    profile: 'joins',
    filter: sending((message) =>
      message.type === 'prepare' ? { ...message, isPartial: false } : message,
    ),
  },
  {
    name: 'open copies of one version are taken for equal',
    seedsMax: 100,
    profile: 'lastReplica',
    pool: (pool) => {
      const inventory = pool.inventory.bind(pool);
      pool.inventory = (range, after, limit, done) =>
        inventory(range, after, limit, (error, page) => {
          if (error !== null || page === undefined) done(error);
          else
            done(null, {
              ...page,
              entries: page.entries.map((entry) => ({ ...entry, isClosed: true })),
            });
        });
    },
  },
  {
    name: 'what was deleted stays with a member that joins',
    seedsMax: 60,
    profile: 'joins',
    pool: (pool) => {
      const difference = pool.difference.bind(pool);
      pool.difference = (object, theirs, emit, done) =>
        difference(
          object,
          theirs,
          (change, isLast) => {
            if (change.op !== 'delete') emit(change, isLast);
          },
          done,
        );
    },
  },
  {
    name: 'a member that asked to be listed does not count before it is',
    isRare: true,
    seedsMax: 300,
    profile: 'joinRaces',
    patch: () =>
      getter(MemberStream.prototype, 'isCounted', function (this: MemberStream) {
        return this.isInSync;
      }),
  },
  {
    name: 'who stops may join where it has been removed',
    seedsMax: 200,
    profile: 'restarts',
    patch: () =>
      replaced(
        ReplicaNode.prototype,
        'isStopping',
        (isStopping) =>
          function (this: ReplicaNode, daemon, startId) {
            const counts = [...this.groups()].some(
              ({ primary }) => primary?.counts({ daemon, startId }) === true,
            );
            return counts && isStopping.call(this, daemon, startId);
          },
      ),
  },
  {
    name: 'who stops is told that it does not count before it is removed',
    seedsMax: 700,
    profile: 'restarts',
    patch: () => replaced(GroupPrimary.prototype, 'counts', () => () => false),
  },
  {
    name: 'a push lands on what is newer',
    seedsMax: 150,
    profile: 'usual',
    pool: (pool) => {
      const difference = pool.difference.bind(pool);
      pool.difference = (object, theirs, emit, done) => {
        const changes: Parameters<typeof emit>[] = [];
        difference(
          object,
          theirs,
          (change, isLast) => changes.push([change, isLast]),
          (error, found) => {
            // Sent after the blocks were let go.
            pool.flush(() => {
              for (const [change, isLast] of changes) emit(change, isLast);
              if (error !== null || found === undefined) done(error);
              else done(null, found);
            });
          },
        );
      };
    },
  },
];

const DAMAGE: readonly Sabotage[] = [
  {
    name: 'checksums are not compared',
    seedsMax: 20,
    profile: 'damage',
    pool: (pool) => {
      pool.hooks.skipChecks = true;
    },
  },
  {
    name: 'a bad block is answered as unreadable at once',
    seedsMax: 20,
    profile: 'damage',
    filter: sending((message) =>
      message.type === 'blocks' ? { ...message, blocks: null, checks: new Uint32Array() } : message,
    ),
  },
  {
    name: 'bytes are used again before their operation is answered',
    seedsMax: 20,
    profile: 'usual',
    filter: (_from, _to, message) => {
      const { op, data } = message as Partial<Request>;
      if (message.type === 'request' && op === 'write' && data !== null)
        queueMicrotask(() => data?.fill(0xdb));
      return message;
    },
  },
];

/** Who writes to an image. */
const WRITERS: readonly Sabotage[] = [
  {
    name: 'guards are not replicated',
    seedsMax: 10,
    profile: 'writers',
    patch: () =>
      replaced(
        GroupPrimary.prototype,
        'announce',
        (announce) =>
          function (this: GroupPrimary, change) {
            if (change.object.kind !== OBJECT_KIND.guard) announce.call(this, change);
          },
      ),
  },
  {
    name: 'a new primary does not read the guards',
    seedsMax: 10,
    profile: 'writers',
    patch: () => replaced(GuardTable.prototype, 'load', () => () => undefined),
  },
  {
    name: 'a write is compared with the guard before it is ordered, and a raise does not wait',
    seedsMax: 10,
    profile: 'writers',
    patch: () => replaced(Rounds.prototype, 'whenOver', () => (done) => done()),
    pool: (pool) => {
      const write = pool.writeChecked.bind(pool);
      let count = 0;
      const held = new Map<number, () => void>();
      pool.writeChecked = (...asked) => {
        count += 1;
        held.get(count)?.();
        held.delete(count);
        if (count % 8 === 0) held.set(count + 30, () => write(...asked));
        else write(...asked);
      };
    },
  },
  {
    name: 'a raise does not wait for the changes that were let in before',
    seedsMax: 100,
    profile: 'writers',
    isRare: true,
    patch: () => replaced(Rounds.prototype, 'whenOver', () => (done) => done()),
  },
  {
    name: 'a lower claim is let in',
    seedsMax: 3,
    profile: 'writers',
    patch: () => replaced(GuardTable.prototype, 'refusal', () => () => null),
  },
];

/** Changes what becomes of the headers of images. */
function headers(change: (draft: HeaderDraft, before: HeaderDraft) => HeaderDraft): () => void {
  return replaced(
    HeaderStore.prototype,
    'change',
    (original) =>
      function (this: HeaderStore, name, decide) {
        return original.call(this, name, (stored) => {
          const draft = decide(stored);
          return draft === null ? null : change(draft, stored.header);
        });
      },
  );
}

/** Images, and the clients of gateways. */
const GATEWAYS: readonly Sabotage[] = [
  {
    name: 'an image gets smaller while somebody writes to it',
    seedsMax: 20,
    profile: 'images',
    patch: () =>
      headers((draft, { writer }) => (draft.state === 'shrinking' ? { ...draft, writer } : draft)),
  },
  {
    name: 'what lies behind a smaller end stays',
    seedsMax: 40,
    profile: 'images',
    patch: () =>
      headers((draft) => (draft.state === 'shrinking' ? { ...draft, state: 'ready' } : draft)),
  },
  {
    name: 'an image is removed while somebody writes to it',
    seedsMax: 20,
    profile: 'images',
    patch: () =>
      headers((draft, { writer }) => (draft.state === 'removing' ? { ...draft, writer } : draft)),
  },
  {
    name: 'a role is ready before its guards are raised',
    seedsMax: 20,
    profile: 'images',
    patch: () =>
      replaced(
        ClusterPool.prototype,
        'raiseGuard',
        (raise) =>
          function (this: ClusterPool, guard) {
            raise.call(this, guard).catch(() => undefined);
            return Promise.resolve();
          },
      ),
  },
  {
    name: 'requests of a gateway overtake each other',
    seedsMax: 60,
    profile: 'images',
    patch: () =>
      replaced(
        ConflictGate.prototype,
        'enter',
        (enter) =>
          function (this: ConflictGate<never>, operation: { isThrough: boolean }) {
            enter.call(this, operation as never);
            operation.isThrough = true;
            return true;
          },
      ),
  },
  {
    name: 'a new connection goes on before what the old one began has ended',
    seedsMax: 1000,
    profile: 'images',
    isRare: true,
    patch: () => replaced(Session.prototype, 'whenQuiet', () => () => Promise.resolve()),
  },
  {
    name: 'what a client has given up is done',
    seedsMax: 1000,
    profile: 'images',
    isRare: true,
    patch: () => replaced(Session.prototype, 'admitAgain', () => () => true),
  },
  {
    name: 'what is sent again is done again',
    seedsMax: 30,
    profile: 'images',
    patch: () => replaced(Session.prototype, 'admit', () => () => 'run'),
  },
  {
    name: 'a gateway does not hear that writes were lost',
    seedsMax: 20,
    profile: 'images',
    patch: () => replaced(PoolRouter.prototype, 'lostAt', () => () => 0),
  },
  {
    name: 'requests of gateways name no epoch',
    seedsMax: 1000,
    profile: 'images',
    isRare: true,
    patch: () => replaced(PoolRouter.prototype, 'epochOf', () => () => 0),
  },
];

export const SABOTAGES: readonly Sabotage[] = [
  ...ANSWERING,
  ...LEASES,
  ...FLUSHES,
  ...EPOCHS,
  ...GIVING_UP,
  ...TAKING_OVER,
  ...JOINING,
  ...DAMAGE,
  ...WRITERS,
  ...GATEWAYS,
];
