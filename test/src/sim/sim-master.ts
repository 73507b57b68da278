/**
 * The masters of a simulated cluster: the decisions that ship, over a store that all of them share. One leads. A decision
 * is made from the stored state at the moment it is committed, and only by the one that leads then: what a leader that was
 * deposed without noticing decides is refused. Who is there it knows by the connections it has.
 */
import { MapView, StoreError, type DaemonRegistration, type GroupRequest } from '@store/core';
import type { SimRandom } from '@store/core/sim';
import { newCluster, type ClusterState } from '@store/master';
import {
  acceptDataLoss,
  aliveIn,
  changeDaemon,
  createPool,
  decideGroupRequest,
  GroupTargets,
  presentDaemons,
  registerDaemon,
  TEND_LIMITS,
  tendGroups,
  type RosterView,
  type TendMemory,
} from '@store/master/testing';
import { SIM_OBJECT_BYTES } from './sim-disk.js';
import { mapBytes } from './sim-daemon.js';
import type { Ask, ClusterMessage, Register } from './sim-messages.js';
import type { LinkEnd, NetworkUser, SimMessage, SimNetwork } from './sim-network.js';
import { SimProcess, type SimHost } from './sim-process.js';
import { exponential, type SimWorld } from './sim-world.js';

const CLUSTER_ID = 'c'.repeat(32);
export const POOL_NAME = 'pool';
export const POOL_ID = 1;
const COMMIT_MS = 3;
const TEND_MS = 1000;
/** An operator does not wait long, and is sometimes wrong: who was in sync may come back. */
const ACCEPT_AFTER_MS = 1500;
/** A little sooner than in a real cluster: nothing here takes minutes. */
const LIMITS = { ...TEND_LIMITS, waitForMemberMs: 8000, downOutMs: 10_000 };

export interface PoolShape {
  readonly replicas: number;
  readonly minReplicas: number;
  readonly groups: number;
  readonly durability: 'flush' | 'write';
}

/** What the decisions are, for planted bugs. */
export const REAL_DECISIONS = { acceptDataLoss, decideGroupRequest, registerDaemon, tendGroups };
export type Decisions = typeof REAL_DECISIONS;

export interface SimMastersOptions {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly hosts: readonly SimHost[];
  readonly shape: PoolShape;
  readonly decisions: Decisions;
  /** Ids of disks that are still there: an operator takes the others out. */
  readonly disks: () => ReadonlySet<string>;
  /** A group has another epoch. */
  readonly decided: (state: ClusterState) => void;
  /** An operator gives up groups of which all that were in sync are gone. */
  readonly acceptsLosses: boolean;
  /** He makes sure of it: who is only cut off from the masters would go on serving. */
  readonly runs: (startId: string) => boolean;
}

/** All of them, and what they store. */
export class SimMasters {
  readonly options: SimMastersOptions;
  state: ClusterState = newCluster(CLUSTER_ID, 0);
  /** Name of the one that leads; null: nobody does. */
  leader: string | null = null;
  /** Told of what they decide, before anybody else is. */
  onDecided: (request: GroupRequest) => void = () => undefined;
  /** Answers that are lost with their link from now on. */
  answersLost = 0;
  readonly random: SimRandom;
  /** What an operator chooses. */
  readonly operator: SimRandom;
  readonly #processes = new Map<string, MasterProcess>();
  #encoded: { version: number; bytes: Buffer } | null = null;

  constructor(options: SimMastersOptions) {
    this.options = options;
    this.random = options.world.fork('masters');
    this.operator = options.world.fork('operator');
  }

  get names(): string[] {
    return this.options.hosts.map(({ name }) => name);
  }

  start(): void {
    for (const host of this.options.hosts)
      if (!this.#processes.has(host.name))
        this.#processes.set(host.name, new MasterProcess(this, host));
    this.elect();
  }

  /** Another one leads, whether or not the old one is there. */
  elect(): void {
    const others = [...this.#processes.keys()].filter((name) => name !== this.leader);
    if (others.length === 0) return;
    this.leader = this.random.pick(others);
    this.options.world.trace(this.leader, 'leads');
    this.#processes.get(this.leader)?.lead();
  }

  /** All of them are down. */
  stopAll(): void {
    for (const process of this.#processes.values()) process.end();
    this.#processes.clear();
    this.leader = null;
    this.options.world.trace('m', 'all masters are down');
  }

  /** The present map, as it is sent. */
  bytes(): Buffer {
    const { map } = this.state;
    if (this.#encoded?.version !== map.version)
      this.#encoded = { version: map.version, bytes: mapBytes(new MapView(map)) };
    return this.#encoded.bytes;
  }

  /** @internal a leader commits */
  commit(next: ClusterState): void {
    const before = this.state;
    const isNew = next.map !== before.map;
    const map = isNew ? { ...next.map, version: before.map.version + 1 } : next.map;
    this.state = { ...next, serial: before.serial + 1, map };
    if (isNew) this.options.decided(this.state);
  }
}

class MasterProcess implements NetworkUser {
  readonly process: SimProcess;
  readonly identity = '';
  readonly #masters: SimMasters;
  readonly #name: string;
  readonly #links = new Set<LinkEnd>();
  /** Daemons by their links. */
  readonly #daemons = new Map<LinkEnd, { id: number; startId: string }>();
  readonly #present = new Map<number, { startId: string | null; since: number }>();
  #memory: TendMemory;
  #ledAt = 0;

  constructor(masters: SimMasters, host: SimHost) {
    this.#masters = masters;
    this.#name = host.name;
    this.process = new SimProcess(host);
    this.#memory = this.#freshMemory();
    masters.options.network.attach(host.name, this);
    this.process.timers.after(TEND_MS, () => this.#tick());
  }

  end(): void {
    this.process.end();
    this.#masters.options.network.detach(this.#name, false);
  }

  lead(): void {
    this.#memory = this.#freshMemory();
    this.#ledAt = this.#now;
    // Whoever has a link from an earlier term comes anew, and says who it is.
    this.#depose();
    this.#present.clear();
    this.#daemons.clear();
  }

  linked(end: LinkEnd): void {
    if (!this.#isLeader) {
      end.send({ type: 'notLeader' });
      return;
    }
    this.#links.add(end);
    end.send({ type: 'map', bytes: this.#masters.bytes() } as ClusterMessage);
  }

  unlinked(end: LinkEnd): void {
    this.#links.delete(end);
    const daemon = this.#daemons.get(end);
    this.#daemons.delete(end);
    if (daemon === undefined) return;
    for (const other of this.#daemons.values()) if (other.id === daemon.id) return;
    this.#present.set(daemon.id, { startId: null, since: this.#now });
  }

  refused(): void {
    // It dials nobody.
  }

  received(end: LinkEnd, message: SimMessage): void {
    const known = message as ClusterMessage; // nobody sends anything else
    if (!this.#links.has(end)) return;
    if (known.type === 'refresh') {
      if (this.#masters.state.map.version > known.version)
        end.send({ type: 'map', bytes: this.#masters.bytes() } as ClusterMessage);
    } else if (known.type === 'register') this.#register(end, known);
    else if (known.type === 'ask') this.#ask(end, known);
  }

  get #isLeader(): boolean {
    return this.#masters.leader === this.#name;
  }

  get #now(): number {
    return this.process.clock.now();
  }

  get #view(): RosterView {
    const absent = { startId: null, since: this.#ledAt };
    const presence = (daemon: number): { startId: string | null; since: number } =>
      this.#present.get(daemon) ?? absent;
    return {
      startOf: (daemon) => presence(daemon).startId,
      sinceOf: (daemon) => presence(daemon).since,
      isFull: () => false,
    };
  }

  #register(end: LinkEnd, { diskId, startId, lostUnflushed }: Register): void {
    const machine = end.peer;
    const registration: DaemonRegistration = {
      clusterId: '',
      diskId,
      startId,
      ...{ address: `${machine}:1`, peerAddress: `${machine}:2`, host: machine, rack: 'r' },
      ...{ capacityBytes: 2 ** 40, lostUnflushed, mapVersion: 0 },
    };
    const isAlive = aliveIn(this.#view);
    const { registerDaemon: decide } = this.#masters.options.decisions;
    let daemonId = 0;
    this.#decide(
      (state) => {
        const { state: next, daemon } = decide(state, registration, 0, isAlive);
        daemonId = daemon.id;
        return next;
      },
      (error) => {
        if (error !== null) return;
        if (this.#links.has(end)) {
          const known = this.#present.get(daemonId);
          if (known?.startId !== startId)
            this.#present.set(daemonId, { startId, since: this.#now });
          this.#daemons.set(end, { id: daemonId, startId });
        }
        end.send({ type: 'registered', daemonId } as ClusterMessage);
        this.#tendSoon();
      },
    );
  }

  #ask(end: LinkEnd, { id, request }: Ask): void {
    const daemon = this.#daemons.get(end);
    const answer = (error: StoreError | null): void => {
      if (this.#masters.answersLost > 0) {
        this.#masters.answersLost -= 1;
        this.#masters.options.world.sometimes('an answer of a master was lost');
        end.close();
        this.unlinked(end);
        return;
      }
      end.send({ type: 'asked', id, error } as ClusterMessage);
    };
    if (daemon === undefined) {
      answer(new StoreError('E_BUSY', 'Register first'));
      return;
    }
    const asker = { daemonId: daemon.id, startId: daemon.startId };
    const isAlive = aliveIn(this.#view);
    const { decideGroupRequest: decide } = this.#masters.options.decisions;
    this.#decide(
      (state) => {
        const next = decide(state, request, asker, isAlive);
        if (next !== state) this.#masters.onDecided(request);
        return next;
      },
      (error) => {
        this.#note(request, error);
        answer(error);
      },
    );
  }

  #note({ kind, group, epoch }: GroupRequest, error: StoreError | null): void {
    const { world } = this.#masters.options;
    world.sometimes(`${kind} was ${error === null ? 'decided' : 'refused'}`);
    if (world.isTraced)
      world.trace(
        this.#name,
        `${kind} of group ${group} epoch ${epoch}: ${error?.message ?? 'decided'}`,
      );
  }

  /** Commits what a decision makes of the state of then. */
  #decide(
    decide: (state: ClusterState) => ClusterState,
    done: (error: StoreError | null) => void,
  ): void {
    this.process.timers.after(exponential(this.#masters.random, COMMIT_MS), () => {
      if (!this.#isLeader) {
        done(new StoreError('E_NOT_LEADER', 'Another master leads'));
        this.#depose();
        return;
      }
      let next: ClusterState;
      try {
        next = decide(this.#masters.state);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        done(error);
        return;
      }
      if (next !== this.#masters.state) {
        const before = this.#masters.state.map;
        this.#masters.commit(next);
        if (this.#masters.state.map !== before) this.#pushMap();
      }
      done(null);
    });
  }

  #pushMap(): void {
    const bytes = this.#masters.bytes();
    for (const end of this.#links) end.send({ type: 'map', bytes } as ClusterMessage);
  }

  #depose(): void {
    for (const end of [...this.#links]) {
      end.send({ type: 'notLeader' });
      this.unlinked(end);
    }
  }

  #tick(): void {
    if (this.#isLeader) {
      this.#tend();
      if (this.#masters.options.acceptsLosses) this.#acceptLosses();
    } else if (this.#links.size > 0) this.#depose();
    this.process.timers.after(TEND_MS, () => this.#tick());
  }

  #tendSoon(): void {
    this.process.timers.after(20, () => {
      if (this.#isLeader) this.#tend();
    });
  }

  #tend(): void {
    const { shape, hosts, decisions } = this.#masters.options;
    const now = this.#now;
    const view = this.#view;
    if (this.#masters.state.map.pools.length === 0) {
      // A pool is made when there is somebody to hold it.
      if (this.#daemons.size < Math.max(shape.replicas, Math.min(3, hosts.length))) return;
      this.#decide(
        (state) => this.#withPool(state),
        () => this.#tendSoon(),
      );
      return;
    }
    this.#takeOutLost();
    const limits = LIMITS;
    const daemons = presentDaemons(this.#masters.state, view, { now, downOutMs: limits.downOutMs });
    this.#memory.targets.refresh(this.#masters.state, daemons);
    const trial = { ...this.#memory, movedAt: new Map(this.#memory.movedAt) };
    const { state } = this.#masters;
    if (decisions.tendGroups(state, view, now, trial, limits) === state) return;
    this.#decide(
      (stored) => decisions.tendGroups(stored, view, this.#now, this.#memory, limits),
      () => undefined,
    );
  }

  #acceptLosses(): void {
    const { operator, state, options } = this.#masters;
    const now = this.#now;
    const view = this.#view;
    for (const [group, { members }] of state.map.pools[0]?.groups.entries() ?? []) {
      const inSync = members.filter((one) => one.inSync !== null);
      const isGone = inSync.every(
        ({ daemon, inSync: start }) =>
          !options.runs(start ?? '') &&
          view.startOf(daemon) === null &&
          now - view.sinceOf(daemon) >= ACCEPT_AFTER_MS,
      );
      const others = members.filter(
        ({ daemon, inSync: start }) => start === null && view.startOf(daemon) !== null,
      );
      if (!isGone || others.length === 0 || !operator.chance(0.5)) continue;
      const { daemon } = operator.pick(others);
      const copy = new StoreError('E_UNREACHABLE', 'Nobody asks here');
      const context = { view, now, time: Math.floor(now / 1000), copy, reached: [] };
      this.#decide(
        (stored) =>
          options.decisions.acceptDataLoss(stored, { pool: POOL_NAME, group, daemon }, context),
        (error) =>
          options.world.trace(this.#name, `gives up group ${group}: ${error?.message ?? 'done'}`),
      );
    }
  }

  /** As an operator does with a disk that is no more, as soon as he may. */
  #takeOutLost(): void {
    const disks = this.#masters.options.disks();
    for (const { id, diskId, membership } of this.#masters.state.map.daemons)
      if (membership === 'in' && !disks.has(diskId))
        this.#decide(
          (state) => changeDaemon(state, id, { membership: 'out' }),
          () => undefined,
        );
  }

  #withPool(state: ClusterState): ClusterState {
    if (state.map.pools.length > 0) return state;
    const random = { bytes: (count: number) => this.#masters.random.bytes(count) };
    const made = createPool(
      state,
      POOL_NAME,
      { ...this.#masters.options.shape, failureDomain: 'disk' },
      { random },
    );
    const pools = made.map.pools.map((pool) => ({ ...pool, objectBytes: SIM_OBJECT_BYTES }));
    return { ...made, map: { ...made.map, pools } };
  }

  #freshMemory(): TendMemory {
    return { since: this.#now, targets: new GroupTargets(), movedAt: new Map() };
  }
}
