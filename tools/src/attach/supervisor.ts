/**
 * Stays with an attached device: notices links that die, dials again, and gives the kernel the new sockets. Requests
 * wait in the kernel meanwhile, as long as the dead-connection timeout allows; it ends when the device is detached, by
 * whomever, or when it is asked to and nobody uses the device. If this process dies the device works on, without
 * anybody to redial; the next `attach` goes on from there.
 */
import { messageOf, POLL, pollSockets, StoreError, type Env, type RawSocket } from '@store/core';
import type { NbdUri } from '@store/gateway-nbd';
import { deviceUsers } from './device-users.js';
import { factsChange } from './export-facts.js';
import { LinkLedger } from './link-ledger.js';
import { attachedDevice, devicePath } from './nbd-device.js';
import { dialNbd, type ExportFacts } from './nbd-dial.js';
import { KernelRefusal, readLinkDeaths, type NbdNetlink } from './netlink-client.js';
import { RedialDelay } from './redial-delay.js';

const WATCH_MS = 500;
const DIAL_MS = 5000;
const USERS_EVERY_MS = 1000;
const EINVAL = 22;

/** The device as it was attached. */
export interface Supervised {
  readonly index: number;
  readonly uri: NbdUri;
  readonly identifier: string;
  readonly connections: number;
  readonly deadTimeoutSeconds: number;
  readonly readOnly: boolean;
  readonly facts: Pick<ExportFacts, 'sizeBytes' | 'flags'>;
}

/** How things are, whenever that changes. */
export interface SupervisorState {
  readonly state: 'connected' | 'redialling' | 'stopping';
  readonly alive: number;
  readonly problem: string | null;
  readonly redials: number;
}

export interface SupervisorEnds {
  readonly env: Pick<Env, 'clock' | 'random' | 'log'>;
  readonly netlink: NbdNetlink;
  readonly events: RawSocket;
  /** Called on every change. */
  report(state: SupervisorState): void;
}

export class Supervisor {
  readonly #device: Supervised;
  readonly #ends: SupervisorEnds;
  readonly #pid: number | null;
  readonly #ledger: LinkLedger;
  readonly #delay: RedialDelay;
  #links: RawSocket[];
  #problem: string | null = null;
  #redials = 0;
  #downSinceMs: number | null = null;
  #saidThatRequestsFail = false;
  #nextDialMs = 0;
  #nextUsersMs = 0;
  #stopping = false;
  #users = '';
  #reported = '';

  /** @param links - Our descriptors of the sockets the kernel has; closed when they die or `run` ends. */
  constructor(device: Supervised, links: readonly RawSocket[], ends: SupervisorEnds) {
    this.#device = device;
    this.#links = [...links];
    this.#ends = ends;
    this.#pid = attachedDevice(device.index)?.pid ?? null;
    this.#ledger = new LinkLedger(device.connections);
    this.#delay = new RedialDelay(ends.env.random);
  }

  /** @returns `detached` if somebody else ended the device, `stopped` if we did because we were asked to */
  async run(stop: AbortSignal): Promise<'detached' | 'stopped'> {
    try {
      for (;;) {
        this.#report();
        await this.#watch();
        this.#lookAtTime();
        if (attachedDevice(this.#device.index)?.pid !== this.#pid) return 'detached';
        if (this.#ledger.missing > 0 && this.#now() >= this.#nextDialMs && !(await this.#redial()))
          return 'detached';
        this.#lookAtTime();
        if (stop.aborted && (await this.#stop())) return 'stopped';
      }
    } finally {
      for (const link of this.#links) link.close();
    }
  }

  /** Waits for something to happen, or for the time to do something. */
  async #watch(): Promise<void> {
    const { events } = this.#ends;
    const untilDialMs =
      this.#ledger.missing > 0 ? Math.max(1, this.#nextDialMs - this.#now()) : WATCH_MS;
    const [eventBits = 0, ...linkBits] = await pollSockets(
      [
        { socket: events, events: POLL.IN },
        ...this.#links.map((socket) => ({ socket, events: POLL.RDHUP })),
      ],
      Math.min(WATCH_MS, untilDialMs),
    );
    const dead = this.#links.filter((_, at) => (linkBits[at] ?? 0) !== 0);
    if (dead.length > 0) {
      this.#links = this.#links.filter((link) => !dead.includes(link));
      for (const link of dead) link.close();
      this.#ledger.weSaw(dead.length, this.#now());
    }
    if (eventBits !== 0) {
      const deaths = await readLinkDeaths(events, this.#device.index);
      if (deaths === null) this.#ledger.wordsWereLost();
      else this.#ledger.kernelSaid(deaths);
    }
    const believed = this.#ledger.tick(this.#now());
    if (believed > 0)
      this.#ends.env.log.warn(
        { device: this.#path, links: believed },
        'The kernel does not say that it lost links; redialling all the same',
      );
  }

  /** Dials as often as links are missing. @returns False if the device is not ours any more */
  async #redial(): Promise<boolean> {
    const { log } = this.#ends.env;
    while (this.#ledger.missing > 0) {
      try {
        await this.#replaceOne();
      } catch (error) {
        if (error instanceof KernelRefusal && error.errno === EINVAL) return false; // not set up any more
        if (!(error instanceof StoreError)) throw error;
        if (messageOf(error) !== this.#problem)
          log.warn({ device: this.#path, err: error }, 'Cannot redial yet; going on trying');
        this.#problem = messageOf(error);
        this.#nextDialMs = this.#now() + this.#delay.failed();
        return true;
      }
    }
    this.#delay.succeeded();
    this.#problem = null;
    log.info(
      { device: this.#path, links: this.#links.length, downMs: this.#downMs() },
      'The links are back',
    );
    return true;
  }

  async #replaceOne(): Promise<void> {
    const { uri, index, identifier, facts, readOnly } = this.#device;
    const dialled = await dialNbd(uri, DIAL_MS);
    try {
      const change = factsChange(facts, dialled.facts, readOnly);
      if (change !== null)
        throw new StoreError(
          'E_INVALID',
          `Not reconnected, because ${change}; serve it as it was, or detach ${this.#path} and attach it again`,
        );
      await this.#ends.netlink.reconfigure(index, identifier, [dialled.socket]);
    } catch (error) {
      dialled.socket.close();
      throw error;
    }
    this.#links.push(dialled.socket);
    this.#ledger.replaced();
    this.#redials += 1;
  }

  /** Says when the trouble begins, and when the kernel's patience is over. */
  #lookAtTime(): void {
    const { log } = this.#ends.env;
    if (!this.#ledger.troubled) {
      this.#downSinceMs = null;
      this.#saidThatRequestsFail = false;
      return;
    }
    if (this.#downSinceMs === null) {
      this.#downSinceMs = this.#now();
      log.warn({ device: this.#path, alive: this.#links.length }, 'A link died; redialling');
    }
    const over = this.#downMs() > this.#device.deadTimeoutSeconds * 1000;
    if (over && this.#links.length === 0 && !this.#saidThatRequestsFail) {
      this.#saidThatRequestsFail = true;
      log.error(
        { device: this.#path, deadTimeoutSeconds: this.#device.deadTimeoutSeconds },
        'No link for longer than the dead-connection timeout: the kernel answers requests with errors now',
      );
    }
  }

  /** Detaches unless somebody uses the device. @returns Whether it is detached */
  async #stop(): Promise<boolean> {
    if (this.#now() < this.#nextUsersMs) return false;
    this.#nextUsersMs = this.#now() + USERS_EVERY_MS;
    this.#stopping = true;
    const users = (await deviceUsers(this.#device.index)).join(', ');
    if (users === '') {
      await this.#ends.netlink.disconnect(this.#device.index);
      return true;
    }
    if (users !== this.#users)
      this.#ends.env.log.warn(
        { device: this.#path },
        `It is ${users}: staying until that ends, then detaching; a second signal leaves it attached, unsupervised`,
      );
    this.#users = users;
    return false;
  }

  #report(): void {
    const state: SupervisorState = {
      state: this.#stopping ? 'stopping' : this.#ledger.troubled ? 'redialling' : 'connected',
      alive: this.#links.length,
      problem: this.#problem,
      redials: this.#redials,
    };
    const text = JSON.stringify(state);
    if (text === this.#reported) return;
    this.#reported = text;
    this.#ends.report(state);
  }

  get #path(): string {
    return devicePath(this.#device.index);
  }

  #now(): number {
    return this.#ends.env.clock.now();
  }

  #downMs(): number {
    return this.#downSinceMs === null ? 0 : Math.round(this.#now() - this.#downSinceMs);
  }
}
