/**
 * A client's session with one daemon. It hides broken connections, restarts of the daemon, and how requests travel: each
 * request given to `submit` is answered exactly once, with what the daemon says, or when its deadline has passed.
 *
 * - Requests keep their id however often they are sent. A daemon that knows the session runs each at most once; one that
 *   does not (it was restarted) gets again what may be run again: a write that was not answered may be written twice,
 *   because nothing that touches the same bytes goes out before it is answered (`ConflictGate`). A compare-and-swap that
 *   may have been run is `E_IN_DOUBT`.
 * - A request that is given up is not sent again, and its id falls below the floor, so a late copy has no effect. If its
 *   bytes may still be on their way from the caller's buffers, the connection ends with it.
 * - Another start of the daemon may have lost answered writes (its *lineage* has changed): the pools are told, and the
 *   next flush says so.
 */
import type { TicketFile } from '../auth/ticket-file.js';
import type { Clock, Env, Timer } from '../env/env.js';
import type { ListenAddress } from '../env/network.js';
import { chainHandle, keepChain, type ClaimedChain } from '../pool/chain.js';
import { StoreError, errorFromStatus } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { decodeChainAnswer, encodeChain } from '../wire/chain-message.js';
import { writeU64, type FrameHeader } from '../wire/frame-header.js';
import { decodeOpenPoolAnswer, encodeOpenPool, SESSION_BYTES } from '../wire/greeting.js';
import { OP, type Op } from '../wire/ops.js';
import { CHAINS_MAX, REQUEST_SPAN_MAX } from '../wire/wire-limits.js';
import { BackOff } from '../env/back-off.js';
import { ClientRequest, type PoolHandle } from './client-request.js';
import { ConflictGate } from './conflict-gate.js';
import { DaemonLink, nameOf, type DaemonAddress, type LinkEvents } from './daemon-link.js';
import { DatagramLane } from './datagram-lane.js';
import { RequestEncoder } from './request-encoder.js';
import type { RequestKeeper } from './request-keeper.js';
import { RequestList } from './request-list.js';

/** Dialling and greeting. */
const CONNECT_MS = 5000;
/** How often deadlines and silence are looked at. */
export const LOOK_MS = 250;
/** A daemon that owes answers and says nothing for so long is asked whether it is there, and then given up. */
const SILENCE_MS = 5000;
/** So long a client without luck with datagrams uses none. */
const NO_DATAGRAMS_MS = 60_000;
/** Requests that leave together: the daemon works on them while more are made. */
const REQUESTS_TOGETHER = 8;
const SLOTS_MASK = REQUEST_SPAN_MAX - 1;
const NOTHING = Buffer.alloc(0);
/** A daemon that stops lets its clients in again and again until it is gone. */
const TURNED_AWAY_MS = 100;
/** For one request: others may push its chain out meanwhile. */
const REGISTRATIONS_MAX = 8;
/** Bytes that arrive damaged so often do not get better. */
const DAMAGED_MAX = 3;

invariant((REQUEST_SPAN_MAX & SLOTS_MASK) === 0, 'slots are found by a mask');

export interface DaemonClientOptions extends DaemonAddress {
  readonly env: Env;
  /** The ticket to show from now on, before each connection but the first: the one there is may have been renewed. */
  readonly renewTicket?: (present: TicketFile) => Promise<TicketFile>;
  /** Asked for the ticket before each connection, instead of the two above; null: none is shown. */
  readonly ticketFor?: () => Promise<TicketFile | null>;
  /** Only the daemon of this disk will do; not given: the one that answers first. 16 bytes. */
  readonly expectedDiskId?: Buffer;
  /** Who has a choice of daemons. */
  readonly keeper?: RequestKeeper;
  /** After so long without an answer a request fails. */
  readonly deadlineMs: number;
  /** Small requests go as datagrams of at most so many bytes; 0: everything goes over the connection. */
  readonly datagramBytes: number;
}

/** A pool that is in use: opened again on each connection. */
export interface ClientPool extends PoolHandle {
  readonly name: string;
  /** What a daemon says of another pool of that name would be different, or not. */
  readonly objectBytes: number;
  /** The daemon's lineage: when it changes, answered writes may be lost. */
  lineageIs(lineage: Buffer): void;
}

/** What a client counts. */
export interface ClientCounters {
  connects: number;
  resent: number;
  timeouts: number;
  damaged: number;
  datagramsSent: number;
  datagramsResent: number;
}

export class DaemonClient {
  readonly counters: ClientCounters = {
    connects: 0,
    resent: 0,
    timeouts: 0,
    damaged: 0,
    datagramsSent: 0,
    datagramsResent: 0,
  };
  readonly #options: DaemonClientOptions;
  readonly #keeper: RequestKeeper | null;
  #address: ListenAddress;
  readonly #clock: Clock;
  readonly #session: Buffer;
  readonly #backOff: BackOff;
  readonly #gate = new ConflictGate<ClientRequest>((request) => this.#queue(request));
  readonly #encoder = new RequestEncoder();
  readonly #pools = new Set<ClientPool>();
  /** Chains that requests name: registered again on each connection. */
  readonly #chains = new Map<number, ClaimedChain>();
  /** Requests with an id and no answer, by the low bits of the id. */
  readonly #slots: (ClientRequest | null)[] = Array.from({ length: REQUEST_SPAN_MAX }, () => null);
  /** Ids from 1 on; all below are answered. */
  #floor = 1;
  #nextId = 1;
  /** Requests under way, and their bytes. */
  #openCount = 0;
  #openBytes = 0;
  /** Those that wait for a connection or for room, in order. */
  #waiting: ClientRequest[] = [];
  /** Those that entered the gate and have not left it. */
  readonly #submitted = new RequestList<ClientRequest>();
  #link: DaemonLink | null = null;
  #ticket: TicketFile | null;
  #lane: DatagramLane | null = null;
  #incarnation = 0;
  #connecting: Promise<void> | null = null;
  /** Somebody tries until it is connected. */
  #isReconnecting = false;
  /** The daemon takes nothing more for now: it is not asked again at once. */
  #isTurnedAway = false;
  #noDatagramsUntil = 0;
  /** Connected, and the pools are open: requests may go. */
  #isReady = false;
  #connectedAt = 0;
  /** When the last connection broke that was in use; null: there is one, or there was none. */
  #lostAt: number | null = null;
  /** How often it was looked around, and how often until a request is given up. */
  #looks = 0;
  readonly #looksToDeadline: number;
  /** Something came since the last look. */
  #hasHeard = false;
  #diskId: Buffer | null;
  #startId: Buffer | null = null;
  #sweep: Timer | null = null;
  #sendScheduled = false;
  #isSendingWaiting = false;
  #queuedCount = 0;
  #heardAt = 0;
  #pingAt = 0;
  #isClosed = false;
  #failure: StoreError | null = null;
  #whenIdle: (() => void)[] = [];
  /** Ends the pause before the next try to connect. */
  #hurry: (() => void) | null = null;

  constructor(options: DaemonClientOptions) {
    this.#options = options;
    this.#keeper = options.keeper ?? null;
    this.#address = options.address;
    this.#diskId = options.expectedDiskId ?? null;
    this.#ticket = options.ticket;
    this.#clock = options.env.clock;
    this.#session = options.env.random.bytes(SESSION_BYTES);
    this.#backOff = new BackOff(options.env.random, options.deadlineMs);
    this.#looksToDeadline = Math.max(2, Math.ceil(options.deadlineMs / LOOK_MS) + 1);
  }

  /** Requests that were not answered. */
  get openCount(): number {
    return this.#submitted.size;
  }

  /** Where the daemon is. */
  get address(): ListenAddress {
    return this.#address;
  }

  /** Requests go over a connection that is there and in use. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** The daemon is elsewhere from now on: the session goes on there. */
  moveTo(address: ListenAddress): void {
    this.#address = address;
    this.#reset(new StoreError('E_UNREACHABLE', 'The daemon listens at another address now'));
    this.#hurry?.();
  }

  /** There is reason to believe that the daemon can be reached: it is tried again at once, if somebody waits for that. */
  hurry(): void {
    this.#hurry?.();
  }

  /** Connects now rather than with the first request. @throws StoreError why that cannot be done */
  async connect(): Promise<void> {
    const deadline = this.#clock.now() + Math.min(this.#options.deadlineMs, 2 * CONNECT_MS);
    for (;;) {
      try {
        await this.#connect();
        return;
      } catch (error) {
        if (!(error instanceof StoreError) || isFinal(error)) throw error;
        if (this.#clock.now() >= deadline || error.code === 'E_UNREACHABLE') throw error;
        await this.#options.env.timers.sleep(this.#backOff.next());
      }
    }
  }

  /** Runs a request; its `done` is called once, later or before this returns. */
  submit(request: ClientRequest): void {
    if (this.#isClosed) {
      request.done(closedError(), NOTHING);
      return;
    }
    this.#sweepLater();
    request.isAnswered = false;
    request.deadline = this.#looks + this.#looksLeft(request);
    this.#submitted.add(request);
    const isOrdered = request.ref === null || this.#keeper !== null;
    if (isOrdered || this.#gate.enter(request)) this.#queue(request);
  }

  /**
   * Gives requests up that are not under way on a living connection, for another daemon to run them. Those that were sent
   * may have been run here; so may a compare-and-swap, which therefore ends with `E_IN_DOUBT`. Not from within `done`.
   * @returns Them, in order; their `done` was not called
   */
  takeBack(which: (request: ClientRequest) => boolean): ClientRequest[] {
    invariant(this.#keeper !== null, 'who takes requests back keeps their order');
    const waiting = new Set(this.#waiting);
    const taken: ClientRequest[] = [];
    for (const request of this.#submitted.all()) {
      const isHere = request.id > 0 ? !this.#isReady : waiting.has(request);
      if (!isHere || !which(request)) continue;
      if (request.id > 0) request.isInDoubt = true;
      if (request.isInDoubt && request.op === OP.compareAndSwap) {
        this.#end(
          request,
          this.#inDoubtError('has not answered, and is not asked any more'),
          NOTHING,
        );
        continue;
      }
      this.#leave(request);
      this.#keepTime(request);
      taken.push(request);
    }
    return taken;
  }

  /** Whether one of the requests that it was given is such a one. Not for each request: it looks at all. */
  holds(which: (request: ClientRequest) => boolean): boolean {
    return this.#submitted.all().some(which);
  }

  /** What was submitted and is not answered. */
  open(): readonly ClientRequest[] {
    return this.#submitted.all();
  }

  /**
   * Hangs up: nothing that is under way here is answered any more, and nothing more of it leaves. The keeper is told that
   * the daemon cannot be reached, and takes back what he wants; the rest is sent again over the next connection.
   */
  hangUp(why: string): void {
    this.#reset(new StoreError('E_UNREACHABLE', why));
  }

  /** The request is with this daemon no more. */
  #leave(request: ClientRequest): void {
    this.#forget(request);
    this.#submitted.remove(request);
    request.id = 0;
    request.flight = null;
  }

  /** It has no more time elsewhere than it had here. */
  #keepTime(request: ClientRequest): void {
    const looksLeft = Math.max(1, request.deadline - this.#looks);
    if (request.lateAt === 0) request.lateAt = this.#clock.now() + looksLeft * LOOK_MS;
  }

  #looksLeft({ lateAt }: ClientRequest): number {
    if (lateAt === 0) return this.#looksToDeadline;
    return Math.max(1, Math.ceil((lateAt - this.#clock.now()) / LOOK_MS));
  }

  /** Asks something that is not about an object. @throws StoreError */
  ask(op: Op, body: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.submit(question(op, body, resolve, reject));
    });
  }

  /** The pool is in use from now on. */
  addPool(pool: ClientPool): void {
    this.#pools.add(pool);
    if (this.#link !== null) pool.lineageIs(this.#link.begin.lineage);
  }

  /** Makes a chain known to the daemon. @returns What requests name it by. @throws StoreError */
  async registerChain(chain: ClaimedChain): Promise<number> {
    const handle = chainHandle(chain);
    if (this.#chains.has(handle)) return handle;
    decodeChainAnswer(await this.ask(OP.registerChain, encodeChain(chain)), chain);
    this.#chains.set(handle, chain);
    return handle;
  }

  /** Resolves when all that was submitted is answered; then nothing more is taken. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    while (this.#submitted.size > 0)
      await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    this.#isClosed = true;
    this.#sweep?.cancel();
    this.#lane?.close();
    this.#link?.end();
    this.#link = null;
  }

  /** The request may go: gives it an id and sends it, if there is a connection and room. */
  #queue(request: ClientRequest): void {
    const link = this.#link;
    const isReady = link !== null && this.#isReady;
    if (!isReady || this.#waiting.length > 0 || !this.#hasRoom(request, link)) {
      this.#waiting.push(request);
      if (link === null) this.#reconnect();
      return;
    }
    this.#open(request);
    this.#send(request);
  }

  #hasRoom(request: ClientRequest, { begin }: DaemonLink): boolean {
    if (this.#nextId - this.#floor >= REQUEST_SPAN_MAX) return false;
    if (this.#openCount >= begin.requestsMax) return false;
    return this.#openBytes === 0 || this.#openBytes + costOf(request) <= begin.bytesMax;
  }

  #open(request: ClientRequest): void {
    request.id = this.#nextId;
    this.#nextId += 1;
    this.#slots[request.id & SLOTS_MASK] = request;
    this.#openCount += 1;
    this.#openBytes += costOf(request);
  }

  #send(request: ClientRequest): void {
    const failure = request.pool?.failure ?? null;
    if (failure !== null) {
      this.#end(request, failure, NOTHING);
      return;
    }
    if (this.#lane?.send(request) === true) return;
    if (this.#openCount === 1) this.#hasHeard = true;
    this.#encoder.add(request, this.#floor);
    this.#queuedCount += 1;
    if (this.#queuedCount >= REQUESTS_TOGETHER) this.#flush();
    else if (!this.#sendScheduled) {
      this.#sendScheduled = true;
      queueMicrotask(this.#flushLater);
    }
  }

  readonly #flushLater = (): void => {
    this.#sendScheduled = false;
    this.#flush();
  };

  #flush(): void {
    this.#queuedCount = 0;
    if (this.#encoder.bytes === 0) return;
    const parts = this.#encoder.take();
    this.#link?.send(parts);
  }

  /** As many of those that wait as there is room for. */
  #sendWaiting(): void {
    // One that ends at once (its pool has failed) makes room for the next: not from within, thousands may wait.
    if (this.#isSendingWaiting) return;
    this.#isSendingWaiting = true;
    try {
      for (;;) {
        const [request] = this.#waiting;
        if (request === undefined || this.#link === null || !this.#isReady) return;
        if (!this.#hasRoom(request, this.#link)) return;
        this.#waiting.shift();
        this.#open(request);
        this.#send(request);
      }
    } finally {
      this.#isSendingWaiting = false;
    }
  }

  #bySlot(requestId: number): ClientRequest | null {
    const request = this.#slots[requestId & SLOTS_MASK] ?? null;
    return request?.id === requestId ? request : null;
  }

  /** An answer has come, over the connection or as a datagram. */
  #answered(header: FrameHeader, body: Buffer): void {
    this.#hasHeard = true;
    const request = this.#bySlot(header.requestId);
    if (request === null) return; // given up, or answered before
    if (request.op !== header.op) throw new StoreError('E_BAD_FRAME', 'An answer is to another op');
    if (header.status === 0) {
      if (request.isGood(body)) this.#end(request, null, body);
      else if (!this.#tryAgain(request)) this.#end(request, damagedError(request), NOTHING);
      return;
    }
    const error = errorFromStatus(header.status, body.toString());
    const arrivedDamaged = error.code === 'E_CHECKSUM' && request.payloadBytes > 0;
    if (arrivedDamaged && this.#tryAgain(request)) return;
    if (error.code === 'E_CLOSED') {
      // It stops: what it does not take any more is for its next start.
      this.#isTurnedAway = true;
      this.#reset(error);
      return;
    }
    if (error.code === 'E_UNKNOWN_CHAIN' && this.#registerAgain(request)) return;
    this.#end(request, error, NOTHING);
  }

  /** The daemon keeps only so many chains for a connection. @returns false if it is no chain of ours, or does not help */
  #registerAgain(request: ClientRequest): boolean {
    const chain = this.#chains.get(request.extra) ?? this.#keeper?.chain(request.extra);
    if (chain !== undefined) keepChain(this.#chains, request.extra, chain);
    if (chain === undefined || request.registrations === REGISTRATIONS_MAX) return false;
    request.registrations += 1;
    this.#setAside(request);
    const queueAgain = (): void => {
      if (!request.isAnswered) this.#queue(request);
    };
    // If it fails the connection is gone; on the next one the latest chains are registered first.
    this.#askNow(OP.registerChain, encodeChain(chain)).then(queueAgain, queueAgain);
    return true;
  }

  /** It is to be sent anew, as another request: the daemon has answered it. */
  #setAside(request: ClientRequest): void {
    this.#forget(request);
    request.id = 0;
    request.flight = null;
  }

  /** What the request brought or took did not match its checksums on the way. @returns false: it is given up */
  #tryAgain(request: ClientRequest): boolean {
    this.counters.damaged += 1;
    request.damagedCount += 1;
    if (request.damagedCount >= DAMAGED_MAX) return false;
    this.#setAside(request);
    this.#waiting.push(request);
    this.#sendWaiting();
    return true;
  }

  /** Frees the request's slot. */
  #forget(request: ClientRequest): void {
    if (request.id === 0) {
      const index = this.#waiting.indexOf(request);
      if (index >= 0) this.#waiting.splice(index, 1);
      return;
    }
    this.#slots[request.id & SLOTS_MASK] = null;
    this.#openCount -= 1;
    this.#openBytes -= costOf(request);
    while (this.#floor < this.#nextId && this.#slots[this.#floor & SLOTS_MASK] === null)
      this.#floor += 1;
  }

  #end(request: ClientRequest, error: StoreError | null, body: Buffer): void {
    request.isAnswered = true;
    if (this.#keeper !== null && !request.isInternal) {
      this.#leave(request);
      if (error !== null) this.#keepTime(request);
      this.#keeper.ended(request, error, body);
    } else {
      this.#forget(request);
      request.done(error, body);
      if (!request.isInternal) this.#submitted.remove(request);
      if (request.ref !== null) this.#gate.leave(request);
    }
    if (this.#waiting.length > 0) this.#sendWaiting();
    if (this.#submitted.size === 0) for (const wake of this.#whenIdle.splice(0)) wake();
  }

  #reconnect(): void {
    if (this.#isReconnecting || this.#isClosed) return;
    void this.#connectUntil();
  }

  /** Tries as long as somebody waits for it. */
  async #connectUntil(): Promise<void> {
    const { env } = this.#options;
    this.#isReconnecting = true;
    if (this.#isTurnedAway) await env.timers.sleep(TURNED_AWAY_MS);
    this.#isTurnedAway = false;
    while (!this.#isClosed && this.#link === null && this.#submitted.size > 0)
      try {
        await this.#connect();
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        this.#failure = error;
        env.log.debug({ code: error.code }, `Not connected: ${error.message}`);
        if (isFinal(error)) this.#failAll(error);
        else this.#keeper?.unreachable(error);
        // Also if those who were told so ask again at once.
        if (this.#submitted.size > 0) await this.#pause(this.#backOff.next());
      }
    this.#isReconnecting = false;
  }

  /** Waits, unless there is a reason to hurry. */
  #pause(ms: number): Promise<void> {
    const hurry = new Promise<void>((resolve) => (this.#hurry = resolve));
    return Promise.race([this.#options.env.timers.sleep(ms), hurry]);
  }

  #connect(): Promise<void> {
    if (this.#link !== null) return Promise.resolve();
    this.#connecting ??= this.#connectOnce().finally(() => (this.#connecting = null));
    return this.#connecting;
  }

  async #connectOnce(): Promise<void> {
    const { env, datagramBytes, renewTicket, ticketFor, name, tls } = this.#options;
    if (ticketFor !== undefined) this.#ticket = await ticketFor();
    else if (this.#ticket !== null && renewTicket !== undefined && this.counters.connects > 0)
      this.#ticket = await renewTicket(this.#ticket);
    this.#incarnation += 1;
    const incarnation = this.#incarnation;
    const events: LinkEvents = {
      target: (header) => this.#targetOf(header),
      answered: (header, body) => this.#answered(header, body),
      closed: (error) => this.#lost(incarnation, error),
    };
    const options = {
      session: this.#session,
      incarnation,
      datagramBytes: this.#clock.now() < this.#noDatagramsUntil ? 0 : datagramBytes,
      timeoutMs: CONNECT_MS,
    };
    const to = { address: this.#address, name, tls, ticket: this.#ticket };
    const link = await DaemonLink.open(env, to, options, events);
    if (this.#isClosed) {
      link.destroy();
      throw closedError();
    }
    if (this.#address !== to.address) {
      link.destroy();
      throw new StoreError('E_UNREACHABLE', `${nameOf(to)} has moved to another address`);
    }
    this.#checkDisk(link);
    this.counters.connects += 1;
    const isRestarted = !link.begin.resumed && this.#startId !== null && this.counters.connects > 1;
    this.#startId = link.hello.startId;
    if (isRestarted) this.#doubt();
    for (const pool of this.#pools) pool.lineageIs(link.begin.lineage);
    this.#link = link;
    this.#heardAt = this.#clock.now();
    this.#connectedAt = this.#heardAt;
    this.#pingAt = 0;
    try {
      await this.#openPools();
      this.#lane = await this.#openLane(link);
    } catch (error) {
      if (this.#link === link) this.#lost(incarnation, error as StoreError); // all of it is StoreErrors
      link.destroy();
      throw error;
    }
    if (this.#link !== link) throw new StoreError('E_UNREACHABLE', 'The connection broke at once');
    this.#backOff.reset();
    this.#failure = null;
    this.#isReady = true;
    if (this.#lostAt !== null) {
      const seconds = ((this.#clock.now() - this.#lostAt) / 1000).toFixed(1);
      const fields = { waiting: this.#submitted.size, restarted: isRestarted };
      env.log.info(fields, `${nameOf(this)} is there again, after ${seconds} s`);
      this.#lostAt = null;
    }
    this.#resend();
    this.#sendWaiting();
    this.#sweepLater();
  }

  /** @throws StoreError if another disk answers than the one this session began with */
  #checkDisk(link: DaemonLink): void {
    const { diskId } = link.hello;
    if (this.#diskId !== null && !this.#diskId.equals(diskId)) {
      link.destroy();
      const disks = `${diskId.toString('hex')} instead of ${this.#diskId.toString('hex')}`;
      // Where a daemon was there may be another one by now, until it is known where it went.
      throw this.#options.expectedDiskId !== undefined
        ? new StoreError('E_UNREACHABLE', `${nameOf(this)} is another one (disk ${disks})`)
        : new StoreError(
            'E_FORMAT',
            `${nameOf(this)} serves another disk now (${disks}); stop this program and look`,
          );
    }
    this.#diskId = diskId;
  }

  /** The daemon does not know what it has run for us. */
  #doubt(): void {
    for (let id = this.#floor; id < this.#nextId; id += 1) {
      const request = this.#bySlot(id);
      if (request === null) continue;
      request.isInDoubt = true;
      if (request.op === OP.compareAndSwap)
        this.#end(request, this.#inDoubtError('was restarted before it answered'), NOTHING);
    }
  }

  #inDoubtError(why: string): StoreError {
    return new StoreError(
      'E_IN_DOUBT',
      `${nameOf(this)} ${why}; the change was made, or not: look again`,
    );
  }

  async #openPools(): Promise<void> {
    for (const pool of this.#pools) {
      try {
        const answer = await this.#askNow(
          OP.openPool,
          encodeOpenPool({ name: pool.name, create: false }),
        );
        const { pool: handle, objectBytes } = decodeOpenPoolAnswer(answer);
        if (objectBytes !== pool.objectBytes) throw this.#otherPoolError(pool, objectBytes);
        pool.handle = handle;
        pool.failure = null;
      } catch (error) {
        if (!(error instanceof StoreError) || error.retry === 'later') throw error;
        // By another map than ours there may be no such pool; one of the two gets a newer one.
        if (this.#keeper !== null && ['E_NOT_FOUND', 'E_STALE_MAP'].includes(error.code))
          throw new StoreError('E_UNREACHABLE', `${nameOf(this)} says: ${error.message}`, {
            cause: error,
          });
        pool.failure = error;
      }
    }
    for (const chain of [...this.#chains.values()].slice(-CHAINS_MAX))
      decodeChainAnswer(await this.#askNow(OP.registerChain, encodeChain(chain)), chain);
  }

  #otherPoolError({ name, objectBytes: before }: ClientPool, objectBytes: number): StoreError {
    return new StoreError(
      'E_FORMAT',
      `Pool '${name}' of ${nameOf(this)} has objects of ${objectBytes} bytes instead of ${before}: it is another pool of that name; open it again`,
    );
  }

  /** Asks before anything else is sent on a new connection. */
  #askNow(op: Op, body: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#nextId - this.#floor >= REQUEST_SPAN_MAX) {
        reject(new StoreError('E_BUSY', 'Too much is under way'));
        return;
      }
      const request = question(op, body, resolve, reject);
      request.isInternal = true;
      this.#open(request);
      this.#encoder.add(request, this.#floor);
      this.#flush();
    });
  }

  async #openLane(link: DaemonLink): Promise<DatagramLane | null> {
    const { env } = this.#options;
    const address = this.#address;
    if (link.begin.association.length === 0 || !('host' in address)) return null;
    return DatagramLane.open(env, {
      // A name may stand for several machines: it is the one that answered.
      address: { host: link.host, port: address.port },
      begin: link.begin,
      keys: link.sharedKeys,
      counters: this.counters,
      floor: () => this.#floor,
      isOpen: (request) => this.#bySlot(request.id) === request,
      target: (header) => this.#targetOf(header),
      answered: (header, body) => this.#answered(header, body),
      broken: (why) => this.#withoutDatagrams(why),
    });
  }

  /** What went as datagrams is sent again over a new connection: of the old one nothing can come any more. */
  #withoutDatagrams(why: string): void {
    this.#noDatagramsUntil = this.#clock.now() + NO_DATAGRAMS_MS;
    const message = `${why}; everything to ${nameOf(this)} goes over the connection for a while`;
    this.#options.env.log.warn({}, message);
    this.#reset(new StoreError('E_UNREACHABLE', message));
  }

  /** All that was sent before and not answered, in order. */
  #resend(): void {
    // What is submitted meanwhile goes out by itself.
    const end = this.#nextId;
    for (let id = this.#floor; id < end; id += 1) {
      const request = this.#bySlot(id);
      if (request === null) continue;
      this.counters.resent += 1;
      request.flight = null;
      this.#send(request);
    }
  }

  #targetOf(header: FrameHeader): Buffer | null {
    const request = this.#bySlot(header.requestId);
    if (request === null || header.status !== 0) return null;
    const { target } = request;
    if (target?.length !== header.payloadBytes)
      throw new StoreError('E_BAD_FRAME', 'An answer brings more or less than was asked for');
    return target;
  }

  /** The connection is gone. */
  #lost(incarnation: number, error: StoreError): void {
    if (incarnation !== this.#incarnation || this.#isClosed) return;
    this.#failure = error;
    if (this.#isReady) {
      this.#lostAt = this.#clock.now();
      this.#options.env.log.warn(
        { code: error.code, waiting: this.#submitted.size },
        `${nameOf(this)} is lost: ${error.message}; requests wait up to ${this.#options.deadlineMs / 1000} s for it`,
      );
    }
    this.#link = null;
    this.#isReady = false;
    this.#lane?.close();
    this.#lane = null;
    this.#encoder.take();
    this.#queuedCount = 0;
    // What was asked for this connection alone is over with it.
    for (let id = this.#floor; id < this.#nextId; id += 1) {
      const request = this.#bySlot(id);
      if (request?.isInternal !== true) continue;
      this.#forget(request);
      request.done(error, NOTHING);
    }
    const keeper = this.#keeper;
    // Whoever found out about it may be in the middle of its requests.
    if (keeper !== null) queueMicrotask(() => keeper.unreachable(error));
    if (this.#submitted.size > 0) this.#reconnect();
  }

  /** Breaks the connection: everything is sent again on the next one. */
  #reset(why: StoreError): void {
    const link = this.#link;
    if (link === null) return;
    link.destroy();
    this.#lost(this.#incarnation, why);
  }

  #failAll(error: StoreError): void {
    for (const request of this.#submitted.all())
      if (!request.isAnswered) this.#end(request, error, NOTHING);
  }

  #sweepLater(): void {
    if (this.#sweep !== null || this.#isClosed) return;
    this.#sweep = this.#options.env.timers.after(LOOK_MS, () => {
      this.#sweep = null;
      this.#lookAround();
      if (this.#submitted.size > 0) this.#sweepLater();
    });
  }

  #lookAround(): void {
    const now = this.#clock.now();
    this.#looks += 1;
    if (this.#hasHeard) this.#heardAt = now;
    this.#hasHeard = false;
    this.#giveUp();
    if (this.#link === null || this.#openCount === 0) return;
    if (!this.#isReady) {
      if (now - this.#connectedAt > CONNECT_MS)
        this.#reset(new StoreError('E_TIMEOUT', `${nameOf(this)} does not answer`));
      return;
    }
    const silentMs = now - Math.max(this.#heardAt, this.#pingAt);
    if (silentMs < SILENCE_MS) return;
    if (this.#pingAt > this.#heardAt)
      this.#reset(new StoreError('E_UNREACHABLE', `${nameOf(this)} has gone silent`));
    else {
      this.#pingAt = now;
      this.#askNow(OP.ping, NOTHING).catch(() => undefined); // whatever comes, something was heard
    }
  }

  #giveUp(): void {
    const late = this.#submitted.all().filter(({ deadline }) => this.#looks >= deadline);
    if (late.length === 0) return;
    this.counters.timeouts += late.length;
    const seconds = this.#options.deadlineMs / 1000;
    const why = this.#failure === null ? '' : ` (${this.#failure.message})`;
    const error = new StoreError(
      'E_TIMEOUT',
      `${nameOf(this)} did not answer within ${seconds} s${why}`,
    );
    if (this.#lane !== null && late.some(({ flight }) => flight !== null))
      this.#withoutDatagrams('Datagrams are not answered');
    // Nobody but the caller may touch its buffers after this.
    if (late.some((request) => request.id > 0 && this.#isOnItsWay(request))) this.#reset(error);
    for (const request of late) {
      if (request.isAnswered) continue;
      if (request.id > 0 && request.target !== null) this.#cancel(request.id);
      this.#end(request, error, NOTHING);
    }
  }

  /** The daemon need not send what nobody waits for. */
  #cancel(requestId: number): void {
    if (this.#link === null || !this.#isReady) return;
    const body = Buffer.alloc(8);
    writeU64(body, 0, requestId);
    this.#askNow(OP.cancel, body).catch(() => undefined); // a courtesy; its failure changes nothing
  }

  #isOnItsWay({ target, payloadBytes }: ClientRequest): boolean {
    if (this.#link === null) return false;
    return payloadBytes > 0 || (target !== null && this.#link.isFilling(target));
  }
}

function costOf({ payloadBytes, target }: ClientRequest): number {
  return payloadBytes + (target?.length ?? 0) + 1024;
}

/** Trying again does not help. */
function isFinal({ code, retry }: StoreError): boolean {
  return retry === 'never' && code !== 'E_BAD_FRAME' && code !== 'E_SYSTEM';
}

function question(
  op: Op,
  body: Buffer,
  resolve: (answer: Buffer) => void,
  reject: (error: StoreError) => void,
): ClientRequest {
  const request = new ClientRequest(op, null, null, 0, 0, (error, answer) => {
    if (error === null) resolve(Buffer.from(answer));
    else reject(error);
  });
  request.body = () => body;
  return request;
}

function damagedError({ ref }: ClientRequest): StoreError {
  const name = ref?.key.toString() ?? '';
  return new StoreError('E_CHECKSUM', `What was read of object '${name}' arrived damaged`);
}

function closedError(): StoreError {
  return new StoreError('E_CLOSED', 'The store is closed');
}
