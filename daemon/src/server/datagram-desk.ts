/**
 * Requests that come as datagrams, one frame in each. An association belongs to a connection of the same session and ends
 * with it, so nobody can send datagrams who was not let in over that connection, and none of a dead connection has an
 * effect after its successor has begun. With TLS or a ticket they are sealed; in the clear only who may speak plainly
 * sends them, and then a checksum and an unguessable association keep strays out.
 *
 * What is not taken (no room, damaged, forged, seen before, of nobody) is counted and dropped: the client sends it again,
 * and an answer would help who forged it.
 */
import {
  hostOfPeer,
  ASSOCIATION_BYTES,
  associationKeyOf,
  checkBody,
  ConnectionBudget,
  DATAGRAM_BYTES_MIN,
  DATAGRAM_HEADER_BYTES,
  DATAGRAM_TRAILER_BYTES_MAX,
  deriveDatagramKeys,
  emptyHeader,
  HEADER_BYTES,
  OP,
  Opener,
  PlainOpener,
  PlainSealer,
  PROTOCOL_VERSION,
  readHeader,
  Reply,
  ruleOf,
  Sealer,
  StoreError,
  type DatagramAddress,
  type DatagramOpener,
  type DatagramSealer,
  type DatagramSocket,
  type Env,
  type ServerBudget,
} from '@store/core';
import { answer, messageBody, statusOf, type AnswerPort } from './answer-port.js';
import type { ServerCounters } from './counters.js';
import { REQUEST_COST_BYTES, type RequestRunner } from './request-runner.js';

/** What both ends know of each other. */
export interface AssociationKeys {
  readonly key: Buffer;
  readonly clientNonce: Buffer;
  readonly daemonNonce: Buffer;
}

export interface AssociateOptions {
  /** The client's limit; the smaller of both counts. */
  readonly datagramBytes: number;
  /** Where the connection comes from: datagrams come from the same host. */
  readonly peer: string;
  /** Null: in the clear. */
  readonly keys: AssociationKeys | null;
}

export class DatagramDesk {
  readonly #env: Env;
  readonly #counters: ServerCounters;
  readonly #budget: ServerBudget;
  readonly #datagramBytes: number;
  readonly #associations = new Map<string, Association>();
  #socket: DatagramSocket | null = null;

  constructor(
    env: Env,
    { counters, budget }: { counters: ServerCounters; budget: ServerBudget },
    datagramBytes: number,
  ) {
    this.#env = env;
    this.#counters = counters;
    this.#budget = budget;
    this.#datagramBytes = datagramBytes;
  }

  /** @throws StoreError `E_SYSTEM` if it cannot have the port */
  async open(address: DatagramAddress): Promise<void> {
    this.#socket = await this.#env.network.openDatagrams(address, {
      received: (datagram, from) => this.#received(datagram, from),
      failed: (error) => this.#env.log.error({ err: error }, 'Serving datagrams failed'),
    });
  }

  close(): void {
    this.#socket?.close();
    this.#socket = null;
  }

  associate({ datagramBytes, peer, keys }: AssociateOptions): Association | null {
    if (this.#socket === null) return null;
    const id = this.#env.random.bytes(ASSOCIATION_BYTES);
    const bytes = Math.max(DATAGRAM_BYTES_MIN, Math.min(datagramBytes, this.#datagramBytes));
    const association = new Association({
      id,
      datagramBytes: bytes,
      host: hostOfPeer(peer),
      codec: codecOf(id, keys),
      counters: this.#counters,
      budget: new ConnectionBudget(this.#budget, () => undefined), // who finds no room sends again
      send: (datagram, to) => {
        this.#counters.datagramsOut += 1;
        this.#socket?.send([datagram], to);
      },
      closed: () => this.#associations.delete(id.toString('latin1')),
    });
    this.#associations.set(id.toString('latin1'), association);
    return association;
  }

  #received(datagram: Buffer, from: DatagramAddress): void {
    this.#counters.datagramsIn += 1;
    const key = associationKeyOf(datagram);
    const association = key === null ? undefined : this.#associations.get(key);
    if (association === undefined) this.#counters.refuse('datagram of nobody');
    else association.received(datagram, from);
  }
}

interface Codec {
  readonly sealer: DatagramSealer;
  readonly opener: DatagramOpener;
  readonly isSealed: boolean;
}

function codecOf(id: Buffer, keys: AssociationKeys | null): Codec {
  if (keys === null)
    return { sealer: new PlainSealer(id), opener: new PlainOpener(id), isSealed: false };
  const { toClient, toDaemon } = deriveDatagramKeys(keys.key, keys.clientNonce, keys.daemonNonce);
  return { sealer: new Sealer(toClient, id), opener: new Opener(toDaemon, id), isSealed: true };
}

interface AssociationOptions {
  readonly id: Buffer;
  readonly datagramBytes: number;
  readonly host: string;
  readonly codec: Codec;
  readonly counters: ServerCounters;
  readonly budget: ConnectionBudget;
  readonly send: (datagram: Buffer, to: DatagramAddress) => void;
  readonly closed: () => void;
}

/** The datagrams of one connection. */
export class Association {
  readonly id: Buffer;
  readonly datagramBytes: number;
  readonly isSealed: boolean;
  readonly #options: AssociationOptions;
  readonly #header = emptyHeader();
  #runner: RequestRunner | null = null;
  #idle: () => void = () => undefined;
  #isDraining = false;
  #isClosed = false;

  constructor(options: AssociationOptions) {
    this.id = options.id;
    this.datagramBytes = options.datagramBytes;
    this.isSealed = options.codec.isSealed;
    this.#options = options;
  }

  /**
   * From now on requests are run.
   * @param idle - Called when the last of those under way has ended
   */
  serve(runner: RequestRunner, idle: () => void): void {
    this.#runner = runner;
    this.#idle = idle;
  }

  /** Requests that were not answered. */
  get runningCount(): number {
    return this.#options.budget.requests;
  }

  /** Takes no more requests; those under way are answered. */
  drain(): void {
    this.#isDraining = true;
  }

  close(): void {
    this.#isClosed = true;
    this.#options.budget.leave();
    this.#options.closed();
  }

  received(datagram: Buffer, from: DatagramAddress): void {
    const { codec, counters, host } = this.#options;
    if (this.#runner === null || from.host !== host) {
      counters.refuse('datagram from elsewhere');
      return;
    }
    if (this.#isDraining) {
      counters.refuse('datagram while stopping');
      return;
    }
    const frame = codec.opener.open(datagram);
    if (typeof frame === 'string') {
      counters.refuse(`datagram ${frame}`);
      return;
    }
    try {
      this.#take(this.#runner, frame, from);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      counters.refuse(error.code);
    }
  }

  /** @throws StoreError `E_BAD_FRAME` */
  #take(runner: RequestRunner, frame: Buffer, from: DatagramAddress): void {
    const header = this.#header;
    if (frame.length < HEADER_BYTES) throw new StoreError('E_BAD_FRAME', 'A datagram is too short');
    readHeader(frame, 0, header);
    const rule = ruleOf(header.op);
    const bodyEnd = HEADER_BYTES + header.bodyBytes;
    const isRequest =
      header.version === PROTOCOL_VERSION &&
      rule !== undefined &&
      header.op > OP.begin &&
      !header.isAnswer &&
      header.status === 0 &&
      bodyEnd + header.payloadBytes === frame.length &&
      header.payloadBytes <= rule.payloadBytesMax;
    if (!isRequest) throw new StoreError('E_BAD_FRAME', 'A datagram holds no request');
    checkBody(frame, HEADER_BYTES, bodyEnd, header);
    const body = frame.subarray(HEADER_BYTES, bodyEnd);
    const payload = header.payloadBytes === 0 ? [] : [frame.subarray(bodyEnd)];
    const cost = frame.length + runner.answerBytes(header, body) + REQUEST_COST_BYTES;
    if (!this.#options.budget.take(cost)) {
      this.#options.budget.leave();
      this.#options.counters.refuse('no room');
      return;
    }
    const port = new DatagramPort(this, from, () => this.#ended(cost));
    try {
      runner.run(header, body, payload, port);
    } catch (error) {
      port.nothing();
      throw error;
    }
  }

  #ended(cost: number): void {
    this.#options.budget.finish(cost, 0);
    // In a later turn: its answer is about to be sent.
    if (this.runningCount === 0) queueMicrotask(this.#idle);
  }

  /** The room for a frame in a datagram. */
  get frameBytesMax(): number {
    return this.datagramBytes - DATAGRAM_HEADER_BYTES - DATAGRAM_TRAILER_BYTES_MAX;
  }

  send(reply: Reply, to: DatagramAddress): void {
    if (this.#isClosed) return;
    this.#options.send(this.#options.codec.sealer.seal([reply.view()]), to);
  }
}

/** The answer to one request. */
class DatagramPort implements AnswerPort {
  readonly #association: Association;
  readonly #to: DatagramAddress;
  #ended: (() => void) | null;

  constructor(association: Association, to: DatagramAddress, ended: () => void) {
    this.#association = association;
    this.#to = to;
    this.#ended = ended;
  }

  allocate(bytes: number): Reply {
    return new Reply(Buffer.allocUnsafe(bytes), 0, bytes, null);
  }

  push(reply: Reply): void {
    this.nothing();
    if (reply.bytes <= this.#association.frameBytesMax) {
      this.#association.send(reply, this.#to);
      return;
    }
    const header = emptyHeader();
    readHeader(reply.memory, reply.at, header);
    const tooLong = new StoreError(
      'E_INVALID',
      'The answer does not fit into a datagram; ask over TCP',
    );
    answer(this, header.op, header.requestId, statusOf(tooLong), messageBody(tooLong));
  }

  abandon(): void {
    // Its memory is nobody else's.
  }

  nothing(): void {
    this.#ended?.();
    this.#ended = null;
  }
}
