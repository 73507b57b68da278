/**
 * Carries datagrams between clients and a target. Each client gets a socket of its own towards the target, as a router
 * does it, so that answers find their way back. What clients sent can be kept and sent once more, whenever it hurts.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { SeededRandom } from '../tagged-writer/seeded-random.js';
import { DatagramTrouble, type DatagramFaults, type DatagramTally } from './datagram-faults.js';

const HOST = '127.0.0.1';
const CLIENTS_MAX = 1024;
const DELAYED_MAX = 10_000;
const KEPT_MAX = 20_000;
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;

interface Client {
  readonly socket: Socket;
  readonly port: number;
}

interface Kept {
  readonly client: Client;
  readonly datagram: Buffer;
}

export class DatagramRelay {
  /** Set to keep copies of what clients send, for {@link replay}. */
  isRecording = false;
  readonly #front: Socket;
  readonly #targetPort: number;
  readonly #clients = new Map<number, Client>();
  readonly #kept: Kept[] = [];
  readonly #delayed = new Set<NodeJS.Timeout>();
  readonly #random: SeededRandom;
  #trouble: DatagramTrouble;
  #isClosed = false;

  /** @throws Error if the port is taken */
  static async open(
    port: number,
    targetPort: number,
    random: SeededRandom,
    faults: DatagramFaults,
  ): Promise<DatagramRelay> {
    const front = createSocket({ type: 'udp4', recvBufferSize: SOCKET_BUFFER_BYTES });
    front.bind(port, HOST);
    await once(front, 'listening');
    return new DatagramRelay(front, targetPort, random, faults);
  }

  private constructor(
    front: Socket,
    targetPort: number,
    random: SeededRandom,
    faults: DatagramFaults,
  ) {
    this.#front = front;
    this.#targetPort = targetPort;
    this.#random = random;
    this.#trouble = new DatagramTrouble(faults, random);
    front.on('message', (datagram, from) => this.#fromClient(datagram, from));
  }

  get port(): number {
    return this.#front.address().port;
  }

  /** In both directions, since the faults were set. */
  get tally(): DatagramTally {
    return this.#trouble.tally;
  }

  /** How many are kept for {@link replay}. */
  get keptCount(): number {
    return this.#kept.length;
  }

  /** From now on these, counted from zero. */
  setFaults(faults: DatagramFaults): void {
    this.#trouble = new DatagramTrouble(faults, this.#random);
  }

  /** Sends what was kept once more, in any order, each from where it came. @returns How many */
  replay(): number {
    const order = this.#kept.splice(0);
    for (let at = order.length - 1; at > 0; at -= 1) {
      const other = this.#random.below(at + 1);
      const [a, b] = [order[at], order[other]];
      if (a !== undefined && b !== undefined) [order[at], order[other]] = [b, a];
    }
    for (const { client, datagram } of order) this.#toTarget(client, datagram);
    return order.length;
  }

  close(): void {
    this.#isClosed = true;
    for (const timer of this.#delayed) clearTimeout(timer);
    this.#delayed.clear();
    this.#front.close();
    for (const { socket } of this.#clients.values()) socket.close();
    this.#clients.clear();
  }

  #fromClient(datagram: Buffer, from: RemoteInfo): void {
    const client = this.#clientAt(from.port);
    if (this.isRecording && this.#kept.length < KEPT_MAX)
      this.#kept.push({ client, datagram: Buffer.from(datagram) });
    this.#carry(datagram, (sent) => this.#toTarget(client, sent));
  }

  #clientAt(port: number): Client {
    const known = this.#clients.get(port);
    if (known !== undefined) return known;
    if (this.#clients.size >= CLIENTS_MAX)
      throw new Error(`more than ${CLIENTS_MAX} clients sent datagrams`);
    const socket = createSocket({ type: 'udp4', recvBufferSize: SOCKET_BUFFER_BYTES });
    socket.bind(0, HOST);
    socket.on('message', (datagram) =>
      this.#carry(datagram, (sent) => this.#front.send(sent, port, HOST)),
    );
    socket.on('error', ignoreRefusal);
    const client = { socket, port };
    this.#clients.set(port, client);
    return client;
  }

  #toTarget({ socket }: Client, datagram: Buffer): void {
    // Nobody may be there: then it is lost, as datagrams are.
    socket.send(datagram, this.#targetPort, HOST, () => undefined);
  }

  #carry(datagram: Buffer, send: (datagram: Buffer) => void): void {
    for (const { datagram: sent, afterMs } of this.#trouble.befall(datagram)) {
      if (afterMs === 0) {
        send(sent);
        continue;
      }
      if (this.#delayed.size >= DELAYED_MAX)
        throw new Error(`more than ${DELAYED_MAX} datagrams are delayed`);
      const timer = setTimeout(() => {
        this.#delayed.delete(timer);
        if (!this.#isClosed) send(sent);
      }, afterMs);
      this.#delayed.add(timer);
    }
  }
}

/** @throws Error unless it only says that nobody listens at the target */
function ignoreRefusal(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ECONNREFUSED') throw error;
}

/** The port of something that listens. */
export function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('it listens on a port');
  return address.port;
}
