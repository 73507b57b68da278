/**
 * Links between the processes of a simulated cluster, as TCP makes them: what is sent over one arrives in order while it
 * lasts, and when it breaks all that is under way is lost. Each end learns of a break by itself: at once, late, or not at
 * all until something else tells it. Between two machines each direction has its own delay and can be blocked alone;
 * what is blocked waits, as it would be sent again and again, unless its link breaks meanwhile.
 *
 * A message is copied when it *arrives*, not when it is sent: whoever lends buffers and changes them too early is found.
 */
import type { SimRandom } from '@store/core/sim';
import { invariant } from '@store/core';
import type { SimProcess } from './sim-process.js';
import { exponential, type SimWorld } from './sim-world.js';

/** A process as the network sees it. */
export interface NetworkUser {
  readonly process: SimProcess;
  /** Who it proves to be when a link is made; empty: nobody asks. */
  readonly identity: string;
  linked(end: LinkEnd): void;
  unlinked(end: LinkEnd): void;
  received(end: LinkEnd, message: SimMessage): void;
  /** A link that was asked for could not be made. */
  refused(peer: string): void;
}

/** What travels. The kinds that there are belong to those who send them. */
export interface SimMessage {
  readonly type: string;
}

export type CopyMessage = (message: SimMessage) => SimMessage | null;

/** May see, change, hold back (null: lose) every message: for planted bugs. */
export type MessageFilter = (from: string, to: string, message: SimMessage) => SimMessage | null;

/** How one direction between two machines is. */
interface Path {
  readonly minMs: number;
  readonly meanMs: number;
  /** Nothing arrives before that. */
  blockedUntil: number;
}

/** One end of a link, as one process holds it. */
export class LinkEnd {
  readonly peer: string;
  /** Of the process at the other end. */
  readonly peerIdentity: string;
  readonly user: NetworkUser;
  isOpen = true;
  /** The other end; what is sent goes there. */
  other: LinkEnd | null = null;
  /** The link is no more, whether or not this end knows. */
  isBroken = false;
  readonly #network: SimNetwork;
  /** Nothing sent here arrives before that. */
  floor = 0;

  constructor(network: SimNetwork, user: NetworkUser, peer: string, peerIdentity: string) {
    this.#network = network;
    this.user = user;
    this.peer = peer;
    this.peerIdentity = peerIdentity;
  }

  /** Lost, without a word, if the link is broken. */
  send(message: SimMessage): void {
    if (!this.isOpen || this.isBroken || this.other === null) return;
    this.floor = this.#network.carry(this, this.other, message, this.floor);
  }

  /** This end is closed by its owner; the other one learns of it like of anything that is sent. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#network.closed(this);
  }
}

/** When the ends of a broken link learn of it: milliseconds, null: not from the network. */
export interface BreakNews {
  readonly one: number | null;
  readonly other: number | null;
}

const HANDSHAKE_TIMEOUT_MS = 800;
/** TCP gives up a link over which nothing gets through; half-open ones are found by then. */
const SILENT_LINK_MS = 12_000;

export class SimNetwork {
  readonly world: SimWorld;
  filter: MessageFilter | null = null;
  /** Messages delivered. */
  deliveredCount = 0;
  readonly #random: SimRandom;
  readonly #copy: CopyMessage;
  readonly #users = new Map<string, NetworkUser>();
  readonly #ends = new Map<string, Set<LinkEnd>>();
  readonly #paths = new Map<string, Path>();
  /** Delays are so much longer than on average. */
  readonly #slowness: number;

  constructor(world: SimWorld, copy: CopyMessage) {
    this.world = world;
    this.#copy = copy;
    this.#random = world.fork('network');
    this.#slowness = [0.05, 0.2, 1, 3][this.#random.below(4)] ?? 1;
  }

  /** A process has begun, and can be reached. */
  attach(name: string, user: NetworkUser): void {
    invariant(!this.#users.has(name), 'a machine runs one process of a name');
    this.#users.set(name, user);
    this.#ends.set(name, new Set());
  }

  /**
   * A process is gone.
   * @param isSilent - With its machine: nobody tells the others.
   */
  detach(name: string, isSilent: boolean): void {
    this.#users.delete(name);
    for (const end of this.#ends.get(name) ?? []) {
      end.isOpen = false;
      const late = isSilent
        ? 1000 + this.#random.below(SILENT_LINK_MS)
        : this.#delay(name, end.peer);
      this.#cut(end, { one: null, other: late });
    }
    this.#ends.delete(name);
  }

  /**
   * Asks for a link. Both ends hear of it when it is made.
   * @param disk - What the identity of the other end must begin with.
   */
  connect(from: string, to: string, disk = ''): void {
    const user = this.#users.get(from);
    if (user === undefined) return;
    const isBlocked = this.#isBlocked(from, to) || this.#isBlocked(to, from);
    const { process } = user;
    if (isBlocked) {
      process.later(HANDSHAKE_TIMEOUT_MS, () => user.refused(to));
      return;
    }
    this.world.scheduler.at(this.#delay(from, to), () => {
      const peer = this.#users.get(to);
      if (this.#users.get(from) !== user) return;
      if (peer?.identity.startsWith(disk) !== true || peer.process.host.isStopped) {
        const ms =
          peer?.process.host.isStopped !== true ? this.#delay(to, from) : HANDSHAKE_TIMEOUT_MS;
        process.later(ms, () => user.refused(to));
        return;
      }
      const there = new LinkEnd(this, peer, from, user.identity);
      const here = new LinkEnd(this, user, to, peer.identity);
      there.other = here;
      here.other = there;
      this.#ends.get(to)?.add(there);
      this.#ends.get(from)?.add(here);
      this.world.fold(from.length + to.length * 16);
      if (this.world.isTraced) this.world.trace(to, `linked with ${from}`);
      // Until this arrives only the other end knows, and nothing it sends comes before.
      const replyMs = this.#delay(to, from);
      there.floor = this.world.now + replyMs;
      process.later(replyMs, () => {
        if (here.isBroken) user.refused(to);
        else if (here.isOpen) user.linked(here);
      });
      peer.process.run(() => peer.linked(there));
    });
  }

  /** @internal for `LinkEnd`: @returns when it arrives */
  carry(from: LinkEnd, to: LinkEnd, sent: SimMessage, after: number): number {
    const [source, target] = [to.peer, from.peer];
    const filtered = this.filter === null ? sent : this.filter(source, target, sent);
    if (filtered === null) return after;
    const path = this.#path(source, target);
    const now = this.world.now;
    const arrival = Math.max(
      Math.max(now, path.blockedUntil) + this.#delay(source, target),
      after + 0.000_01,
    );
    this.world.scheduler.at(arrival - now, () => this.#arrive(to, filtered));
    return arrival;
  }

  /** @internal for `LinkEnd` */
  closed(end: LinkEnd): void {
    this.#ends.get(end.other?.peer ?? '')?.delete(end);
    this.#cut(end, { one: null, other: this.#delay(end.other?.peer ?? '', end.peer) });
  }

  /** Breaks the links between two machines, if there are any. @returns how many */
  breakLinks(one: string, other: string, news: BreakNews): number {
    let count = 0;
    for (const end of [...(this.#ends.get(one) ?? [])])
      if (end.peer === other && !end.isBroken) {
        this.#cut(end, news);
        count += 1;
      }
    return count;
  }

  /** Nothing goes from one machine to the other for so long. */
  block(from: string, to: string, ms: number): void {
    const path = this.#path(from, to);
    path.blockedUntil = Math.max(path.blockedUntil, this.world.now + ms);
  }

  /** All directions are free again. What was held back arrives when it would have. */
  unblockAll(): void {
    for (const path of this.#paths.values()) path.blockedUntil = 0;
  }

  /** Names of all who can be reached now. */
  names(): string[] {
    return [...this.#users.keys()];
  }

  #arrive(to: LinkEnd, message: SimMessage): void {
    if (to.isBroken || !to.isOpen) return;
    const { process } = to.user;
    if (process.host.isStopped) {
      process.later(0, () => this.#deliver(to, message));
      return;
    }
    this.#deliver(to, message);
  }

  #deliver(to: LinkEnd, message: SimMessage): void {
    if (!to.isOpen || !to.user.process.isAlive) return;
    this.deliveredCount += 1;
    this.world.fold(message.type.length * 131 + message.type.charCodeAt(0));
    const copy = this.#copy(message);
    if (copy === null) return;
    to.user.process.run(() => to.user.received(to, copy));
  }

  #cut(end: LinkEnd, { one, other }: BreakNews): void {
    const peer = end.other;
    end.isBroken = true;
    this.#learns(end, one);
    if (peer === null) return;
    peer.isBroken = true;
    this.#learns(peer, other);
  }

  #learns(end: LinkEnd, ms: number | null): void {
    if (!end.isOpen) return;
    end.user.process.later(ms ?? SILENT_LINK_MS, () => {
      if (!end.isOpen) return;
      end.isOpen = false;
      this.#ends.get(end.other?.peer ?? '')?.delete(end);
      if (this.world.isTraced) this.world.trace(end.other?.peer ?? '', `lost link to ${end.peer}`);
      end.user.unlinked(end);
    });
  }

  #isBlocked(from: string, to: string): boolean {
    return this.#path(from, to).blockedUntil > this.world.now;
  }

  #delay(from: string, to: string): number {
    const { minMs, meanMs } = this.#path(from, to);
    return minMs + exponential(this.#random, meanMs);
  }

  #path(from: string, to: string): Path {
    const key = `${from}>${to}`;
    let path = this.#paths.get(key);
    if (path === undefined) {
      const meanMs = this.#slowness * (0.1 + this.#random.below(100) / 100);
      path = { minMs: 0.02 + this.#random.below(20) / 100, meanMs, blockedUntil: 0 };
      this.#paths.set(key, path);
    }
    return path;
  }
}
