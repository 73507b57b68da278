/**
 * One connection of a client, from its first byte to its last.
 *
 * Guarantees: nobody gets past the greeting without what the door demands of him; memory stays within the budget, since a
 * request is admitted before its payload is kept, and a client whose requests or answers fill its share is not read on;
 * when the connection breaks, what it began comes to its end and counts in its session; nothing that arrives makes this
 * throw.
 */
import {
  BODY_BYTES_MAX,
  ConnectionBudget,
  FrameReader,
  GREETING_BYTES_MAX,
  HEADER_BYTES,
  messageOf,
  OP,
  PAYLOAD_BYTES_MAX,
  PeerPace,
  PROTOCOL_VERSION,
  ReplyOutbox,
  ruleOf,
  StoreError,
  type BufferPool,
  type Connection,
  type DirectConnection,
  type Env,
  type FrameHeader,
  type Log,
  type PaceLimits,
  type Reply,
  type ServerBudget,
  type Timer,
} from '@store/core';
import { answer, messageBody, statusOf, type AnswerPort } from './answer-port.js';
import type { ServerCounters } from './counters.js';
import type { Door, Entrance } from './door.js';
import { Greeter, type Greeted } from './greeter.js';
import type { ServedStore } from './open-pools.js';
import { REQUEST_COST_BYTES, RequestRunner } from './request-runner.js';
import type { SessionHolder } from './session.js';
import type { SessionTable } from './session-table.js';
import type { DatagramDesk } from './datagram-desk.js';

const NO_PARTS: readonly Buffer[] = [];
/** Answers that are sent together: the client works on them while more are made. */
const ANSWERS_TOGETHER = 8;
/** With so many under way a client waits for each answer. */
const LOOK_OUT_REQUESTS_MAX = 2;

/** What all links of a server share. */
export interface LinkShared {
  readonly env: Env;
  readonly log: Log;
  readonly store: ServedStore;
  readonly identity: {
    readonly diskId: Buffer;
    readonly startId: Buffer;
    readonly lineage: Buffer;
  };
  readonly door: Door;
  readonly sessions: SessionTable;
  readonly counters: ServerCounters;
  readonly budget: ServerBudget;
  readonly buffers: BufferPool;
  /** Serves datagrams; null: this server has none. */
  readonly desk: DatagramDesk | null;
  readonly defect: (error: unknown) => void;
  /** How long a greeting may take. */
  readonly greetingMs: number;
  readonly pace: PaceLimits;
  /** `ClientLink.sweep` is called so often. */
  readonly sweepMs: number;
}

export class ClientLink implements SessionHolder {
  readonly entrance: Entrance;
  /** Resolves when the connection is gone and all it began has ended. */
  readonly done: Promise<void>;
  readonly #shared: LinkShared;
  readonly #refusal: StoreError | null;
  readonly #pace: PeerPace;
  /** Bytes and whole requests that came, for the pace. */
  #receivedBytes = 0;
  #takenCount = 0;
  readonly #budget: ConnectionBudget;
  readonly #outbox: ReplyOutbox;
  #connection: Connection;
  #log: Log;
  #reader: FrameReader;
  #greeter: Greeter;
  #greeted: Greeted | null = null;
  #runner: RequestRunner | null = null;
  #deadline: Timer;
  #expiry: Timer | null = null;
  /** The greeting waits for something; nothing is read on meanwhile. */
  #isWaiting = false;
  /** There is no room for the next request. */
  #isStalled = false;
  #isPaused = false;
  #isPumping = false;
  #isClosing = false;
  /** It was told to go, and goes within a second. */
  #isRefused = false;
  #isClosed = false;
  #flushScheduled = false;
  /** A frame that was read and not run: its answer did not fit. */
  #held = false;
  /** What the frame under way took of the budget when it was admitted; nothing of it runs yet. */
  #admittedCost = 0;
  /** Requests that were admitted and not answered. */
  #runningCount = 0;
  /** Requests that came with the last chunk. */
  #takenOfChunk = 0;
  #queuedAnswers = 0;
  /** Where the payload of the frame under way lands. */
  #landing: Buffer | null = null;
  readonly #greetingPort: AnswerPort;
  #resolveDone: () => void = () => undefined;

  /** @param refusal - Why it is let in only to be told so; null: it is welcome. */
  constructor(
    connection: Connection,
    entrance: Entrance,
    shared: LinkShared,
    refusal: StoreError | null,
  ) {
    this.entrance = entrance;
    this.#shared = shared;
    this.#refusal = refusal;
    this.#pace = new PeerPace(shared.pace, shared.sweepMs);
    this.#connection = connection;
    this.#log = shared.log.child({ peer: connection.peer, entrance });
    this.#budget = new ConnectionBudget(shared.budget, () => this.#retry());
    this.#outbox = new ReplyOutbox(shared.buffers);
    this.#greetingPort = new GreetingPort(this.#outbox);
    this.#reader = this.#newReader();
    this.#greeter = this.#newGreeter(false);
    this.done = new Promise((resolve) => (this.#resolveDone = resolve));
    this.#deadline = shared.env.timers.after(shared.greetingMs, () =>
      this.#refuse(new StoreError('E_TIMEOUT', 'The greeting took too long')),
    );
    if (entrance === 'peer') void this.#startTls();
    else this.#start();
  }

  /** Address of the other end. */
  get peer(): string {
    return this.#connection.peer;
  }

  /** See `Connection.exportKey`; empty without TLS. */
  exportKey(label: string, bytes: number): Buffer {
    return this.#connection.exportKey(label, bytes) ?? Buffer.alloc(0);
  }

  get hasBegun(): boolean {
    return this.#runner !== null;
  }

  get runningCount(): number {
    return this.#runningCount;
  }

  /** For metrics: bytes of requests and answers that are held. */
  get heldBytes(): number {
    return this.#budget.bytes;
  }

  /** Ends the connection if its guest may not stay. */
  checkGuest(): void {
    const guest = this.#greeted?.guest;
    if (guest === undefined) return;
    const { door } = this.#shared;
    const objection = door.objection(guest, door.demands(this.entrance, this.peer));
    if (objection !== null) this.#refuse(objection);
  }

  /** Called every `sweepMs`: a client that keeps us waiting, or others, has to connect again. */
  sweep(): void {
    if (this.#runner === null || this.#isClosed || this.#isRefused) return;
    const reason = this.#pace.look({
      receivedBytes: this.#receivedBytes,
      requestCount: this.#takenCount,
      awaitsRest: this.#reader.isInFrame && !this.#isPaused,
      unsentBytes: this.#connection.unsentBytes,
      isInTheWay: this.#shared.budget.hasWaiters && this.#budget.holdsShared,
    });
    if (reason !== null) this.#refuse(new StoreError('E_TIMEOUT', reason));
  }

  superseded(why: string): void {
    this.#log.info({ why }, 'The connection ends');
    this.#takeNoMore();
    this.destroy();
  }

  /** Takes no more requests; ends when those under way are answered. */
  drain(): void {
    this.#isClosing = true;
    this.#greeted?.association?.drain();
    this.#pause();
    this.#endIfIdle();
  }

  destroy(): void {
    this.#connection.destroy();
  }

  /** Until the socket is gone nothing is begun any more, whichever way it comes: its answer would get lost. */
  #takeNoMore(): void {
    this.#isClosing = true;
    this.#greeted?.association?.close();
  }

  #start(): void {
    this.#connection.start({
      data: (chunk) => this.#receive(chunk),
      awaits: () => this.#awaited(),
      end: () => this.drain(),
      drain: () => this.#sent(),
      closed: (error) => this.#closed(error),
    });
  }

  /**
   * Only a client that has little under way is worth looking out for: one that has much goes on by itself, and needs the
   * processor meanwhile.
   */
  #awaited(): 'peer' | 'answer' | null {
    if (this.#runner === null || this.#takenOfChunk > LOOK_OUT_REQUESTS_MAX) return null;
    if (this.#runningCount === 0) return 'peer';
    return this.#runningCount <= LOOK_OUT_REQUESTS_MAX ? 'answer' : null;
  }

  #newReader(): FrameReader {
    return new FrameReader({
      admit: (header) => this.#admit(header),
      target: (header) => this.#targetFor(header),
    });
  }

  #newGreeter(isTls: boolean): Greeter {
    const [shared, refusal] = [this.#shared, this.#refusal];
    return new Greeter({ shared, entrance: this.entrance, link: this, isTls, refusal });
  }

  #receive(chunk: Buffer): boolean {
    if (this.#isClosed || this.#isClosing) return true;
    this.#receivedBytes += chunk.length;
    this.#reader.push(chunk);
    this.#takenOfChunk = 0;
    this.#pump();
    this.#place();
    // What comes before the greeting is answered stays where it is bounded: in the sockets.
    if (this.#isWaiting && this.#reader.holds) this.#pause();
    return !this.#reader.holds && !this.#held;
  }

  /** Lets what comes next land where it belongs. */
  #place(): void {
    const { direct } = this.#reader;
    if (direct !== null && 'receiveInto' in this.#connection)
      (this.#connection as DirectConnection).receiveInto(direct); // that it has the method was just seen
  }

  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#mayRead() && (this.#held || this.#reader.next())) this.#take();
    } catch (error) {
      this.#refuse(error);
    }
    this.#isPumping = false;
    this.#send();
  }

  #mayRead(): boolean {
    return !this.#isWaiting && !this.#isStalled && !this.#isClosing && !this.#isClosed;
  }

  /** There may be room again. */
  #retry(): void {
    this.#isStalled = false;
    if (this.#isClosed || this.#isClosing || this.#isPumping) return;
    this.#pump();
    if (this.#mayRead() && this.#isPaused) {
      this.#isPaused = false;
      this.#connection.resume();
    }
  }

  #stall(): void {
    this.#isStalled = true;
    this.#pause();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#connection.pause();
  }

  #admit(header: FrameHeader): boolean {
    try {
      checkRequest(header, this.#runner !== null);
    } catch (error) {
      // Whoever speaks another version is told so, in a frame whose header every version can read.
      if (error instanceof StoreError && error.code === 'E_PROTOCOL_VERSION')
        this.#answerGreeting(header.op, header.requestId, statusOf(error), messageBody(error));
      throw error;
    }
    if (header.payloadBytes === 0) return true;
    const cost = header.payloadBytes + REQUEST_COST_BYTES;
    if (this.#budget.take(cost)) {
      this.#admittedCost = cost;
      return true;
    }
    this.#stall();
    return false;
  }

  /** Payloads are kept until their request is answered, and chunks are not: the next ones land in the same warm pages. */
  #targetFor({ payloadBytes }: FrameHeader): Buffer {
    this.#landing = this.#shared.buffers.take(payloadBytes);
    return this.#landing.subarray(0, payloadBytes);
  }

  /** The frame that the reader has found. */
  #take(): void {
    const { header, body } = this.#reader;
    const runner = this.#runner;
    if (runner === null) {
      this.#isWaiting = true;
      void this.#greet(header.op, header.requestId, Buffer.from(body));
      return;
    }
    let cost = header.payloadBytes + REQUEST_COST_BYTES;
    if (header.payloadBytes === 0) {
      cost = runner.answerBytes(header, body) + REQUEST_COST_BYTES;
      this.#held = !this.#budget.take(cost);
      if (this.#held) {
        this.#stall();
        return;
      }
    }
    const landing = this.#landing;
    this.#landing = null;
    this.#admittedCost = 0;
    this.#runningCount += 1;
    this.#takenOfChunk += 1;
    this.#takenCount += 1;
    const parts = landing === null ? NO_PARTS : [landing.subarray(0, header.payloadBytes)];
    const port = new CountedPort(this, cost, landing);
    try {
      runner.run(header, body, parts, port);
    } catch (error) {
      if (!port.isEnded) port.nothing();
      throw error;
    }
    if (this.#queuedAnswers >= ANSWERS_TOGETHER) this.#send();
  }

  /** A request that took `cost` of the budget is answered, or never will be; `landing` is free again. */
  answered(cost: number, replyBytes: number, landing: Buffer | null): void {
    this.#runningCount -= 1;
    // Nothing is sent any more when the connection is gone.
    this.#budget.finish(cost, this.#isClosed ? 0 : replyBytes);
    if (landing !== null) this.#shared.buffers.release(landing);
    if (replyBytes > 0) this.#queuedAnswers += 1;
    if (this.#isPumping) return;
    if (this.#isClosed) this.#settle();
    else if (!this.#flushScheduled) {
      this.#flushScheduled = true;
      queueMicrotask(() => {
        this.#flushScheduled = false;
        this.#send();
        this.#retry();
        this.#endIfIdle();
      });
    }
  }

  allocate(bytes: number): Reply {
    return this.#outbox.allocate(bytes);
  }

  push(reply: Reply): void {
    if (this.#isClosed) this.#outbox.discard(reply);
    else this.#outbox.push(reply);
  }

  abandon(reply: Reply, isInDoubt: boolean): void {
    if (isInDoubt) this.#outbox.abandon(reply);
    else this.#outbox.discard(reply);
  }

  #send(): void {
    this.#queuedAnswers = 0;
    if (this.#outbox.bytes === 0 || this.#isClosed) return;
    this.#connection.write(this.#outbox.takeParts());
    this.#sent();
  }

  /** Some of what was written has left: its memory is free. */
  #sent(): void {
    if (this.#isClosed) return;
    const bytes = this.#outbox.sentAllBut(this.#connection.unsentBytes);
    if (bytes === 0) return;
    this.#budget.sent(bytes);
    if (!this.#isPumping && this.#isStalled) this.#retry();
    this.#endIfIdle();
  }

  #endIfIdle(): void {
    if (!this.#isClosing || this.#isClosed) return;
    if (this.#runningCount > 0 || this.#isWaiting || this.#connection.unsentBytes > 0) return;
    if ((this.#greeted?.association?.runningCount ?? 0) > 0) return;
    this.#sayGoodbye();
  }

  /** Nothing more is said. What still comes is thrown away: the other end closes when it has read ours. */
  #sayGoodbye(): void {
    this.#connection.end();
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#connection.resume();
  }

  async #greet(op: number, requestId: number, body: Buffer): Promise<void> {
    try {
      const step = await this.#greeter.take(op, body);
      if (this.#isClosed) {
        // It went while it waited to take over: the session is free for its next connection.
        this.#greeter.leave();
        if (step.then === 'begun') step.greeted.association?.close();
        return;
      }
      this.#answerGreeting(op, requestId, 0, step.body);
      if (step.then === 'tls') {
        if (this.#reader.isInFrame)
          throw new StoreError('E_BAD_FRAME', 'Something came before TLS had begun');
        await this.#startTls();
        return;
      }
      if (step.then === 'begun') this.#begun(step.greeted);
      this.#isWaiting = false;
      this.#retry();
      this.#endIfIdle();
    } catch (error) {
      if (!this.#isClosed && error instanceof StoreError)
        this.#answerGreeting(op, requestId, statusOf(error), messageBody(error));
      this.#refuse(error);
    }
  }

  #answerGreeting(op: number, requestId: number, status: number, body: Buffer): void {
    answer(this.#greetingPort, op, requestId, status, body);
    this.#budget.addUnsent(HEADER_BYTES + body.length);
    this.#send();
  }

  /** After this the connection is another one. */
  async #startTls(): Promise<void> {
    const { tls, peerTls } = this.#greeter;
    const context = this.entrance === 'peer' ? peerTls : tls;
    try {
      if (context === null) throw new StoreError('E_DENIED', 'There is no TLS here');
      const { connection, peer } = await this.#connection.startTls(context);
      if (this.#isClosed) {
        connection.destroy();
        return;
      }
      this.#connection = connection;
      this.#log = this.#log.child({ tls: peer.protocol, name: peer.name });
      this.#reader = this.#newReader();
      this.#greeter = this.#newGreeter(true);
      this.#greeter.tlsPeer = peer;
      this.#isWaiting = false;
      this.#isPaused = false;
      this.#start();
    } catch (error) {
      this.#refuse(error);
      this.#closed(null);
    }
  }

  #begun(greeted: Greeted): void {
    const { env, store, counters, log } = this.#shared;
    this.#deadline.cancel();
    this.#greeted = greeted;
    const { guest, session } = greeted;
    const { defect } = this.#shared;
    const options = { store, guest, session, counters, clock: env.clock, log: this.#log, defect };
    this.#runner = new RequestRunner(options);
    greeted.association?.serve(this.#runner, () => this.#endIfIdle());
    this.#tell(
      { principal: guest.principal, rights: guest.rights, resumed: greeted.resumed },
      'A client has connected',
    );
    log.debug({ sessions: this.#shared.sessions.count }, 'Sessions');
    // Secrets and lists may have changed since HELLO.
    this.checkGuest();
    const { ticket } = guest;
    if (ticket === null) return;
    this.#watchExpiry(ticket.grants.expires);
  }

  #watchExpiry(expires: number): void {
    const { clock, timers } = this.#shared.env;
    // Timers count to 24 days; the clock may be set meanwhile.
    const ms = Math.min(Math.max(0, (expires - clock.wallSeconds()) * 1000), 3_600_000);
    this.#expiry = timers.after(ms, () => {
      this.checkGuest();
      if (!this.#isClosed && !this.#isRefused) this.#watchExpiry(expires);
    });
  }

  /** Who comes in through the owner's socket is a command of the owner, and no news. */
  #tell(fields: object, message: string): void {
    if (this.entrance === 'owner') this.#log.debug(fields, message);
    else this.#log.info(fields, message);
  }

  /** Something is wrong with who is there or what it sends: the connection ends. */
  #refuse(error: unknown): void {
    if (this.#isClosed || this.#isRefused) return;
    if (!(error instanceof StoreError)) {
      this.#shared.defect(error);
      return;
    }
    this.#isRefused = true;
    this.#shared.counters.refuse(error.code);
    this.#log.warn({ code: error.code }, `Connection refused: ${messageOf(error)}`);
    this.#send();
    this.#takeNoMore();
    this.#sayGoodbye();
    // Whoever does not read the goodbye is not waited for.
    this.#deadline.cancel();
    this.#deadline = this.#shared.env.timers.after(1000, () => this.destroy());
  }

  #closed(error: Error | null): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#deadline.cancel();
    this.#expiry?.cancel();
    this.#budget.leave();
    // The rest of a frame that was admitted never comes.
    if (this.#admittedCost > 0) this.#budget.finish(this.#admittedCost, 0);
    this.#admittedCost = 0;
    this.#budget.sent(this.#outbox.close());
    const greeted = this.#greeted;
    if (greeted !== null) {
      greeted.association?.close();
      this.#shared.sessions.leave(greeted.session, this);
      this.#tell({ ...(error === null ? {} : { err: error.message }) }, 'A client has left');
    } else this.#greeter.leave();
    this.#settle();
  }

  #settle(): void {
    if (this.#isClosed && this.#runningCount === 0) this.#resolveDone();
  }
}

/** Answers of the greeting, which takes nothing of the budget before. */
class GreetingPort implements AnswerPort {
  readonly #outbox: ReplyOutbox;

  constructor(outbox: ReplyOutbox) {
    this.#outbox = outbox;
  }

  allocate(bytes: number): Reply {
    return this.#outbox.allocate(bytes);
  }

  push(reply: Reply): void {
    this.#outbox.push(reply);
  }

  abandon(reply: Reply): void {
    this.#outbox.discard(reply);
  }

  nothing(): void {
    // Nothing was taken.
  }
}

/** The answers of one request, with what it took of the budget. */
class CountedPort implements AnswerPort {
  readonly #link: ClientLink;
  readonly #cost: number;
  readonly #landing: Buffer | null;
  isEnded = false;

  constructor(link: ClientLink, cost: number, landing: Buffer | null) {
    this.#link = link;
    this.#cost = cost;
    this.#landing = landing;
  }

  allocate(bytes: number): Reply {
    return this.#link.allocate(bytes);
  }

  push(reply: Reply, isGood: boolean): void {
    this.isEnded = true;
    this.#link.push(reply);
    // Whoever failed may still be using its payload: it is left to the garbage collector.
    this.#link.answered(this.#cost, reply.bytes, isGood ? this.#landing : null);
  }

  nothing(): void {
    this.isEnded = true;
    this.#link.answered(this.#cost, 0, null);
  }

  abandon(reply: Reply, isInDoubt: boolean): void {
    this.#link.abandon(reply, isInDoubt);
  }
}

/** @throws StoreError if such a frame may not come now */
function checkRequest(header: FrameHeader, hasBegun: boolean): void {
  if (header.version !== PROTOCOL_VERSION)
    throw new StoreError(
      'E_PROTOCOL_VERSION',
      `This daemon speaks version ${PROTOCOL_VERSION} of the protocol, not ${header.version}; use programs of one release`,
    );
  const rule = ruleOf(header.op);
  if (rule === undefined || header.isAnswer || header.status !== 0)
    throw new StoreError('E_BAD_FRAME', `A frame is no request (operation ${header.op})`);
  const isGreeting = header.op <= OP.begin;
  if (isGreeting === hasBegun)
    throw new StoreError('E_BAD_FRAME', `Operation ${rule.name} has no place here`);
  const { bodyBytesMax, payloadBytesMax } = rule;
  const fits =
    header.bodyBytes <= Math.min(bodyBytesMax, hasBegun ? BODY_BYTES_MAX : GREETING_BYTES_MAX) &&
    header.payloadBytes <= Math.min(payloadBytesMax, PAYLOAD_BYTES_MAX);
  if (!fits) throw new StoreError('E_BAD_FRAME', `A frame of operation ${rule.name} is too long`);
}
