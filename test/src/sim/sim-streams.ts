/**
 * Byte streams between the processes of a simulated cluster, as the connections that ship see them (`Connection`): over a
 * link of the simulated network, cut at random places, and with a system that takes what is written at once or a little
 * later. So clients and daemons read real frames from pieces of any length, and whoever uses memory again before it has
 * left is found: what is taken late is copied late.
 */
import {
  StoreError,
  type Connection,
  type ConnectionEvents,
  type ListenAddress,
  type Network,
} from '@store/core';
import type { SimRandom } from '@store/core/sim';
import { POISON, type StreamMessage } from './sim-messages.js';
import type { LinkEnd, SimNetwork } from './sim-network.js';
import type { SimProcess } from './sim-process.js';
import { exponential } from './sim-world.js';

/** What a socket takes before whoever writes should wait. */
const UNSENT_BYTES_MAX: number = 64 * 1024;
const PIECES_MAX = 3;
const TAKEN_LATE_MS = 0.5;

export class SimConnection implements Connection {
  readonly peer: string;
  readonly descriptor = null;
  readonly #end: LinkEnd;
  readonly #process: SimProcess;
  readonly #random: SimRandom;
  #events: ConnectionEvents | null = null;
  /** Written, and not taken by the system. */
  #unsent: Buffer[] = [];
  #unsentBytes = 0;
  /** Arrived, and not read. */
  #arrived: Buffer[] = [];
  #isPaused = false;
  #isEnding = false;
  #hasPeerEnded = false;
  #isClosed = false;

  constructor(end: LinkEnd, process: SimProcess, random: SimRandom) {
    this.peer = `${end.peer}:1`;
    this.#end = end;
    this.#process = process;
    this.#random = random;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  start(events: ConnectionEvents): void {
    this.#events = events;
    this.#process.later(0, () => this.#read());
  }

  write(parts: readonly Buffer[]): boolean {
    if (this.#isEnding || this.#isClosed) return true;
    const isLate = this.#unsentBytes > 0;
    this.#unsent.push(...parts);
    for (const { length } of parts) this.#unsentBytes += length;
    if (!isLate && this.#random.chance(0.8)) this.#take();
    else if (!isLate)
      this.#process.later(exponential(this.#random, TAKEN_LATE_MS), () => {
        if (this.#isClosed) return;
        this.#take();
        this.#events?.drain();
      });
    return this.#unsentBytes < UNSENT_BYTES_MAX;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#process.later(0, () => this.#read());
  }

  end(): void {
    if (this.#isEnding || this.#isClosed) return;
    this.#isEnding = true;
    if (this.#unsentBytes === 0) this.#sayEnd();
  }

  destroy(): void {
    if (this.#isClosed) return;
    this.#end.close();
    this.#close(null);
  }

  startTls(): never {
    throw noTls();
  }

  startTlsClient(): never {
    throw noTls();
  }

  exportKey(): null {
    return null;
  }

  release(): null {
    return null;
  }

  /** Something has come from the other end. */
  received({ data }: StreamMessage): void {
    if (this.#isClosed) return;
    if (data === null) this.#hasPeerEnded = true;
    else this.#arrived.push(data);
    this.#read();
  }

  /** The link is no more. */
  broken(): void {
    if (!this.#isClosed) this.#close(new Error('read ECONNRESET'));
  }

  /** The system takes what was written. */
  #take(): void {
    const bytes = Buffer.concat(this.#unsent);
    this.#unsent = [];
    this.#unsentBytes = 0;
    const pieces = 1 + this.#random.below(PIECES_MAX);
    for (let [at, left] = [0, pieces]; at < bytes.length; left -= 1) {
      const end = left <= 1 ? bytes.length : at + 1 + this.#random.below(bytes.length - at);
      this.#say(bytes.subarray(at, end));
      at = end;
    }
    if (this.#isEnding) this.#sayEnd();
  }

  #say(data: Buffer | null): void {
    const message: StreamMessage = { type: 'stream', data };
    this.#end.send(message);
  }

  #sayEnd(): void {
    this.#say(null);
    if (this.#hasPeerEnded) this.destroy();
  }

  #read(): void {
    if (this.#arrived.length > 0 && this.#mayRead()) {
      const chunk = Buffer.concat(this.#arrived);
      this.#arrived = [];
      // Its memory is used again.
      if (this.#events?.data(chunk) === true) chunk.fill(POISON);
    }
    // While it was read the connection may have been paused, or closed.
    if (!this.#hasPeerEnded || !this.#mayRead()) return;
    this.#hasPeerEnded = false;
    this.#events?.end();
    if (this.#isEnding) this.destroy();
  }

  #mayRead(): boolean {
    return this.#events !== null && !this.#isPaused && !this.#isClosed;
  }

  #close(error: Error | null): void {
    this.#isClosed = true;
    this.#unsent = [];
    this.#unsentBytes = 0;
    this.#arrived = [];
    this.#process.later(0, () => this.#events?.closed(error));
  }
}

interface Dialling {
  readonly made: (end: LinkEnd) => void;
  readonly failed: (error: StoreError) => void;
}

/** The network as a client of daemons sees it. */
export class SimDialler implements Network {
  readonly #name: string;
  readonly #network: SimNetwork;
  readonly #process: SimProcess;
  readonly #random: SimRandom;
  /** By machine, in order. */
  readonly #dialling = new Map<string, Dialling[]>();
  readonly #connections = new Map<LinkEnd, SimConnection>();

  constructor(name: string, network: SimNetwork, process: SimProcess, random: SimRandom) {
    this.#name = name;
    this.#network = network;
    this.#process = process;
    this.#random = random;
  }

  connect(address: ListenAddress, { timeoutMs }: { timeoutMs: number }): Promise<Connection> {
    const host = 'host' in address ? address.host : '';
    return new Promise((resolve, reject) => {
      let isOver = false;
      const over = (): boolean => {
        const was = isOver;
        isOver = true;
        timer.cancel();
        return was;
      };
      const timer = this.#process.timers.after(timeoutMs, () => {
        if (!over()) reject(unreachable(host));
      });
      const made = (end: LinkEnd): void => {
        if (over()) {
          end.close();
          return;
        }
        const connection = new SimConnection(end, this.#process, this.#random);
        this.#connections.set(end, connection);
        resolve(connection);
      };
      const failed = (error: StoreError): void => {
        if (!over()) reject(error);
      };
      const list = this.#dialling.get(host) ?? [];
      this.#dialling.set(host, list);
      list.push({ made, failed });
      this.#network.connect(this.#name, host);
    });
  }

  linked(end: LinkEnd): void {
    const dialling = this.#dialling.get(end.peer)?.shift();
    if (dialling === undefined) end.close();
    else dialling.made(end);
  }

  refused(peer: string): void {
    this.#dialling.get(peer)?.shift()?.failed(unreachable(peer));
  }

  unlinked(end: LinkEnd): void {
    this.#connections.get(end)?.broken();
    this.#connections.delete(end);
  }

  received(end: LinkEnd, message: StreamMessage): void {
    this.#connections.get(end)?.received(message);
  }

  listen(): never {
    throw nothingElse();
  }

  listenOn(): never {
    throw nothingElse();
  }

  adopt(): never {
    throw nothingElse();
  }

  openDatagrams(): never {
    throw nothingElse();
  }
}

function unreachable(host: string): StoreError {
  return new StoreError('E_UNREACHABLE', `Nobody answers at ${host}`);
}

function noTls(): StoreError {
  return new StoreError('E_SYSTEM', 'Streams of the simulator are in the clear');
}

function nothingElse(): StoreError {
  return new StoreError('E_SYSTEM', 'This process of the simulator only connects');
}
