/** Daemons for tests of the links between them: nothing but the links, and what was told by them. */
import {
  BufferPool,
  MapView,
  PROTOCOL_VERSION,
  realEnv,
  silentLog,
  type Connection,
  type ListenAddress,
  type MapDaemon,
} from '@store/core';
import { until } from '../../server/testing/until.js';
import type { PeerMessage } from '../../replication/peer-message.js';
import { PeerConnection } from '../peer-connection.js';
import { encodeMeet, type PeerGreeting } from '../peer-greeting.js';
import { PeerLinks } from '../peer-links.js';
import type { PeerSecurity } from '../secure-connection.js';

const env = realEnv(silentLog);
export const CLUSTER: string = 'c'.repeat(32);

export function startIdOf(daemon: number, start: number): string {
  return (daemon * 1000 + start).toString(16).padStart(32, '0');
}

export function diskIdOf(daemon: number): string {
  return daemon.toString(16).padStart(32, 'd');
}

/** What all daemons of a test know. */
export class TestMap {
  #version = 1;
  #view: MapView;

  constructor() {
    this.#view = this.#newView([]);
  }

  get view(): MapView {
    return this.#view;
  }

  /** A daemon is there, or comes again, at that address. */
  has(id: number, start: number, address: string): void {
    const daemon: MapDaemon = {
      ...{ id, diskId: diskIdOf(id), startId: startIdOf(id, start) },
      ...{ address: '127.0.0.1:1', peerAddress: address, host: 'host', rack: 'rack' },
      ...{ weight: 1, membership: 'in' },
    };
    const others = this.#view.map.daemons.filter((other) => other.id !== id);
    this.#view = this.#newView([...others, daemon]);
  }

  #newView(daemons: readonly MapDaemon[]): MapView {
    this.#version += 1;
    return new MapView({
      ...{ clusterId: CLUSTER, version: this.#version, daemons, pools: [] },
      ...{ blockedClients: [], blockedTickets: [] },
    });
  }
}

export interface TestPeerOptions {
  readonly start?: number;
  readonly security?: PeerSecurity;
  readonly clusterId?: string;
}

const CLEAR: PeerSecurity = { tls: null, insecure: false };

export class TestPeer {
  readonly links: PeerLinks;
  readonly id: number;
  readonly startId: string;
  /** `up 2`, `down 2`, in order. */
  readonly told: string[] = [];
  readonly received: PeerMessage[] = [];
  readonly defects: unknown[] = [];
  /** What is done with a message, beside noting it. */
  took: (from: number, message: PeerMessage) => void = () => undefined;
  address = '';

  private constructor(map: TestMap, id: number, options: TestPeerOptions) {
    const { start = 1, security = CLEAR, clusterId = CLUSTER } = options;
    this.id = id;
    this.startId = startIdOf(id, start);
    const self = { clusterId, daemon: id, diskId: diskIdOf(id), startId: this.startId };
    this.links = new PeerLinks({
      env,
      security,
      self: () => self,
      view: () => map.view,
      defect: (error) => this.defects.push(error),
      poison: true,
    });
    this.links.start({
      up: (daemon, startId) => {
        if (startId !== map.view.daemonById(daemon)?.startId) this.defects.push('another start');
        this.told.push(`up ${daemon}`);
      },
      down: (daemon) => this.told.push(`down ${daemon}`),
      received: (daemon, _startId, message) => {
        if (this.told.at(-1) === `down ${daemon}`) this.defects.push('a message without a link');
        this.received.push(message);
        this.took(daemon, message);
      },
    });
  }

  /** A daemon that listens, and is in the map. */
  static async open(map: TestMap, id: number, options: TestPeerOptions = {}): Promise<TestPeer> {
    const peer = new TestPeer(map, id, options);
    const bound = await peer.links.listen({ host: '127.0.0.1', port: 0 });
    if (!('host' in bound)) throw new Error('it listens on TCP');
    peer.address = `${bound.host}:${bound.port}`;
    map.has(id, options.start ?? 1, peer.address);
    return peer;
  }

  get listening(): { host: string; port: number } {
    const [host = '', port] = this.address.split(':');
    return { host, port: Number(port) };
  }

  send(daemon: number, message: PeerMessage): void {
    this.links.send(daemon, message);
  }

  want(...daemons: number[]): void {
    this.links.want(new Set(daemons));
  }

  async isUp(daemon: number, ms = 5000): Promise<void> {
    await until(
      () => this.told.at(-1) === `up ${daemon}`,
      `${this.id} has a link to ${daemon}`,
      ms,
    );
  }

  async isDown(daemon: number, ms = 5000): Promise<void> {
    await until(
      () => this.told.at(-1) === `down ${daemon}`,
      `${this.id} has no link to ${daemon}`,
      ms,
    );
  }

  close(): Promise<void> {
    return this.links.close();
  }
}

/** Says a greeting of our own making. @returns status of the answer; -1: the connection was closed */
export async function greet(
  address: ListenAddress,
  greeting: Partial<PeerGreeting>,
  change: (frame: Buffer) => void = () => undefined,
): Promise<{ status: number; body: string }> {
  const connection = await env.network.connect(address, { timeoutMs: 2000 });
  return meet(connection, greeting, change);
}

export function meet(
  connection: Connection,
  greeting: Partial<PeerGreeting>,
  change: (frame: Buffer) => void = () => undefined,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve) => {
    const pool = new BufferPool(0, { poison: false });
    const one = new PeerConnection(connection, 'dials', pool, {
      met: ({ status }, body) => resolve({ status, body: body.toString() }),
      received: () => undefined,
      pulse: () => undefined,
      closed: (error) => resolve({ status: -1, body: error.message }),
      defect: (error) => resolve({ status: -2, body: String(error) }),
    });
    const frame = encodeMeet({
      ...{ versionMin: PROTOCOL_VERSION, versionMax: PROTOCOL_VERSION, channel: 'control' },
      ...{ clusterId: CLUSTER, daemon: 1, diskId: diskIdOf(1), startId: startIdOf(1, 1) },
      ...{ wanted: 2, wantedStart: startIdOf(2, 1), linkId: 'f'.repeat(32) },
      ...greeting,
    });
    change(frame);
    one.write(frame);
  });
}
