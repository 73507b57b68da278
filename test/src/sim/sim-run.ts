/**
 * One run of a simulated cluster: faults for a while, then healing, then everything must be as it should be. A run is made
 * by its seed and its profile alone.
 */
import { ReplicaNode, type ReplicationOptions, type ReplicationPorts } from '@store/daemon/testing';
import type { SimRandom } from '@store/core/sim';
import { judge } from './checker/judge.js';
import { Faults, type FaultRates } from './faults.js';
import { History } from './history.js';
import { ImageModel } from './image-model.js';
import { ImageWork } from './image-work.js';
import { Invariants } from './invariants.js';
import { PROFILES, type Profile, type ProfileName } from './profiles.js';
import { NO_SABOTAGE, type Sabotage } from './sabotage.js';
import { SimClient } from './sim-client.js';
import { SimDaemon } from './sim-daemon.js';
import { SimDisk } from './sim-disk.js';
import { POOL_ID, REAL_DECISIONS, SimMasters, type PoolShape } from './sim-master.js';
import { SimGateway, type GatewayProcess } from './sim-gateway.js';
import { copyMessage } from './sim-messages.js';
import { SimNetwork } from './sim-network.js';
import { SimHost, SimProcess } from './sim-process.js';
import { SimWorld, type WorldOptions } from './sim-world.js';
import { RoleWork, RoleWorld } from './role-work.js';
import { makeObjects, refsOfGroups, Workload } from './workload.js';

/** Until there is a pool that is served. */
const BEGIN_MS_MAX = 20_000;
/** After the faults, until all is as it should be (I11). */
const HEAL_MS_MAX = 150_000;
const LOOK_MS = 250;
/** What was answered is everywhere; what is only a hint may still be on its way. */
const QUIET_MS = 1500;
/** After that all copies are equal, and stay so. */
const EQUAL_MS_MAX = 5000;
/** A timer that still runs so long after a daemon was stopped has been forgotten. */
const CLOSED_MS = 90_000;
/** Of one run; the longest have a tenth of it. */
const EVENTS_MAX = 400_000;
const CLIENTS = ['c1', 'c2'] as const;

export interface RunOptions extends WorldOptions {
  readonly profile: ProfileName;
  readonly sabotage?: Sabotage;
  /** Kinds of faults that are left out, to look beyond what is known of them. */
  readonly without?: readonly string[];
}

export interface RunResult {
  /** What is wrong; null: nothing. */
  readonly failure: string | null;
  readonly hash: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly ops: number;
  readonly counters: ReadonlyMap<string, number>;
  readonly lines: readonly string[];
}

/** Plays a seed. */
export async function simRun(options: RunOptions): Promise<RunResult> {
  const { stackTraceLimit } = Error;
  // Refusals are made by the thousand, and nobody looks where.
  if (!options.isTraced) Error.stackTraceLimit = 0;
  const undo = options.sabotage?.patch?.();
  const run = new SimRun(options);
  try {
    await run.play();
  } finally {
    undo?.();
    Error.stackTraceLimit = stackTraceLimit;
  }
  const { world, history } = run;
  return {
    failure: world.failure,
    hash: world.hash,
    events: run.eventCount,
    virtualMs: world.now,
    ops: history.ops.length,
    counters: world.counters,
    lines: world.lines(),
  };
}

class SimRun {
  readonly world: SimWorld;
  readonly history = new History();
  eventCount = 0;
  readonly #profile: Profile;
  readonly #rates: FaultRates;
  readonly #sabotage: Sabotage;
  readonly #random: SimRandom;
  readonly #network: SimNetwork;
  readonly #hosts: SimHost[] = [];
  readonly #daemons: SimDaemon[] = [];
  readonly #masters: SimMasters;
  readonly #invariants: Invariants;
  readonly #clients: SimClient[] = [];
  readonly #gateways: SimGateway[] = [];
  readonly #images: ImageModel;
  /** Of each process of a gateway that runs. */
  readonly #imageWork = new Map<GatewayProcess, ImageWork>();
  #isChaosOver = false;
  readonly #shape: PoolShape;
  readonly #settings: ReplicationOptions;

  constructor(options: RunOptions) {
    this.world = new SimWorld(options);
    this.#profile = PROFILES[options.profile];
    const { without = [] } = options;
    const rates = Object.entries(this.#profile.rates).filter(([kind]) => !without.includes(kind));
    this.#rates = Object.fromEntries(rates);
    this.#sabotage = options.sabotage ?? NO_SABOTAGE;
    this.#random = this.world.fork('run');
    this.#shape = this.#drawShape();
    this.#settings = this.#drawSettings();
    this.#images = new ImageModel(this.world, this.history, this.#shape.groups);
    this.#network = new SimNetwork(this.world, copyMessage);
    this.#network.filter = this.#sabotage.filter ?? null;
    const masterHosts = [1, 2, 3].map((number) => this.#host(`m${number}`));
    this.#invariants = new Invariants(this.world, this.history, this.#daemons, {
      masters: () => this.#masters,
      areStopsClean: this.#profile.areStopsClean === true,
    });
    this.#masters = new SimMasters({
      world: this.world,
      network: this.#network,
      hosts: masterHosts,
      shape: this.#shape,
      decisions: { ...REAL_DECISIONS, ...this.#sabotage.decisions },
      disks: () => new Set(this.#daemons.map(({ disk }) => disk.diskId)),
      decided: (state) => this.#invariants.decided(state),
      acceptsLosses: this.#profile.acceptsLosses === true,
      runs: (startId) => this.#daemons.some(({ process }) => process?.startId === startId),
    });
    this.#addDaemons(masterHosts.map(({ name }) => name));
  }

  async play(): Promise<void> {
    const { world } = this;
    this.#masters.start();
    for (const daemon of this.#daemons) daemon.start();
    for (const name of CLIENTS) this.#addClient(name);
    this.history.objects.push(...makeObjects(this.#random, CLIENTS, this.#shape.groups));
    await this.#until(BEGIN_MS_MAX, () => this.#isServed());
    if (!this.#isServed()) world.fail('No pool was made, and nothing had gone wrong');
    const depth = 1 + this.#random.below(3);
    const workloads = this.#clients.map((client) => this.#workload(client, depth));
    for (const workload of workloads) workload.start(this.#shape.groups);
    const writers = this.#profile.hasRoles === true ? this.#writers() : [];
    for (const writer of writers) writer.start();
    this.#addGateways();
    const faults = new Faults({
      world,
      network: this.#network,
      daemons: this.#daemons,
      masters: this.#masters,
      clients: CLIENTS,
      gateways: this.#gateways,
      invariants: this.#invariants,
      hosts: this.#hosts,
    });
    faults.begin(this.#rates, this.#profile.isSwarm);
    await this.#until(this.#profile.chaosMs, () => false);
    faults.heal();
    this.#isChaosOver = true;
    for (const work of [...workloads, ...writers, ...this.#imageWork.values()]) work.stop();
    await this.#heal();
    if (this.#isLost()) {
      // More has failed than a cluster can survive, in a moment in which nobody could know.
      world.sometimes('a group was lost with its disks');
      return;
    }
    const [looker] = this.#gateways.map(({ process }) => process && this.#imageWork.get(process));
    await this.#readAll([...workloads, ...writers, ...(looker ? [looker] : [])]);
    await this.#until(QUIET_MS, () => false);
    // The masters may have moved something at that very moment, and a primary gives versions when it begins.
    await this.#until(EQUAL_MS_MAX, () => this.#invariants.problemOfCopies() === null);
    await this.#judge();
  }

  async #heal(): Promise<void> {
    await this.#until(
      HEAL_MS_MAX,
      () =>
        this.#isLost() ||
        (this.#openCount === 0 && this.#invariants.problemOfRedundancy() === null),
      LOOK_MS,
    );
    if (this.world.failure !== null || this.#isLost()) return;
    const problem = this.#invariants.problemOfRedundancy();
    if (problem !== null) this.world.fail(`I11: after the healing ${problem}`);
    this.#mustBeAnswered();
  }

  async #readAll(workloads: readonly { readAll(): void }[]): Promise<void> {
    if (this.world.failure !== null) return;
    for (const workload of workloads) workload.readAll();
    await this.#until(HEAL_MS_MAX, () => this.#openCount === 0, LOOK_MS);
    this.#mustBeAnswered(); // of several failures the first counts
  }

  #mustBeAnswered(): void {
    for (const client of this.#clients)
      if (client.openCount > 0)
        this.world.fail(`I11: ${client.name} still waits for ${client.describeOpen()}`);
    for (const [{ name, openCount }, work] of this.#imageWork)
      if (!work.isIdle)
        this.world.fail(
          `I11: ${name} is not done with its images, and waits for ${openCount} answers`,
        );
  }

  async #judge(): Promise<void> {
    const { world } = this;
    if (world.failure !== null) return;
    const problem =
      judge(this.history) ??
      this.#images.judge() ??
      this.#invariants.problemOfRemoved(this.#images.images.values()) ??
      this.#invariants.problemOfCopies();
    if (problem !== null) world.fail(problem);
    for (const { process } of this.#daemons) process?.process.run(() => process.node.close());
    await this.#until(CLOSED_MS, () => false);
    for (const { process, name } of this.#daemons)
      if ((process?.nodeTimerCount ?? 0) > 0) world.fail(`I12: ${name} left timers behind`);
  }

  #isLost(): boolean {
    return this.#invariants.isLost(this.#profile.acceptsLosses === true);
  }

  get #openCount(): number {
    const busy = [...this.#imageWork.values()].filter(({ isIdle }) => !isIdle).length;
    return this.#clients.reduce((sum, { openCount }) => sum + openCount, busy);
  }

  /** Runs events until something holds, or for so long. */
  async #until(ms: number, isDone: () => boolean, lookMs = 50): Promise<void> {
    const { world } = this;
    const { scheduler } = world;
    const end = world.now + ms;
    let lookAt = world.now;
    while (world.failure === null && world.now < end) {
      if (world.now >= lookAt) {
        if (isDone()) return;
        lookAt = world.now + lookMs;
      }
      if (world.promiseCount > 0) await hop();
      if (!scheduler.step()) {
        world.fail('Nothing happens any more');
        return;
      }
      this.eventCount += 1;
      if (this.eventCount === EVENTS_MAX) world.fail(`I6: more than ${EVENTS_MAX} events: a storm`);
    }
  }

  #isServed(): boolean {
    return (
      this.#clients.every(({ view }) => view?.poolById(POOL_ID) !== undefined) &&
      this.#masters.state.map.pools[0]?.groups.every(({ hasPrimary }) => hasPrimary) === true
    );
  }

  #drawShape(): PoolShape {
    const replicas = this.#random.chance(0.6) ? 3 : 2;
    return {
      replicas,
      minReplicas: this.#random.chance(0.4) ? 2 : 1,
      groups: this.#random.pick([2, 4]),
      durability: this.#random.chance(0.15) ? 'write' : 'flush',
      ...this.#profile.shape,
    };
  }

  /** What takes days happens within seconds, or not at all. */
  #drawSettings(): ReplicationOptions {
    const scrubs = this.#random.chance(0.4);
    const erases = this.#random.chance(0.5);
    return {
      ...(scrubs ? { scrubPeriods: { lightSeconds: 4, deepSeconds: 9 } } : {}),
      ...(erases ? { keepMs: 2500 } : {}),
    };
  }

  #addDaemons(masters: readonly string[]): void {
    const count = this.#profile.daemons ?? 3 + this.#random.below(2);
    for (let number = 1; number <= count; number += 1) {
      const host = this.#host(`d${number}`);
      const disk = new SimDisk(
        `01${String(number).padStart(30, '0')}`,
        this.world.fork(`disk ${number}`),
      );
      const daemon: SimDaemon = new SimDaemon({
        world: this.world,
        network: this.#network,
        host,
        disk,
        masters,
        makeNode: (ports) => this.#makeNode(ports),
        watcher: this.#invariants,
        started: (process) => this.#sabotage.daemon?.(process),
        opened: (pool) => this.#sabotage.pool?.(pool),
      });
      disk.mayDamage = (_, object, block) => this.#invariants.mayDamage(daemon, object, block);
      disk.mayFail = () => this.#invariants.mayLose(daemon);
      this.#daemons.push(daemon);
    }
  }

  #makeNode(ports: ReplicationPorts): ReplicaNode {
    const node = new ReplicaNode(this.#sabotage.ports?.(ports) ?? ports, {
      ...this.#settings,
      ...this.#sabotage.settings,
    });
    this.#sabotage.node?.(node);
    return node;
  }

  #addClient(name: string): void {
    const client = new SimClient({
      world: this.world,
      network: this.#network,
      process: new SimProcess(this.#host(name)),
      name,
      poolId: POOL_ID,
      masters: this.#masters.names,
    });
    this.#sabotage.client?.(client);
    this.#clients.push(client);
  }

  #addGateways(): void {
    const count = this.#profile.gateways ?? 0;
    // What ships on top of the client is made of promises, which go on between any two events.
    if (count > 0) this.world.promiseCount += 1;
    const deadlineMs = this.#random.pick([4000, 15_000, 60_000]);
    for (let number = 1; number <= count; number += 1) {
      const gateway: SimGateway = new SimGateway({
        ...{ world: this.world, network: this.#network, host: this.#host(`g${number}`) },
        ...{ masters: this.#masters.names, deadlineMs },
        ready: (process) => this.#useImages(gateway, process),
      });
      this.#gateways.push(gateway);
      gateway.start();
    }
  }

  #useImages(gateway: SimGateway, process: GatewayProcess): void {
    for (const old of this.#imageWork.keys())
      if (old.gateway === gateway) this.#imageWork.delete(old);
    const work = new ImageWork(this.#images, process, this.#profile.pauseMs);
    this.#imageWork.set(process, work);
    if (this.#isChaosOver) work.stop();
    work.start();
  }

  #workload(client: SimClient, depth: number): Workload {
    return new Workload({
      world: this.world,
      client,
      history: this.history,
      watcher: this.#invariants,
      depth,
      readDepth: this.#profile.readers ?? 1,
      pauseMs: this.#profile.pauseMs,
      durability: this.#shape.durability,
    });
  }

  #writers(): RoleWork[] {
    const { groups } = this.#shape;
    const { world, history } = this;
    const { pauseMs } = this.#profile;
    const shared = new RoleWorld(
      { world, history, groups, pauseMs },
      refsOfGroups(history.objects, groups),
    );
    return this.#clients.map((client) => new RoleWork(shared, client));
  }

  #host(name: string): SimHost {
    const host = new SimHost(this.world, name);
    this.#hosts.push(host);
    return host;
  }
}

/** All promises that can go on do. */
function hop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
