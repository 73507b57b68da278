/**
 * Lets other daemons in: who dials must show a certificate where one is demanded, name our cluster and this very start,
 * and be the start that our map names. Both connections of a link come in one after the other.
 */
import {
  hostOfPeer,
  messageOf,
  PROTOCOL_VERSION,
  StoreError,
  type BufferPool,
  type Connection,
  type Env,
  type MapView,
  type Timer,
} from '@store/core';
import { PeerConnection } from './peer-connection.js';
import {
  decodeMeet,
  encodeRefusal,
  encodeWelcome,
  type PeerGreeting,
  type PeerSelf,
} from './peer-greeting.js';
import { secureAccepted, startDeaf, type PeerSecurity } from './secure-connection.js';

/** Connections that belong to no link yet. */
const STRANGERS_MAX = 256;
/** How long one may be that. */
const STRANGER_MS = 5000;
/** Who was refused has so long to read why. */
const GOODBYE_MS = 1000;

export interface PeerDoorOptions {
  readonly env: Env;
  readonly security: PeerSecurity;
  readonly buffers: BufferPool;
  readonly self: () => PeerSelf | null;
  readonly view: () => MapView | null;
  /** Both connections of a link are there. */
  readonly linked: (
    peer: { daemon: number; startId: string },
    control: PeerConnection,
    data: PeerConnection,
  ) => void;
  readonly defect: (error: unknown) => void;
}

/** A connection that belongs to no link yet. */
interface Stranger {
  readonly timer: Timer;
  close: (error: StoreError) => void;
  /** What it said; null: nothing yet. */
  greeting: PeerGreeting | null;
  greeted: PeerConnection | null;
}

export class PeerDoor {
  readonly #options: PeerDoorOptions;
  /** The oldest first. */
  readonly #strangers = new Set<Stranger>();
  #isClosed = false;
  /** Of whom the log spoke last. */
  #said = '';

  constructor(options: PeerDoorOptions) {
    this.#options = options;
  }

  /** How many connections belong to no link. */
  get strangerCount(): number {
    return this.#strangers.size;
  }

  /** Somebody has connected. */
  accept(connection: Connection): void {
    if (this.#isClosed) {
      startDeaf(connection);
      connection.destroy();
      return;
    }
    const stranger: Stranger = {
      timer: this.#options.env.timers.after(STRANGER_MS, () =>
        stranger.close(new StoreError('E_TIMEOUT', 'The greeting took too long')),
      ),
      close: () => connection.destroy(),
      greeting: null,
      greeted: null,
    };
    this.#strangers.add(stranger);
    // Idle newcomers keep nobody out.
    for (const oldest of this.#strangers) {
      if (this.#strangers.size <= STRANGERS_MAX) break;
      oldest.close(new StoreError('E_BUSY', 'Too many strangers connect'));
      this.#forget(oldest);
    }
    this.#receive(stranger, connection).catch((error: unknown) => {
      this.#forget(stranger);
      if (error instanceof StoreError) this.#say(connection.peer, error);
      else this.#options.defect(error);
    });
  }

  close(): void {
    this.#isClosed = true;
    for (const stranger of this.#strangers)
      stranger.close(new StoreError('E_CLOSED', 'The daemon is stopping'));
    this.#strangers.clear();
  }

  async #receive(stranger: Stranger, accepted: Connection): Promise<void> {
    const { env, security, buffers, defect } = this.#options;
    const connection = await secureAccepted(env, security, accepted);
    const { peer } = connection;
    const greeted = new PeerConnection(connection, 'answers', buffers, {
      met: (_header, body) => this.#met(stranger, greeted, body),
      received: () => undefined,
      pulse: () => undefined,
      closed: (error) => {
        this.#forget(stranger);
        this.#say(peer, error);
      },
      defect,
    });
    stranger.close = (error) => greeted.fail(error);
    stranger.greeted = greeted;
    if (!this.#strangers.has(stranger))
      greeted.fail(new StoreError('E_BUSY', 'Too many strangers connect'));
  }

  #met(stranger: Stranger, greeted: PeerConnection, body: Buffer): void {
    const greeting = decodeMeet(body);
    let self: PeerSelf;
    try {
      self = this.#check(greeting);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      greeted.write(encodeRefusal(error));
      greeted.end(error);
      this.#options.env.timers.after(GOODBYE_MS, () => greeted.destroy());
      return;
    }
    const { daemon, diskId, startId } = self;
    greeted.write(encodeWelcome({ version: PROTOCOL_VERSION, daemon, diskId, startId }));
    stranger.greeting = greeting;
    if (greeting.channel === 'control') return;
    const control = this.#controlOf(greeting);
    if (control === null)
      throw new StoreError('E_BAD_FRAME', 'Half of a link has come, and not the other half');
    this.#forget(stranger);
    this.#options.linked(greeting, control, greeted);
  }

  /** Who dials may come in. @throws StoreError why not */
  #check(greeting: PeerGreeting): PeerSelf {
    const { versionMin, versionMax, clusterId, daemon, diskId, startId } = greeting;
    if (versionMin > PROTOCOL_VERSION || versionMax < PROTOCOL_VERSION)
      throw new StoreError(
        'E_PROTOCOL_VERSION',
        `This daemon speaks version ${PROTOCOL_VERSION} of the protocol, the other one ${versionMin} to ${versionMax}; use programs of one release`,
      );
    const self = this.#options.self();
    const view = this.#options.view();
    if (self === null || view === null)
      throw new StoreError('E_BUSY', 'This daemon has not heard from its master yet');
    if (clusterId !== self.clusterId)
      throw new StoreError(
        'E_DENIED',
        `This daemon belongs to cluster ${self.clusterId}, not to ${clusterId}`,
      );
    if (greeting.wanted !== self.daemon || greeting.wantedStart !== self.startId)
      throw new StoreError(
        'E_STALE_MAP',
        `This is daemon ${self.daemon}, start ${self.startId}, not daemon ${greeting.wanted}, start ${greeting.wantedStart}`,
      );
    const known = view.daemonById(daemon);
    if (known === undefined || known.diskId !== diskId || known.startId !== startId)
      throw new StoreError(
        'E_STALE_MAP',
        `Map ${view.map.version} of this daemon does not have daemon ${daemon} with disk ${diskId} and start ${startId}`,
      );
    return self;
  }

  /** The other half of a link; it is a stranger no more. */
  #controlOf({ linkId, daemon, startId }: PeerGreeting): PeerConnection | null {
    for (const stranger of this.#strangers) {
      const { greeting, greeted } = stranger;
      if (greeting?.channel !== 'control' || greeting.linkId !== linkId) continue;
      if (greeting.daemon !== daemon || greeting.startId !== startId) continue;
      this.#forget(stranger);
      return greeted;
    }
    return null;
  }

  #forget(stranger: Stranger): void {
    stranger.timer.cancel();
    this.#strangers.delete(stranger);
  }

  /** Who tries again and again is mentioned once. */
  #say(peer: string, error: StoreError): void {
    const { log } = this.#options.env;
    const isExpected = ['E_CLOSED', 'E_UNREACHABLE', 'E_STALE_MAP', 'E_BUSY'].includes(error.code);
    const fields = { peer, code: error.code };
    const text = `Somebody who connected as a daemon was not let in: ${messageOf(error)}`;
    const what = `${hostOfPeer(peer)} ${error.code}`;
    if (isExpected || what === this.#said) log.debug(fields, text);
    else log.warn(fields, text);
    if (!isExpected) this.#said = what;
  }
}
