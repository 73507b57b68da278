/**
 * One daemon of a simulated cluster: a disk that stays, and one process after the other on it, each with the replication
 * that ships. It does what the daemon's edges do: links to the other daemons, registers with the masters, keeps the map,
 * runs the requests of clients. Requests of a new link of a client wait until those of its old one are over.
 */
import {
  asGuarded,
  decodeMap,
  encodeMap,
  isEpoched,
  isNewer,
  MapView,
  StoreError,
  type CheckedPool,
  type GroupRequest,
  type MapView as View,
  type Timer,
} from '@store/core';
import type { SimRandom } from '@store/core/sim';
import type { PeerMessage, ReplicationPorts } from '@store/daemon/testing';
import { SIM_OBJECT_BYTES, SimDisk } from './sim-disk.js';
import type { OrderWatch } from './order-watch.js';
import { SimDoor } from './sim-door.js';
import type { Answer, Ask, ClusterMessage, Request } from './sim-messages.js';
import type { LinkEnd, NetworkUser, SimMessage, SimNetwork } from './sim-network.js';
import { SimProcess, type SimHost } from './sim-process.js';
import { SimReplicaPool } from './sim-replica-pool.js';
import { traceLog, type SimWorld } from './sim-world.js';

/** Of the only pool there is. */
const POOL_NAME = 'pool';
const REDIAL_MS = 120;
const MASTER_TIMEOUT_MS = 3000;
const REREGISTER_MS = 1000;

/** The replication of one daemon: `ReplicaNode`, or what stands for it in a test of the simulator. */
export interface Node {
  mapIs(view: View): void;
  peerUp(daemon: number, startId: string): void;
  peerDown(daemon: number): void;
  received(daemon: number, startId: string, message: PeerMessage): void;
  poolFor(
    poolId: number,
    name: string,
    objectBytes: number,
  ): CheckedPool & { at(epoch: number): CheckedPool };
  leave(withinMs: number, done: (isOut: boolean) => void): void;
  close(): void;
}

export type MakeNode = (ports: ReplicationPorts) => Node;

/** What sees everything: told of what daemons answer. */
export interface DaemonWatcher {
  answering(daemon: SimDaemon, request: Request, answer: Answer): void;
  readonly order: OrderWatch;
}

export interface SimDaemonOptions {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly host: SimHost;
  readonly disk: SimDisk;
  readonly masters: readonly string[];
  readonly makeNode: MakeNode;
  readonly watcher: DaemonWatcher;
  /** For planted bugs: each new process of the daemon, before it does anything. */
  readonly started: (process: DaemonProcess) => void;
  /** The same for each pool that one opens. */
  readonly opened: (pool: SimReplicaPool) => void;
}

/** A daemon over its whole life. */
export class SimDaemon {
  readonly name: string;
  readonly options: SimDaemonOptions;
  disk: SimDisk;
  /** Null: it is down. */
  process: DaemonProcess | null = null;
  isLeaving = false;
  #diskCount = 1;

  constructor(options: SimDaemonOptions) {
    this.name = options.host.name;
    this.options = options;
    this.disk = options.disk;
  }

  get isUp(): boolean {
    return this.process !== null;
  }

  start(): void {
    if (this.process !== null || this.disk.isFailed) return;
    this.options.host.wake();
    this.isLeaving = false;
    this.process = new DaemonProcess(this);
  }

  /** kill -9, or the power of its machine. */
  stop(how: 'kill' | 'power'): void {
    const { process } = this;
    if (process !== null) {
      this.process = null;
      process.end(how === 'power');
    }
    if (how === 'power') this.disk.powerCut();
    else this.disk.kill();
    this.options.world.trace(this.name, how === 'power' ? 'lost its power' : 'was killed');
  }

  /** It is stopped as planned. @param stopped - It is gone: what it knew of that, and which start it was */
  leave(withinMs: number, stopped: (isOut: boolean, startId: string) => void): void {
    const { process } = this;
    if (process === null) return;
    this.isLeaving = true;
    this.options.world.trace(this.name, 'is to stop');
    process.process.run(() =>
      process.node.leave(withinMs, (isOut) => {
        process.node.close();
        this.stop('kill');
        stopped(isOut, process.startId);
      }),
    );
  }

  /** Another disk, empty, is in the place of the old one. */
  replaceDisk(): void {
    this.stop('kill');
    this.#diskCount += 1;
    const { diskId, random, mayDamage, mayFail } = this.disk;
    const next = `${this.#diskCount}`.padStart(2, '0') + diskId.slice(2);
    this.disk = new SimDisk(next, random);
    this.disk.mayDamage = mayDamage;
    this.disk.mayFail = mayFail;
    this.options.world.trace(this.name, 'has an empty disk');
  }
}

/** One run of it. */
export class DaemonProcess implements NetworkUser {
  readonly daemon: SimDaemon;
  readonly process: SimProcess;
  readonly startId: string;
  readonly identity: string;
  readonly node: Node;
  readonly ports: ReplicationPorts;
  /** For planted bugs: what it sends to other daemons goes through here. */
  sending: (daemon: number, message: PeerMessage) => PeerMessage | null = (_, message) => message;
  daemonId = 0;
  view: MapView | null = null;
  readonly pools = new Map<number, SimReplicaPool>();
  readonly #world: SimWorld;
  readonly #network: SimNetwork;
  readonly #random: SimRandom;
  /** By id. */
  readonly #peers = new Map<number, { readonly end: LinkEnd; readonly startId: string }>();
  readonly #byEnd = new WeakMap<LinkEnd, number>();
  readonly #clients = new Map<string, ClientSession>();
  readonly #nodeTimers = new Set<object>();
  readonly #asking = new Map<number, (error: StoreError | null) => void>();
  /** What it has just received from another daemon. */
  #handling: PeerMessage | null = null;
  /** For gateways; null: none has come. */
  #door: SimDoor | null = null;
  #wanted: ReadonlySet<number> = new Set();
  #master = 0;
  #masterEnd: LinkEnd | null = null;
  #nextAsk = 1;

  constructor(daemon: SimDaemon) {
    const { world, network, host, makeNode } = daemon.options;
    this.daemon = daemon;
    this.#world = world;
    this.#network = network;
    this.#random = daemon.disk.random;
    this.process = new SimProcess(host);
    this.startId = this.#random.bytes(16).toString('hex');
    this.identity = `${daemon.disk.diskId} ${this.startId}`;
    this.#master = this.#random.below(3);
    if (daemon.disk.keptMap !== null) this.view = new MapView(decodeMap(daemon.disk.keptMap));
    this.daemonId = this.view?.daemonOfDisk(daemon.disk.diskId)?.id ?? 0;
    this.ports = this.#makePorts();
    network.attach(daemon.name, this);
    world.trace(daemon.name, `started as ${this.startId.slice(0, 6)}`);
    this.node = makeNode(this.ports);
    daemon.options.started(this);
    this.process.run(() => {
      if (this.view !== null) this.#tellNode();
      this.#dialMaster();
      this.#keepLinks();
      this.#register();
    });
  }

  /** Timers of the replication that have neither fired nor been cancelled. */
  get nodeTimerCount(): number {
    return this.#nodeTimers.size;
  }

  end(isSilent: boolean): void {
    this.process.end();
    this.#network.detach(this.daemon.name, isSilent);
  }

  // --- links ---

  linked(end: LinkEnd): void {
    if (end.peer.startsWith('m')) {
      this.#masterEnd?.close();
      this.#masterEnd = end;
      this.#sayRegistration();
    } else if (end.peer.startsWith('c')) this.#session(end).link(end);
    else if (end.peer.startsWith('g')) this.#openDoor().linked(end);
    else this.#peerLinked(end);
  }

  unlinked(end: LinkEnd): void {
    if (end === this.#masterEnd) this.#masterGone();
    else if (end.peer.startsWith('g')) this.#door?.unlinked(end);
    else if (end.peer.startsWith('d')) {
      const id = this.#byEnd.get(end) ?? 0;
      if (this.#peers.get(id)?.end !== end) return;
      this.#peers.delete(id);
      this.node.peerDown(id);
    }
  }

  refused(peer: string): void {
    if (peer.startsWith('m')) this.process.timers.after(REDIAL_MS, () => this.#dialMaster());
  }

  received(end: LinkEnd, message: SimMessage): void {
    const known = message as ClusterMessage; // nobody sends anything else
    switch (known.type) {
      case 'peer': {
        const id = this.#byEnd.get(end) ?? 0;
        const peer = this.#peers.get(id);
        if (peer?.end !== end) return;
        if (this.#world.isTraced) this.#tracePeer(end, known.message);
        this.#handling = known.message;
        this.node.received(id, peer.startId, known.message);
        this.#handling = null;
        return;
      }
      case 'request':
        if (this.#world.isTraced)
          this.#world.trace(
            this.daemon.name,
            `from ${end.peer}: #${known.id} ${known.op} '${known.ref.id}' g${known.group} e${known.epoch}`,
          );
        this.#session(end).request(end, known);
        return;
      case 'stream':
        this.#door?.received(end, known);
        return;
      case 'map':
        this.takeMap(known.bytes);
        return;
      case 'registered':
        this.daemonId = known.daemonId;
        return;
      case 'asked': {
        const done = this.#asking.get(known.id);
        this.#asking.delete(known.id);
        done?.(known.error);
        return;
      }
      case 'notLeader':
        end.close();
        if (end === this.#masterEnd) this.#masterGone();
        return;
      default:
        return;
    }
  }

  takeMap(bytes: Buffer): void {
    const view = viewOf(bytes);
    if (this.view !== null && !isNewer(view.map, this.view.map)) return;
    this.view = view;
    this.daemon.disk.keptMap = bytes;
    const own = view.daemonOfDisk(this.daemon.disk.diskId);
    if (own === undefined) return;
    this.daemonId = own.id;
    this.#tellNode();
  }

  // --- requests of clients ---

  run(request: Request, done: (answer: Answer) => void): void {
    const answer = (error: StoreError | null, fields: Partial<Answer> = {}): void => {
      const made = { type: 'answer', id: request.id, error, data: null, checks: null, version: 0 };
      const whole = { ...made, ...fields } as Answer; // made of all its fields
      if (error !== null && this.#world.isTraced)
        this.#world.trace(
          this.daemon.name,
          `answers #${request.id}: ${error.code} ${error.message}`,
        );
      this.daemon.options.watcher.answering(this.daemon, request, whole);
      done(whole);
    };
    const { ref, offset, bytes, data, checks, flags, version } = request;
    let pool: CheckedPool;
    try {
      const whole = this.node.poolFor(request.pool, POOL_NAME, SIM_OBJECT_BYTES);
      const { claim } = request;
      pool = (claim === undefined ? whole : asGuarded(whole).claimed(claim)).at(request.epoch);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      answer(error);
      return;
    }
    switch (request.op) {
      case 'read': {
        const target = Buffer.allocUnsafe(bytes);
        pool.readChecked(ref, offset, target, (error, sums) => {
          answer(error, error === null ? { data: target, checks: sums ?? null } : {});
        });
        return;
      }
      case 'write':
        if (data === null || checks === null) return;
        pool.writeChecked(ref, offset, [data], checks, flags, (error) => {
          answer(error);
          data.fill(0xdd);
        });
        return;
      case 'zero':
        pool.zero(ref, offset, bytes, flags, (error) => answer(error));
        return;
      case 'flush':
        this.#flush(request, answer);
        return;
      case 'swap':
        this.#settle(
          pool.compareAndSwap(ref, version, data ?? Buffer.alloc(0)),
          answer,
          (made) => ({
            version: made,
          }),
        );
        return;
      case 'delete':
        this.#settle(pool.delete(ref, version), answer, (was) => ({ version: was ? 1 : 0 }));
        return;
      case 'stat':
        this.#settle(pool.stat(ref), answer, (stat) => ({ version: stat?.version ?? 0 }));
        return;
      case 'raise':
        this.#raise(request, answer);
    }
  }

  #raise({ pool, group, epoch, guard }: Request, answer: (error: StoreError | null) => void): void {
    const whole = this.node.poolFor(pool, POOL_NAME, SIM_OBJECT_BYTES);
    if (guard !== undefined)
      asGuarded(whole).changeGuards([{ group, epoch }], { kind: 'raise', guard }, answer);
  }

  /** Of one group in one epoch. */
  #flush(
    { pool: poolId, group, epoch }: Request,
    answer: (error: StoreError | null) => void,
  ): void {
    const pool = this.node.poolFor(poolId, POOL_NAME, SIM_OBJECT_BYTES);
    if (isEpoched(pool)) pool.flushGroups([{ group, epoch }], answer);
    else {
      const isPrimary = (): boolean => {
        const at = this.view?.poolById(poolId)?.groups[group];
        return at?.epoch === epoch && at.members[0]?.inSync === this.startId;
      };
      const stale = new StoreError('E_STALE_MAP', 'Another epoch');
      if (!isPrimary()) answer(stale);
      else pool.flush((error) => answer(error ?? (isPrimary() ? null : stale)));
    }
  }

  #settle<T>(
    promise: Promise<T>,
    answer: (error: StoreError | null, fields?: Partial<Answer>) => void,
    fields: (result: T) => Partial<Answer>,
  ): void {
    this.#world.promiseCount += 1;
    promise.then(
      (result) => {
        this.#world.promiseCount -= 1;
        if (this.process.isAlive) this.process.run(() => answer(null, fields(result)));
      },
      (error: unknown) => {
        this.#world.promiseCount -= 1;
        if (!this.process.isAlive) return;
        this.process.run(() => {
          if (!(error instanceof StoreError)) throw error;
          answer(error);
        });
      },
    );
  }

  #openDoor(): SimDoor {
    this.#door ??= new SimDoor({
      process: this.process,
      random: this.#world.fork(`door ${this.startId}`),
      diskId: this.daemon.disk.diskId,
      startId: this.startId,
      view: () => this.view,
      poolFor: (id, name, objectBytes) => this.node.poolFor(id, name, objectBytes),
      defect: (error) => this.ports.defect(error),
    });
    return this.#door;
  }

  #session(end: LinkEnd): ClientSession {
    let session = this.#clients.get(end.peer);
    if (session === undefined) {
      session = new ClientSession(this);
      this.#clients.set(end.peer, session);
    }
    return session;
  }

  // --- other daemons ---

  /** Who is at the other end was proved. One that this map does not know is not let in. */
  #peerLinked(end: LinkEnd): void {
    const [diskId = '', startId = ''] = end.peerIdentity.split(' ');
    const daemon = this.view?.daemonOfDisk(diskId)?.id ?? 0;
    if (daemon === 0) {
      end.close();
      return;
    }
    const old = this.#peers.get(daemon);
    if (old !== undefined) {
      this.#peers.delete(daemon);
      old.end.close();
      this.node.peerDown(daemon);
    }
    this.#peers.set(daemon, { end, startId });
    this.#byEnd.set(end, daemon);
    this.node.peerUp(daemon, startId);
  }

  /** Dials whoever is wanted; the one with the smaller number does it at once, the other one as well after a while. */
  #keepLinks(): void {
    for (const daemon of this.#wanted) {
      const machine = this.#machineOf(daemon);
      if (machine === 0 || this.#peers.has(daemon)) continue;
      const own = daemonOf(this.daemon.name);
      if (own < machine || this.#random.chance(0.1))
        this.#network.connect(
          this.daemon.name,
          `d${machine}`,
          this.view?.daemonById(daemon)?.diskId,
        );
    }
    this.process.timers.after(REDIAL_MS + this.#random.below(100), () => this.#keepLinks());
  }

  /** Number of the machine that a daemon of the map runs on: its address says so. */
  #machineOf(daemon: number): number {
    const address = this.view?.daemonById(daemon)?.address ?? '';
    return Number(/^d(\d+):/.exec(address)?.[1] ?? 0);
  }

  #tellNode(): void {
    const { view } = this;
    if (view === null) return;
    for (const { id } of view.map.pools) if (!this.pools.has(id)) this.#openPool(id);
    this.node.mapIs(view);
  }

  #openPool(id: number): void {
    const pool = new SimReplicaPool({
      world: this.#world,
      disk: this.daemon.disk,
      poolId: id,
      process: this.process,
      failed: () => this.daemon.stop('kill'),
    });
    this.daemon.options.opened(pool);
    const { order } = this.daemon.options.watcher;
    const apply = pool.apply.bind(pool);
    pool.apply = (change, done) => {
      const group = this.#handling !== null && 'group' in this.#handling ? this.#handling.group : 0;
      const epoch = this.view?.poolById(id)?.groups[group]?.epoch ?? 0;
      order.applying(this.daemon.name, this.#handling, epoch, change);
      apply(change, done);
    };
    this.pools.set(id, pool);
  }

  // --- masters ---

  #dialMaster(): void {
    if (this.#masterEnd !== null) return;
    const { masters } = this.daemon.options;
    this.#master += 1;
    const name = masters[this.#master % masters.length];
    if (name !== undefined) this.#network.connect(this.daemon.name, name);
  }

  #masterGone(): void {
    this.#masterEnd = null;
    for (const [id, done] of this.#asking) {
      this.#asking.delete(id);
      done(new StoreError('E_UNREACHABLE', 'The master is gone'));
    }
    this.process.timers.after(REDIAL_MS, () => this.#dialMaster());
  }

  #register(): void {
    // Until the map shows this start.
    const own = this.view?.daemonOfDisk(this.daemon.disk.diskId);
    if (own?.startId !== this.startId) this.#sayRegistration();
    else this.daemon.disk.hasLostUnflushed = false;
    this.process.timers.after(REREGISTER_MS, () => this.#register());
  }

  #sayRegistration(): void {
    const { diskId, hasLostUnflushed } = this.daemon.disk;
    const message: ClusterMessage = {
      type: 'register',
      diskId,
      startId: this.startId,
      lostUnflushed: hasLostUnflushed,
    };
    this.#masterEnd?.send(message);
  }

  #ask(request: GroupRequest, done: (error: StoreError | null) => void): void {
    const end = this.#masterEnd;
    if (end === null) {
      this.process.timers.after(0, () => done(new StoreError('E_UNREACHABLE', 'No master')));
      return;
    }
    const id = this.#nextAsk;
    this.#nextAsk += 1;
    this.#asking.set(id, done);
    if (this.#world.isTraced)
      this.#world.trace(
        this.daemon.name,
        `asks ${request.kind} of group ${request.group} epoch ${request.epoch} about ${request.member}`,
      );
    const ask: Ask = { type: 'ask', id, request };
    end.send(ask);
    this.process.timers.after(MASTER_TIMEOUT_MS, () => {
      if (!this.#asking.delete(id)) return;
      done(new StoreError('E_TIMEOUT', 'The master does not answer'));
      if (this.#masterEnd !== end) return;
      end.close();
      this.#masterGone();
    });
  }

  #makePorts(): ReplicationPorts {
    const ask = (request: GroupRequest, done: (error: StoreError | null) => void): void =>
      this.#ask(request, done);
    const isUp = (): boolean => this.#masterEnd !== null;
    const idNow = (): number => this.daemonId;
    return {
      clock: this.process.clock,
      timers: { after: (ms, callback) => this.#nodeTimer(ms, callback) },
      random: { bytes: (count) => this.#random.bytes(count) },
      log: traceLog(this.#world, this.daemon.name),
      peers: {
        send: (daemon, message) => {
          const kept = this.sending(daemon, message);
          if (kept === null) return;
          this.daemon.options.watcher.order.sending(this.daemonId, daemon, kept);
          this.#peers.get(daemon)?.end.send({ type: 'peer', message: kept } as SimMessage);
        },
        recall: () => undefined, // nobody here uses bytes again
        want: (daemons) => {
          this.#wanted = new Set(daemons);
        },
      },
      masters: {
        get isUp() {
          return isUp();
        },
        ask,
      },
      poolOf: (poolId) => this.pools.get(poolId) ?? null,
      view: () => this.view,
      scrubNotes: {
        read: () => this.daemon.disk.scrubTimes,
        write: (times) => {
          this.daemon.disk.scrubTimes = new Map([...times].map(([key, at]) => [key, { ...at }]));
        },
      },
      get daemonId() {
        return idNow();
      },
      startId: this.startId,
      wantMap: () => {
        const version = this.view?.map.version ?? 0;
        this.#masterEnd?.send({ type: 'refresh', version } as SimMessage);
      },
      mapBytes: () => this.daemon.disk.keptMap,
      takeMap: (bytes) => this.takeMap(bytes),
      defect: (error) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        this.#world.fail(`${this.daemon.name} found a defect of its own: ${text}`);
      },
    };
  }

  #nodeTimer(ms: number, callback: () => void): Timer {
    const timer = this.process.timers.after(ms, () => {
      this.#nodeTimers.delete(timer);
      callback();
    });
    this.#nodeTimers.add(timer);
    return {
      cancel: () => {
        this.#nodeTimers.delete(timer);
        timer.cancel();
      },
    };
  }

  #tracePeer(end: LinkEnd, message: PeerMessage): void {
    if (message.type === 'heartbeat' || message.type === 'grant') return;
    this.#world.trace(this.daemon.name, `from ${end.peer}: ${describe(message)}`);
  }
}

/** The requests of one client, over one link after the other. */
class ClientSession {
  readonly #process: DaemonProcess;
  readonly #running = new Map<LinkEnd, number>();
  #waiting: { end: LinkEnd; request: Request }[] = [];
  #end: LinkEnd | null = null;

  constructor(process: DaemonProcess) {
    this.#process = process;
  }

  link(end: LinkEnd): void {
    this.#end = end;
    this.#waiting = [];
  }

  request(end: LinkEnd, request: Request): void {
    if (end !== this.#end) return;
    for (const other of this.#running.keys())
      if (other !== end) {
        this.#waiting.push({ end, request });
        return;
      }
    this.#run(end, request);
  }

  #run(end: LinkEnd, request: Request): void {
    this.#running.set(end, (this.#running.get(end) ?? 0) + 1);
    this.#process.run(request, (answer) => {
      end.send(answer);
      const left = (this.#running.get(end) ?? 1) - 1;
      if (left > 0) {
        this.#running.set(end, left);
        return;
      }
      this.#running.delete(end);
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const one of waiting) this.request(one.end, one.request);
    });
  }
}

/** A message in a few words. */
export function describe(message: PeerMessage): string {
  if (message.type === 'newerMap') return `newerMap ${viewOf(message.bytes).map.version}`;
  if (message.type === 'prepare') {
    const { change, ...rest } = message;
    return `prepare g${rest.group} e${rest.epoch} #${rest.index} ${rest.number} committed ${rest.committed}${rest.isPartial ? ' partial' : ''} ${change.op} '${change.object.key.toString()}' v${change.version}${'first' in change ? ` b${change.first}` : ''}`;
  }
  return JSON.stringify(message, (key, value: unknown) =>
    key === 'object' ? (value as { key: Buffer }).key.toString() : key === 'blocks' ? '…' : value,
  );
}

const views = new WeakMap<Buffer, MapView>();

/** Decoded once, however many get it. */
export function viewOf(bytes: Buffer): MapView {
  let view = views.get(bytes);
  if (view === undefined) {
    view = new MapView(decodeMap(bytes));
    views.set(bytes, view);
  }
  return view;
}

/** As `viewOf` finds it again. */
export function mapBytes(view: MapView): Buffer {
  const bytes = Buffer.from(encodeMap(view.map));
  views.set(bytes, view);
  return bytes;
}

function daemonOf(name: string): number {
  return Number(name.slice(1));
}
