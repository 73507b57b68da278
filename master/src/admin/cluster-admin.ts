/** What people can ask a master for, by the leader's state and decisions. */
import {
  CONTROL,
  decodeDaemonScrub,
  encodeScrubRequest,
  groupOf,
  locatorHash,
  placePoolsSliced,
  planPlacement,
  StoreError,
  type ChangePlan,
  type ClientStatus,
  type ClusterStatus,
  type ControlMessage,
  type GroupStatus,
  type JsonFields,
  type MapDaemon,
  type MapPool,
  type PlacementPlan,
  type PoolStatus,
  type RateReport,
  type ScrubKind,
  type ScrubReport,
  type ScrubRequest,
  type StorageMap,
  type TrafficHistory,
  type WhyAnswer,
} from '@store/core';
import type { ClientRecord, ClusterState } from '../cluster/cluster-state.js';
import { createClient, removeClient, rotateClient, setClient } from '../cluster/decide-clients.js';
import { changeDaemon, daemonOf, isBearer, removeDaemon } from '../cluster/decide-daemons.js';
import {
  acceptDataLoss,
  LOSS_ADVICE,
  lossWarnings,
  type AcceptedLoss,
  type LossContext,
} from '../cluster/accept-data-loss.js';
import { presentDaemons } from '../cluster/group-targets.js';
import type { IsAlive } from '../cluster/roster-view.js';
import {
  createPool,
  defaultReplicas,
  poolOf,
  removePool,
  setPool,
} from '../cluster/decide-pools.js';
import type { Master } from '../server/master.js';
import { sumOf } from '../server/traffic.js';
import type { AdminService, ClientRights, DaemonChange, PoolSettings } from './admin-service.js';
import { lookAtCopy, lookAtLinks } from './copy-knowledge.js';
import { groupStatus } from './group-status.js';
import {
  ARRIVAL_MS,
  clusterStatus,
  isoTime,
  isUp,
  poolStatus,
  type StatusSources,
} from './cluster-status.js';

export class ClusterAdmin implements AdminService {
  readonly #master: Master;

  constructor(master: Master) {
    this.#master = master;
  }

  status(): ClusterStatus {
    return clusterStatus(this.#sources());
  }

  history(): TrafficHistory {
    this.#master.needLeader();
    return this.#master.traffic.history();
  }

  map(): StorageMap {
    return this.#master.state.map;
  }

  watch(listener: () => void): () => void {
    return this.#master.watch(listener);
  }

  why(poolName: string, key: Buffer): WhyAnswer {
    const sources = this.#sources();
    const { map } = sources.state;
    const pool = poolOf(map, poolName);
    const hash = locatorHash(key);
    const number = groupOf(pool, hash);
    const group = pool.groups[number];
    const { epoch = 0, hasPrimary = false, members: listed = [], lostAt = 0 } = group ?? {};
    const members = listed.map(({ daemon: id, inSync }, place) => {
      const { address, host, rack } = daemonOf(map, id);
      const role = inSync === null ? 'joining' : hasPrimary && place === 0 ? 'primary' : 'copy';
      const state = isUp(sources, id) ? 'up' : 'down';
      return { daemon: id, address, host, rack, role, state } as const;
    });
    const hex = [hash.high, hash.low].map((half) => half.toString(16).padStart(8, '0')).join('');
    return {
      pool: poolName,
      key: key.toString(),
      hash: hex,
      group: number,
      epoch,
      members,
      reasons: reasonsOf(pool, { hex, number, members, lostAt, hasPrimary }),
    };
  }

  /** Pool by pool, as if everything could be moved. */
  async planRebalance(): Promise<ChangePlan> {
    const { map } = this.#master.state;
    return this.#plan('Place all groups anew', map, map, [], true);
  }

  async createPool(
    name: string,
    settings: PoolSettings & { readonly groups?: number },
    dryRun: boolean,
  ): Promise<ChangePlan> {
    const { random } = this.#master.env;
    const sources = this.#sources();
    const isAlive: IsAlive = (daemon) => isUp(sources, daemon);
    const { map } = sources.state;
    const replicas =
      settings.replicas ?? defaultReplicas(map, settings.failureDomain ?? 'disk', isAlive);
    const plan = await this.#change(
      `Create pool '${name}' with ${replicas === 1 ? '1 copy' : `${replicas} copies`} of everything`,
      // As it is said, though a daemon may come or go meanwhile.
      (state) => createPool(state, name, { ...settings, replicas }, { random, isAlive }),
      dryRun,
    );
    const canBear = this.#master.state.map.daemons.some(isBearer);
    return canBear ? plan : { ...plan, warnings: [NO_DAEMON_YET] };
  }

  setPool(name: string, settings: PoolSettings, dryRun: boolean): Promise<ChangePlan> {
    const moves = settings.replicas !== undefined || settings.failureDomain !== undefined;
    return this.#change(
      `Change pool '${name}'`,
      (state) => setPool(state, name, settings),
      dryRun,
      moves,
    );
  }

  async removePool(name: string, dryRun: boolean): Promise<ChangePlan> {
    const { objects } = this.pool(name);
    const plan = await this.#change(
      `Remove pool '${name}' and all that it holds`,
      (state) => removePool(state, name),
      dryRun,
    );
    const warnings = objects > 0 ? [`Pool '${name}' holds about ${objects} objects.`] : [];
    return { ...plan, warnings };
  }

  pool(name: string): PoolStatus {
    const sources = this.#sources();
    return poolStatus(poolOf(sources.state.map, name), sources);
  }

  groups(name: string): readonly GroupStatus[] {
    const sources = this.#sources();
    const pool = poolOf(sources.state.map, name);
    return pool.groups.map((_, index) => groupStatus(pool, index, sources));
  }

  group(name: string, index: number): GroupStatus {
    const sources = this.#sources();
    const pool = poolOf(sources.state.map, name);
    if (index < pool.groups.length) return groupStatus(pool, index, sources);
    throw new StoreError(
      'E_NOT_FOUND',
      `Pool '${name}' has groups 0 to ${pool.groups.length - 1}, and no group ${index}`,
    );
  }

  async acceptDataLoss(loss: AcceptedLoss, dryRun: boolean): Promise<ChangePlan> {
    const { id, groups } = poolOf(this.#master.state.map, loss.pool);
    const members = groups[loss.group]?.members.map(({ daemon }) => daemon) ?? [];
    const [copy, reached] = await Promise.all([
      lookAtCopy(this.#master, { ...loss, pool: id }),
      lookAtLinks(this.#master, loss.daemon, members),
    ]);
    const { roster, env } = this.#master;
    const context = (): LossContext => ({
      view: roster.view(),
      now: env.clock.now(),
      time: Math.floor(env.clock.wallSeconds()),
      copy,
      reached,
    });
    const warnings = lossWarnings(this.#master.state, loss, context());
    const change = (state: ClusterState): ClusterState => acceptDataLoss(state, loss, context());
    if (roster.lookedForMs < ARRIVAL_MS)
      throw new StoreError(
        'E_BUSY',
        'This master has just begun to lead, and waits for the daemons that run; ask again in a moment',
      );
    const plan = await this.#change(
      `Group ${loss.group} of pool '${loss.pool}': give up what daemon ${loss.daemon} does not have`,
      change,
      dryRun,
    );
    return {
      ...plan,
      groupsChanged: 1,
      warnings: dryRun ? [...warnings, LOSS_ADVICE] : warnings,
    };
  }

  async changeDaemon(id: number, change: DaemonChange, dryRun: boolean): Promise<ChangePlan> {
    const before = this.#master.state.map;
    const what = [
      ...(change.membership === undefined ? [] : [`make it ${change.membership}`]),
      ...(change.weight === undefined
        ? []
        : [
            change.weight === null ? 'weigh it by its capacity' : `give it weight ${change.weight}`,
          ]),
    ];
    await this.#apply((state) => changeDaemon(state, id, change), true); // what cannot be done has no plan
    const after = changeDaemon(this.#master.state, id, change).map;
    const plan = await this.#plan(`Daemon ${id}: ${what.join(', ')}`, before, after, [], true);
    if (!dryRun) await this.#apply((state) => changeDaemon(state, id, change), false);
    return plan;
  }

  async removeDaemon(id: number, dryRun: boolean): Promise<ChangePlan> {
    const { roster } = this.#master;
    const isUp = roster.presence(id).connection !== null;
    removeDaemon(this.#master.state, id); // what cannot be done at all is said first
    if (isUp && !dryRun)
      throw new StoreError(
        'E_IN_USE',
        `Daemon ${id} is up, and would register again as a new one: stop it first`,
      );
    const plan = await this.#change(
      `Remove daemon ${id} from the cluster`,
      (state) => removeDaemon(state, id),
      dryRun,
    );
    if (!dryRun) roster.forget(id);
    return isUp ? { ...plan, warnings: [`Daemon ${id} is up: stop it first.`] } : plan;
  }

  async startScrub(pool: string | null, kind: ScrubKind): Promise<ScrubReport> {
    return this.#askScrubs({ kind, pool: this.#idOf(pool) });
  }

  async scrubs(pool: string | null): Promise<ScrubReport> {
    return this.#askScrubs({ kind: 'status', pool: this.#idOf(pool) });
  }

  async setRecoveryRate(bytesPerSecond: number): Promise<RateReport> {
    // First for those that register from now on, so that none is left with the old one.
    await this.#apply((state) => ({ ...state, recoveryRate: bytesPerSecond }), false);
    const answers = await this.#master.askDaemons(CONTROL.recovery, { bytesPerSecond });
    return { daemons: this.#byDaemon(answers).map(({ who, problem }) => ({ ...who, problem })) };
  }

  /** Of a pool; 0: all of them. @throws StoreError `E_NOT_FOUND` */
  #idOf(pool: string | null): number {
    return pool === null ? 0 : poolOf(this.#master.state.map, pool).id;
  }

  async #askScrubs(request: ScrubRequest): Promise<ScrubReport> {
    const { map } = this.#master.state;
    const answers = await this.#master.askDaemons(CONTROL.scrub, encodeScrubRequest(request));
    const pools = map.pools.filter(({ id }) => request.pool === 0 || id === request.pool);
    const isThere = (daemon: number): boolean => answers.has(daemon);
    return {
      daemons: this.#byDaemon(answers).map(({ who, problem, fields }) => ({
        ...who,
        problem,
        scrub: fields === null ? null : decodeDaemonScrub(fields),
      })),
      pools: Object.fromEntries(map.pools.map(({ id, name }) => [`${id}`, name])),
      groupsOutOfReach: pools
        .flatMap(({ groups }) => groups)
        .filter(({ hasPrimary, members: [first] }) => !hasPrimary || !isThere(first?.daemon ?? 0))
        .length,
    };
  }

  /** Of the daemons of the map, in the order of their numbers. */
  #byDaemon(answers: ReadonlyMap<number, ControlMessage | StoreError>): DaemonAnswer[] {
    return this.#master.state.map.daemons.flatMap(({ id: daemon, address }): DaemonAnswer[] => {
      const answer = answers.get(daemon);
      if (answer === undefined) return [];
      const who = { daemon, address };
      const isError = answer instanceof StoreError;
      const problem = isError ? answer.message : null;
      return [{ who, fields: isError ? null : answer.fields, problem }];
    });
  }

  clients(): readonly ClientStatus[] {
    const list = [...this.#master.state.clients.values()].map(statusOf);
    return list.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  createClient(name: string, rights: ClientRights): Promise<string> {
    return this.#master.leader.decide((state) => {
      const { state: next, key } = createClient(state, name, rights, this.#now());
      return { state: next, result: key.toText() };
    });
  }

  setClient(name: string, rights: ClientRights): Promise<void> {
    return this.#apply((state) => setClient(state, name, rights), false);
  }

  rotateClient(name: string): Promise<string> {
    return this.#master.leader.decide((state) => {
      const { state: next, key } = rotateClient(state, name, this.#now());
      return { state: next, result: key.toText() };
    });
  }

  removeClient(name: string): Promise<void> {
    const { now } = this.#now();
    return this.#apply((state) => removeClient(state, name, now), false);
  }

  #now(): { random: Master['env']['random']; now: number } {
    const { random, clock } = this.#master.env;
    return { random, now: Math.floor(clock.wallSeconds()) };
  }

  async #change(
    what: string,
    change: (state: ClusterState) => ClusterState,
    dryRun: boolean,
    anew = false,
  ): Promise<ChangePlan> {
    const before = this.#master.state.map;
    const after = change(this.#master.state).map;
    const plan = await this.#plan(what, before, after, [], anew);
    if (!dryRun) await this.#apply(change, false);
    return plan;
  }

  async #apply(change: (state: ClusterState) => ClusterState, dryRun: boolean): Promise<void> {
    if (dryRun) change(this.#master.state);
    else await this.#master.leader.decide((state) => ({ state: change(state), result: undefined }));
  }

  /** @param anew - As if all groups were placed anew on the daemons of `after`. */
  async #plan(
    change: string,
    before: StorageMap,
    after: StorageMap,
    warnings: readonly string[],
    anew: boolean,
  ): Promise<ChangePlan> {
    const sums = new Map<number, { -readonly [F in keyof PlannedCounts]: PlannedCounts[F] }>();
    let [copiesMoved, groupsChanged] = [0, 0];
    const add = (plan: PlacementPlan): void => {
      groupsChanged += plan.groupsChanged;
      for (const counts of plan.daemons) {
        const sum = sums.get(counts.daemon) ?? { ...NO_COUNTS, daemon: counts.daemon };
        sum.copiesBefore += counts.copiesBefore;
        sum.copiesAfter += counts.copiesAfter;
        sum.copiesIn += counts.copiesIn;
        sum.copiesOut += counts.copiesOut;
        sums.set(counts.daemon, sum);
      }
    };
    const oldOf = new Map(before.pools.map((pool) => [pool.id, pool]));
    const held = after.pools.map((pool) => holdersOf(oldOf.get(pool.id) ?? pool));
    const placed = after.pools.map((pool, index) => ({ ...pool, holders: held[index] ?? [] }));
    const targets = anew
      ? await placePoolsSliced(this.#master.env, placed, this.#present(after))
      : after.pools.map(holdersOf);
    for (const [index, pool] of after.pools.entries()) {
      const isNew = !oldOf.has(pool.id);
      const [holders, target] = [held[index] ?? [], targets[index] ?? []];
      const plan = planPlacement(isNew ? holders.map(() => []) : holders, target);
      add(plan);
      copiesMoved += isNew ? 0 : plan.copiesMoved;
    }
    for (const pool of before.pools)
      if (!after.pools.some(({ id }) => id === pool.id)) {
        const holders = holdersOf(pool);
        add(
          planPlacement(
            holders,
            holders.map(() => []),
          ),
        );
      }
    const daemons = [...sums.values()].sort((a, b) => a.daemon - b.daemon);
    return { change, copiesMoved, bytesMoved: null, groupsChanged, daemons, warnings };
  }

  #present(map: StorageMap): MapDaemon[] {
    const { state, roster, env, tendLimits } = this.#master;
    const { downOutMs } = tendLimits;
    return presentDaemons({ ...state, map }, roster.view(), { now: env.clock.now(), downOutMs });
  }

  #sources(): StatusSources {
    const { state, roster, env, masters, targets } = this.#master;
    return {
      state,
      presenceOf: (id) => roster.presence(id),
      lookedForMs: roster.lookedForMs,
      now: env.clock.now(),
      time: env.clock.wallTime(),
      masters,
      traffic: sumOf(roster.traffics),
      targetOf: (pool, group) => targets?.of(pool)?.[group] ?? null,
    };
  }
}

/** What a daemon that is connected answered, or why it did not. */
interface DaemonAnswer {
  readonly who: { readonly daemon: number; readonly address: string };
  readonly fields: JsonFields | null;
  readonly problem: string | null;
}

type PlannedCounts = ChangePlan['daemons'][number];

const NO_COUNTS: PlannedCounts = {
  daemon: 0,
  copiesBefore: 0,
  copiesAfter: 0,
  copiesIn: 0,
  copiesOut: 0,
};

const NO_DAEMON_YET =
  'No daemon is in yet: the groups get theirs when one comes, and nothing can be stored before.';

function holdersOf(pool: MapPool): number[][] {
  return pool.groups.map(({ members }) => members.map(({ daemon }) => daemon));
}

function statusOf({ name, isAdmin, rights, created, rotated }: ClientRecord): ClientStatus {
  const text = (seconds: number): string => isoTime(seconds);
  return {
    name,
    isAdmin,
    rights,
    created: text(created),
    rotated: rotated === 0 ? null : text(rotated),
  };
}

function reasonsOf(
  pool: MapPool,
  found: {
    hex: string;
    number: number;
    members: WhyAnswer['members'];
    lostAt: number;
    hasPrimary: boolean;
  },
): string[] {
  const { hex, number, members, lostAt, hasPrimary } = found;
  const bits = Math.log2(pool.groups.length);
  const reasons = [
    `The hash of the key is ${hex}.`,
    `Pool '${pool.name}' has ${pool.groups.length} groups, so the first ${bits} bits of the hash decide: group ${number}.`,
  ];
  if (members.length === 0)
    reasons.push(
      'No daemon holds that group yet: none that is in has come up since the pool was made.',
    );
  for (const { daemon, role, host, rack, state } of members)
    reasons.push(
      `The map says that daemon ${daemon} (host ${host}, rack ${rack}) holds it as ${role === 'primary' ? 'its primary' : role}; it is ${state}.`,
    );
  if (members.length > 0 && !hasPrimary) reasons.push('Nobody serves it just now.');
  if (lostAt > 0) reasons.push(`At epoch ${lostAt} writes that were not flushed were lost.`);
  return reasons;
}
