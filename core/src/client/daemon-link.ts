/**
 * One connection to a daemon: dialled, greeted, in charge of the client's session. Frames go out through it and answers
 * come back; what they mean, and what to do when it breaks, is for the owner.
 */
import {
  EXPORTER_LABEL,
  makeProof,
  NONCE_BYTES,
  verifyProof,
  type Meeting,
} from '../auth/proof.js';
import type { TicketFile } from '../auth/ticket-file.js';
import type { Env } from '../env/env.js';
import type { Connection, ListenAddress, TlsClientContext } from '../env/network.js';
import type { DirectConnection } from '../env/real-connection.js';
import { errorFromStatus, StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { HEADER_BYTES, writeRequestHeader, type FrameHeader } from '../wire/frame-header.js';
import { FrameReader } from '../wire/frame-reader.js';
import {
  DATAGRAM_LABEL,
  decodeBeginAnswer,
  decodeHelloAnswer,
  encodeBegin,
  encodeHello,
  EXPORTER_BYTES,
  type BeginAnswer,
  type HelloAnswer,
} from '../wire/greeting.js';
import { OP } from '../wire/ops.js';
import { BODY_BYTES_MAX, PAYLOAD_BYTES_MAX, PROTOCOL_VERSION } from '../wire/wire-limits.js';

const NOTHING = Buffer.alloc(0);

/** Whom to connect to, and as whom. */
export interface DaemonAddress {
  readonly address: ListenAddress;
  /** What this client is, for the daemon's log: `store-nbd vm1`. */
  readonly name: string;
  readonly ticket: TicketFile | null;
  /** Null: in the clear. */
  readonly tls: TlsClientContext | null;
}

export interface LinkEvents {
  /** An answer has begun to arrive: where its payload belongs; null: nowhere. */
  target(header: FrameHeader): Buffer | null;
  /** An answer is there, its payload in its place. */
  answered(header: FrameHeader, body: Buffer): void;
  /** The connection is gone; nothing more is called. */
  closed(error: StoreError): void;
}

export interface OpenLink {
  readonly session: Buffer;
  readonly incarnation: number;
  /** Largest datagram the client takes; 0: it uses none. */
  readonly datagramBytes: number;
  /** The whole greeting is over by then. */
  readonly timeoutMs: number;
}

/** Keys for datagrams that both ends made of their greeting; null: in the clear. */
export interface SharedKeys {
  readonly key: Buffer;
  readonly clientNonce: Buffer;
  readonly daemonNonce: Buffer;
}

export class DaemonLink {
  readonly hello: HelloAnswer;
  readonly begin: BeginAnswer;
  readonly sharedKeys: SharedKeys | null;
  readonly #connection: Connection;
  readonly #greeting: Greeting;

  /**
   * Connects and greets.
   * @throws StoreError `E_UNREACHABLE`, `E_TIMEOUT` if nobody answers; `E_DENIED`, `E_PROTOCOL_VERSION` if the daemon does
   *   not let us in, or does not prove to be the one the ticket is for
   */
  static async open(
    env: Env,
    to: DaemonAddress,
    options: OpenLink,
    events: LinkEvents,
  ): Promise<DaemonLink> {
    const { timeoutMs } = options;
    const deadline = env.clock.now() + timeoutMs;
    const dialled = await env.network.connect(to.address, { timeoutMs });
    const greeting = new Greeting(dialled, events);
    const left = Math.max(1, deadline - env.clock.now());
    const timer = env.timers.after(left, () =>
      greeting.fail(new StoreError('E_TIMEOUT', `${nameOf(to)} does not answer`)),
    );
    try {
      const link = await greet(env, to, options, greeting);
      if (greeting.failure !== null) throw greeting.failure;
      greeting.begun();
      return link;
    } catch (error) {
      greeting.connection.destroy();
      throw error;
    } finally {
      timer.cancel();
    }
  }

  constructor(
    greeting: Greeting,
    facts: { hello: HelloAnswer; begin: BeginAnswer; sharedKeys: SharedKeys | null },
  ) {
    this.#greeting = greeting;
    this.#connection = greeting.connection;
    this.hello = facts.hello;
    this.begin = facts.begin;
    this.sharedKeys = facts.sharedKeys;
  }

  /** Frames, in this order; the parts are the connection's until the answers are there. */
  send(parts: readonly Buffer[]): void {
    this.#connection.write(parts, true);
  }

  /** Address of the machine that answered, whatever name it was called by. */
  get host(): string {
    return this.#connection.peer.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  }

  /** True if the rest of an answer lands in `target` just now. */
  isFilling(target: Buffer): boolean {
    return this.#greeting.reader.isFilling(target);
  }

  /** Sends what was written, then closes. */
  end(): void {
    this.#greeting.forget();
    this.#connection.end();
  }

  /** Closes at once; nothing is called after this. */
  destroy(): void {
    this.#greeting.forget();
    this.#connection.destroy();
  }
}

/** For messages. */
export function nameOf({ address }: Pick<DaemonAddress, 'address'>): string {
  return 'path' in address
    ? `The daemon at ${address.path}`
    : `The daemon at ${address.host}:${address.port}`;
}

async function greet(
  env: Env,
  to: DaemonAddress,
  { session, incarnation, datagramBytes }: OpenLink,
  greeting: Greeting,
): Promise<DaemonLink> {
  if (to.tls !== null) {
    invariant('host' in to.address, 'TLS is for machines');
    await greeting.ask(OP.startTls, NOTHING);
    await greeting.startTls(to.tls, to.address.host);
  }
  const { ticket } = to;
  const nonce = env.random.bytes(NONCE_BYTES);
  const ticketBytes = ticket?.ticketBytes ?? NOTHING;
  const versions = { versionMin: PROTOCOL_VERSION, versionMax: PROTOCOL_VERSION };
  const said = await greeting.ask(
    OP.hello,
    encodeHello({ ...versions, name: to.name, nonce, ticket: ticketBytes }),
  );
  const hello = decodeHelloAnswer(said);
  const exporter = greeting.connection.exportKey(EXPORTER_LABEL, EXPORTER_BYTES) ?? NOTHING;
  let proof: Buffer = NOTHING;
  if (ticket !== null) {
    const { diskId, startId } = hello;
    const meeting: Meeting = {
      clientNonce: nonce,
      daemonNonce: hello.nonce,
      diskId,
      startId,
      ticketBytes,
      exporter,
    };
    if (!verifyProof(ticket.key, 'daemon', meeting, hello.proof))
      throw new StoreError(
        'E_DENIED',
        `${nameOf(to)} does not know the secret that the ticket was made with; it is another daemon, or somebody is in between`,
      );
    proof = makeProof(ticket.key, 'client', meeting);
  }
  const begun = await greeting.ask(
    OP.begin,
    encodeBegin({ session, incarnation, proof, datagramBytes }),
  );
  const key = ticket?.key ?? greeting.connection.exportKey(DATAGRAM_LABEL, EXPORTER_BYTES) ?? null;
  const nonces = { clientNonce: nonce, daemonNonce: hello.nonce };
  const sharedKeys = key === null ? null : { key, ...nonces };
  return new DaemonLink(greeting, { hello, begin: decodeBeginAnswer(begun), sharedKeys });
}

/** What happens on the connection: first one question after the other, then the answers of the session. */
class Greeting {
  connection: Connection;
  reader: FrameReader;
  #events: LinkEvents | null;
  #question: { resolve: (body: Buffer) => void; reject: (error: StoreError) => void } | null = null;
  #hasBegun = false;
  #failure: StoreError | null = null;
  #requestId = 0;

  constructor(connection: Connection, events: LinkEvents) {
    this.connection = connection;
    this.#events = events;
    this.reader = this.#newReader();
    this.#start();
  }

  /** Why it is over; null: it is not. */
  get failure(): StoreError | null {
    return this.#failure;
  }

  /** Nobody wants to hear anything any more. */
  forget(): void {
    this.#events = null;
  }

  begun(): void {
    this.#hasBegun = true;
  }

  /** Asks one thing. @throws StoreError what the daemon answers, or why it does not */
  ask(op: number, body: Buffer): Promise<Buffer> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#requestId += 1;
    const frame = Buffer.alloc(HEADER_BYTES + body.length);
    body.copy(frame, HEADER_BYTES);
    writeRequestHeader(frame, 0, op, this.#requestId, 0, body.length, 0);
    return new Promise((resolve, reject) => {
      this.#question = { resolve, reject };
      this.connection.write([frame]);
    });
  }

  async startTls(context: TlsClientContext, host: string): Promise<void> {
    if (this.reader.isInFrame) throw new StoreError('E_BAD_FRAME', 'The daemon spoke before TLS');
    this.connection = await this.connection.startTlsClient(context, host);
    if (this.#failure !== null) {
      this.connection.destroy();
      throw this.#failure;
    }
    this.reader = this.#newReader();
    this.#start();
  }

  fail(error: StoreError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.connection.destroy();
    this.#question?.reject(error);
    this.#question = null;
    const events = this.#events;
    this.#events = null;
    if (this.#hasBegun) events?.closed(error);
  }

  #newReader(): FrameReader {
    return new FrameReader({
      admit: (header) => {
        checkAnswer(header);
        return true;
      },
      target: (header) => this.#events?.target(header) ?? null,
    });
  }

  #start(): void {
    this.connection.start({
      data: (chunk) => this.#receive(chunk),
      bringsAnswers: true,
      end: () => this.fail(new StoreError('E_UNREACHABLE', 'The daemon closed the connection')),
      drain: () => undefined,
      closed: (error) =>
        this.fail(
          new StoreError(
            'E_UNREACHABLE',
            `The connection to the daemon broke${error === null ? '' : `: ${error.message}`}`,
            { cause: error },
          ),
        ),
    });
  }

  #receive(chunk: Buffer): boolean {
    if (this.#failure !== null) return true;
    this.reader.push(chunk);
    try {
      while (this.reader.next()) this.#take();
      const { direct } = this.reader;
      if (direct !== null && 'receiveInto' in this.connection)
        (this.connection as DirectConnection).receiveInto(direct); // that it has the method was just seen
    } catch (error) {
      if (!(error instanceof StoreError)) throw error; // of who was answered: a defect
      this.fail(error);
    }
    return !this.reader.holds;
  }

  #take(): void {
    const { header, body } = this.reader;
    if (this.#hasBegun) {
      this.#events?.answered(header, body);
      return;
    }
    const question = this.#question;
    if (question === null) throw new StoreError('E_BAD_FRAME', 'An answer came that was not asked');
    this.#question = null;
    if (header.status === 0) question.resolve(Buffer.from(body));
    else question.reject(errorFromStatus(header.status, body.toString()));
  }
}

/** @throws StoreError `E_BAD_FRAME` */
function checkAnswer(header: FrameHeader): void {
  if (header.version !== PROTOCOL_VERSION || !header.isAnswer)
    throw new StoreError('E_BAD_FRAME', 'What arrived is no answer of this protocol');
  if (header.bodyBytes > BODY_BYTES_MAX || header.payloadBytes > PAYLOAD_BYTES_MAX)
    throw new StoreError('E_BAD_FRAME', 'An answer is longer than it may be');
}
