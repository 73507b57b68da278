/** Stands between a client and a daemon, and cuts, stops or swallows what goes through: a broken network for tests. */
// eslint-disable-next-line no-restricted-imports -- equipment of tests: it stands for the network between two machines
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { ListenAddress } from '@store/core';

export class CutProxy {
  /** Where clients connect. */
  readonly address: { host: string; port: number };
  /** Where they get to. */
  to: ListenAddress;
  /** What the daemon sends is swallowed: answers are lost. */
  losesAnswers = false;
  /** Nothing goes through, in either direction, and nobody is told. */
  isFrozen = false;
  #isGarbling = false;
  /** As `isFrozen`, of one connection alone: the first one is number 1; 0: of none. */
  frozenNumber = 0;
  /** Who connects is not let through. */
  isDown = false;
  connections = 0;
  /** What clients sent, all of it. */
  readonly fromClients: Buffer[] = [];
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();

  private constructor(server: Server, address: { host: string; port: number }, to: ListenAddress) {
    this.#server = server;
    this.address = address;
    this.to = to;
    server.on('connection', (client: Socket) => this.#accept(client));
  }

  static async open(to: ListenAddress): Promise<CutProxy> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('it has a port');
    return new CutProxy(server, { host: '127.0.0.1', port: address.port }, to);
  }

  /** Breaks all connections. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#pairs.clear();
  }

  /** What a client sends next arrives as something else. */
  garble(): void {
    this.#isGarbling = true;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: Socket): void {
    this.connections += 1;
    const number = this.connections;
    const isFrozen = (): boolean => this.isFrozen || this.frozenNumber === number;
    client.on('error', () => undefined); // the test breaks it
    if (this.isDown) {
      client.destroy();
      return;
    }
    const { to } = this;
    const daemon = 'path' in to ? connect(to.path) : connect({ ...to, noDelay: true });
    daemon.on('error', () => undefined); // likewise
    const pair = [client, daemon] as const;
    this.#pairs.add(pair);
    client.on('data', (chunk: Buffer) => {
      this.fromClients.push(Buffer.from(chunk));
      if (this.#isGarbling) chunk.fill(0xdb);
      this.#isGarbling = false;
      if (!isFrozen()) daemon.write(chunk);
    });
    daemon.on('data', (chunk: Buffer) => {
      if (!isFrozen() && !this.losesAnswers) client.write(chunk);
    });
    const over = (): void => {
      if (!this.#pairs.delete(pair) || isFrozen()) return;
      client.destroy();
      daemon.destroy();
    };
    client.on('close', over);
    daemon.on('close', over);
  }
}
