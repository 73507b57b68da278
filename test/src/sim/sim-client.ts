/**
 * A client of a simulated cluster, by the rules that `PoolRouter` follows: a request goes to the primary of its group and
 * names the epoch; who refuses it with `E_STALE_MAP` makes the client look for a newer map; a request that may have
 * reached a daemon is sent again only when the link to that one is gone, and to whoever is primary then. Two requests that
 * touch the same bytes are never under way at once; the workload sees to that.
 *
 * A flush asks the primary of each group in which something was answered since the last one that succeeded. It fails, once,
 * if such a group has lost writes since.
 */
import {
  groupOf,
  invariant,
  StoreError,
  type DoneWith,
  type Guard,
  type LayerClaim,
  type MapView,
  type ObjectRef,
  type Timer,
} from '@store/core';
import type { LinkEnd, NetworkUser, SimMessage, SimNetwork } from './sim-network.js';
import type { Answer, ClusterMessage, Request, RequestOp } from './sim-messages.js';
import { POISON } from './sim-messages.js';
import { viewOf } from './sim-daemon.js';
import type { SimProcess } from './sim-process.js';
import type { SimWorld } from './sim-world.js';

const RETRY_MS = 60;
const REFRESH_MS = 200;
const REDIAL_MS = 150;

/** What is asked for. */
export interface ClientCall {
  readonly op: RequestOp;
  readonly ref: ObjectRef;
  readonly offset: number;
  readonly bytes: number;
  readonly data: Buffer | null;
  readonly checks: Uint32Array | null;
  readonly flags: number;
  readonly version: number;
  /** Sent again until it is answered; if not, what is in doubt fails with `E_IN_DOUBT`. */
  readonly isRetried: boolean;
  readonly claim?: LayerClaim;
  readonly guard?: Guard;
}

export interface CallResult {
  readonly answer: Answer;
  /** Of the group, when it was answered. */
  readonly epoch: number;
}

interface Open {
  readonly call: ClientCall;
  readonly group: number;
  readonly done: DoneWith<CallResult>;
  /** Over which it was sent, if it was. */
  end: LinkEnd | null;
  epoch: number;
  id: number;
  timer: Timer | null;
  checksumErrors: number;
}

export interface SimClientOptions {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly process: SimProcess;
  readonly name: string;
  readonly poolId: number;
  readonly masters: readonly string[];
}

export class SimClient implements NetworkUser {
  readonly name: string;
  readonly process: SimProcess;
  readonly identity = '';
  /** For planted bugs. */
  readonly hooks = {
    forgetsLosses: false,
    forgetsGivenUps: false,
    sendsTwice: false,
    abandonsEarly: false,
  };
  readonly #options: SimClientOptions;
  #view: MapView | null = null;
  readonly #open = new Map<number, Open>();
  readonly #waiting = new Set<Open>();
  readonly #ends = new Map<string, LinkEnd>();
  readonly #dialling = new Set<string>();
  #nextId = 1;
  #master = 0;
  #masterEnd: LinkEnd | null = null;
  #refreshTimer: Timer | null = null;
  /** By group: the epoch of the oldest answered write that is not flushed. */
  #dirty = new Map<number, number>();

  constructor(options: SimClientOptions) {
    this.#options = options;
    this.name = options.name;
    this.process = options.process;
    options.network.attach(this.name, this);
    this.#dialMaster();
  }

  /** Null: it has not heard of the cluster yet. */
  get view(): MapView | null {
    return this.#view;
  }

  /** Calls that were not answered. */
  get openCount(): number {
    return this.#open.size + this.#waiting.size;
  }

  /** What it waits for, for a message. */
  describeOpen(): string {
    return [...this.#open.values(), ...this.#waiting]
      .slice(0, 4)
      .map(
        ({ call, group, epoch, end }) =>
          `${call.op} of '${call.ref.id}' (group ${group}, epoch ${epoch}, ${end === null ? 'not sent' : `with ${end.peer}`})`,
      )
      .join('; ');
  }

  call(call: ClientCall, done: DoneWith<CallResult>): void {
    const group = this.#groupOf(call.ref);
    this.#send({
      ...{ call, group, done, end: null, epoch: 0, id: 0, timer: null },
      checksumErrors: 0,
    });
  }

  /** A write of its was answered, and is not durable by itself. */
  changed(group: number, epoch: number): void {
    if (!this.#dirty.has(group)) this.#dirty.set(group, epoch);
  }

  /**
   * @param refs - For each group an object in it.
   * @param done - `E_LOST_WRITES`: something answered is lost; else the epochs of the groups when they were flushed
   */
  flush(
    refs: ReadonlyMap<number, ObjectRef>,
    done: (error: StoreError | null, epochs: ReadonlyMap<number, number>) => void,
  ): void {
    const dirty = this.#dirty;
    this.#dirty = new Map();
    if (dirty.size === 0) {
      done(null, new Map());
      return;
    }
    const epochs = new Map<number, number>();
    let left = dirty.size;
    let failure: StoreError | null = null;
    for (const [group, since] of dirty) {
      const ref = refs.get(group);
      invariant(ref !== undefined, 'what was written is in some group');
      const call: ClientCall = {
        ...{ op: 'flush', ref, offset: 0, bytes: 0, data: null, checks: null, flags: 0 },
        ...{ version: 0, isRetried: true },
      };
      this.call(call, (error, result) => {
        epochs.set(group, result?.epoch ?? 0);
        if (this.#hasLost(group, since)) {
          failure = new StoreError('E_LOST_WRITES', `Group ${group} has lost writes`);
          this.#options.world.sometimes('a flush said that writes were lost');
        } else if (error !== null) {
          failure ??= error;
          this.#dirty.set(group, Math.min(since, this.#dirty.get(group) ?? Infinity));
        }
        left -= 1;
        if (left === 0) done(failure, epochs);
      });
    }
  }

  #hasLost(group: number, since: number): boolean {
    const now = this.#view?.poolById(this.#options.poolId)?.groups[group];
    const { lostAt = 0, givenUpAt = 0 } = now ?? {};
    if (this.hooks.forgetsLosses || (this.hooks.forgetsGivenUps && givenUpAt === lostAt))
      return false;
    return lostAt > since;
  }

  linked(end: LinkEnd): void {
    this.#dialling.delete(end.peer);
    if (end.peer.startsWith('m')) {
      this.#masterEnd = end;
      end.send({ type: 'refresh', version: 0 } as ClusterMessage);
      return;
    }
    this.#ends.set(end.peer, end);
    this.#sendWaiting();
  }

  refused(peer: string): void {
    this.#dialling.delete(peer);
    if (peer.startsWith('m')) {
      this.process.timers.after(REDIAL_MS, () => this.#dialMaster());
      return;
    }
    this.process.timers.after(REDIAL_MS, () => this.#sendWaiting());
    this.#refresh();
  }

  unlinked(end: LinkEnd): void {
    if (end === this.#masterEnd) {
      this.#masterEnd = null;
      this.process.timers.after(REDIAL_MS, () => this.#dialMaster());
      return;
    }
    if (this.#ends.get(end.peer) === end) this.#ends.delete(end.peer);
    for (const open of [...this.#open.values()]) {
      if (open.end !== end) continue;
      this.#open.delete(open.id);
      this.#inDoubt(open);
    }
    this.#refresh();
  }

  received(end: LinkEnd, message: SimMessage): void {
    const known = message as ClusterMessage; // nobody sends anything else
    if (known.type === 'map') this.#mapIs(viewOf(known.bytes));
    else if (known.type === 'notLeader') {
      end.close();
      if (end !== this.#masterEnd) return;
      this.#masterEnd = null;
      this.process.timers.after(REDIAL_MS, () => this.#dialMaster());
    } else if (known.type === 'answer') this.#answered(known);
  }

  #send(open: Open): void {
    open.timer?.cancel();
    open.timer = null;
    const place = this.#view?.poolById(this.#options.poolId)?.groups[open.group];
    const daemon = place?.hasPrimary === true ? (place.members[0]?.daemon ?? 0) : 0;
    const name = /^[^:]*/.exec(this.#view?.daemonById(daemon)?.address ?? '')?.[0] ?? '';
    const end = this.#ends.get(name);
    if (place === undefined || daemon === 0 || end === undefined) {
      this.#waiting.add(open);
      if (daemon !== 0 && place !== undefined) this.#dial(name);
      else this.#refresh();
      return;
    }
    const { call } = open;
    open.id = this.#nextId;
    this.#nextId += 1;
    open.end = end;
    open.epoch = place.epoch;
    this.#open.set(open.id, open);
    const request: Request = {
      type: 'request',
      id: open.id,
      pool: this.#options.poolId,
      group: open.group,
      epoch: open.epoch,
      ...{ op: call.op, ref: call.ref, offset: call.offset, bytes: call.bytes },
      ...{ data: call.data, checks: call.checks, flags: call.flags, version: call.version },
      ...(call.claim === undefined ? {} : { claim: call.claim }),
      ...(call.guard === undefined ? {} : { guard: call.guard }),
    };
    end.send(request);
    if (this.hooks.sendsTwice && call.op === 'write') {
      const late = { ...request, id: -request.id, data: Buffer.from(request.data ?? '') };
      this.process.timers.after(30, () => end.send(late));
    }
  }

  #answered(answer: Answer): void {
    const open = this.#open.get(answer.id);
    if (open === undefined) return;
    this.#open.delete(answer.id);
    const { error } = answer;
    if (error === null) {
      this.#end(open, null, { answer, epoch: open.epoch });
      return;
    }
    switch (error.code) {
      case 'E_STALE_MAP':
        // Nothing was done by it, or the epoch ended over it.
        this.#inDoubt(open);
        this.#refresh();
        return;
      case 'E_CHECKSUM':
        open.checksumErrors += 1;
        if (open.checksumErrors > 20) this.#end(open, error);
        else this.#later(open, RETRY_MS);
        return;
      default:
        if (error.retry === 'later' || error.code === 'E_DISK_FAILED') this.#inDoubt(open);
        else this.#end(open, error);
    }
  }

  #inDoubt(open: Open): void {
    const changes = open.call.op !== 'read' && open.call.op !== 'stat' && open.call.op !== 'flush';
    if (open.call.isRetried || !changes) this.#later(open, RETRY_MS);
    else this.#end(open, new StoreError('E_IN_DOUBT', 'It was done, or it was not'));
  }

  #later(open: Open, ms: number): void {
    this.#waiting.add(open);
    open.end = null;
    open.timer = this.process.timers.after(ms, () => {
      open.timer = null;
      if (this.#waiting.delete(open)) this.#send(open);
    });
  }

  #end(open: Open, error: StoreError | null, result?: CallResult): void {
    const { data } = open.call;
    if (error === null && result !== undefined) open.done(null, result);
    else open.done(error ?? new StoreError('E_SYSTEM', 'No answer came'));
    // Whoever still reads these bytes reads what nobody wrote.
    data?.fill(POISON);
  }

  #mapIs(view: MapView): void {
    if (this.#view !== null && view.map.version <= this.#view.map.version) return;
    this.#view = view;
    this.#sendWaiting();
  }

  #sendWaiting(): void {
    const waiting = [...this.#waiting];
    for (const open of waiting) {
      this.#waiting.delete(open);
      this.#send(open);
    }
  }

  #dial(name: string): void {
    if (this.#dialling.has(name)) return;
    this.#dialling.add(name);
    this.#options.network.connect(this.name, name);
  }

  #dialMaster(): void {
    if (this.#masterEnd !== null) return;
    const { masters } = this.#options;
    this.#master += 1;
    const name = masters[this.#master % masters.length];
    if (name !== undefined) this.#dial(name);
  }

  #refresh(): void {
    if (this.#refreshTimer !== null) return;
    this.#refreshTimer = this.process.timers.after(REFRESH_MS, () => {
      this.#refreshTimer = null;
      if (this.openCount > 0) this.#sendWaiting();
    });
    const version = this.#view?.map.version ?? 0;
    this.#masterEnd?.send({ type: 'refresh', version } as ClusterMessage);
  }

  #groupOf(ref: ObjectRef): number {
    const pool = this.#view?.poolById(this.#options.poolId);
    invariant(pool !== undefined, 'nobody calls before there is a map');
    return groupOf(pool, ref.hash);
  }
}
