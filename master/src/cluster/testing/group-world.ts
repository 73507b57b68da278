/** A cluster without processes: who is there, the state of the masters, and what daemons would do by the map. */
import { realEnv, silentLog, type GroupRequest, type MapGroup } from '@store/core';
import { newCluster, type ClusterState } from '../cluster-state.js';
import { registerDaemon } from '../decide-daemons.js';
import { decideGroupRequest } from '../decide-groups.js';
import { createPool } from '../decide-pools.js';
import { primaryOf } from '../group-changes.js';
import { GroupTargets, presentDaemons } from '../group-targets.js';
import { aliveIn, type RosterView } from '../roster-view.js';
import { TEND_LIMITS, tendGroups, type TendMemory } from '../tend-groups.js';

const { random } = realEnv(silentLog);

/** One start of a daemon, as it happened. */
export interface WorldStart {
  readonly id: string;
  /** Unflushed writes were lost before it. */
  readonly hasLost: boolean;
}

export class GroupWorld {
  state: ClusterState = newCluster('c'.repeat(32), 1);
  now = 1_000_000;
  /** By daemon, the oldest first. */
  readonly starts = new Map<number, WorldStart[]>();
  readonly full = new Set<number>();
  readonly view: RosterView = {
    startOf: (daemon) => this.#connected.get(daemon) ?? null,
    sinceOf: (daemon) => this.#since.get(daemon) ?? 0,
    isFull: (daemon) => this.full.has(daemon),
  };
  memory: TendMemory = { since: 0, targets: new GroupTargets(), movedAt: new Map() };
  readonly #connected = new Map<number, string>();
  readonly #since = new Map<number, number>();
  readonly #hosts: number;
  #nextStart = 1;

  /** @param hosts - So many are shared by the daemons. */
  constructor(hosts = 6) {
    this.#hosts = hosts;
  }

  pool(name: string, settings: Parameters<typeof createPool>[2]): void {
    this.state = createPool(this.state, name, settings, { random, isAlive: aliveIn(this.view) });
  }

  /** The daemon comes with a new start; one that was there is gone before. */
  start(daemon: number, { hasLost = false, capacityBytes = 2 ** 40 } = {}): string {
    this.stop(daemon);
    const startId = this.#nextStart.toString(16).padStart(32, '0');
    this.#nextStart += 1;
    const registration = {
      clusterId: '',
      diskId: daemon.toString(16).padStart(32, 'd'),
      startId,
      address: `127.0.0.1:${4000 + daemon}`,
      peerAddress: '',
      host: `h${daemon % this.#hosts}`,
      rack: 'r',
      capacityBytes,
      lostUnflushed: hasLost,
      mapVersion: 0,
    };
    const isAlive = aliveIn(this.view);
    this.state = registerDaemon(this.state, registration, 1, isAlive).state;
    this.starts.set(daemon, [...(this.starts.get(daemon) ?? []), { id: startId, hasLost }]);
    this.#connected.set(daemon, startId);
    this.#since.set(daemon, this.now);
    return startId;
  }

  stop(daemon: number): void {
    if (!this.#connected.delete(daemon)) return;
    this.#since.set(daemon, this.now);
  }

  /** Another master leads: it remembers nothing, and everybody comes again. */
  electAnother(): void {
    this.memory = { since: this.now, targets: new GroupTargets(), movedAt: new Map() };
    for (const daemon of this.starts.keys()) this.#since.set(daemon, this.now);
  }

  tend(ms = 1000): void {
    this.now += ms;
    const { downOutMs } = TEND_LIMITS;
    const daemons = presentDaemons(this.state, this.view, { now: this.now, downOutMs });
    this.memory.targets.refresh(this.state, daemons);
    this.state = tendGroups(this.state, this.view, this.now, this.memory);
  }

  request(request: Omit<GroupRequest, 'startId'>, daemon: number, startId: string): void {
    const isAlive = aliveIn(this.view);
    this.state = decideGroupRequest(
      this.state,
      { ...request, startId },
      { daemonId: daemon, startId },
      isAlive,
    );
  }

  /** Each primary that is there says of each member that joins that it has everything. */
  joinAll(): void {
    for (const { id, groups } of this.state.map.pools)
      for (const index of groups.keys())
        for (const member of this.group(id, index).members) {
          const group = this.group(id, index);
          const primary = primaryOf(group);
          const memberStart = this.view.startOf(member.daemon);
          if (primary === null || primary.inSync === null || member.inSync !== null) continue;
          if (memberStart === null || this.view.startOf(primary.daemon) !== primary.inSync)
            continue;
          const { epoch } = group;
          this.request(
            { kind: 'joined', pool: id, group: index, epoch, member: member.daemon, memberStart },
            primary.daemon,
            primary.inSync,
          );
        }
  }

  group(pool: number, group: number): MapGroup {
    const found = this.state.map.pools.find(({ id }) => id === pool)?.groups[group];
    if (found === undefined) throw new Error(`there is no group ${group} of pool ${pool}`);
    return found;
  }
}
