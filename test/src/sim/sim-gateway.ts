/**
 * A gateway of a simulated cluster: the client that ships (`ClusterStore`, with all below it down to the bytes of its frames)
 * and the image layer on it. Only what speaks with the masters is a model.
 */
import { ClusterStore, StoreError, type ClusterGuide, type Env, type MapView } from '@store/core';
import type { SimRandom } from '@store/core/sim';
import { viewOf } from './sim-daemon.js';
import type { ClusterMessage } from './sim-messages.js';
import type { LinkEnd, NetworkUser, SimMessage, SimNetwork } from './sim-network.js';
import { SimProcess, type SimHost } from './sim-process.js';
import { SimDialler } from './sim-streams.js';
import { traceLog, type SimWorld } from './sim-world.js';

const REDIAL_MS = 150;
/** Somebody who asks for a newer map waits so long for one. */
const REFRESH_MS = 200;

export interface SimGatewayOptions {
  readonly world: SimWorld;
  readonly network: SimNetwork;
  readonly host: SimHost;
  readonly masters: readonly string[];
  /** See `ClusterStoreOptions`. */
  readonly deadlineMs: number;
  /** Called for each new process, when it has a map. */
  readonly ready: (process: GatewayProcess) => void;
}

/** A gateway over its whole life. */
export class SimGateway {
  readonly name: string;
  readonly options: SimGatewayOptions;
  /** Null: it is down. */
  process: GatewayProcess | null = null;
  #startCount = 0;

  constructor(options: SimGatewayOptions) {
    this.name = options.host.name;
    this.options = options;
  }

  start(): void {
    if (this.process !== null) return;
    this.#startCount += 1;
    const { host, world } = this.options;
    host.wake();
    this.process = new GatewayProcess(this, world.fork(`${this.name} ${this.#startCount}`));
  }

  /** kill -9 */
  kill(): void {
    const { process } = this;
    if (process === null) return;
    this.process = null;
    process.process.end();
    this.options.network.detach(this.name, false);
    this.options.world.trace(this.name, 'was killed');
  }
}

export class GatewayProcess implements NetworkUser {
  readonly gateway: SimGateway;
  readonly process: SimProcess;
  readonly identity = '';
  readonly random: SimRandom;
  readonly env: Env;
  readonly guide: SimGuide;
  readonly #dialler: SimDialler;
  #store: ClusterStore | null = null;

  constructor(gateway: SimGateway, random: SimRandom) {
    const { world, network, host, masters, deadlineMs, ready } = gateway.options;
    this.gateway = gateway;
    this.random = random;
    this.process = new SimProcess(host);
    this.#dialler = new SimDialler(gateway.name, network, this.process, random);
    this.env = {
      ...{
        clock: this.process.clock,
        timers: this.process.timers,
        log: traceLog(world, gateway.name),
      },
      random: { bytes: (count) => random.bytes(count) },
      network: this.#dialler,
      openDisk: () => {
        throw new StoreError('E_SYSTEM', 'A gateway has no disk');
      },
    };
    network.attach(gateway.name, this);
    world.trace(gateway.name, 'started');
    const dial = (master: string): void => network.connect(gateway.name, master);
    this.guide = new SimGuide(this.process, masters, dial, () => {
      const { env, guide } = this;
      const facts = { name: gateway.name, tls: null, deadlineMs, datagramBytes: 0 };
      this.#store = new ClusterStore({ env, guide, ...facts });
      ready(this);
    });
  }

  get name(): string {
    return this.gateway.name;
  }

  get store(): ClusterStore {
    if (this.#store === null) throw new StoreError('E_UNREACHABLE', 'There is no map yet');
    return this.#store;
  }

  /** Requests that were not answered. */
  get openCount(): number {
    return this.#store?.openCount ?? 0;
  }

  linked(end: LinkEnd): void {
    if (end.peer.startsWith('m')) this.guide.linked(end);
    else this.#dialler.linked(end);
  }

  refused(peer: string): void {
    if (peer.startsWith('m')) this.guide.lost(null);
    else this.#dialler.refused(peer);
  }

  unlinked(end: LinkEnd): void {
    if (end.peer.startsWith('m')) this.guide.lost(end);
    else this.#dialler.unlinked(end);
  }

  received(end: LinkEnd, message: SimMessage): void {
    const known = message as ClusterMessage; // nobody sends anything else
    if (known.type === 'stream') this.#dialler.received(end, known);
    else this.guide.received(end, known);
  }
}

/** What a gateway knows of its cluster. */
class SimGuide implements ClusterGuide {
  readonly #process: SimProcess;
  readonly #masters: readonly string[];
  readonly #dial: (master: string) => void;
  readonly #begun: () => void;
  readonly #watching = new Set<(view: MapView) => void>();
  readonly #waiting = new Set<() => void>();
  #view: MapView | null = null;
  #master = 0;
  #end: LinkEnd | null = null;

  constructor(
    process: SimProcess,
    masters: readonly string[],
    dial: (master: string) => void,
    begun: () => void,
  ) {
    this.#process = process;
    this.#masters = masters;
    this.#dial = dial;
    this.#begun = begun;
    process.timers.after(0, () => this.#dialNext());
  }

  get isConnected(): boolean {
    return this.#end !== null;
  }

  get view(): MapView {
    if (this.#view === null) throw new StoreError('E_UNREACHABLE', 'There is no map yet');
    return this.#view;
  }

  watch(listener: (view: MapView) => void): () => void {
    this.#watching.add(listener);
    return () => this.#watching.delete(listener);
  }

  refresh(version: number): Promise<void> {
    if (this.view.map.version > version) return Promise.resolve();
    this.#ask();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
      this.#process.timers.after(REFRESH_MS, done);
    });
  }

  ticketFor(): Promise<null> {
    return Promise.resolve(null);
  }

  createPool(): Promise<never> {
    return Promise.reject(new StoreError('E_DENIED', 'The masters of the simulator make the pool'));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  linked(end: LinkEnd): void {
    this.#end?.close();
    this.#end = end;
    this.#ask();
  }

  /** @param end - Null: there is none yet */
  lost(end: LinkEnd | null): void {
    if (end !== null && end !== this.#end) return;
    this.#end = null;
    this.#process.timers.after(REDIAL_MS, () => this.#dialNext());
  }

  received(end: LinkEnd, message: ClusterMessage): void {
    if (message.type === 'map') this.#mapIs(viewOf(message.bytes));
    else if (message.type === 'notLeader') {
      end.close();
      this.lost(end);
    }
  }

  #ask(): void {
    const version = this.#view?.map.version ?? 0;
    this.#end?.send({ type: 'refresh', version } as SimMessage);
  }

  #dialNext(): void {
    if (this.#end !== null) return;
    this.#master += 1;
    const name = this.#masters[this.#master % this.#masters.length];
    if (name !== undefined) this.#dial(name);
  }

  #mapIs(view: MapView): void {
    const before = this.#view;
    if (before !== null && view.map.version <= before.map.version) return;
    if (view.map.pools.length === 0) return;
    this.#view = view;
    if (before === null) this.#begun();
    for (const listener of this.#watching) listener(view);
    for (const done of [...this.#waiting]) done();
  }
}
