/**
 * The NBD server: accepts connections, keeps their number and their appetite within limits, and stops gracefully.
 * What one client does wrong ends that client alone.
 */
import {
  invariant,
  realClock,
  realNetwork,
  realTimers,
  silentLog,
  StoreError,
  type Connection,
  type Env,
  type ListenAddress,
  type Listener,
  type ListeningDescriptor,
  type Timer,
} from '@store/core';
import type { AccessRule, TlsOptions } from './access.js';
import type { Backend, ExportCatalog } from './backend.js';
import { catalogOfOne } from './catalog-of-one.js';
import { ClientConnection, SWEEP_MS } from './client-connection.js';
import { ExportDoor } from './export-door.js';
import { bringToRest, handOverAll, retireOthers } from './handover/departure.js';
import { closeEstate, type Estate } from './handover/estate.js';
import { openSessions, type Inheritance, type InheritedSession } from './handover/inheritance.js';
import type { HandshakeRules } from './handshake/handshake.js';
import {
  BLOCK_BYTES_MIN,
  BLOCK_BYTES_PREFERRED,
  checkLimits,
  SERVER_LIMITS,
  type ServerLimits,
} from './protocol/limits.js';
import { RareWarning } from './rare-warning.js';
import type { ServerState } from './server-state.js';
import { StatsBook } from './stats-book.js';
import { BufferPool } from '@store/core';
import { ServerBudget } from '@store/core';
import { nbdUri } from './uri.js';

export interface NbdServerOptions {
  /** Where to listen; port 0 lets the system choose one. Or sockets that somebody else opened; they are ours then. */
  readonly address: ListenAddress | { readonly sockets: readonly ListeningDescriptor[] };
  /** Called with every address before anybody is accepted there. @throws to stop */
  readonly approve?: (address: ListenAddress) => void;
  /** Sessions that another server began. They are ours, whatever happens. */
  readonly inherited?: Inheritance;
  /** Clock, timers, network and log; without it those of this machine, and no log. */
  readonly env?: NbdServerEnv;
  /** What differs from `SERVER_LIMITS`. */
  readonly limits?: Partial<ServerLimits>;
  /** Without it the server speaks in the clear only. */
  readonly tls?: TlsOptions;
  /** What each client may do; without it everybody may do everything. */
  readonly access?: AccessRule;
  /** Smallest block for clients that ask for block sizes: a power of two up to 4096 (default 1). */
  readonly blockBytesMin?: number;
  /** Overwrites every buffer that is given back: for tests of who uses one too long. */
  readonly poisonBuffers?: boolean;
}

export type NbdServerEnv = Pick<Env, 'clock' | 'timers' | 'log' | 'network'>;

export interface NbdServer {
  /** Where clients connect to. */
  readonly address: ListenAddress;
  readonly connectionCount: number;
  /** Who is connected, and what was done. */
  state(): ServerState;
  /** The NBD URI of an export; the empty name is the default one. */
  uri(name: string): string;
  /**
   * Stops accepting, lets requests in flight finish, answers new ones ESHUTDOWN, and closes; whoever is not done
   * after `drainMs` is cut off.
   */
  close(options: { drainMs: number }): Promise<void>;
  /**
   * Ends this server without ending its sessions: no client notices if another one goes on with what is returned
   * (`address.sockets`, `inherited`). Who connects meanwhile waits in the queue of the socket. Handshakes get a
   * second to finish, TLS sessions are closed.
   * @throws StoreError `E_TIMEOUT` if a client does not take its answers, or the backend gives none; `E_SYSTEM`. This
   * server goes on then
   */
  handOver(options?: HandOverOptions): Promise<Estate>;
}

export interface HandOverOptions {
  /** For handshakes, TLS sessions and clients that are leaving; sessions in the clear go on meanwhile. */
  readonly graceMs?: number;
  /** For requests in flight; nothing is begun meanwhile. */
  readonly quietMs?: number;
}

/** After cutting off who is left, this long is waited for the backend. */
const SETTLE_MS = 1000;
/** Free buffers kept for the next large requests. */
const POOL_BYTES_MAX = 16 * 1024 * 1024;
const REFUSALS_LOGGED_MS = 1000;
const HAND_OVER_GRACE_MS = 1000;
const HAND_OVER_QUIET_MS = 5000;
/** Closing an export flushes it. */
const EXPORTS_CLOSE_MS = 30_000;

/**
 * Serves one backend, as the default export, or the exports of a catalog, until `close`.
 * @throws StoreError `E_SYSTEM` if it cannot listen there
 */
export async function serveNbd(
  what: Backend | ExportCatalog,
  options: NbdServerOptions,
): Promise<NbdServer> {
  const server = new Server('open' in what ? what : catalogOfOne(what), options);
  await server.start();
  return server;
}

class Server implements NbdServer {
  readonly #options: NbdServerOptions;
  readonly #env: NbdServerEnv;
  readonly #limits: ServerLimits;
  readonly #budget: ServerBudget<ServerLimits>;
  readonly #pool: BufferPool;
  readonly #door: ExportDoor;
  readonly #rules: HandshakeRules;
  readonly #book: StatsBook = new StatsBook();
  readonly #tlsFailures: RareWarning;
  /** In order of arrival. */
  readonly #clients = new Set<ClientConnection>();
  #listeners: Listener[] = [];
  #sweep: Timer | null = null;
  #nextId = 1;
  #closing = false;
  #handingOver = false;
  #refusedCount = 0;
  #refusedLoggedCount = 0;
  #refusedLoggedAt = -Infinity;

  constructor(catalog: ExportCatalog, options: NbdServerOptions) {
    this.#options = options;
    this.#env = options.env ?? realNbdEnv();
    this.#limits = { ...SERVER_LIMITS, ...options.limits };
    checkLimits(this.#limits);
    this.#tlsFailures = new RareWarning(this.#env.clock);
    this.#budget = new ServerBudget(this.#limits);
    this.#pool = new BufferPool(POOL_BYTES_MAX, { poison: options.poisonBuffers ?? false });
    this.#door = new ExportDoor(catalog, options.access ?? (() => 'write'));
    this.#rules = rulesOf(options);
  }

  async start(): Promise<void> {
    const { address, inherited } = this.#options;
    try {
      if (inherited !== undefined) await this.#takeOver(inherited);
    } catch (error) {
      if ('sockets' in address) closeEstate({ sockets: address.sockets, sessions: [] });
      throw error;
    }
    const accept = (connection: Connection): void => this.#accept(connection);
    const { network } = this.#env;
    if ('sockets' in address)
      for (const socket of address.sockets)
        this.#listeners.push(await network.listenOn(socket, accept));
    else this.#listeners.push(await network.listen(address, accept));
    try {
      // Nobody is accepted before this turn of the event loop ends.
      for (const listener of this.#listeners) this.#options.approve?.(listener.address);
    } catch (error) {
      for (const listener of this.#listeners) await listener.close();
      throw error;
    }
    this.#armSweep();
  }

  get address(): ListenAddress {
    const first = this.#listeners[0];
    invariant(first !== undefined, 'a server listens somewhere');
    return first.address;
  }

  get connectionCount(): number {
    return this.#clients.size;
  }

  state(): ServerState {
    return {
      exports: this.#book.exports(),
      connections: [...this.#clients].flatMap((client) => client.state ?? []),
      connectionCount: this.#clients.size,
      acceptedCount: this.#nextId - 1,
      refusedCount: this.#refusedCount,
      sharedBytes: this.#budget.bytes,
    };
  }

  uri(name: string): string {
    return nbdUri(this.address, name);
  }

  async close(options: { drainMs: number }): Promise<void> {
    const { log } = this.#env;
    this.#closing = true;
    this.#sweep?.cancel();
    for (const listener of this.#listeners) await listener.close();
    const clients = [...this.#clients];
    for (const client of clients) client.shutDown();
    if (await this.#gone(clients, options.drainMs)) return;
    const left = [...this.#clients];
    log.warn({ clients: left.length }, `Clients cut off, not done after ${options.drainMs} ms`);
    for (const client of left) client.drop('the server stopped waiting for it');
    if (await this.#gone(left, SETTLE_MS)) return;
    log.error({ clients: this.#clients.size }, 'Stopped while the backend still holds requests');
  }

  async handOver(options: HandOverOptions = {}): Promise<Estate> {
    invariant(!this.#closing && !this.#handingOver, 'a server ends once');
    const { graceMs = HAND_OVER_GRACE_MS, quietMs = HAND_OVER_QUIET_MS } = options;
    this.#handingOver = true;
    const sockets: ListeningDescriptor[] = [];
    try {
      for (const listener of this.#listeners) sockets.push(listener.release());
      await retireOthers(this.#clients, this.#env, graceMs);
      await bringToRest(this.#clients, this.#env, quietMs);
    } catch (error) {
      await this.#goOn(sockets);
      throw error;
    }
    this.#closing = true;
    this.#sweep?.cancel();
    const clients = [...this.#clients];
    const sessions = handOverAll(clients, this.#env);
    if (!(await this.#gone(clients, EXPORTS_CLOSE_MS)))
      this.#env.log.error({}, 'An export is not closed, although nobody uses it');
    return { sockets, sessions };
  }

  /** As if nothing had happened. */
  async #goOn(sockets: readonly ListeningDescriptor[]): Promise<void> {
    this.#handingOver = false;
    for (const client of this.#clients) client.resume();
    for (const [index, socket] of sockets.entries())
      this.#listeners[index] = await this.#env.network.listenOn(socket, (connection) =>
        this.#accept(connection),
      );
  }

  /** Goes on with the sessions of another server, from the moment it has let go of them. */
  async #takeOver(inherited: Inheritance): Promise<void> {
    const { network, log } = this.#env;
    const sessions = await openSessions(inherited, this.#door, this.#rules, log);
    for (const one of sessions)
      try {
        this.#serve(network.adopt(one.session.descriptor), one);
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        log.error({ export: one.opened.name }, `A client is lost: ${error.message}`);
        await one.opened.close();
      }
  }

  /** True if all `clients` are gone within `ms`. */
  #gone(clients: readonly ClientConnection[], ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#env.timers.after(ms, () => resolve(false));
      void Promise.all(clients.map((client) => client.done)).then(() => {
        timer.cancel();
        resolve(true);
      });
    });
  }

  #accept(connection: Connection): void {
    if (this.#closing || (this.#clients.size >= this.#limits.connectionsMax && !this.#makeRoom())) {
      this.#refuse(connection);
      return;
    }
    this.#serve(connection);
  }

  #serve(connection: Connection, inherited?: InheritedSession): void {
    const { clock, timers, log } = this.#env;
    const client = new ClientConnection({
      id: this.#nextId++,
      connection,
      door: this.#door,
      rules: this.#rules,
      tls: this.#options.tls?.context ?? null,
      tlsFailures: this.#tlsFailures,
      book: this.#book,
      budget: this.#budget,
      pool: this.#pool,
      clock,
      timers,
      log,
      ...(inherited === undefined ? {} : { inherited }),
    });
    this.#clients.add(client);
    void client.done.then(() => this.#clients.delete(client));
  }

  /**
   * Drops a connection that does no work yet, the oldest of the peer that has most of them; so idle connections can
   * neither keep anybody out nor, if one peer opens many, cost another peer its own.
   */
  #makeRoom(): boolean {
    const idle = [...this.#clients].filter((client) => client.isIdleBeforeWork);
    const counts = new Map<string, number>();
    for (const { peerHost } of idle) counts.set(peerHost, (counts.get(peerHost) ?? 0) + 1);
    const most = Math.max(0, ...counts.values());
    const victim = idle.find(({ peerHost }) => counts.get(peerHost) === most);
    if (victim === undefined) return false;
    // Its `done` comes later, but it holds nothing any more.
    this.#clients.delete(victim);
    victim.drop('the server is full and it did no work yet');
    return true;
  }

  #refuse(connection: Connection): void {
    const { clock, log } = this.#env;
    connection.destroy();
    this.#refusedCount += 1;
    const now = clock.now();
    if (now - this.#refusedLoggedAt < REFUSALS_LOGGED_MS) return;
    const refused = this.#refusedCount - this.#refusedLoggedCount;
    const fields = { peer: connection.peer, refused };
    log.warn(fields, `Connection refused: ${this.#limits.connectionsMax} clients are connected`);
    this.#refusedLoggedAt = now;
    this.#refusedLoggedCount = this.#refusedCount;
  }

  #armSweep(): void {
    this.#sweep = this.#env.timers.after(SWEEP_MS, () => {
      // Who is suspended is not late.
      if (!this.#handingOver) for (const client of this.#clients) client.sweep();
      this.#pool.trim();
      if (!this.#closing) this.#armSweep();
    });
  }
}

function realNbdEnv(): NbdServerEnv {
  return {
    clock: realClock(),
    timers: realTimers,
    log: silentLog,
    network: realNetwork(silentLog),
  };
}

/** @throws StoreError `E_INVALID` if the smallest block is none the protocol allows */
function rulesOf(options: NbdServerOptions): HandshakeRules {
  const blockBytesMin = options.blockBytesMin ?? BLOCK_BYTES_MIN;
  const isPower = blockBytesMin >= 1 && Number.isInteger(Math.log2(blockBytesMin));
  if (!isPower || blockBytesMin > BLOCK_BYTES_PREFERRED)
    throw new StoreError(
      'E_INVALID',
      `The smallest block is a power of two up to ${BLOCK_BYTES_PREFERRED}, not ${blockBytesMin}`,
    );
  const { mode, needsTls } = options.tls ?? {};
  return { tls: mode ?? 'off', needsTls: needsTls ?? (() => false), blockBytesMin };
}
