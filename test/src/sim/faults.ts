/**
 * What goes wrong in a run. Each kind of fault comes by itself, at random moments (a Poisson process); for each seed about
 * half of the kinds are left out, and each of the others has a rate of its own: so that some runs are all about one thing.
 * A profile says which kinds there are, and how often.
 */
import type { SimRandom } from '@store/core/sim';
import type { Invariants } from './invariants.js';
import type { SimDaemon } from './sim-daemon.js';
import type { SimGateway } from './sim-gateway.js';
import type { SimMasters } from './sim-master.js';
import type { SimNetwork } from './sim-network.js';
import type { SimHost } from './sim-process.js';
import { exponential, type SimWorld } from './sim-world.js';

export const FAULT_KINDS = [
  'kill',
  'quickRestart',
  'power',
  'powerAll',
  'killPrimary',
  'pause',
  'pausePrimary',
  'clog',
  'block',
  'isolate',
  'isolateFromDaemons',
  'isolateFromMasters',
  'clientsOnly',
  'breakLink',
  'skew',
  'rot',
  'lostWrite',
  'misdirectedWrite',
  'readError',
  'diskError',
  'full',
  'notMade',
  'slowDisk',
  'loseDisk',
  'electMaster',
  'mastersDown',
  'answerLost',
  'killGateway',
  'pauseGateway',
  'leave',
  'cutAfterJoin',
  'killCutOff',
  'loseOnly',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** They have draws of their own, so that seeds of profiles without them mean what they meant before there were any. */
const WITH_OWN_DRAWS: ReadonlySet<FaultKind> = new Set([
  ...(['killGateway', 'pauseGateway', 'leave', 'cutAfterJoin', 'killCutOff', 'loseOnly'] as const),
]);
/** On average. */
const CUT_AFTER_JOIN_MS = 5000;
/** A daemon that is stopped tries so long to give its groups to others. */
const LEAVE_MS = 3000;

/** Average milliseconds between two of a kind in one cluster; none: it does not come. */
export type FaultRates = Partial<Record<FaultKind, number>>;

export const USUAL_RATES: FaultRates = {
  kill: 6000,
  quickRestart: 8000,
  power: 8000,
  powerAll: 20_000,
  killPrimary: 9000,
  pause: 5000,
  pausePrimary: 9000,
  clog: 1500,
  block: 4000,
  isolate: 8000,
  isolateFromDaemons: 9000,
  isolateFromMasters: 9000,
  clientsOnly: 8000,
  breakLink: 2500,
  skew: 5000,
  rot: 1500,
  lostWrite: 2500,
  misdirectedWrite: 2500,
  readError: 2000,
  diskError: 12_000,
  full: 8000,
  notMade: 8000,
  slowDisk: 5000,
  loseDisk: 15_000,
  electMaster: 6000,
  mastersDown: 20_000,
  answerLost: 4000,
};

export interface FaultParts {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly daemons: readonly SimDaemon[];
  readonly masters: SimMasters;
  readonly clients: readonly string[];
  readonly gateways: readonly SimGateway[];
  readonly invariants: Invariants;
  /** All machines, by name. */
  readonly hosts: readonly SimHost[];
}

export class Faults {
  readonly #parts: FaultParts;
  readonly #random: SimRandom;
  readonly #ownRandoms = new Map<FaultKind, SimRandom>();
  #isOver = false;

  constructor(parts: FaultParts) {
    this.#parts = parts;
    this.#random = parts.world.fork('faults');
    for (const kind of WITH_OWN_DRAWS)
      this.#ownRandoms.set(kind, parts.world.fork(`fault ${kind}`));
  }

  /** @param isSwarm - Leave out half of the kinds, and draw the rates of the others anew */
  begin(rates: FaultRates, isSwarm: boolean): void {
    for (const kind of FAULT_KINDS) {
      const rate = rates[kind];
      const random = this.#randomOf(kind);
      // Drawn in any case, so that profiles of one seed differ in nothing else.
      const isLeftOut = random.chance(0.5);
      const factor = random.pick([0.4, 1, 1, 3]);
      if (rate === undefined || (isSwarm && isLeftOut)) continue;
      this.#comeAgain(kind, isSwarm ? rate * factor : rate);
    }
  }

  /** Nothing more goes wrong, and what has gone wrong is repaired. */
  heal(): void {
    this.#isOver = true;
    const { network, daemons, masters, hosts, gateways, world } = this.#parts;
    network.unblockAll();
    for (const host of hosts) host.wake();
    masters.answersLost = 0;
    masters.onDecided = () => undefined;
    masters.start();
    for (const gateway of gateways) gateway.start();
    for (const daemon of daemons) {
      daemon.disk.calm();
      if (daemon.isLeaving) daemon.stop('kill'); // else it would be gone in the middle of what is judged
      if (daemon.disk.isFailed) daemon.replaceDisk();
      daemon.start();
    }
    world.trace('', '--- all faults are over ---');
  }

  #randomOf(kind: FaultKind): SimRandom {
    return this.#ownRandoms.get(kind) ?? this.#random;
  }

  #comeAgain(kind: FaultKind, meanMs: number): void {
    const { world } = this.#parts;
    world.scheduler.at(exponential(this.#randomOf(kind), meanMs), () => {
      if (this.#isOver) return;
      this.#happen(kind);
      this.#comeAgain(kind, meanMs);
    });
  }

  #happen(kind: FaultKind): void {
    const { world, daemons, masters } = this.#parts;
    const daemon = this.#randomOf(kind).pick(daemons);
    if (world.isTraced) world.trace('', `fault ${kind}`);
    switch (kind) {
      case 'kill':
        this.#stop(daemon, 'kill', 3000);
        return;
      case 'killPrimary':
        this.#stop(this.#primary() ?? daemon, 'kill', 3000);
        return;
      case 'quickRestart':
        this.#stop(daemon, 'kill', 30);
        return;
      case 'power':
        this.#stop(daemon, 'power', 4000);
        return;
      case 'powerAll':
        for (const one of daemons) this.#stop(one, 'power', 2500);
        return;
      case 'pause':
        this.#pause(daemon);
        return;
      case 'pausePrimary':
        this.#pause(this.#primary() ?? daemon);
        return;
      case 'slowDisk':
        this.#for(daemon, 2000, (disk) => (disk.slowness = 10 + this.#random.below(100)));
        return;
      case 'full':
        this.#for(daemon, 3000, (disk) => (disk.isFull = true));
        return;
      case 'rot':
        if (daemon.disk.rot()) world.sometimes('a block has rotted');
        return;
      case 'lostWrite':
      case 'misdirectedWrite':
      case 'readError':
      case 'notMade':
        daemon.disk.inject(kind);
        return;
      case 'diskError':
        daemon.disk.inject(this.#random.chance(0.5) ? 'writeError' : 'syncError');
        this.#replaceLater(daemon);
        return;
      case 'loseDisk':
        if (!this.#parts.invariants.mayLose(daemon)) return;
        world.sometimes('a disk was lost');
        daemon.replaceDisk();
        this.#startLater(daemon, 1500);
        return;
      case 'loseOnly':
        if (!this.#parts.invariants.isOnlyInSync(daemon)) return;
        world.sometimes('the only disk in sync was lost');
        daemon.replaceDisk();
        this.#startLater(daemon, 1500);
        return;
      case 'electMaster':
        masters.elect();
        return;
      case 'mastersDown':
        masters.stopAll();
        world.scheduler.at(1000 + exponential(this.#random, 6000), () => masters.start());
        return;
      case 'answerLost':
        masters.answersLost += 1;
        return;
      case 'killGateway':
      case 'pauseGateway':
        this.#disturbGateway(kind);
        return;
      case 'cutAfterJoin':
        this.#cutAfterJoin();
        return;
      case 'killCutOff':
        this.#killCutOff();
        return;
      case 'leave':
        if (!daemon.isUp || daemon.isLeaving) return;
        world.sometimes('a daemon was stopped as planned');
        daemon.leave(LEAVE_MS, (isOut, startId) => {
          if (isOut) this.#parts.invariants.stopped(daemon, startId);
          world.scheduler.at(5 + exponential(this.#randomOf(kind), 1000), () => daemon.start());
        });
        return;
      default:
        this.#disturbNetwork(kind, daemon);
    }
  }

  /** The next join is decided: for a moment only clients reach the primary, by the old map, and it does not reach the member. */
  #cutAfterJoin(): void {
    const { masters, network, hosts, world } = this.#parts;
    masters.onDecided = ({ kind, group, member }) => {
      if (kind !== 'joined') return;
      masters.onDecided = () => undefined;
      world.sometimes('a primary was cut off when a member had joined');
      const ms = exponential(this.#randomOf('cutAfterJoin'), CUT_AFTER_JOIN_MS);
      const primary = this.#leaderOf(group)?.name ?? '';
      const joined = this.#machineOf(member);
      network.block(primary, joined, ms);
      for (const { name } of hosts)
        if (name.startsWith('c'))
          for (const master of masters.names) network.block(master, name, ms);
        else if (name !== primary) network.block(name, primary, ms);
    };
  }

  /** A primary that cannot reach one of its members any more, and dies with what the others have. */
  #killCutOff(): void {
    const { masters, network, world } = this.#parts;
    const groups = masters.state.map.pools[0]?.groups ?? [];
    const random = this.#randomOf('killCutOff');
    const number = random.below(Math.max(1, groups.length));
    const primary = this.#leaderOf(number);
    const others = groups[number]?.members.slice(1) ?? [];
    if (primary === null || others.length === 0) return;
    network.block(primary.name, this.#machineOf(random.pick(others).daemon), 1500);
    world.scheduler.at(exponential(random, 150), () => {
      if (!this.#isOver) this.#stop(primary, 'kill', 3000);
    });
  }

  #machineOf(daemon: number): string {
    const { map } = this.#parts.masters.state;
    const address = map.daemons.find(({ id }) => id === daemon)?.address ?? '';
    return address.replace(/:.*$/, '');
  }

  #disturbGateway(kind: 'killGateway' | 'pauseGateway'): void {
    const { world, gateways } = this.#parts;
    const random = this.#randomOf(kind);
    const gateway = random.pick(gateways);
    if (kind === 'pauseGateway') {
      gateway.options.host.stop(random.pick([300, 2000, 6000]));
      return;
    }
    gateway.kill();
    world.sometimes('a gateway was killed');
    world.scheduler.at(5 + exponential(random, 1500), () => gateway.start());
  }

  #disturbNetwork(kind: FaultKind, daemon: SimDaemon): void {
    const { network, hosts } = this.#parts;
    switch (kind) {
      case 'skew': {
        const error = this.#random.pick([0.0002, 0.005, 0.024]);
        const host = this.#random.pick(hosts);
        host.skew(this.#random.chance(0.5) ? error : -error);
        host.setWall(this.#random.below(7_200_000) - 3_600_000);
        return;
      }
      case 'clog': {
        const [from, to] = this.#pair();
        network.block(from, to, exponential(this.#random, 300));
        return;
      }
      case 'block': {
        const [from, to] = this.#pair();
        const ms = exponential(this.#random, 2500);
        network.block(from, to, ms);
        if (this.#random.chance(0.5)) network.block(to, from, ms);
        if (this.#random.chance(0.5)) this.#break(from, to);
        return;
      }
      case 'breakLink':
        this.#break(...this.#pair());
        return;
      case 'isolate':
        this.#isolate(daemon.name, () => true);
        return;
      case 'clientsOnly':
        this.#leaveClients(this.#primary() ?? daemon);
        return;
      case 'isolateFromDaemons':
        this.#isolate((this.#primary() ?? daemon).name, (name) => name.startsWith('d'));
        return;
      default:
        this.#isolate(daemon.name, (name) => name.startsWith('m'));
    }
  }

  /** Nothing, or nothing in one direction, goes between one machine and some others. */
  #isolate(name: string, isConcerned: (other: string) => boolean): void {
    const { network, hosts } = this.#parts;
    const ms = 500 + exponential(this.#random, 3500);
    const way = this.#random.below(4);
    const breaks = this.#random.chance(0.4);
    for (const { name: other } of hosts) {
      if (other === name || !isConcerned(other)) continue;
      if (way !== 1) network.block(name, other, ms);
      if (way !== 0) network.block(other, name, ms);
      if (breaks) this.#break(name, other);
    }
  }

  /** A primary that only clients can reach, and a client that no master tells of another one. */
  #leaveClients({ name }: SimDaemon): void {
    const { network, hosts, clients } = this.#parts;
    const ms = 1500 + exponential(this.#random, 3000);
    const client = this.#random.pick(clients);
    for (const { name: other } of hosts) {
      if (other === name) continue;
      if (!other.startsWith('c')) {
        network.block(name, other, ms);
        network.block(other, name, ms);
      }
      if (other.startsWith('m')) network.block(other, client, ms);
    }
  }

  #break(one: string, other: string): void {
    const news = (): number | null => {
      const fate = this.#random.below(4);
      return fate === 0 ? null : fate === 1 ? exponential(this.#random, 1500) : 0;
    };
    this.#parts.network.breakLinks(one, other, { one: news(), other: news() });
  }

  #stop(daemon: SimDaemon, how: 'kill' | 'power', meanMs: number): void {
    if (!daemon.isUp) return;
    daemon.stop(how);
    this.#parts.world.sometimes(how === 'kill' ? 'a daemon was killed' : 'a daemon lost its power');
    this.#startLater(daemon, meanMs);
  }

  #startLater(daemon: SimDaemon, meanMs: number): void {
    this.#parts.world.scheduler.at(5 + exponential(this.#random, meanMs), () => daemon.start());
  }

  /** A disk that failed is not used again: an empty one comes in its place. */
  #replaceLater(daemon: SimDaemon): void {
    this.#parts.world.scheduler.at(500 + exponential(this.#random, 2000), () => {
      if (this.#isOver) return;
      if (!daemon.disk.isFailed) {
        this.#replaceLater(daemon);
        return;
      }
      daemon.replaceDisk();
      daemon.start();
    });
  }

  #pause(daemon: SimDaemon): void {
    const ms =
      this.#random.pick([100, 700, 2500, 4500, 7000]) * (0.5 + this.#random.below(100) / 100);
    daemon.options.host.stop(ms);
  }

  #for(daemon: SimDaemon, meanMs: number, act: (disk: SimDaemon['disk']) => void): void {
    act(daemon.disk);
    this.#parts.world.scheduler.at(100 + exponential(this.#random, meanMs), () => {
      daemon.disk.slowness = 1;
      daemon.disk.isFull = false;
    });
  }

  /** The primary of some group. */
  #primary(): SimDaemon | null {
    const groups = this.#parts.masters.state.map.pools[0]?.groups ?? [];
    if (groups.length === 0) return null;
    return this.#leaderOf(groups.indexOf(this.#random.pick(groups)));
  }

  #leaderOf(group: number): SimDaemon | null {
    const { masters, daemons } = this.#parts;
    const start = masters.state.map.pools[0]?.groups[group]?.members[0]?.inSync;
    return daemons.find(({ process }) => process?.startId === start) ?? null;
  }

  #pair(): [string, string] {
    const { daemons, hosts } = this.#parts;
    const one = this.#random.pick(daemons).name;
    const others = hosts.map(({ name }) => name).filter((name) => name !== one);
    const other = this.#random.chance(0.6)
      ? this.#random.pick(others.filter((name) => name.startsWith('d')))
      : this.#random.pick(others);
    return this.#random.chance(0.5) ? [one, other] : [other, one];
  }
}
