/**
 * The NBD server: accepts connections, keeps their number and their appetite within limits, and stops gracefully.
 * What one client does wrong ends that client alone.
 */
import {
  realClock,
  realNetwork,
  realTimers,
  silentLog,
  StoreError,
  type Connection,
  type Env,
  type ListenAddress,
  type Listener,
  type Timer,
} from '@store/core';
import type { AccessRule, TlsOptions } from './access.js';
import type { Backend, ExportCatalog } from './backend.js';
import { catalogOfOne } from './catalog-of-one.js';
import { ClientConnection, SWEEP_MS } from './client-connection.js';
import { ExportDoor } from './export-door.js';
import type { HandshakeRules } from './handshake/handshake.js';
import {
  BLOCK_BYTES_MIN,
  BLOCK_BYTES_PREFERRED,
  checkLimits,
  SERVER_LIMITS,
  type ServerLimits,
} from './protocol/limits.js';
import type { ServerState } from './server-state.js';
import { StatsBook } from './stats-book.js';
import { BufferPool } from './transmission/buffer-pool.js';
import { ServerBudget } from './transmission/budget.js';
import { nbdUri } from './uri.js';

export interface NbdServerOptions {
  /** Where to listen; port 0 lets the system choose one. */
  readonly address: ListenAddress;
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
}

/** After cutting off who is left, this long is waited for the backend. */
const SETTLE_MS = 1000;
/** Free buffers kept for the next large requests. */
const POOL_BYTES_MAX = 16 * 1024 * 1024;
const REFUSALS_LOGGED_MS = 1000;

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
  readonly #budget: ServerBudget;
  readonly #pool: BufferPool;
  readonly #door: ExportDoor;
  readonly #rules: HandshakeRules;
  readonly #book: StatsBook = new StatsBook();
  /** In order of arrival. */
  readonly #clients = new Set<ClientConnection>();
  #listener: Listener | null = null;
  #sweep: Timer | null = null;
  #nextId = 1;
  #closing = false;
  #refusedCount = 0;
  #refusedLoggedCount = 0;
  #refusedLoggedAt = -Infinity;

  constructor(catalog: ExportCatalog, options: NbdServerOptions) {
    this.#options = options;
    this.#env = options.env ?? realNbdEnv();
    this.#limits = { ...SERVER_LIMITS, ...options.limits };
    checkLimits(this.#limits);
    this.#budget = new ServerBudget(this.#limits);
    this.#pool = new BufferPool(POOL_BYTES_MAX, { poison: options.poisonBuffers ?? false });
    this.#door = new ExportDoor(catalog, options.access ?? (() => 'write'));
    this.#rules = rulesOf(options);
  }

  async start(): Promise<void> {
    const { network } = this.#env;
    this.#listener = await network.listen(this.#options.address, (connection) =>
      this.#accept(connection),
    );
    this.#armSweep();
  }

  get address(): ListenAddress {
    return this.#listener?.address ?? this.#options.address;
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
    await this.#listener?.close();
    const clients = [...this.#clients];
    for (const client of clients) client.shutDown();
    if (await this.#gone(clients, options.drainMs)) return;
    const left = [...this.#clients];
    log.warn({ clients: left.length }, `Clients cut off, not done after ${options.drainMs} ms`);
    for (const client of left) client.drop('the server stopped waiting for it');
    if (await this.#gone(left, SETTLE_MS)) return;
    log.error({ clients: this.#clients.size }, 'Stopped while the backend still holds requests');
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
    const { clock, timers, log } = this.#env;
    if (this.#closing || (this.#clients.size >= this.#limits.connectionsMax && !this.#makeRoom())) {
      this.#refuse(connection);
      return;
    }
    const client = new ClientConnection({
      id: this.#nextId++,
      connection,
      door: this.#door,
      rules: this.#rules,
      tls: this.#options.tls?.context ?? null,
      book: this.#book,
      budget: this.#budget,
      pool: this.#pool,
      clock,
      timers,
      log,
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
      for (const client of this.#clients) client.sweep();
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
