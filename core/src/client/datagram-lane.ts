/**
 * Small requests as datagrams. Each is sent again until its answer comes, less and less often; the daemon runs it once,
 * however often it arrives. How many are under way adapts to what the network carries: one more for each round that went
 * well, half after a loss (as TCP does it, RFC 5681).
 *
 * What does not fit (the request, or the answer to it) is not taken, and goes over the connection. Networks that carry no
 * datagrams, or none that long, are common: whoever gets no answer for long says so (`broken`).
 */
import {
  DATAGRAM_HEADER_BYTES,
  DATAGRAM_TRAILER_BYTES_MAX,
  type DatagramOpener,
  type DatagramSealer,
} from '../auth/datagram-header.js';
import { deriveDatagramKeys } from '../auth/datagram-keys.js';
import { PlainOpener, PlainSealer } from '../auth/datagram-plain.js';
import { Opener, Sealer } from '../auth/datagram-seal.js';
import type { Env, Timer } from '../env/env.js';
import type { DatagramAddress, DatagramSocket } from '../env/network.js';
import { StoreError } from '../util/errors.js';
import { pieceCount } from '../util/piece-checks.js';
import {
  checkBody,
  emptyHeader,
  HEADER_BYTES,
  readHeader,
  type FrameHeader,
} from '../wire/frame-header.js';
import type { BeginAnswer } from '../wire/greeting.js';
import { objectRequestBytes } from '../wire/object-request.js';
import { OP } from '../wire/ops.js';
import { PROTOCOL_VERSION } from '../wire/wire-limits.js';
import type { ClientRequest, Flight } from './client-request.js';
import type { ClientCounters } from './daemon-client.js';
import type { SharedKeys } from './daemon-link.js';
import { RequestEncoder } from './request-encoder.js';

const TICK_MS = 5;
const RESEND_MS_MIN = 20;
const RESEND_MS_MAX = 1000;
/** What was sent so often (about 5 s) does not get through, or its answer does not. */
const TRIES_MAX = 8;
const WINDOW_MIN = 2;
const WINDOW_FIRST = 16;
const WINDOW_MAX = 256;
const SMALL: ReadonlySet<number> = new Set([
  ...[OP.read, OP.write, OP.zero, OP.discard, OP.flush],
  ...[OP.prefetch, OP.stat, OP.compareAndSwap, OP.delete],
]);

export interface LaneOptions {
  readonly address: { readonly host: string; readonly port: number };
  readonly begin: BeginAnswer;
  readonly keys: SharedKeys | null;
  readonly counters: ClientCounters;
  /** Somebody still waits for the request. */
  readonly isOpen: (request: ClientRequest) => boolean;
  readonly floor: () => number;
  readonly target: (header: FrameHeader) => Buffer | null;
  readonly answered: (header: FrameHeader, body: Buffer) => void;
  /** Datagrams do not get through: the owner closes the lane. */
  readonly broken: (why: string) => void;
}

export class DatagramLane {
  readonly #env: Env;
  readonly #options: LaneOptions;
  readonly #to: DatagramAddress;
  readonly #sealer: DatagramSealer;
  readonly #opener: DatagramOpener;
  readonly #encoder = new RequestEncoder();
  readonly #header = emptyHeader();
  /** Sent and not answered, in order of the first sending. */
  readonly #flying = new Map<number, ClientRequest>();
  /** No room in the window yet. */
  readonly #waiting: ClientRequest[] = [];
  #socket: DatagramSocket | null = null;
  #window = WINDOW_FIRST;
  #lostAt = -Infinity;
  /** Smoothed round trip. */
  #roundTripMs = RESEND_MS_MIN;
  #timer: Timer | null = null;

  /** @returns null if no socket can be had: everything goes over the connection */
  static async open(env: Env, options: LaneOptions): Promise<DatagramLane | null> {
    const lane = new DatagramLane(env, options);
    try {
      lane.#socket = await env.network.openDatagrams(
        { host: options.address.host.includes(':') ? '::' : '0.0.0.0', port: 0 },
        {
          received: (datagram) => lane.#received(datagram),
          failed: (error) => options.broken(error.message),
        },
      );
      return lane;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      env.log.warn({ code: error.code }, `No datagrams are used: ${error.message}`);
      return null;
    }
  }

  private constructor(env: Env, options: LaneOptions) {
    this.#env = env;
    this.#options = options;
    this.#to = options.address;
    const { association, isSealed } = options.begin;
    if (!isSealed) {
      this.#sealer = new PlainSealer(association);
      this.#opener = new PlainOpener(association);
      return;
    }
    if (options.keys === null)
      throw new StoreError('E_BAD_FRAME', 'The daemon wants sealed datagrams without a key');
    const { key, clientNonce, daemonNonce } = options.keys;
    const { toClient, toDaemon } = deriveDatagramKeys(key, clientNonce, daemonNonce);
    this.#sealer = new Sealer(toDaemon, association);
    this.#opener = new Opener(toClient, association);
  }

  close(): void {
    this.#timer?.cancel();
    this.#socket?.close();
    this.#socket = null;
  }

  /** @returns false if it does not fit: send it over the connection */
  send(request: ClientRequest): boolean {
    if (this.#socket === null || !this.#fits(request)) return false;
    request.flight = { tries: 0, sentAt: 0, resendAt: 0 };
    if (this.#flying.size >= this.#window) this.#waiting.push(request);
    else this.#fly(request, request.flight);
    return true;
  }

  #fits(request: ClientRequest): boolean {
    if (!SMALL.has(request.op)) return false;
    const { ref, checks, payloadBytes, op, offset, bytes } = request;
    const bodyBytes =
      ref === null ? (request.body?.(0).length ?? 0) : objectRequestBytes(ref) + checks.length * 4;
    const answerBytes = op === OP.read ? pieceCount(offset, bytes) * 4 + bytes : 0;
    const room =
      this.#options.begin.datagramBytes -
      DATAGRAM_HEADER_BYTES -
      DATAGRAM_TRAILER_BYTES_MAX -
      HEADER_BYTES;
    return bodyBytes + payloadBytes <= room && answerBytes <= room;
  }

  #fly(request: ClientRequest, flight: Flight): void {
    const { counters, floor } = this.#options;
    const now = this.#env.clock.now();
    flight.sentAt = now;
    flight.resendAt = now + this.#waitMs(flight.tries);
    flight.tries += 1;
    this.#flying.set(request.id, request);
    this.#encoder.add(request, floor());
    const datagram = this.#sealer.seal(this.#encoder.take());
    counters.datagramsSent += 1;
    if (flight.tries > 1) counters.datagramsResent += 1;
    this.#socket?.send([datagram], this.#to);
    this.#tickLater();
  }

  #waitMs(tries: number): number {
    const first = Math.max(RESEND_MS_MIN, 3 * this.#roundTripMs);
    return Math.min(RESEND_MS_MAX, first * 2 ** tries);
  }

  #received(datagram: Buffer): void {
    const frame = this.#opener.open(datagram);
    if (typeof frame === 'string') return; // forged, damaged or seen before: the answer comes again if it is needed
    try {
      this.#take(frame);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#env.log.debug({ code: error.code }, `A datagram made no sense: ${error.message}`);
    }
  }

  /** @throws StoreError `E_BAD_FRAME` */
  #take(frame: Buffer): void {
    const header = this.#header;
    if (frame.length < HEADER_BYTES) throw new StoreError('E_BAD_FRAME', 'A datagram is too short');
    readHeader(frame, 0, header);
    const bodyEnd = HEADER_BYTES + header.bodyBytes;
    if (
      header.version !== PROTOCOL_VERSION ||
      !header.isAnswer ||
      bodyEnd + header.payloadBytes !== frame.length
    )
      throw new StoreError('E_BAD_FRAME', 'A datagram holds no answer');
    checkBody(frame, HEADER_BYTES, bodyEnd, header);
    const request = this.#flying.get(header.requestId);
    if (request === undefined) return; // answered before
    if (request.op !== header.op) throw new StoreError('E_BAD_FRAME', 'An answer is to another op');
    if (header.payloadBytes > 0) {
      const target = this.#options.target(header);
      if (target === null) return;
      frame.copy(target, 0, bodyEnd);
    }
    this.#flying.delete(header.requestId);
    this.#measure(request);
    this.#options.answered(header, frame.subarray(HEADER_BYTES, bodyEnd));
    this.#fill();
  }

  /** Of what was sent once only: else nobody knows which sending was answered (Karn). */
  #measure({ flight }: ClientRequest): void {
    if (flight?.tries !== 1) return;
    const ms = this.#env.clock.now() - flight.sentAt;
    this.#roundTripMs += (ms - this.#roundTripMs) / 8;
    this.#window = Math.min(WINDOW_MAX, this.#window + 1 / this.#window);
  }

  #fill(): void {
    while (this.#flying.size < this.#window) {
      const request = this.#waiting.shift();
      if (request === undefined) return;
      const { flight } = request;
      if (flight !== null && this.#options.isOpen(request)) this.#fly(request, flight);
    }
  }

  #tickLater(): void {
    if (this.#timer !== null) return;
    this.#timer = this.#env.timers.after(TICK_MS, () => {
      this.#timer = null;
      this.#tick();
      if (this.#flying.size > 0 && this.#socket !== null) this.#tickLater();
    });
  }

  #tick(): void {
    const now = this.#env.clock.now();
    for (const [id, request] of [...this.#flying]) {
      const { flight } = request;
      if (flight === null || !this.#options.isOpen(request)) this.#flying.delete(id);
      else if (now >= flight.resendAt) {
        if (flight.tries >= TRIES_MAX) {
          this.#options.broken('Datagrams are not answered');
          return;
        }
        this.#halve(now);
        this.#fly(request, flight);
      }
    }
    this.#fill();
  }

  /** Once for all that was lost in one round. */
  #halve(now: number): void {
    if (now - this.#lostAt < Math.max(RESEND_MS_MIN, this.#roundTripMs)) return;
    this.#lostAt = now;
    this.#window = Math.max(WINDOW_MIN, this.#window / 2);
  }
}
