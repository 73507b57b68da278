/**
 * The links to all other daemons.
 *
 * Between two daemons there is one link, dialled by the one with the smaller id, whoever needs it: so there are never two
 * that cross. It dials whom its replication wants; the other one takes who its map has. A link belongs to a start of each
 * end: when the map names another one, it is closed.
 */
import {
  BufferPool,
  StoreError,
  type Connection,
  type Env,
  type ListenAddress,
  type Listener,
  type ListenOptions,
  type MapView,
  type Timer,
} from '@store/core';
import type { PeerMessage } from '../replication/peer-message.js';
import type { PeerEvents, PeerPort } from '../replication/ports.js';
import type { PeerConnection } from './peer-connection.js';
import { PeerDialler, type PeerTarget } from './peer-dialler.js';
import { PeerDoor } from './peer-door.js';
import type { PeerSelf } from './peer-greeting.js';
import { PeerLink } from './peer-link.js';
import type { PeerSecurity } from './secure-connection.js';

/** Buffers of changes that nobody needs just now. */
const BUFFERS_KEPT_BYTES: number = 32 * 1024 * 1024;
const TRIM_MS = 1000;

export interface PeerLinksOptions {
  readonly env: Env;
  readonly security: PeerSecurity;
  /** Null: this daemon has not registered yet. */
  readonly self: () => PeerSelf | null;
  /** The newest map. */
  readonly view: () => MapView | null;
  readonly defect: (error: unknown) => void;
  /** Overwrites buffers that are given back, so that a use after that shows. */
  readonly poison?: boolean;
}

export class PeerLinks implements PeerPort {
  readonly #options: PeerLinksOptions;
  readonly #buffers: BufferPool;
  readonly #door: PeerDoor;
  readonly #diallers = new Map<number, PeerDialler>();
  readonly #links = new Map<number, PeerLink>();
  readonly #listeners: Listener[] = [];
  #wanted: ReadonlySet<number> = new Set();
  #events: PeerEvents | null = null;
  #trim: Timer | null = null;
  #isClosed = false;

  constructor(options: PeerLinksOptions) {
    const { env, security, self, view, defect, poison = false } = options;
    this.#options = options;
    this.#buffers = new BufferPool(BUFFERS_KEPT_BYTES, { poison });
    this.#door = new PeerDoor({
      env,
      security,
      buffers: this.#buffers,
      self,
      view,
      linked: ({ daemon, startId }, control, data) =>
        // Who comes again has lost the link it had, whether we know of it or not.
        this.#link(daemon, startId, control, data, () => undefined),
      defect,
    });
    this.#trimLater();
  }

  /** From now on `events` are told; before, nobody is let in. Once. */
  start(events: PeerEvents): void {
    this.#events = events;
    this.mapIs();
  }

  /**
   * Lets other daemons connect.
   * @returns the address people can connect to
   * @throws StoreError `E_SYSTEM`
   */
  async listen(address: ListenAddress, options: ListenOptions = {}): Promise<ListenAddress> {
    const accept = (connection: Connection): void => this.#door.accept(connection);
    const listener = await this.#options.env.network.listen(address, accept, options);
    this.#listeners.push(listener);
    return listener.address;
  }

  want(daemons: ReadonlySet<number>): void {
    this.#wanted = new Set(daemons);
    this.mapIs();
  }

  send(daemon: number, message: PeerMessage): void {
    this.#links.get(daemon)?.send(message);
  }

  recall(daemon: number): void {
    this.#links.get(daemon)?.recall();
  }

  /** The newest map, or who this daemon is, has changed. */
  mapIs(): void {
    const self = this.#options.self();
    if (self === null || this.#events === null || this.#isClosed) return;
    for (const [daemon, dialler] of this.#diallers) {
      if (this.#wanted.has(daemon)) continue;
      dialler.close();
      this.#diallers.delete(daemon);
      this.#links.get(daemon)?.close(new StoreError('E_CLOSED', 'The link is not wanted any more'));
    }
    for (const link of this.#links.values()) this.#closeIfPast(link);
    for (const daemon of this.#wanted) {
      if (daemon <= self.daemon) continue;
      const dialler = this.#diallers.get(daemon);
      if (dialler === undefined) this.#diallers.set(daemon, this.#newDialler(daemon));
      else dialler.look();
    }
  }

  /** For metrics. */
  state(): { links: number; strangers: number; heldBytes: number } {
    let heldBytes = 0;
    for (const link of this.#links.values()) heldBytes += link.heldBytes;
    return { links: this.#links.size, strangers: this.#door.strangerCount, heldBytes };
  }

  /** Nothing is told any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#events = null;
    this.#trim?.cancel();
    for (const dialler of this.#diallers.values()) dialler.close();
    this.#door.close();
    const error = new StoreError('E_CLOSED', 'The daemon is stopping');
    for (const link of this.#links.values()) link.close(error);
    for (const listener of this.#listeners) await listener.close();
  }

  #newDialler(daemon: number): PeerDialler {
    const { env, security, self, defect } = this.#options;
    return new PeerDialler({
      env,
      security,
      buffers: this.#buffers,
      self,
      target: () => this.#target(daemon),
      linked: (target, { control, data }) =>
        new Promise((resolve) => this.#link(target.daemon, target.startId, control, data, resolve)),
      defect,
    });
  }

  #target(daemon: number): PeerTarget | null {
    const known = this.#options.view()?.daemonById(daemon);
    if (known === undefined || known.startId === null || known.peerAddress === null) return null;
    const { diskId, startId, peerAddress: address } = known;
    return { daemon, diskId, startId, address };
  }

  /** @param over - Told when it is. */
  #link(
    daemon: number,
    startId: string,
    control: PeerConnection,
    data: PeerConnection,
    over: () => void,
  ): void {
    const { env, defect } = this.#options;
    const link = new PeerLink({
      env,
      daemon,
      startId,
      control,
      data,
      buffers: this.#buffers,
      events: {
        received: (message) => this.#events?.received(daemon, startId, message),
        closed: (error) => {
          over();
          this.#closed(link, error);
        },
        defect,
      },
    });
    queueMicrotask(() => this.#up(link));
  }

  #up(link: PeerLink): void {
    const { log } = this.#options.env;
    const { daemon, startId, peer } = link;
    const before = this.#links.get(daemon);
    if (before !== undefined) {
      // That it is down is told first.
      before.close(new StoreError('E_CLOSED', 'Another link takes its place'));
      queueMicrotask(() => this.#up(link));
      return;
    }
    this.#links.set(daemon, link);
    log.info({ daemon, peer }, 'There is a link to another daemon');
    this.#tell((events) => events.up(daemon, startId));
    link.open();
    this.#closeIfPast(link);
    if (this.#events === null) link.close(new StoreError('E_CLOSED', 'The daemon is stopping'));
  }

  #closed(link: PeerLink, error: StoreError): void {
    const { daemon, peer } = link;
    if (this.#links.get(daemon) !== link) return;
    this.#links.delete(daemon);
    this.#options.env.log.info(
      { daemon, peer, code: error.code },
      `The link to another daemon is over: ${error.message}`,
    );
    this.#tell((events) => events.down(daemon));
  }

  #closeIfPast(link: PeerLink): void {
    if (this.#options.view()?.daemonById(link.daemon)?.startId === link.startId) return;
    link.close(new StoreError('E_STALE_MAP', 'The map names another start of the daemon'));
  }

  #tell(what: (events: PeerEvents) => void): void {
    if (this.#events === null) return;
    try {
      what(this.#events);
    } catch (error) {
      this.#options.defect(error);
    }
  }

  #trimLater(): void {
    this.#trim = this.#options.env.timers.after(TRIM_MS, () => {
      this.#buffers.trim();
      this.#trimLater();
    });
  }
}
