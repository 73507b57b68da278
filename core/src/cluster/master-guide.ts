/**
 * The guide of a client whose masters are named: keeps a connection to the one that leads, takes the maps it pushes, and
 * holds a ticket for each pool in use, renewed from half of its time on. With all masters down the client goes on with
 * what it has, until its tickets expire.
 */
import type { ClientKey } from '../auth/client-key.js';
import { momentText } from '../auth/moment.js';
import { TicketFile } from '../auth/ticket-file.js';
import { TICKET_BYTES_MAX } from '../auth/ticket.js';
import { CONTROL, type ControlOp } from '../control/control-ops.js';
import { NO_ANSWER, type ControlChannel, type ControlMessage } from '../control/control-channel.js';
import { MasterLink, type MasterAddress } from '../control/master-link.js';
import type { Env, Timer } from '../env/env.js';
import type { TlsClientContext } from '../env/network.js';
import { decodeMap } from '../map/map-codec.js';
import { MAP_BYTES_MAX } from '../map/map-limits.js';
import { isNewer, MapView } from '../map/map-lookup.js';
import { messageOf, StoreError } from '../util/errors.js';
import { textIn, type JsonFields } from '../wire/json-body.js';
import type { ClusterGuide } from './cluster-guide.js';

export interface MasterGuideOptions {
  readonly env: Env;
  readonly masters: readonly MasterAddress[];
  readonly tls: TlsClientContext | null;
  readonly key: ClientKey | null;
  /** What runs here, for logs: `store-nbd`. */
  readonly name: string;
  /** How long somebody who asks waits for a master. */
  readonly deadlineMs: number;
  readonly defect: (error: unknown) => void;
}

const REFRESH_MS = 1000;
const LOOK_MS = 30_000;
const NOTICE_MS = 1000;
/** Of a ticket's time, when a new one is asked for. */
const RENEW_AFTER = 0.5;

/** A ticket, and when it was got, in monotonic milliseconds: clocks that jump change nothing for who has one. */
interface HeldTicket {
  readonly file: TicketFile;
  readonly renewAt: number;
  /** Of the pool that the map had by that name. */
  readonly poolId: number | undefined;
}

export class MasterGuide implements ClusterGuide {
  readonly #options: MasterGuideOptions;
  readonly #link: MasterLink;
  readonly #tickets = new Map<string, HeldTicket>();
  readonly #asking = new Map<string, Promise<TicketFile>>();
  readonly #watching = new Set<(view: MapView) => void>();
  #view: MapView | null = null;
  #look: Timer | null = null;
  /** That there is no master is worth a word if it lasts. */
  #notice: Timer | null = null;

  /** Finds a leader and gets the map. @throws StoreError why that cannot be done */
  static async open(options: MasterGuideOptions): Promise<MasterGuide> {
    const guide = new MasterGuide(options);
    try {
      await guide.#link.up(options.deadlineMs);
      return guide;
    } catch (error) {
      await guide.close();
      throw error;
    }
  }

  private constructor(options: MasterGuideOptions) {
    this.#options = options;
    const { env, masters, tls, key, name, defect } = options;
    this.#link = new MasterLink({
      env,
      masters,
      entrance: 'listen',
      tls,
      name,
      key,
      payloadMax: MAP_BYTES_MAX,
      events: {
        met: (channel) => this.#met(channel),
        asked: (op, message) => this.#asked(op, message),
        lost: () => {
          if (this.#view === null) return; // whoever waits is told
          this.#notice?.cancel();
          this.#notice = env.timers.after(NOTICE_MS, () => this.#noticeLoss());
        },
        defect,
      },
    });
    this.#lookLater();
  }

  get view(): MapView {
    if (this.#view === null) throw new StoreError('E_UNREACHABLE', 'There is no map yet');
    return this.#view;
  }

  get isConnected(): boolean {
    return this.#link.isUp;
  }

  watch(listener: (view: MapView) => void): () => void {
    this.#watching.add(listener);
    return () => this.#watching.delete(listener);
  }

  async refresh(version: number): Promise<void> {
    if (this.view.map.version > version) return;
    try {
      const ask = { deadlineMs: REFRESH_MS, repeats: true };
      const { payload } = await this.#link.ask(CONTROL.map, { after: version }, ask);
      if (payload.length > 0) this.#take(payload);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#options.env.log.debug({ code: error.code }, `No newer map: ${error.message}`);
    }
  }

  async ticketFor(pool: string): Promise<TicketFile> {
    const held = this.#tickets.get(pool);
    // A pool that was removed and made again is another one.
    if (held === undefined || held.poolId !== this.#idOf(pool)) return this.#askTicket(pool);
    const { clock } = this.#options.env;
    if (clock.now() < held.renewAt) return held.file;
    try {
      return await this.#askTicket(pool);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code === 'E_DENIED') throw error;
      return held.file; // it may still be good
    }
  }

  async createPool(name: string): Promise<void> {
    await this.administer('pool create', { name, dryRun: false });
  }

  /**
   * Has the leader run a command of the administration (see `AdminService` of the master).
   * @returns What it answers, as JSON makes it.
   * @throws StoreError what it says; `E_IN_DOUBT` if the answer was lost and the command changes something
   */
  async administer(command: string, args: JsonFields, isChange = true): Promise<unknown> {
    const { deadlineMs } = this.#options;
    const fields = { ...args, command };
    const ask = { deadlineMs, repeats: !isChange };
    const { payload } = await this.#link.ask(CONTROL.admin, fields, ask);
    return JSON.parse(payload.toString());
  }

  close(): Promise<void> {
    this.#look?.cancel();
    this.#notice?.cancel();
    this.#link.close();
    return Promise.resolve();
  }

  #noticeLoss(): void {
    if (this.#link.isUp) return;
    const { code, message } = this.#link.failure;
    const text = `No master answers, what is open goes on: ${message}`;
    this.#options.env.log.warn({ code }, text);
  }

  /** The map of now, and from now on each that follows. */
  async #met(channel: ControlChannel): Promise<void> {
    const after = this.#view?.map.version ?? 0;
    const { payload } = await channel.ask(CONTROL.map, { after });
    if (payload.length > 0) this.#take(payload);
    else if (this.#view === null) throw new StoreError('E_BAD_FRAME', 'The master sent no map');
  }

  async #asked(op: ControlOp, { payload }: ControlMessage): Promise<ControlMessage> {
    if (op !== CONTROL.map)
      throw new StoreError('E_BAD_FRAME', `A client is not asked for operation ${op}`);
    this.#take(payload);
    return Promise.resolve(NO_ANSWER);
  }

  /** A map that is damaged or of another cluster changes nothing. */
  #take(bytes: Buffer): void {
    const { env } = this.#options;
    const old = this.#view;
    let view: MapView;
    try {
      view = new MapView(decodeMap(bytes));
      if (old !== null && old.map.clusterId !== view.map.clusterId)
        throw new StoreError(
          'E_DENIED',
          `The master is of another cluster now (${view.map.clusterId} instead of ${old.map.clusterId})`,
        );
    } catch (error) {
      env.log.error(
        {},
        `A map from the master was refused, the old one stays: ${messageOf(error)}`,
      );
      throw error;
    }
    if (old !== null && !isNewer(view.map, old.map)) return;
    this.#view = view;
    for (const listener of [...this.#watching]) listener(view);
  }

  #idOf(pool: string): number | undefined {
    return this.#view?.poolNamed(pool)?.id;
  }

  #askTicket(pool: string): Promise<TicketFile> {
    const known = this.#asking.get(pool);
    if (known !== undefined) return known;
    const asking = this.#askTicketNow(pool).finally(() => this.#asking.delete(pool));
    this.#asking.set(pool, asking);
    return asking;
  }

  async #askTicketNow(pool: string): Promise<TicketFile> {
    const { env, deadlineMs } = this.#options;
    const ask = { deadlineMs, repeats: true };
    const poolId = this.#idOf(pool);
    const { fields } = await this.#link.ask(CONTROL.ticket, { pool }, ask);
    const text = textIn(fields, 'ticket', 4 * TICKET_BYTES_MAX);
    const file = TicketFile.parse('The ticket of the master', text);
    const { issued, expires } = file.ticket;
    const renewAt = env.clock.now() + (expires - issued) * RENEW_AFTER * 1000;
    this.#tickets.set(pool, { file, renewAt, poolId });
    return file;
  }

  #lookLater(): void {
    this.#look = this.#options.env.timers.after(LOOK_MS, () => {
      const { clock, log } = this.#options.env;
      for (const [pool, { renewAt, file }] of this.#tickets)
        if (clock.now() >= renewAt)
          this.#askTicket(pool).catch((error: unknown) => {
            const until = momentText(file.ticket.expires);
            log.warn(
              { pool, expires: until },
              `The ticket for pool '${pool}' was not renewed, and expires at ${until}: ${messageOf(error)}`,
            );
          });
      this.#lookLater();
    });
  }
}
