/**
 * One connection on which both ends ask and answer: between masters and everybody else. A question has a JSON object
 * and, where it must be, bytes (a map); so has its answer. Answers come in any order. An end that says nothing for too
 * long is given up, whatever the reason.
 *
 * A question whose answer is lost with the connection may have been done or not: who asks knows what that means.
 */
import type { Env, Timer } from '../env/env.js';
import type { Connection, TlsClientContext, TlsContext, TlsPeer } from '../env/network.js';
import { crc32c } from '../util/crc32c.js';
import { errorFromStatus, ERRORS, messageOf, StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import {
  HEADER_BYTES,
  writeAnswerHeader,
  writeRequestHeader,
  type FrameHeader,
} from '../wire/frame-header.js';
import { FrameReader } from '../wire/frame-reader.js';
import { decodeJson, encodeJson, numberIn, type JsonFields } from '../wire/json-body.js';
import {
  BODY_BYTES_MAX,
  GREETING_BYTES_MAX,
  MESSAGE_BYTES_MAX,
  PROTOCOL_VERSION,
} from '../wire/wire-limits.js';
import { CONTROL, controlOpName, isControlOp, type ControlOp } from './control-ops.js';

/** What is asked or answered. */
export interface ControlMessage {
  readonly fields: JsonFields;
  /** Owned by the receiver. */
  readonly payload: Buffer;
}

/** An answer, and what comes behind it. */
export interface ControlAnswer extends ControlMessage {
  /** Called when the answer was written, before anything else is read or written. */
  readonly after?: () => void;
}

export interface ControlEvents {
  /** The other end asks. A `StoreError` goes to it as the answer; anything else is a defect. */
  asked(op: ControlOp, message: ControlMessage): Promise<ControlAnswer>;
  /** It is over. Called once, and nothing after it. */
  closed(error: StoreError): void;
  /** Something was thrown that is no expected failure. */
  defect(error: unknown): void;
}

export interface ControlChannelOptions {
  /** For messages: `The master at 10.0.0.1:4000`. */
  readonly name: string;
  readonly events: ControlEvents;
  /** Who says nothing for so long is gone. */
  readonly silenceMs: number;
}

/** Questions of the other end under way; more wait in its socket. */
const ASKED_MAX = 64;
/** Bytes that the other end has not taken yet: one that reads nothing is gone. */
const UNSENT_BYTES_MAX: number = 128 * 1024 * 1024;
/** The same before both ends know each other. */
const STRANGER_UNSENT_BYTES_MAX: number = 256 * 1024;
const SWEEP_MS = 250;
/** A look that comes so late was held up by us: what the other end has said may not have been read yet. */
const HELD_UP_MS = 1000;
const NOTHING = Buffer.alloc(0);
const CRC_FIELD = 'payloadCrc';

export const NO_ANSWER: ControlMessage = { fields: {}, payload: NOTHING };

/** An answer without bytes. */
export function saying(fields: JsonFields): ControlMessage {
  return { fields, payload: NOTHING };
}

interface Question {
  readonly op: ControlOp;
  readonly deadline: number;
  resolve(answer: ControlMessage): void;
  reject(error: StoreError): void;
}

export class ControlChannel {
  readonly name: string;
  readonly #env: Env;
  readonly #events: ControlEvents;
  readonly #silenceMs: number;
  readonly #questions = new Map<number, Question>();
  #connection: Connection;
  #reader: FrameReader;
  /** Of the frame that arrives. */
  #landing: Buffer = NOTHING;
  #nextId = 1;
  #askedCount = 0;
  #isPaused = false;
  /** Before both ends know each other nothing long is taken. */
  #bodyMax = GREETING_BYTES_MAX;
  #payloadMax = 0;
  #unsentMax = STRANGER_UNSENT_BYTES_MAX;
  #heardAt: number;
  #sweptAt: number;
  #sweep: Timer | null = null;
  #isPinging = false;
  #failure: StoreError | null = null;

  constructor(env: Env, connection: Connection, options: ControlChannelOptions) {
    this.#env = env;
    this.name = options.name;
    this.#events = options.events;
    this.#silenceMs = options.silenceMs;
    this.#connection = connection;
    this.#reader = this.#newReader();
    this.#heardAt = env.clock.now();
    this.#sweptAt = this.#heardAt;
    this.#start();
    this.#sweepLater();
  }

  /** Address of the other end, as `Connection.peer`. */
  get peer(): string {
    return this.#connection.peer;
  }

  get isOpen(): boolean {
    return this.#failure === null;
  }

  /** The other end waits for an answer. */
  get isAsked(): boolean {
    return this.#askedCount > 0;
  }

  /** The other end is known: longer messages are taken. @param payloadMax - Bytes of one message, beside its JSON. */
  trust(payloadMax: number): void {
    this.#bodyMax = BODY_BYTES_MAX;
    this.#payloadMax = payloadMax;
    this.#unsentMax = UNSENT_BYTES_MAX;
  }

  /**
   * @returns the answer
   * @throws StoreError what the other end says; `E_TIMEOUT` after `deadlineMs`, `E_UNREACHABLE` if the connection breaks:
   *   it may have been done or not
   */
  ask(
    op: ControlOp,
    fields: JsonFields,
    { payload = NOTHING, deadlineMs = 10_000 }: { payload?: Buffer; deadlineMs?: number } = {},
  ): Promise<ControlMessage> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const id = this.#nextId;
    this.#nextId += 1;
    const body = bodyOf({ fields, payload });
    if (body.length > BODY_BYTES_MAX)
      return Promise.reject(
        new StoreError('E_INVALID', `The question has ${body.length} bytes; that is too long`),
      );
    return new Promise((resolve, reject) => {
      const deadline = this.#env.clock.now() + deadlineMs;
      this.#questions.set(id, { op, deadline, resolve, reject });
      const head = Buffer.allocUnsafe(HEADER_BYTES + body.length);
      body.copy(head, HEADER_BYTES);
      writeRequestHeader(head, 0, op, id, 0, body.length, payload.length);
      this.#write(head, payload);
    });
  }

  /** Speaks TLS from now on, as the client. @throws StoreError */
  async startTlsClient(context: TlsClientContext, host: string): Promise<void> {
    this.#refuseEarly();
    this.#continueOn(await this.#connection.startTlsClient(context, host));
  }

  /** Speaks TLS from now on, as the server. @throws StoreError */
  async startTls(context: TlsContext): Promise<TlsPeer> {
    this.#refuseEarly();
    const { connection, peer } = await this.#connection.startTls(context);
    this.#continueOn(connection);
    return peer;
  }

  /** As `Connection.exportKey`; empty without TLS. */
  exportKey(label: string, bytes: number): Buffer {
    return this.#connection.exportKey(label, bytes) ?? NOTHING;
  }

  /** Sends what was written, then closes. `closed` is told. */
  end(error: StoreError): void {
    if (this.#failure !== null) return;
    const connection = this.#connection;
    this.#over(error);
    connection.end();
  }

  /** It is over, at once. `closed` is told. */
  fail(error: StoreError): void {
    if (this.#failure !== null) return;
    const connection = this.#connection;
    this.#over(error);
    connection.destroy();
  }

  #over(error: StoreError): void {
    this.#failure = error;
    this.#sweep?.cancel();
    const questions = [...this.#questions.values()];
    this.#questions.clear();
    for (const question of questions) question.reject(error);
    this.#events.closed(error);
  }

  #refuseEarly(): void {
    if (this.#reader.isInFrame || this.#askedCount > 0)
      throw new StoreError('E_BAD_FRAME', `${this.name} spoke in the clear where TLS begins`);
  }

  #continueOn(connection: Connection): void {
    if (this.#failure !== null) {
      connection.destroy();
      throw this.#failure;
    }
    this.#connection = connection;
    this.#reader = this.#newReader();
    this.#heardAt = this.#env.clock.now();
    this.#start();
  }

  #start(): void {
    const connection = this.#connection;
    connection.start({
      data: (chunk) => this.#receive(chunk),
      end: () => this.#ended(connection, null),
      drain: () => undefined,
      closed: (error) => this.#ended(connection, error),
    });
  }

  /** Of the connection that TLS has taken over nothing more is heard. */
  #ended(connection: Connection, error: Error | null): void {
    if (connection !== this.#connection) return;
    const why = error === null ? '' : `: ${error.message}`;
    this.fail(
      new StoreError('E_UNREACHABLE', `${this.name} closed the connection${why}`, { cause: error }),
    );
  }

  #newReader(): FrameReader {
    return new FrameReader({
      admit: (header) => {
        this.#checkHeader(header);
        return true;
      },
      target: ({ payloadBytes }) => {
        this.#landing = Buffer.allocUnsafeSlow(payloadBytes);
        return this.#landing;
      },
    });
  }

  #checkHeader(header: FrameHeader): void {
    const { version, isAnswer, op, requestId, bodyBytes, payloadBytes } = header;
    if (version !== PROTOCOL_VERSION)
      throw new StoreError(
        'E_PROTOCOL_VERSION',
        `${this.name} speaks version ${version} of the protocol, and this program ${PROTOCOL_VERSION}; use programs of one release`,
      );
    // One that comes too late is an answer all the same.
    const isKnown = isAnswer ? requestId < this.#nextId : isControlOp(op);
    if (!isKnown) throw new StoreError('E_BAD_FRAME', `${this.name} sent what has no place here`);
    if (bodyBytes > this.#bodyMax || payloadBytes > this.#payloadMax)
      throw new StoreError('E_BAD_FRAME', `${this.name} sent more than it may`);
  }

  #receive(chunk: Buffer): boolean {
    if (this.#failure !== null) return true;
    this.#heardAt = this.#env.clock.now();
    this.#reader.push(chunk);
    this.#pump();
    return !this.#reader.holds;
  }

  #pump(): void {
    try {
      while (this.#failure === null && this.#askedCount < ASKED_MAX && this.#reader.next())
        this.#take();
    } catch (error) {
      if (!(error instanceof StoreError)) this.#events.defect(error);
      this.fail(error instanceof StoreError ? error : new StoreError('E_SYSTEM', messageOf(error)));
      return;
    }
    this.#pauseOrResume();
  }

  #pauseOrResume(): void {
    const isFull = this.#askedCount >= ASKED_MAX;
    if (isFull === this.#isPaused || this.#failure !== null) return;
    this.#isPaused = isFull;
    if (isFull) this.#connection.pause();
    else this.#connection.resume();
  }

  /** The frame that the reader has found. */
  #take(): void {
    const { header, body } = this.#reader;
    const payload = this.#landing;
    this.#landing = NOTHING;
    const { isAnswer, op, requestId, status } = header;
    if (isAnswer) {
      this.#answered(op, requestId, status, body, payload);
      return;
    }
    invariant(isControlOp(op), 'the header was checked');
    const message = messageFrom(body, payload);
    if (op === CONTROL.ping) {
      this.#answer(op, requestId, NO_ANSWER);
      return;
    }
    this.#askedCount += 1;
    this.#events.asked(op, message).then(
      (answer) =>
        this.#finish(() => {
          this.#answer(op, requestId, answer);
          answer.after?.();
        }),
      (error: unknown) =>
        this.#finish(() => {
          if (!(error instanceof StoreError)) this.#events.defect(error);
          this.#answerError(op, requestId, error);
        }),
    );
  }

  #finish(say: () => void): void {
    this.#askedCount -= 1;
    if (this.#failure !== null) return;
    try {
      say();
    } catch (error) {
      this.#events.defect(error);
      this.fail(new StoreError('E_SYSTEM', messageOf(error)));
      return;
    }
    if (this.#reader.holds) this.#pump();
    else this.#pauseOrResume();
  }

  #answered(op: number, id: number, status: number, body: Buffer, payload: Buffer): void {
    const question = this.#questions.get(id);
    if (question === undefined) return; // it came too late
    if (question.op !== op) throw new StoreError('E_BAD_FRAME', `${this.name} answers another op`);
    this.#questions.delete(id);
    if (status === 0) question.resolve(messageFrom(body, payload));
    else question.reject(errorFromStatus(status, body.toString()));
  }

  #answer(op: ControlOp, id: number, message: ControlMessage): void {
    const body = bodyOf(message);
    invariant(body.length <= BODY_BYTES_MAX, 'long answers go as payload');
    const head = Buffer.allocUnsafe(HEADER_BYTES + body.length);
    body.copy(head, HEADER_BYTES);
    writeAnswerHeader(head, 0, op, id, 0, body.length, message.payload.length);
    this.#write(head, message.payload);
  }

  #answerError(op: ControlOp, id: number, error: unknown): void {
    const code = error instanceof StoreError ? error.code : 'E_SYSTEM';
    const text = Buffer.from(messageOf(error)).subarray(0, MESSAGE_BYTES_MAX);
    const head = Buffer.allocUnsafe(HEADER_BYTES + text.length);
    text.copy(head, HEADER_BYTES);
    writeAnswerHeader(head, 0, op, id, ERRORS[code].status, text.length, 0);
    this.#write(head, NOTHING);
  }

  #write(head: Buffer, payload: Buffer): void {
    this.#connection.write(payload.length === 0 ? [head] : [head, payload]);
    if (this.#connection.unsentBytes > this.#unsentMax)
      this.fail(new StoreError('E_TIMEOUT', `${this.name} does not read what it is sent`));
  }

  #sweepLater(): void {
    this.#sweep = this.#env.timers.after(SWEEP_MS, () => {
      const now = this.#env.clock.now();
      const wasHeldUp = now - this.#sweptAt > HELD_UP_MS;
      this.#sweptAt = now;
      // What has come in meanwhile is read first: an end must not be given up for our own sleep.
      if (wasHeldUp) this.#heardAt = Math.max(this.#heardAt, now - this.#silenceMs / 2);
      this.#look(now);
      if (this.#failure === null) this.#sweepLater();
    });
  }

  #look(now: number): void {
    for (const [id, question] of this.#questions) {
      if (now < question.deadline) continue;
      this.#questions.delete(id);
      const what = controlOpName(question.op) ?? '';
      question.reject(new StoreError('E_TIMEOUT', `${this.name} did not answer in time (${what})`));
    }
    const silentMs = now - this.#heardAt;
    if (silentMs > this.#silenceMs)
      this.fail(
        new StoreError(
          'E_TIMEOUT',
          `${this.name} has said nothing for ${(silentMs / 1000).toFixed(1)} s`,
        ),
      );
    else if (silentMs > this.#silenceMs / 3 && !this.#isPinging) this.#ping();
  }

  #ping(): void {
    this.#isPinging = true;
    const over = (): void => {
      this.#isPinging = false;
    };
    this.ask(CONTROL.ping, {}, { deadlineMs: this.#silenceMs }).then(over, over);
  }
}

function bodyOf({ fields, payload }: ControlMessage): Buffer {
  return encodeJson(payload.length === 0 ? fields : { ...fields, [CRC_FIELD]: crc32c(payload) });
}

function messageFrom(body: Buffer, payload: Buffer): ControlMessage {
  const fields = body.length === 0 ? {} : decodeJson(body);
  if (payload.length > 0 && crc32c(payload) !== numberIn(fields, CRC_FIELD, 0xffff_ffff))
    throw new StoreError('E_BAD_FRAME', 'The bytes of a message do not match their checksum');
  return { fields, payload };
}
