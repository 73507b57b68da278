/**
 * One client from its first byte to its last: handshake, transmission, goodbye.
 *
 * Guarantees: an export opened for this client is closed exactly once, after the backend has answered everything the
 * client asked for, whatever way the connection ended; and nothing that goes wrong here leaves this object.
 */
import {
  invariant,
  PeerPace,
  StoreError,
  type Clock,
  type Connection,
  type Log,
  type Timer,
  type Timers,
  type TlsContext,
  type TlsPeer,
} from '@store/core';
import type { ExportDoor, OpenedExport } from './export-door.js';
import type { HandedSession } from './handover/estate.js';
import { promisesOf, type InheritedSession } from './handover/inheritance.js';
import {
  Handshake,
  type HandshakeAction,
  type HandshakeRules,
  type LookUp,
} from './handshake/handshake.js';
import type { Negotiated } from './handshake/negotiated.js';
import type { RareWarning } from './rare-warning.js';
import type { StatsBook } from './stats-book.js';
import type { BufferPool } from '@store/core';
import type { ServerBudget } from '@store/core';
import type { ServerLimits } from './protocol/limits.js';
import type { ConnectionState } from './server-state.js';
import { Stats } from './stats.js';
import { Transmission } from './transmission/transmission.js';

/** How often the server calls `sweep`. */
export const SWEEP_MS = 1000;
/** After the goodbye a client has this long to read what was sent and to close its side, as long as it reads. */
const LINGER_MS = 1000;
const CLIENT_CLOSED = 'the client closed the connection';
const TLS_FAILED = 'The TLS handshake failed';

export interface ClientOptions {
  readonly id: number;
  readonly connection: Connection;
  readonly door: ExportDoor;
  readonly rules: HandshakeRules;
  /** What STARTTLS needs; null if `rules` allow none. */
  readonly tls: TlsContext | null;
  /** For handshakes of TLS that fail, of all clients of the server. */
  readonly tlsFailures: RareWarning;
  readonly book: StatsBook;
  readonly budget: ServerBudget<ServerLimits>;
  readonly pool: BufferPool;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** A session that another server began; its export belongs to this client. */
  readonly inherited?: InheritedSession;
}

type Phase = 'handshake' | 'transmission' | 'goodbye' | 'closed';

export class ClientConnection {
  readonly id: number;
  /** Who it is, without what changes from one connection to the next. */
  readonly peerHost: string;
  /** Resolves when the connection is gone and its export closed. */
  readonly done: Promise<void>;

  readonly #options: ClientOptions;
  /** Replaced by another when TLS starts. */
  #connection: Connection;
  #log: Log;
  readonly #handshake: Handshake;
  readonly #startedAt: number;
  #phase: Phase = 'handshake';
  #transmission: Transmission | null = null;
  #opened: OpenedExport | null = null;
  #tlsPeer: TlsPeer | null = null;
  #negotiated: Negotiated | null = null;
  readonly #stats: Stats = new Stats();
  readonly #pace: PeerPace;
  #deadline: Timer;
  #resolveDone: () => void = () => undefined;
  #isLookingUp = false;
  #isHandedOver = false;
  #clientHasEnded = false;
  /** False while the connection asks us not to write more. */
  #hasRoom = true;
  /** Runs when the connection took all that was written. */
  #onDrain: (() => void) | null = null;
  #reason = CLIENT_CLOSED;

  #receivedBytes = 0;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.id = options.id;
    this.#pace = new PeerPace(options.budget.limits, SWEEP_MS);
    this.#connection = options.connection;
    this.peerHost = options.connection.peer.replace(/:\d+$/, '');
    this.#log = options.log.child({ client: options.id, peer: options.connection.peer });
    this.#startedAt = options.clock.now();
    this.done = new Promise((resolve) => (this.#resolveDone = resolve));
    this.#handshake = new Handshake(options.rules);
    this.#deadline = this.#armDeadline();
    this.#start(this.#connection);
    const { inherited } = options;
    if (inherited === undefined) this.#connection.write([this.#handshake.start()]);
    else {
      this.#opened = inherited.opened;
      this.#beginTransmission(inherited.session.negotiated, inherited.session.leftover);
    }
  }

  #start(connection: Connection): void {
    connection.start({
      data: (chunk) => this.#receive(chunk),
      awaits: () => this.#transmission?.awaits ?? null,
      end: () => this.#clientEnded(),
      drain: () => this.#drained(),
      closed: (error) => this.#closed(error),
    });
  }

  /** May be dropped in favour of somebody else: it has not begun, or it sends less than it announced. */
  get isIdleBeforeWork(): boolean {
    return this.#phase === 'transmission' ? this.#pace.isStalled : !this.#isLookingUp;
  }

  /** What it does; null before it uses an export. */
  get state(): ConnectionState | null {
    const { id, clock } = this.#options;
    if (this.#negotiated === null) return null;
    const { headers } = this.#negotiated;
    const exportName = this.#opened?.name ?? '';
    const seconds = (clock.now() - this.#startedAt) / 1000;
    const { peer } = this.#options.connection;
    const user = this.#tlsPeer?.name ?? '';
    return { id, peer, user, exportName, headers, seconds, stats: this.#stats };
  }

  /** Ends it at once. */
  drop(reason: string): void {
    if (this.#phase === 'closed') return;
    this.#reason = reason;
    this.#connection.destroy();
  }

  /** Finishes what is in flight, then ends. */
  shutDown(): void {
    this.#reason = 'the server shuts down';
    this.#handshake.shutDown();
    if (this.#phase === 'transmission') this.#transmission?.shutDown();
    else if (this.#phase === 'handshake') {
      this.#deadline.cancel();
      this.#deadline = this.#options.timers.after(LINGER_MS, () => this.#sayGoodbye());
    }
  }

  /** Another server can go on with it: it is past the handshake, not about to leave, and no TLS lies over it. */
  get isSession(): boolean {
    return this.#phase === 'transmission' && this.#tlsPeer === null;
  }

  /** Executes no more requests from now on, until `resume`. */
  suspend(): void {
    if (this.#phase === 'transmission') this.#transmission?.suspend();
  }

  /** After `suspend`: the client has got every answer it waits for, but for requests that were not begun. */
  get isQuiet(): boolean {
    return this.#phase === 'transmission' && this.#transmission?.isQuiet === true;
  }

  resume(): void {
    if (this.#phase === 'transmission') this.#transmission?.resume();
  }

  /**
   * Ends a session that cannot be handed over. No request that was sent is lost to a client that knows: what was not
   * begun stays unanswered, and it asks the next server. Called again until it is gone.
   */
  retire(): void {
    if (this.#phase !== 'transmission' || this.#tlsPeer === null) return;
    this.#reason = 'the server is replaced, and a TLS session cannot be handed over';
    this.#transmission?.suspend();
    if (this.isQuiet) this.#sayGoodbye();
  }

  /** When it `isQuiet`: leaves the session to the next server, and is `done` soon. Null if it is gone already. */
  handOver(): HandedSession | null {
    const transmission = this.#transmission;
    const opened = this.#opened;
    const negotiated = this.#negotiated;
    invariant(transmission !== null && opened !== null && negotiated !== null, 'it is a session');
    invariant(this.isQuiet, 'it came to rest');
    const leftover = transmission.leftover();
    const descriptor = this.#connection.release();
    if (descriptor === null) return null;
    this.#isHandedOver = true;
    const promises = promisesOf(opened, { negotiated }, this.#options.rules);
    return { descriptor, negotiated, leftover, ...promises };
  }

  /** Called every `SWEEP_MS`: drops a client that keeps the server waiting, or others. */
  sweep(): void {
    const transmission = this.#transmission;
    if (this.#phase !== 'transmission' || transmission === null) return;
    const reason = this.#pace.look({
      receivedBytes: this.#receivedBytes,
      requestCount: transmission.requestCount,
      awaitsRest: transmission.awaitsClient,
      unsentBytes: this.#connection.unsentBytes,
      isInTheWay: this.#options.budget.hasWaiters && transmission.holdsShared,
    });
    if (reason !== null) this.drop(reason);
  }

  #armDeadline(): Timer {
    const { handshakeMs } = this.#options.budget.limits;
    return this.#options.timers.after(handshakeMs, () => {
      // An export that is slow to open is not the client's fault.
      if (this.#isLookingUp) this.#deadline = this.#armDeadline();
      else this.drop(`it did not finish the handshake within ${handshakeMs / 1000} s`);
    });
  }

  /** @returns True if nothing of the chunk is needed any more */
  #receive(chunk: Buffer): boolean {
    this.#receivedBytes += chunk.length;
    if (this.#phase === 'transmission') return this.#transmission?.receive(chunk) ?? true;
    if (this.#phase === 'handshake') this.#perform(this.#handshake.receive(chunk));
    return false;
  }

  #clientEnded(): void {
    this.#clientHasEnded = true;
    if (this.#phase === 'transmission') this.#transmission?.clientEnded();
    else if (!this.#handshake.isLookingUp) this.#connection.end();
  }

  #drained(): void {
    this.#hasRoom = true;
    const onDrain = this.#onDrain;
    this.#onDrain = null;
    onDrain?.();
    this.#transmission?.drained();
  }

  #perform(actions: readonly HandshakeAction[]): void {
    for (const action of actions) {
      switch (action.kind) {
        case 'send':
          this.#hasRoom = this.#connection.write([action.bytes]);
          break;
        case 'look-up':
          this.#lookUp(action.what);
          break;
        case 'start-tls':
          void this.#startTls();
          break;
        case 'transmit':
          this.#beginTransmission(action.negotiated, action.rest);
          break;
        case 'end':
          this.#sayGoodbye();
          break;
        case 'drop':
          this.drop(action.reason);
          break;
      }
    }
  }

  /**
   * The client waits meanwhile, and is not read: nothing it sends can pile up. Nor can answers that it does not read:
   * the next look-up waits for them to leave.
   */
  #lookUp(what: LookUp): void {
    this.#connection.pause();
    if (!this.#hasRoom) {
      this.#onDrain = () => this.#lookUp(what);
      return;
    }
    this.#isLookingUp = true;
    void this.#options.door.lookUp(what, this.#tlsPeer).then(async ({ result, opened }) => {
      this.#isLookingUp = false;
      if (this.#phase === 'handshake') {
        this.#opened = opened;
        this.#connection.resume();
        this.#perform(this.#handshake.resume(result));
      } else {
        if (opened !== null) await this.#closeExport(opened);
        if (this.#phase === 'closed') this.#resolveDone();
      }
    });
  }

  /** A handshake that fails ends the connection (T10); the deadline of the whole handshake bounds it. */
  async #startTls(): Promise<void> {
    const { tls, tlsFailures } = this.#options;
    invariant(tls !== null, 'TLS is offered only with keys for it');
    let started;
    try {
      started = await this.#connection.startTls(tls);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      const why = this.#reason === CLIENT_CLOSED ? error.message : `${TLS_FAILED}: ${this.#reason}`;
      tlsFailures.warn(this.#log, { code: error.code }, why);
      this.drop(error.message);
      return;
    }
    const { connection, peer } = started;
    if (this.#phase !== 'handshake') {
      connection.destroy();
      return;
    }
    this.#connection = connection;
    this.#tlsPeer = peer;
    this.#hasRoom = true;
    this.#log = this.#log.child({ tls: peer.protocol, user: peer.name });
    this.#handshake.tlsStarted();
    this.#start(connection);
  }

  #beginTransmission(negotiated: Negotiated, rest: Buffer): void {
    const { budget, pool, clock, rules, book } = this.#options;
    const opened = this.#opened;
    invariant(opened !== null, 'a transmission has an export');
    this.#deadline.cancel();
    this.#phase = 'transmission';
    this.#negotiated = negotiated;
    this.#transmission = new Transmission({
      connection: this.#connection,
      backend: opened.backend,
      readOnly: opened.readOnly,
      negotiated,
      blockBytesMin: rules.blockBytesMin,
      stats: [this.#stats, book.connected(opened.name)],
      budget,
      pool,
      clock,
      log: this.#log,
      owner: {
        inputEnded: () => this.#awaitSettling(),
        finished: () => this.#sayGoodbye(),
        drop: (reason) => this.drop(reason),
      },
    });
    const { headers, contexts } = negotiated;
    const names = contexts.map(({ name }) => name);
    const fields = { export: opened.name, bytes: opened.backend.bytes, headers, contexts: names };
    const { inherited } = this.#options;
    if (inherited === undefined) this.#log.info(fields, 'Client connected');
    else this.#log.info({ ...fields, leftover: rest.length }, 'Client taken over');
    if (rest.length > 0) this.#transmission.receive(rest);
    if (this.#clientHasEnded) this.#transmission.clientEnded();
  }

  #awaitSettling(): void {
    const { name } = this.#opened ?? {};
    const settled = this.#transmission?.settled();
    if (name !== undefined && settled !== undefined) this.#options.door.addSettling(name, settled);
  }

  #sayGoodbye(): void {
    if (this.#phase === 'closed' || this.#phase === 'goodbye') return;
    this.#phase = 'goodbye';
    this.#deadline.cancel();
    this.#connection.end();
    this.#connection.resume(); // what still comes is ignored, but must not keep the answers from arriving
    this.#linger(Infinity);
  }

  #linger(unsentBefore: number): void {
    this.#deadline = this.#options.timers.after(LINGER_MS, () => {
      const { unsentBytes } = this.#connection;
      if (unsentBytes > 0 && unsentBytes < unsentBefore) this.#linger(unsentBytes);
      else this.#connection.destroy();
    });
  }

  #closed(error: Error | null): void {
    this.#phase = 'closed';
    this.#deadline.cancel();
    this.#transmission?.closed();
    if (this.#transmission !== null && this.#opened !== null)
      this.#options.book.disconnected(this.#opened.name);
    this.#logClosed(error);
    if (!this.#isLookingUp) void this.#settle();
  }

  async #settle(): Promise<void> {
    const opened = this.#opened;
    if (opened !== null) {
      await this.#transmission?.settled();
      await this.#closeExport(opened);
    }
    this.#resolveDone();
  }

  async #closeExport(opened: OpenedExport): Promise<void> {
    try {
      await opened.close();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.error(
        { export: opened.name, code: error.code },
        `Closing failed: ${error.message}`,
      );
    }
  }

  #logClosed(error: Error | null): void {
    const seconds = Math.round(this.#options.clock.now() - this.#startedAt) / 1000;
    const reason = error === null ? this.#reason : error.message;
    if (this.#transmission === null) {
      this.#log.debug({ seconds }, `Client left before using an export: ${reason}`);
      return;
    }
    const { inFlight } = this.#transmission;
    const name = this.#opened?.name;
    const fields = { export: name, seconds, ...this.#stats.totals(), unanswered: inFlight };
    if (this.#isHandedOver) this.#log.info(fields, 'Client handed over to the next server');
    else this.#log.info(fields, `Client disconnected: ${reason}`);
  }
}
