/**
 * Sends each request of a pool to the daemon that is the primary of its group, and to another one when the map says so.
 *
 * Order is kept above the daemons: a request waits here for the earlier ones that it conflicts with (`ConflictGate`) until
 * they are answered, wherever they are by then. So two that touch the same bytes are never under way at once, whether
 * their daemon is still being opened, does not know yet that it is the primary, or gives its group away, and a request
 * that is sent again, here or there, cannot land on a newer one.
 *
 * When a group goes elsewhere, requests about it that the former primary has not answered are run again by the new one. What
 * was never sent goes there at once, as does all of a daemon whose connection is broken. What is under way on a living
 * connection may be answered for a moment more; then the connection is closed (`PoolLane.part`), so that a daemon that hangs
 * holds nobody up, and nothing of it arrives afterwards. A daemon that only this client cannot reach is waited for until the
 * deadline: while the map names it, nobody else may answer.
 *
 * Each request says which epoch of its group it is meant for: that of the map it was sent by. A daemon runs it in no other
 * epoch, so a copy that was left behind on the way to a former primary changes nothing when that one wakes up, also if it
 * has become the primary once more. Refused for an epoch that the map has left since, it is sent again at once; else when
 * a newer map comes.
 */
import { ConflictGate } from '../client/conflict-gate.js';
import type { ClientRequest } from '../client/client-request.js';
import { groupOf, isNewer, type MapView } from '../map/map-lookup.js';
import type { MapPool } from '../map/storage-map.js';
import { chainHandle, keepChain, type ClaimedChain } from '../pool/chain.js';
import type { ObjectRef } from '../pool/object-pool.js';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { OP } from '../wire/ops.js';
import { HeldRequests } from './held-requests.js';
import { SlowRequests } from './slow-requests.js';
import { PoolLane, type ClusterStoreOptions, type LaneOwner } from './pool-lane.js';

/** So long somebody waits for a newer map before he looks again all the same. */
const MAP_WAIT_MS = 200;
const NOTHING = Buffer.alloc(0);

export class PoolRouter implements LaneOwner {
  readonly options: ClusterStoreOptions;
  #view: MapView;
  #pool: MapPool;
  /** By the id of the daemon; those that are primary of nothing any more stay. */
  readonly #lanes = new Map<number, PoolLane>();
  /** Of the primary, by group. */
  #byGroup: (PoolLane | null)[] = [];
  readonly #gate = new ConflictGate<ClientRequest>((request) => this.#send(request));
  readonly #held: HeldRequests;
  readonly #slow: SlowRequests;
  readonly #chains = new Map<number, ClaimedChain>();
  /** Groups in which something was changed, by anybody, that was not durable when it was answered. */
  readonly changedGroups = new Set<number>();
  /** How often since this was opened a group lost what was flushed; see `MapGroup.givenUpAt`. */
  givenUps = 0;
  #openCount = 0;
  #refusal: StoreError | null = null;
  #isSeeking = false;
  #whenIdle: (() => void)[] = [];
  #whenNewer: (() => void)[] = [];

  constructor(options: ClusterStoreOptions, view: MapView, pool: MapPool) {
    this.options = options;
    this.#view = view;
    this.#pool = pool;
    const { env, deadlineMs } = options;
    this.#held = new HeldRequests(env, deadlineMs, {
      seek: () => this.#seek(),
      again: (request) => this.#send(request),
      late: (request, why) => this.#finish(request, this.lateError(this.groupOf(request.ref), why)),
    });
    this.#slow = new SlowRequests({
      env,
      pool: pool.name,
      open: () => [...this.lanes].flatMap((lane) => lane.open()).concat(this.#held.all()),
      groupOf: ({ ref }) => (ref === null ? null : this.groupOf(ref)),
      reasonOf: (group) => this.#reasonFor(group),
    });
    this.#route();
  }

  get pool(): MapPool {
    return this.#pool;
  }

  get mapVersion(): number {
    return this.#view.map.version;
  }

  /** Why nothing is done any more; null: it is. */
  get refusal(): StoreError | null {
    return this.#refusal;
  }

  /** Requests that were not answered. */
  get openCount(): number {
    return this.#openCount;
  }

  get lanes(): Iterable<PoolLane> {
    return this.#lanes.values();
  }

  groupOf(ref: ObjectRef | null): number {
    invariant(ref !== null, 'only what is about an object has a group');
    return groupOf(this.#pool, ref.hash);
  }

  /** To the primary of a group; null: it has none. */
  laneOf(group: number): PoolLane | null {
    return this.#byGroup[group] ?? null;
  }

  /** Of a group, by the present map. */
  epochOf(group: number): number {
    return this.#pool.groups[group]?.epoch ?? 0;
  }

  /** To a daemon that something was sent to, or may be; null: it is none of those. */
  laneTo(daemon: number): PoolLane | null {
    return this.#lanes.get(daemon) ?? null;
  }

  /** See `MapGroup.lostAt`. */
  lostAt(group: number): number {
    return this.#pool.groups[group]?.lostAt ?? 0;
  }

  /** A group that nobody serves; -1: there is none. */
  groupWithoutPrimary(): number {
    return this.#byGroup.indexOf(null);
  }

  /** Takes a request about an object. */
  submit(request: ClientRequest): void {
    if (this.#refusal !== null) {
      request.done(this.#refusal, NOTHING);
      return;
    }
    this.#openCount += 1;
    this.#slow.began(request);
    if (this.#gate.enter(request)) this.#send(request);
  }

  /** Takes a request for one daemon alone. It ends with `E_STALE_MAP` when it is for another one by then (`isElsewhere`). */
  submitTo(lane: PoolLane, request: ClientRequest): void {
    if (this.#refusal !== null) {
      request.done(this.#refusal, NOTHING);
      return;
    }
    this.#openCount += 1;
    this.#slow.began(request);
    lane.submit(request);
  }

  /** Requests may name the chain. A daemon that does not know it is told of it then. @returns What they name it by */
  addChain(chain: ClaimedChain): number {
    const handle = chainHandle(chain);
    keepChain(this.#chains, handle, chain);
    return handle;
  }

  chain(handle: number): ClaimedChain | undefined {
    return this.#chains.get(handle);
  }

  /** A map has come. Not from within an answer. */
  mapIs(view: MapView): void {
    if (this.#refusal !== null || !isNewer(view.map, this.#view.map)) return;
    this.#view = view;
    const { id, name, groups } = this.#pool;
    const pool = view.poolById(id);
    if (pool === undefined || pool.groups.length !== groups.length)
      this.#fail(
        pool === undefined
          ? new StoreError('E_NOT_FOUND', `Pool '${name}' was removed`)
          : new StoreError('E_FORMAT', `Pool '${name}' has other groups now; open it again`),
      );
    else {
      this.#pool = pool;
      this.#noteGivenUp(groups);
      this.#route();
      // Who gets a group, or gets it once more, has just spoken with the masters.
      for (const [group, { epoch }] of groups.entries())
        if (epoch !== this.epochOf(group)) this.laneOf(group)?.hurry();
      for (const lane of this.#lanes.values()) this.#rescue(lane);
      this.#held.mapIsNew();
    }
    for (const wake of this.#whenNewer.splice(0)) wake();
  }

  /** Asks for a newer map, and resolves when there is one; or soon, to look again. */
  newerMap(): Promise<void> {
    this.#seek();
    const come = new Promise<void>((resolve) => this.#whenNewer.push(resolve));
    return Promise.race([this.options.env.timers.sleep(MAP_WAIT_MS), come]);
  }

  /** Why a request about a group is given up. @param why - What its daemon said; null: there is none */
  lateError(group: number, why: StoreError | null): StoreError {
    const seconds = this.options.deadlineMs / 1000;
    const which = `group ${group} of pool '${this.#pool.name}'`;
    const lane = this.laneOf(group);
    if (lane !== null)
      return new StoreError(
        'E_TIMEOUT',
        `${lane.title} does not serve ${which}, though map ${this.mapVersion} says so, and within ${seconds} s came no other${why === null ? '' : ` (${why.message})`}`,
        { cause: why },
      );
    const members = this.#pool.groups[group]?.members.map(({ daemon }) => daemon) ?? [];
    const holders = members.length === 0 ? 'no daemon holds it' : `held by ${named(members)}`;
    return new StoreError(
      'E_TIMEOUT',
      `Nobody serves ${which} (${holders}), and within ${seconds} s nobody began to; see that the daemons run`,
    );
  }

  /** Why requests about a group may wait, by what is known here. */
  #reasonFor(group: number): string {
    const lane = this.laneOf(group);
    const { members = [] } = this.#pool.groups[group] ?? {};
    const holders = members.map(({ daemon }) => daemon);
    if (lane === null) return `nobody serves it (held by ${named(holders)})`;
    if (!lane.isConnected) return `${lane.title} cannot be reached`;
    const { minReplicas } = this.#pool;
    const inSync = members.filter((member) => member.inSync !== null).length;
    if (inSync < minReplicas)
      return `copies in sync: ${inSync}, and writes need ${minReplicas} (--min-replicas)`;
    return this.options.guide.isConnected
      ? `${lane.title} has not answered`
      : `${lane.title} has not answered; no master can be reached, without which nobody does without a daemon that is gone`;
  }

  ended(lane: PoolLane, request: ClientRequest, error: StoreError | null, body: Buffer): void {
    if (error === null) this.#finish(request, null, body);
    else if (error.code === 'E_STALE_MAP' && this.#refusal !== null)
      this.#finish(request, this.#refusal);
    else if (request.ref !== null && this.#mayRunAgain(request, error))
      this.#refused(lane, request, error);
    else this.#finish(request, this.#named(lane, request, error), body);
  }

  unreachable(lane: PoolLane): void {
    this.#seek();
    this.#rescue(lane);
  }

  /** Resolves when all that was taken is answered; then nothing more is. */
  async close(): Promise<void> {
    while (this.#openCount > 0)
      await new Promise<void>((resolve) => {
        this.#whenIdle.push(resolve);
      });
    this.#refusal = new StoreError('E_CLOSED', 'The store is closed');
    this.#slow.close();
    await Promise.all([...this.#lanes.values()].map((lane) => lane.close()));
  }

  /** Who is the primary then may run it, whether this one has done something or not. */
  #mayRunAgain(request: ClientRequest, { code }: StoreError): boolean {
    if (code === 'E_IN_DOUBT' && request.op !== OP.compareAndSwap) {
      request.isInDoubt = true;
      return true;
    }
    return code === 'E_STALE_MAP';
  }

  /** A daemon says that it is not the primary, or in another epoch, and has done nothing that counts. */
  #refused(lane: PoolLane, request: ClientRequest, error: StoreError): void {
    const group = this.groupOf(request.ref);
    const isPresent = this.laneOf(group) === lane && this.epochOf(group) === request.epoch;
    if (isPresent) this.#held.hold(request, error);
    // A newer map has come since it was sent. Not from within the answer of a client.
    else queueMicrotask(() => this.#send(request));
  }

  /** To where it belongs by now; it is through the gate. */
  #send(request: ClientRequest): void {
    const group = this.groupOf(request.ref);
    const lane = this.laneOf(group);
    const refusal = this.#refusal;
    // Not from within: thousands may wait for this one at the gate.
    if (refusal !== null) queueMicrotask(() => this.#finish(request, refusal));
    else if (lane === null) this.#held.hold(request, null);
    else {
      request.epoch = this.epochOf(group);
      lane.submit(request);
    }
  }

  #finish(request: ClientRequest, error: StoreError | null, body: Buffer = NOTHING): void {
    request.done(error, body);
    if (request.ref !== null) this.#gate.leave(request);
    this.#openCount -= 1;
    if (this.#openCount === 0) for (const wake of this.#whenIdle.splice(0)) wake();
  }

  /** @param before - The groups of the map before. */
  #noteGivenUp(before: MapPool['groups']): void {
    const { name, groups } = this.#pool;
    const givenUp = groups.flatMap(({ givenUpAt }, group) =>
      givenUpAt > (before[group]?.givenUpAt ?? 0) ? [group] : [],
    );
    if (givenUp.length === 0) return;
    this.givenUps += givenUp.length;
    this.options.env.log.error(
      { pool: name, groups: givenUp },
      `An operator had ${givenUp.length === 1 ? 'a group' : `${givenUp.length} groups`} of pool '${name}' go on with an older copy: what was written since is gone, also what was flushed. The next flush of each image fails; check what it holds. See: store status`,
    );
  }

  /** Finds the primary of each group in the present map. */
  #route(): void {
    for (const lane of this.#lanes.values()) {
      const daemon = this.#view.daemonById(lane.daemon);
      if (daemon !== undefined) lane.addressIs(daemon.address);
    }
    this.#byGroup = this.#pool.groups.map(({ members, hasPrimary }) =>
      hasPrimary ? this.#openLane(members[0]?.daemon ?? 0) : null,
    );
  }

  #openLane(id: number): PoolLane | null {
    const known = this.#lanes.get(id);
    if (known !== undefined) return known;
    const daemon = this.#view.daemonById(id);
    if (daemon === undefined) return null;
    const lane = new PoolLane(this, this.#pool, daemon);
    this.#lanes.set(id, lane);
    return lane;
  }

  /** Takes from a daemon what it need not answer any more: at once what it has not got, and soon what it has. */
  #rescue(lane: PoolLane): void {
    const isElsewhere = ({ ref, isElsewhere: isMoved }: ClientRequest): boolean => {
      if (this.#refusal !== null) return true;
      if (ref !== null) return this.laneOf(this.groupOf(ref)) !== lane;
      return isMoved?.() ?? false;
    };
    for (const request of lane.takeBack(isElsewhere))
      if (request.ref !== null) this.#send(request);
      else
        this.#finish(
          request,
          this.#refusal ??
            new StoreError('E_STALE_MAP', `${lane.title} is not the one to ask any more`),
        );
    lane.part(isElsewhere);
  }

  /** Nothing can be done with this pool any more. What daemons are busy with they may still answer. */
  #fail(error: StoreError): void {
    this.#refusal = error;
    for (const request of this.#held.takeAll()) this.#finish(request, error);
    for (const lane of this.#lanes.values()) this.#rescue(lane);
  }

  #seek(): void {
    if (this.#isSeeking || this.#refusal !== null) return;
    this.#isSeeking = true;
    const { guide, env } = this.options;
    void guide
      .refresh(this.mapVersion)
      .catch((error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        env.log.debug({ code: error.code }, `No newer map: ${error.message}`);
      })
      .then(() => {
        this.#isSeeking = false;
        this.mapIs(guide.view);
      });
  }

  /** Which of all the daemons, and what it is needed for. */
  #named(lane: PoolLane, { ref }: ClientRequest, error: StoreError): StoreError {
    if (error.code !== 'E_TIMEOUT' && error.code !== 'E_UNREACHABLE') return error;
    const what = ref === null ? 'Pool' : `Group ${this.groupOf(ref)} of pool`;
    return new StoreError(
      error.code,
      `${what} '${lane.name}' is with daemon ${lane.daemon}: ${error.message}`,
      { cause: error },
    );
  }
}

function named(daemons: readonly number[]): string {
  return `daemon${daemons.length > 1 ? 's' : ''} ${daemons.join(', ')}`;
}
