/**
 * Serves a store to clients over the network: where clients connect (TCP, and UDP on the same port), where other daemons
 * do, and on the socket in the folder. What a client may do is decided at the `Door`, how much memory all of them take
 * together by one budget.
 */
import {
  BufferPool,
  messageOf,
  ServerBudget,
  StoreError,
  type BudgetLimits,
  type Connection,
  type Env,
  type ListenAddress,
  type Listener,
  type ListenOptions,
  type PaceLimits,
  type Timer,
} from '@store/core';
import { ClientLink, type LinkShared } from './client-link.js';
import { ServerCounters } from './counters.js';
import { DatagramDesk } from './datagram-desk.js';
import { Door, type DoorOptions, type Entrance } from './door.js';
import type { ServedStore } from './open-pools.js';
import { SessionTable } from './session-table.js';

const MIB = 1024 * 1024;

export const DAEMON_LIMITS: BudgetLimits &
  PaceLimits & {
    /** Of clients and peers. */
    readonly connectionsMax: number;
    /** Through the owner's socket, beside the others: nobody can keep the owner out. */
    readonly ownerConnectionsMax: number;
    /** Of connections that have not begun. */
    readonly greetingsMax: number;
    /** How long a greeting may take. */
    readonly greetingMs: number;
  } = {
  connectionsMax: 4096,
  ownerConnectionsMax: 512,
  greetingsMax: 1024,
  greetingMs: 10_000,
  connectionRequestsMax: 512,
  connectionBytesMax: 32 * MIB,
  serverRequestsMax: 16_384,
  serverBytesMax: 256 * MIB,
  guaranteedRequests: 8,
  guaranteedBytes: 128 * 1024,
  stallMs: 30_000,
  payloadBytesPerSecondMin: 256 * 1024,
  // Whoever is cut off connects again and goes on where it was.
  stallUnderPressureMs: 3000,
};

const BUFFERS_KEPT_BYTES: number = 64 * MIB;
const SWEEP_MS = 1000;
/** How often another port is tried where the system may choose one. */
const PORT_TRIES = 10;
const DRAIN_STEP_MS = 5;

export interface DaemonServerOptions {
  readonly env: Env;
  readonly store: ServedStore;
  readonly identity: {
    readonly diskId: Buffer;
    readonly startId: Buffer;
    readonly lineage: Buffer;
  };
  readonly door: DoorOptions;
  readonly limits?: Partial<typeof DAEMON_LIMITS>;
  /** Largest datagram; 0: none are served. */
  readonly datagramBytes: number;
  /** Overwrites buffers that are given back, so that a use after that shows. */
  readonly poison?: boolean;
  /** Something that is a defect of ours has happened: nobody knows what state it left. */
  readonly defect: (error: unknown) => void;
}

export interface DaemonServerState {
  readonly connections: number;
  readonly sessions: number;
  /** Sessions that a connection is in charge of. */
  readonly sessionsInUse: number;
  readonly running: number;
  readonly heldBytes: number;
  readonly counters: ServerCounters;
}

export class DaemonServer {
  readonly counters = new ServerCounters();
  readonly #options: DaemonServerOptions;
  readonly #limits: typeof DAEMON_LIMITS;
  readonly #door: Door;
  readonly #shared: LinkShared;
  readonly #desk: DatagramDesk;
  readonly #buffers: BufferPool;
  readonly #links = new Set<ClientLink>();
  /** Those of them that came through the owner's socket. */
  readonly #owners = new Set<ClientLink>();
  /** Those that had not begun when they were last looked through; the oldest first. */
  readonly #greeting = new Set<ClientLink>();
  readonly #listeners: Listener[] = [];
  #sweep: Timer | null = null;
  #isClosing = false;

  constructor(options: DaemonServerOptions) {
    const { env, store, identity, defect } = options;
    this.#options = options;
    this.#limits = { ...DAEMON_LIMITS, ...options.limits };
    this.#door = new Door(options.door, env.clock);
    this.#buffers = new BufferPool(BUFFERS_KEPT_BYTES, { poison: options.poison ?? false });
    const budget = new ServerBudget(this.#limits);
    const { counters } = this;
    this.#desk = new DatagramDesk(env, { counters, budget }, options.datagramBytes);
    this.#shared = {
      env,
      log: env.log,
      store,
      identity,
      door: this.#door,
      sessions: new SessionTable(env.clock),
      counters,
      budget,
      buffers: this.#buffers,
      desk: this.#desk,
      defect,
      greetingMs: this.#limits.greetingMs,
      pace: this.#limits,
      sweepMs: SWEEP_MS,
    };
    this.#sweepLater();
  }

  /**
   * Listens where clients or daemons connect, or on the socket in the folder.
   * @returns The address people can connect to.
   * @throws StoreError `E_SYSTEM`
   */
  async listen(
    address: ListenAddress,
    entrance: Entrance,
    options: ListenOptions = {},
  ): Promise<ListenAddress> {
    const { network } = this.#options.env;
    const accept = (connection: Connection): void => this.#accept(connection, entrance);
    const hasDatagrams =
      entrance === 'listen' && 'host' in address && this.#options.datagramBytes > 0;
    const mayChoose = hasDatagrams && address.port === 0;
    for (let triesLeft = mayChoose ? PORT_TRIES : 1; ; triesLeft -= 1) {
      const listener = await network.listen(address, accept, options);
      this.#listeners.push(listener);
      try {
        if (hasDatagrams && 'host' in listener.address) await this.#desk.open(listener.address);
      } catch (error) {
        // The system chose a port that is free for TCP; somebody else may have it for UDP.
        this.#listeners.splice(this.#listeners.indexOf(listener), 1);
        await listener.close();
        if (triesLeft > 1) continue;
        throw error;
      }
      return listener.address;
    }
  }

  /** Secrets and lists were read again; whoever may not stay leaves. */
  replaceSecrets(options: Pick<DoorOptions, 'secrets' | 'blocklist'>): void {
    this.#door.replace(options);
    for (const link of [...this.#links]) link.checkGuest();
  }

  state(): DaemonServerState {
    let [running, heldBytes] = [0, 0];
    for (const link of this.#links) {
      running += link.runningCount;
      heldBytes += link.heldBytes;
    }
    return {
      connections: this.#links.size,
      sessions: this.#shared.sessions.count,
      sessionsInUse: this.#shared.sessions.heldCount,
      running,
      heldBytes,
      counters: this.counters,
    };
  }

  /** Takes no more requests, answers those under way, and resolves when the last has ended; after `drainMs` at once. */
  async close({ drainMs }: { drainMs: number }): Promise<void> {
    const { clock, timers } = this.#options.env;
    this.#isClosing = true;
    this.#sweep?.cancel();
    for (const listener of this.#listeners) await listener.close();
    const deadline = clock.now() + drainMs;
    for (const link of this.#links) link.drain();
    while (this.#links.size > 0 && clock.now() < deadline) await timers.sleep(DRAIN_STEP_MS);
    this.#desk.close();
    const left = [...this.#links];
    for (const link of left) link.destroy();
    await Promise.all(left.map((link) => link.done));
  }

  #accept(connection: Connection, entrance: Entrance): void {
    const refusal = this.#refusal(entrance);
    if (refusal !== null) {
      this.counters.refuse(refusal.code);
      this.#options.env.log.warn({ peer: connection.peer }, messageOf(refusal));
    }
    if (!this.#makeRoomForGreeting()) {
      connection.start({
        data: () => true,
        end: () => undefined,
        drain: () => undefined,
        closed: () => undefined,
      });
      connection.destroy();
      return;
    }
    this.counters.connections += 1;
    const link = new ClientLink(connection, entrance, this.#shared, refusal);
    this.#links.add(link);
    this.#greeting.add(link);
    if (entrance === 'owner') this.#owners.add(link);
    void link.done.then(() => {
      this.#links.delete(link);
      this.#owners.delete(link);
      this.#greeting.delete(link);
    });
  }

  /** Why somebody new is let in no further than to be told so; null if there is room. */
  #refusal(entrance: Entrance): StoreError | null {
    if (this.#isClosing) return new StoreError('E_CLOSED', 'The daemon is stopping');
    const { connectionsMax, ownerConnectionsMax } = this.#limits;
    const isOwner = entrance === 'owner';
    const count = isOwner ? this.#owners.size : this.#links.size - this.#owners.size;
    if (count < (isOwner ? ownerConnectionsMax : connectionsMax)) return null;
    return new StoreError(
      'E_BUSY',
      `There are ${count} connections to the daemon already; end some, and try again`,
    );
  }

  /** Idle newcomers keep nobody out: the oldest of too many makes room. @returns false while the server closes */
  #makeRoomForGreeting(): boolean {
    const { greetingsMax } = this.#limits;
    if (this.#greeting.size >= greetingsMax)
      for (const link of this.#greeting) if (link.hasBegun) this.#greeting.delete(link);
    for (const oldest of this.#greeting) {
      if (this.#greeting.size < greetingsMax) break;
      this.#greeting.delete(oldest);
      oldest.destroy();
    }
    return !this.#isClosing;
  }

  #sweepLater(): void {
    this.#sweep = this.#options.env.timers.after(SWEEP_MS, () => {
      this.#buffers.trim();
      for (const link of this.#links) link.sweep();
      this.#sweepLater();
    });
  }
}
