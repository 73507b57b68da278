/**
 * A bad network between clients and a daemon on this machine, in the test's own process: one port of 127.0.0.1 that
 * forwards TCP and UDP to the daemon's, since a daemon takes datagrams only from the host its connection comes from, on
 * the port where it listens. All it does follows from a seed, and is counted.
 */
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import type { HasTeardown } from '../host/temp-folder.js';
import { SeededRandom } from '../tagged-writer/seeded-random.js';
import type { DatagramFaults } from './datagram-faults.js';
import { DatagramRelay, portOf } from './datagram-relay.js';
import { StreamRelay, type Cut, type StreamFaults } from './stream-relay.js';

const HOST = '127.0.0.1';
const PORT_TRIES = 20;

export interface FaultProxyOptions {
  /** Of the daemon, on 127.0.0.1. */
  readonly targetPort: number;
  readonly seed: number;
  readonly streams?: StreamFaults;
  readonly datagrams?: DatagramFaults;
}

export class FaultProxy {
  readonly datagrams: DatagramRelay;
  /** For connections that are made from now on. */
  streamFaults: StreamFaults;
  /** Newcomers are turned away. */
  isRefusing = false;
  connectionCount = 0;
  cutCount = 0;
  readonly #server: Server;
  readonly #random: SeededRandom;
  readonly #targetPort: number;
  readonly #relays = new Set<StreamRelay>();

  /** Listens; closed with the test. */
  static async start(t: HasTeardown, options: FaultProxyOptions): Promise<FaultProxy> {
    const random = new SeededRandom(options.seed);
    for (let tries = 1; ; tries += 1) {
      const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
      server.listen(0, HOST);
      await once(server, 'listening');
      const port = portOf(server.address());
      try {
        const { targetPort, datagrams = {} } = options;
        const relay = await DatagramRelay.open(port, targetPort, random, datagrams);
        const proxy = new FaultProxy(server, relay, random, options);
        t.teardown(() => proxy.close());
        return proxy;
      } catch (error) {
        server.close();
        if (tries >= PORT_TRIES) throw error; // else another one has the port for UDP: take the next
      }
    }
  }

  private constructor(
    server: Server,
    datagrams: DatagramRelay,
    random: SeededRandom,
    { targetPort, streams = {} }: FaultProxyOptions,
  ) {
    this.datagrams = datagrams;
    this.streamFaults = streams;
    this.#server = server;
    this.#random = random;
    this.#targetPort = targetPort;
    server.on('connection', (client) => {
      if (this.isRefusing) {
        client.resetAndDestroy();
        return;
      }
      this.connectionCount += 1;
      const relay: StreamRelay = new StreamRelay(client, this.#targetPort, {
        faults: this.streamFaults,
        random: this.#random,
        ended: () => {
          this.#relays.delete(relay);
          if (relay.wasCut) this.cutCount += 1;
        },
      });
      this.#relays.add(relay);
    });
  }

  /** For TCP and UDP. */
  get port(): number {
    return this.datagrams.port;
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: HOST, port: this.port };
  }

  /** Ends all connections now. */
  cutAll(how: Cut): void {
    for (const relay of this.#relays) relay.cut(how);
  }

  /** Nothing goes through the connections there are, until {@link resume}. New ones work. */
  stall(): void {
    for (const relay of this.#relays) relay.isStalled = true;
  }

  /** What was held back goes on. */
  resume(): void {
    for (const relay of this.#relays) relay.isStalled = false;
  }

  async close(): Promise<void> {
    this.cutAll('reset');
    this.datagrams.close();
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }
}
